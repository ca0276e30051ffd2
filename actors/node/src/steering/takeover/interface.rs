//! Addresses of one network interface, by rtnetlink.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{AddressMessageBuilder, Error, Handle};

use super::TakeoverError;

/// An interface, found by its name.
pub(super) struct Interface {
    name: String,
    /// Its number.
    pub(super) index: u32,
    /// Its hardware address.
    pub(super) hardware: [u8; 6],
    handle: Handle,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Interface {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Interface {
    pub(super) async fn open(name: &str) -> Result<Self, TakeoverError> {
        let missing = |why: String| TakeoverError::Interface(name.to_owned(), why);
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| missing(e.to_string()))?;
        let driver = tokio::spawn(connection);
        let found = handle.link().get().match_name(name.to_owned()).execute().try_next().await;
        let link = found.map_err(|e| missing(e.to_string()))?.ok_or_else(|| missing("no such interface".into()))?;
        let hardware = link.attributes.iter().find_map(|a| match a {
            LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        });
        let hardware = hardware.ok_or_else(|| missing("it has no Ethernet address".into()))?;
        Ok(Self { name: name.to_owned(), index: link.header.index, hardware, handle, driver })
    }

    /// Holds an address for so many seconds from now on.
    pub(super) async fn hold(&self, (address, prefix): (IpAddr, u8), seconds: u32) -> Result<(), TakeoverError> {
        let mut request = self.handle.address().add(self.index, address, prefix).replace();
        let mut times = CacheInfo::default();
        (times.ifa_valid, times.ifa_preferred) = (seconds, seconds);
        request.message_mut().attributes.push(AddressAttribute::CacheInfo(times));
        // No duplicate address detection (IPv6): a dead holder's kernel may still answer, and who holds it is decided.
        request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        request.execute().await.map_err(|e| self.refused(address, system(e)))
    }

    /// Gives an address up. One that has gone already is no error.
    pub(super) async fn remove(&self, (address, prefix): (IpAddr, u8)) -> Result<(), TakeoverError> {
        let removed = self.handle.address().del(self.message(address, prefix)).execute().await.map_err(system);
        match removed {
            Err(e) if e.raw_os_error() != Some(libc::EADDRNOTAVAIL) => Err(self.refused(address, e)),
            _ => Ok(()),
        }
    }

    fn message(&self, address: IpAddr, prefix: u8) -> AddressMessage {
        match address {
            IpAddr::V4(a) => {
                AddressMessageBuilder::<std::net::Ipv4Addr>::new().index(self.index).address(a, prefix).build()
            }
            IpAddr::V6(a) => {
                AddressMessageBuilder::<std::net::Ipv6Addr>::new().index(self.index).address(a, prefix).build()
            }
        }
    }

    pub(super) fn refused(&self, address: IpAddr, source: std::io::Error) -> TakeoverError {
        TakeoverError::Refused { address, interface: self.name.clone(), source }
    }
}

fn system(error: Error) -> std::io::Error {
    match error {
        Error::NetlinkError(message) => message.to_io(),
        other => std::io::Error::other(other),
    }
}
