//! Pauses between attempts: doubling, bounded, with jitter. Pure: the seed comes from the caller.

use std::time::Duration;

/// Pauses that double from `min` to `max`; each is cut to between a half and the whole of its value, so that nodes that
/// failed together do not try again together.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(super) const fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, next: min, random: seed }
    }
    /// Begins again with the shortest pause.
    pub(super) const fn reset(&mut self) {
        self.next = self.min;
    }
    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        self.jitter(whole)
    }
    /// Between a half and the whole of `whole`.
    pub(super) fn jitter(&mut self, whole: Duration) -> Duration {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let part = ((z ^ (z >> 31)) >> 40) as u32;
        whole / 2 + (whole / 2).mul_f64(f64::from(part) / f64::from(1u32 << 24))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds() {
        let (min, max) = (Duration::from_millis(50), Duration::from_millis(800));
        let mut backoff = Backoff::new(min, max, 7);
        let mut whole = min;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(max);
        }
        backoff.reset();
        assert!(backoff.pause() <= min);
    }
}
