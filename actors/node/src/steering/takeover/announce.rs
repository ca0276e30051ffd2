//! "This address is here now": gratuitous ARP (RFC 5227 section 3) and unsolicited neighbour advertisements (RFC 4861 7.2.6).

use std::io::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::interface::Interface;

const ARP_BYTES: usize = 28;
const ADVERTISEMENT_BYTES: usize = 32;
const BROADCAST: [u8; 6] = [0xff; 6];
/// Advertisements with another hop limit are ignored: they may come from afar.
const HOPS: u32 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Tells everybody in the interface's network that `address` is here.
pub(super) fn send(interface: &Interface, address: IpAddr) -> Result<()> {
    match address {
        IpAddr::V4(a) => {
            let protocol = i32::from(u16::try_from(libc::ETH_P_ARP).unwrap_or_default().to_be());
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(protocol)))?;
            let to = link_address(interface.index)?;
            socket.send_to(&arp(interface.hardware, a), &to).map(drop)
        }
        IpAddr::V6(a) => {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.set_multicast_hops_v6(HOPS)?;
            socket.set_multicast_if_v6(interface.index)?;
            let to = SocketAddrV6::new(ALL_NODES, 0, 0, interface.index);
            socket.send_to(&advertisement(interface.hardware, a), &to.into()).map(drop)
        }
    }
}

/// An ARP request of an address for itself: everybody who knows the address learns its new place.
fn arp(hardware: [u8; 6], address: Ipv4Addr) -> [u8; ARP_BYTES] {
    let mut packet = [0; ARP_BYTES];
    let parts: [&[u8]; 5] = [
        // Ethernet, IPv4, lengths 6 and 4, request.
        &[0, 1, 8, 0, 6, 4, 0, 1],
        &hardware,
        &address.octets(),
        &[0; 6],
        &address.octets(),
    ];
    packet.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    packet
}

/// A neighbour advertisement with the override flag and the link-layer address; the kernel adds the checksum.
fn advertisement(hardware: [u8; 6], address: Ipv6Addr) -> [u8; ADVERTISEMENT_BYTES] {
    let mut packet = [0; ADVERTISEMENT_BYTES];
    let parts: [&[u8]; 4] = [
        // Type 136, code 0, checksum, flags: override.
        &[136, 0, 0, 0, 0x20, 0, 0, 0],
        &address.octets(),
        // Option 2, length in units of 8 octets.
        &[2, 1],
        &hardware,
    ];
    packet.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    packet
}

/// Everybody behind an interface.
#[allow(unsafe_code)] // neither socket2 nor rustix has a safe form of `sockaddr_ll`
fn link_address(index: u32) -> Result<SockAddr> {
    // SAFETY: the storage is large enough and aligned for every kind of address, `sockaddr_ll` has no invalid bit patterns,
    // and the length that is set is that of what was written.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let mut link: libc::sockaddr_ll = std::mem::zeroed();
            link.sll_family = u16::try_from(libc::AF_PACKET).map_err(std::io::Error::other)?;
            link.sll_protocol = u16::try_from(libc::ETH_P_ARP).map_err(std::io::Error::other)?.to_be();
            link.sll_ifindex = i32::try_from(index).map_err(std::io::Error::other)?;
            link.sll_halen = 6;
            for (to, from) in link.sll_addr.iter_mut().zip(BROADCAST) {
                *to = from;
            }
            storage.cast::<libc::sockaddr_ll>().write(link);
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(std::io::Error::other)?;
            Ok(())
        })
    }?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_the_standards_draw_them() {
        let hardware = [2, 0, 0, 0, 0, 7];
        let packet = arp(hardware, [192, 0, 2, 9].into());
        assert_eq!(packet[..8], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!((&packet[8..14], &packet[14..18]), (&hardware[..], &[192, 0, 2, 9][..]));
        assert_eq!((&packet[18..24], &packet[24..]), (&[0; 6][..], &[192, 0, 2, 9][..]));
        let packet = advertisement(hardware, "2001:db8::9".parse().unwrap());
        assert_eq!((packet[0], packet[4], packet[24], packet[25]), (136, 0x20, 2, 1));
        assert_eq!((packet[8..12].to_vec(), packet[26..].to_vec()), (vec![0x20, 1, 0xd, 0xb8], hardware.to_vec()));
    }
}
