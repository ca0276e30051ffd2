//! How many connections each client address holds, so that one cannot take a door's whole share.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// The bits of an IPv6 address that tell one customer from another: whoever has a /64 has all its addresses.
const IPV6_PREFIX: u128 = !(u64::MAX as u128);

/// Open connections by client address.
#[derive(Debug)]
pub struct Addresses {
    max: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place among those of its client's address; given back when dropped.
#[derive(Debug)]
pub struct Place {
    addresses: Arc<Addresses>,
    holder: IpAddr,
}

impl Addresses {
    /// At most `max` connections of one IPv4 address, or of one /64 of IPv6.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, counts: Mutex::default() })
    }

    /// A place for a connection from `address`; `None` if it has as many as it may.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let holder = holder(address);
        let mut counts = self.counts.lock();
        let count = counts.entry(holder).or_default();
        // An entry that was just made is below any limit but 0, and is removed with its place.
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Place { addresses: Arc::clone(self), holder })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts.lock();
        if let Some(count) = counts.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.holder);
            }
        }
    }
}

fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & IPV6_PREFIX).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_others() {
        let addresses = Addresses::new(2);
        let from = |text: &str| addresses.take(text.parse().unwrap());
        let (first, _second) = (from("192.0.2.1").unwrap(), from("::ffff:192.0.2.1").unwrap());
        assert!(from("192.0.2.1").is_none());
        assert!(from("192.0.2.2").is_some());
        drop(first);
        assert!(from("192.0.2.1").is_some());
        // All addresses of one /64 are one client's.
        let _of_a_network = (from("2001:db8:0:1::1").unwrap(), from("2001:db8:0:1:ffff::2").unwrap());
        assert!(from("2001:db8:0:1::3").is_none());
        assert!(from("2001:db8:0:2::1").is_some());
    }

    #[test]
    fn nothing_is_left_of_addresses_that_are_gone() {
        let addresses = Addresses::new(8);
        drop((0..8).map(|n| addresses.take(IpAddr::from([192, 0, 2, n]))).collect::<Vec<_>>());
        assert!(addresses.counts.lock().is_empty());
    }
}
