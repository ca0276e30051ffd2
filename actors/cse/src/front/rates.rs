//! How often an originator may ask (I8): a bucket of tokens for each, filled at the allowed rate. Pure: time is an argument.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Originators that are kept apart. When there are more, those whose buckets are full again are forgotten; if there are
/// none of these, newcomers share one bucket.
const ORIGINATORS_MAX: usize = 65_536;
/// Time between two looks for buckets to forget.
const SWEEP_MS: u64 = 1000;
/// Tokens are counted in thousandths.
const TOKEN: u64 = 1000;

/// The buckets.
pub(super) struct Rates {
    /// Requests per second, and at once after a pause; 0: no limit.
    per_second: u32,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    by_originator: HashMap<String, Bucket>,
    /// When full ones were last looked for: that takes a look at all of them.
    swept_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u64,
    at_ms: u64,
}

impl Rates {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, buckets: Mutex::default() }
    }

    /// Takes a token; `Err` says after how many milliseconds there is one.
    pub(super) fn admit(&self, originator: &str, now_ms: u64) -> Result<(), u64> {
        if self.per_second == 0 {
            return Ok(());
        }
        let rate = u64::from(self.per_second);
        let full = rate * TOKEN;
        let mut buckets = self.buckets.lock();
        let mut key = originator;
        if !buckets.by_originator.contains_key(key) && buckets.by_originator.len() >= ORIGINATORS_MAX {
            if now_ms >= buckets.swept_ms.saturating_add(SWEEP_MS) {
                buckets.swept_ms = now_ms;
                buckets.by_originator.retain(|_, b| b.filled(rate, now_ms).tokens < full);
            }
            if buckets.by_originator.len() >= ORIGINATORS_MAX {
                key = "";
            }
        }
        let bucket = match buckets.by_originator.get_mut(key) {
            Some(bucket) => bucket,
            None => buckets.by_originator.entry(key.to_owned()).or_insert(Bucket { tokens: full, at_ms: now_ms }),
        };
        *bucket = bucket.filled(rate, now_ms);
        match bucket.tokens.checked_sub(TOKEN) {
            Some(left) => {
                bucket.tokens = left;
                Ok(())
            }
            None => Err((TOKEN - bucket.tokens).div_ceil(rate).max(1)),
        }
    }
}

impl Bucket {
    /// What has come in since; `rate` tokens a second are `rate` thousandths a millisecond.
    fn filled(self, rate: u64, now_ms: u64) -> Self {
        let came = now_ms.saturating_sub(self.at_ms).saturating_mul(rate);
        Self { tokens: self.tokens.saturating_add(came).min(rate * TOKEN), at_ms: now_ms.max(self.at_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_others_are_not_held_up() {
        let rates = Rates::new(10);
        for _ in 0..10 {
            assert_eq!(rates.admit("C1", 0), Ok(()));
        }
        assert_eq!(rates.admit("C1", 0), Err(100));
        assert_eq!(rates.admit("C2", 0), Ok(()));
        assert_eq!(rates.admit("C1", 99), Err(1));
        assert_eq!(rates.admit("C1", 100), Ok(()));
        assert_eq!(rates.admit("C1", 100), Err(100));
        // A clock that steps back gives nothing away.
        assert_eq!(rates.admit("C1", 0), Err(100));
    }

    #[test]
    fn no_limit() {
        let rates = Rates::new(0);
        assert!((0..100_000).all(|_| rates.admit("C1", 0).is_ok()));
        assert!(rates.buckets.lock().by_originator.is_empty());
    }

    #[test]
    fn a_million_names_take_no_more_room() {
        let rates = Rates::new(1);
        for i in 0..200_000u32 {
            let _ = rates.admit(&format!("C{i}"), 0);
        }
        assert!(rates.buckets.lock().by_originator.len() <= ORIGINATORS_MAX + 1);
        // Newcomers share a bucket, and get their own when the others have rested.
        assert!(rates.admit("Cnew", 0).is_err());
        assert_eq!(rates.admit("Cnew", 1000), Ok(()));
        assert!(rates.buckets.lock().by_originator.len() <= 2, "those that rested are forgotten");
    }
}
