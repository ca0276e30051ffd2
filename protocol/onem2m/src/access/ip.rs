//! Ranges of IP addresses (`acip`).

use std::net::IpAddr;

/// An address with the number of its leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IpRange {
    address: IpAddr,
    prefix: u32,
}

impl IpRange {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or a single address.
    pub(super) fn parse(text: &str, v6: bool) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if v6 { 128 } else { 32 };
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        (address.is_ipv6() == v6 && prefix <= bits).then_some(Self { address, prefix })
    }

    /// Whether the address is in it. An IPv4 address that is written as an IPv6 one counts as IPv4.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            // A shift by all bits is none of the numbers' operations; it stands for "every address".
            (a ^ b).checked_shr(bits - self.prefix).unwrap_or(0) == 0
        };
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::IpRange;

    #[test]
    fn ranges() {
        let holds =
            |range: &str, ip: &str| IpRange::parse(range, range.contains(':')).unwrap().contains(ip.parse().unwrap());
        for (range, ip, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db9::1", true),
            ("::1", "::1", true),
        ] {
            assert_eq!(holds(range, ip), expected, "{range} {ip}");
        }
        for (bad, v6) in [
            ("10.0.0.0/33", false),
            ("10.0.0", false),
            ("::1", false),
            ("10.0.0.1", true),
            ("::/129", true),
            ("10.0.0.0/+8", false),
            ("", false),
            ("10.0.0.0/", false),
        ] {
            assert_eq!(IpRange::parse(bad, v6), None, "{bad}");
        }
    }
}
