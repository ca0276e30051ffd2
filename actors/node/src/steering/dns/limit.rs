//! No amplifier: answers over UDP to one network are limited, since a source address may be forged. Beyond the limit the
//! answer is empty and says "truncated": a real client comes back over TCP, which cannot be forged.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// Networks that are counted apart; networks that share a slot share the limit.
const SLOTS: usize = 4096;
/// Full answers per second to one network (an IPv4 /24 or an IPv6 /56).
pub(super) const ANSWERS_PER_S: u32 = 1000;
/// So many may come at once.
pub(super) const BURST: u32 = 2000;

/// Token buckets by network. The place of a network is secret, so that nobody can aim at another one's.
#[derive(Debug)]
pub(super) struct Limit {
    slots: Vec<(Duration, u32)>,
    place: RandomState,
}

impl Limit {
    pub(super) fn new() -> Self {
        Self { slots: vec![(Duration::ZERO, BURST); SLOTS], place: RandomState::new() }
    }

    /// May a full answer go to `to` at `now` (since the server's start)?
    pub(super) fn admit(&mut self, to: IpAddr, now: Duration) -> bool {
        let network = match to {
            IpAddr::V4(a) => u64::from(a.to_bits() >> 8),
            IpAddr::V6(a) => u64::try_from(a.to_bits() >> 72).unwrap_or(u64::MAX),
        };
        let at = usize::try_from(self.place.hash_one(network) % SLOTS as u64).unwrap_or(0);
        let Some((last, tokens)) = self.slots.get_mut(at) else { return false };
        let gained = now.saturating_sub(*last).as_micros() * u128::from(ANSWERS_PER_S) / 1_000_000;
        if gained > 0 {
            *tokens = tokens.saturating_add(u32::try_from(gained).unwrap_or(BURST)).min(BURST);
            *last = now;
        }
        let admitted = *tokens > 0;
        *tokens = tokens.saturating_sub(1);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_gets_its_share_and_no_more() {
        let mut limit = Limit::new();
        let (a, neighbour, b): (IpAddr, IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.77".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let now = Duration::from_secs(5);
        let first = (0..3 * BURST).filter(|i| limit.admit(if i % 2 == 0 { a } else { neighbour }, now)).count();
        assert_eq!(first, BURST as usize);
        let slot = |n: u64| limit.place.hash_one(n) % SLOTS as u64;
        let apart = slot(u64::from(u32::from_be_bytes([192, 0, 2, 0]) >> 8)) != slot(0x0020_010d_b800_0000);
        assert_eq!(limit.admit(b, now), apart, "another network has its own");
        let later = now + Duration::from_millis(100);
        let second = (0..BURST).filter(|_| limit.admit(a, later)).count();
        assert_eq!(second, ANSWERS_PER_S as usize / 10);
    }
}
