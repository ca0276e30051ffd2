//! Puts a loopback topology on other ports, so that several clusters run on one machine.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::Topology;

/// Which ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortBase {
    /// As the file says.
    Keep,
    /// Node number i (from 0) gets N + 10 i (HTTP), + 1 (admin), + 2 (cluster).
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
    for (i, n) in t.node.iter_mut().enumerate() {
        let [http, admin, cluster] = match base {
            PortBase::From(base) => {
                let first = u16::try_from(i * 10).ok().and_then(|o| base.checked_add(o)).filter(|p| *p < u16::MAX - 2);
                let first = first.ok_or_else(|| std::io::Error::other("port base too high: ports end at 65535"))?;
                [first, first + 1, first + 2]
            }
            _ => {
                let mut tcp = |ip| -> std::io::Result<u16> {
                    let socket = TcpListener::bind(SocketAddr::new(ip, 0))?;
                    let port = socket.local_addr()?.port();
                    held.0.push(socket);
                    Ok(port)
                };
                let (http, admin) = (tcp(n.http_listen.ip())?, tcp(n.admin_listen.ip())?);
                let udp = UdpSocket::bind(SocketAddr::new(n.cluster_listen.ip(), 0))?;
                let cluster = udp.local_addr()?.port();
                held.1.push(udp);
                [http, admin, cluster]
            }
        };
        n.http_listen.set_port(http);
        n.admin_listen.set_port(admin);
        n.cluster_listen.set_port(cluster);
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
}
