//! A network of the test's own: a namespace for each node, all on one bridge, with this process beside them. Links can be
//! cut in one direction or both; packets vanish, as on a network that fails, and nobody gets an error.
//!
//! Needs root and `ip` (iproute2). Everything is removed when the value is dropped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// First port of a cluster in namespaces: each has its own.
pub const PORTS_INSIDE: u16 = 20_000;
/// Nobody has this address: what is sent to it is lost on the bridge.
const NOBODY: &str = "02:00:00:00:00:99";

/// Service addresses stand this far behind the nodes' own.
const SERVICE: u8 = 100;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// All addresses of a machine.
    pub fn any(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
    /// Bits of an address.
    pub fn bits(self) -> u8 {
        if self == Self::V4 { 32 } else { 128 }
    }
}

/// Namespaces on a bridge.
pub struct Net {
    id: u32,
    names: Vec<String>,
}

fn ip(arguments: &str) -> Result<(), String> {
    let done: Output = Command::new("ip").args(arguments.split(' ')).output().map_err(|e| format!("ip: {e}"))?;
    let words = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("ip {arguments}: {}", words.trim())) }
}

impl Net {
    /// A namespace for each of these nodes. `None`, with the reason on standard error, where that is not possible.
    pub fn new(names: &[&str]) -> Option<Self> {
        // Tests of one program run at once, and each has a network of its own.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = (std::process::id() << 5) | (NEXT.fetch_add(1, Ordering::Relaxed) & 31);
        let net = Self { id, names: names.iter().map(|n| (*n).to_owned()).collect() };
        match net.make() {
            Ok(()) => Some(net),
            Err(e) if e.contains("not permitted") || e.starts_with("ip: ") => {
                eprintln!("SKIPPED: network namespaces need root and iproute2: {e}");
                None
            }
            // Skipped for whatever reason it would look like passed.
            Err(e) => panic!("{e}"),
        }
    }

    fn make(&self) -> Result<(), String> {
        let bridge = self.bridge();
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {}/24 dev {bridge}", self.ip(250)))?;
        ip(&format!("addr add {}/64 dev {bridge} nodad", self.ip6(250)))?;
        ip(&format!("link set {bridge} up"))?;
        for (i, name) in self.names.iter().enumerate() {
            let (ns, outside) = (self.namespace(name), self.link(i));
            ip(&format!("netns add {ns}"))?;
            ip(&format!("link add {outside} type veth peer name eth0 netns {ns}"))?;
            ip(&format!("link set {outside} master {bridge} up"))?;
            ip(&format!("-n {ns} addr add {}/24 dev eth0", self.address(name)))?;
            ip(&format!("-n {ns} addr add {}/64 dev eth0 nodad", self.ip6(u8::try_from(i + 1).unwrap_or(0))))?;
            ip(&format!("-n {ns} link set eth0 up"))?;
            ip(&format!("-n {ns} link set lo up"))?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("ob{:x}", self.id)
    }
    fn link(&self, i: usize) -> String {
        format!("ol{:x}-{i}", self.id)
    }
    fn namespace(&self, name: &str) -> String {
        format!("onemec-{:x}-{name}", self.id)
    }
    /// Two test programs at once have different networks.
    fn ip(&self, host: u8) -> IpAddr {
        let [_, _, high, low] = self.id.to_be_bytes();
        IpAddr::from(Ipv4Addr::new(10, 64 | (high & 63), low, host))
    }

    /// A node's address.
    pub fn address(&self, name: &str) -> IpAddr {
        let place = self.names.iter().position(|n| n == name).expect("a node of this network");
        self.ip(u8::try_from(place + 1).unwrap())
    }

    fn ip6(&self, host: u8) -> Ipv6Addr {
        let [high, low] = [(self.id >> 16) as u16, self.id as u16];
        Ipv6Addr::new(0xfd00, high, low, 0, 0, 0, 0, host.into())
    }

    /// The nodes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A node's address for clients, beside its own.
    pub fn service_address(&self, name: &str, family: Family) -> IpAddr {
        let place = self.names.iter().position(|n| n == name).expect("a node of this network");
        let host = SERVICE + u8::try_from(place + 1).unwrap();
        if family == Family::V4 { self.ip(host) } else { self.ip6(host).into() }
    }

    /// Which addresses a node's kernel has at this moment.
    pub fn addresses_now(&self, name: &str) -> Vec<IpAddr> {
        let listed =
            Command::new("ip").args(["-n", &self.namespace(name), "-o", "addr", "show", "dev", "eth0"]).output();
        let text = listed.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let address = |line: &str| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok();
        text.lines().filter_map(address).collect()
    }

    /// A program in a node's namespace.
    pub fn command(&self, name: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(name)]).arg(program);
        command
    }

    /// What `from` sends to `to` is lost from now on; the other direction is as it was.
    pub fn cut(&self, from: &str, to: &str) {
        let (ns, to) = (self.namespace(from), self.address(to));
        ip(&format!("-n {ns} neigh replace {to} lladdr {NOBODY} dev eth0 nud permanent")).unwrap();
    }

    /// Neither hears the other.
    pub fn cut_both(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// `one` is cut off from all other nodes, and they from it; this process still reaches everybody.
    pub fn isolate(&self, one: &str) {
        for other in self.names.iter().filter(|n| *n != one) {
            self.cut_both(one, other);
        }
    }

    /// Everybody hears everybody again.
    pub fn heal(&self) {
        for from in &self.names {
            for to in self.names.iter().filter(|n| *n != from) {
                // There is no entry if nothing was cut here.
                let _ = ip(&format!("-n {} neigh del {} dev eth0", self.namespace(from), self.address(to)));
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&format!("netns del {}", self.namespace(name)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}
