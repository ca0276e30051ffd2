//! When to try again. Pure: the caller brings the random source and does the waiting.

/// Bounded exponential backoff with full jitter in its upper half.
#[derive(Debug, Clone)]
pub struct Backoff {
    ms_min: u64,
    ms_max: u64,
    step: u32,
}

impl Backoff {
    /// Waits between `ms_min` and `ms_max`.
    pub fn new(ms_min: u64, ms_max: u64) -> Self {
        let ms_min = ms_min.max(1);
        Self { ms_min, ms_max: ms_max.max(ms_min), step: 0 }
    }

    /// The next wait: doubles each time up to the maximum; between half of it and all of it, by chance.
    pub fn next_ms(&mut self, random: &mut fastrand::Rng) -> u64 {
        let full = self.ms_min.saturating_mul(1u64.checked_shl(self.step).unwrap_or(u64::MAX)).min(self.ms_max);
        if full < self.ms_max {
            self.step = self.step.saturating_add(1);
        }
        let half = full / 2;
        half + random.u64(0..=full - half)
    }

    /// Something worked: begin anew.
    pub fn reset(&mut self) {
        self.step = 0;
    }
}

/// A server's wish to be asked again after `ms`, spread a little so that many devices do not come back together.
pub fn spread_ms(ms: u64, ms_max: u64, random: &mut fastrand::Rng) -> u64 {
    let ms = ms.clamp(1, ms_max.max(1));
    ms + random.u64(0..=ms / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_within_bounds_and_begins_anew() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut b = Backoff::new(4, 100);
        let waits: Vec<u64> = (0..200).map(|_| b.next_ms(&mut random)).collect();
        assert!(waits[0] <= 4 && waits.iter().all(|w| *w <= 100 && *w >= 2));
        assert!(waits[20..].iter().all(|w| *w >= 50));
        b.reset();
        assert!(b.next_ms(&mut random) <= 4);
    }

    #[test]
    fn spread_is_bounded() {
        let mut random = fastrand::Rng::with_seed(2);
        for ms in [0, 1, 7, 1_000_000] {
            let w = spread_ms(ms, 500, &mut random);
            assert!((1..=625).contains(&w), "{ms} gave {w}");
        }
    }
}
