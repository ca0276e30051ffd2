//! Puts a loopback topology on other ports, so that several clusters run on one machine.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::{Topology, UnmodifiedSteering};

/// Which ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortBase {
    /// As the file says.
    Keep,
    /// Node number i (from 0) gets N + 10 i (HTTP), + 1 (admin), + 2 (cluster), + 3 (DNS, where there is a zone). Where
    /// clients go by a name or an address, which gives no port, all have the first node's HTTP port, each on its address.
    From(u16),
    /// Whatever is free now.
    Free,
}

impl PortBase {
    /// The value of `--port-base`: 0 means free ones.
    pub fn from_option(value: Option<u16>) -> Self {
        match value {
            None => Self::Keep,
            Some(0) => Self::Free,
            Some(n) => Self::From(n),
        }
    }
}

/// The topology on those ports.
///
/// # Errors
/// If the ports run out or none is free.
pub fn with_ports(mut t: Topology, base: PortBase) -> std::io::Result<Topology> {
    if base == PortBase::Keep {
        return Ok(t);
    }
    // Held until all are chosen, so that none is given twice.
    let mut held: (Vec<TcpListener>, Vec<UdpSocket>) = (Vec::new(), Vec::new());
    let one_http_port = t.steering.unmodified != UnmodifiedSteering::SecondAddress;
    let mut first_http = None;
    for (i, n) in t.node.iter_mut().enumerate() {
        let dns = t.steering.dns_zone.as_ref().and_then(|_| n.dns_listen.or(t.steering.dns_listen));
        let wished = first_http.filter(|_| one_http_port);
        let ports = match base {
            PortBase::From(base) => {
                let first = u16::try_from(i * 10).ok().and_then(|o| base.checked_add(o)).filter(|p| *p < u16::MAX - 3);
                let first = first.ok_or_else(|| std::io::Error::other("port base too high: ports end at 65535"))?;
                [wished.unwrap_or(first), first + 1, first + 2, first + 3]
            }
            _ => {
                let mut tcp = |ip, port| -> std::io::Result<u16> {
                    let socket = TcpListener::bind(SocketAddr::new(ip, port))?;
                    let port = socket.local_addr()?.port();
                    held.0.push(socket);
                    Ok(port)
                };
                let http = tcp(n.http_listen.ip(), wished.unwrap_or(0))?;
                let admin = tcp(n.admin_listen.ip(), 0)?;
                let mut udp = |ip| -> std::io::Result<u16> {
                    let socket = UdpSocket::bind(SocketAddr::new(ip, 0))?;
                    let port = socket.local_addr()?.port();
                    held.1.push(socket);
                    Ok(port)
                };
                [http, admin, udp(n.cluster_listen.ip())?, dns.map_or(Ok(0), |d| udp(d.ip()))?]
            }
        };
        let [http, admin, cluster, dns_port] = ports;
        first_http.get_or_insert(http);
        n.http_listen.set_port(http);
        n.admin_listen.set_port(admin);
        n.cluster_listen.set_port(cluster);
        n.dns_listen = dns.map(|d| SocketAddr::new(d.ip(), dns_port));
        n.http_poa = None;
        n.cluster_address = None;
        n.second_addresses.clear();
    }
    Ok(t)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn ports_are_moved() {
        let t = parse(include_str!("../../../../cluster-configs/local-3.toml")).unwrap();
        let moved = with_ports(t.clone(), PortBase::From(20_000)).unwrap();
        assert_eq!(moved.node[1].poa(), "http://127.0.0.1:20010");
        assert_eq!(moved.node[2].cluster_listen.port(), 20_022);
        assert!(with_ports(t.clone(), PortBase::From(65_530)).is_err());
        let free = with_ports(t.clone(), PortBase::Free).unwrap();
        let text = toml::to_string(&free).unwrap();
        assert_eq!(parse(&text).unwrap(), free, "free ports are unique and the result is a topology");
        assert_eq!(with_ports(t.clone(), PortBase::Keep).unwrap(), t);
    }

    #[test]
    fn names_and_addresses_keep_one_http_port() {
        let t = parse(include_str!("../../../../cluster-configs/local-dns-3.toml")).unwrap();
        for base in [PortBase::From(20_000), PortBase::Free] {
            let moved = with_ports(t.clone(), base).unwrap();
            assert_eq!(parse(&toml::to_string(&moved).unwrap()).unwrap(), moved, "the result is a topology");
            assert!(moved.node.iter().all(|n| n.http_listen.port() == moved.node[0].http_listen.port()));
            assert_eq!(moved.dns_servers().len(), 3);
        }
        assert_eq!(with_ports(t, PortBase::From(20_000)).unwrap().dns_servers()[2].to_string(), "127.0.0.3:20023");
    }
}
