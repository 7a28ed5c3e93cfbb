//! A token bucket: a rate a second, and a burst of a second's worth unless given.

use std::time::{Duration, Instant};

const NANOS: u128 = 1_000_000_000;

/// A token bucket. One take may overdraw it; then nothing is available until it is positive again.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Tokens that are added in a second.
    rate: u64,
    /// The most that it holds.
    full: i128,
    /// What it holds, in billionths of a token.
    level: i128,
    filled: Instant,
}

impl Bucket {
    /// A full bucket that holds a second's worth.
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        Self::with_burst(rate, rate, now)
    }

    /// A full bucket that holds a burst.
    pub(super) fn with_burst(rate: u64, burst: u64, now: Instant) -> Self {
        let full = i128::from(burst) * NANOS.cast_signed();
        Self { rate, full, level: full, filled: now }
    }

    /// How much is available now.
    pub(super) fn available(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        self.filled = self.filled.max(now);
        let more = passed.saturating_mul(u128::from(self.rate));
        self.level = self.level.saturating_add(i128::try_from(more).unwrap_or(i128::MAX)).min(self.full);
        u64::try_from(self.level / NANOS.cast_signed()).unwrap_or(0)
    }

    /// Takes tokens, whether they are available or not.
    pub(super) fn take(&mut self, count: u64) {
        self.level -= i128::from(count) * NANOS.cast_signed();
    }

    /// How long until `count` tokens are available, or a second's worth if that is less.
    pub(super) fn wait(&mut self, count: u64, now: Instant) -> Duration {
        self.available(now);
        let wanted = i128::from(count.min(self.rate)) * NANOS.cast_signed();
        let missing = u128::try_from(wanted - self.level).unwrap_or(0);
        let nanos = missing.div_ceil(u128::from(self.rate.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_seconds_worth_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        assert_eq!(bucket.available(start), 1000);
        bucket.take(1500);
        assert_eq!(bucket.available(start), 0);
        assert_eq!(bucket.wait(1, start), Duration::from_millis(501));
        let later = start + Duration::from_millis(501);
        assert_eq!(bucket.available(later), 1);
        assert_eq!(
            bucket.wait(5000, later),
            Duration::from_millis(999),
            "more than a second's is never there"
        );
        assert_eq!(bucket.available(later + Duration::from_secs(3600)), 1000);
    }

    #[test]
    fn a_burst_is_there_again_after_a_while() {
        let start = Instant::now();
        let mut bucket = Bucket::with_burst(200, 2000, start);
        bucket.take(2000);
        assert_eq!(bucket.available(start + Duration::from_secs(1)), 200);
        assert_eq!(bucket.available(start + Duration::from_secs(10)), 2000);
        assert_eq!(bucket.available(start + Duration::from_secs(60)), 2000);
    }

    proptest! {
        /// However it is asked, no second brings more than the rate, beside what was there at first.
        #[test]
        fn over_time_no_more_than_the_rate(
            rate in 1_u64..10_000_000,
            steps in prop::collection::vec((0_u64..50_000, any::<u64>()), 1..200),
        ) {
            let start = Instant::now();
            let (mut now, mut taken) = (start, 0_u128);
            let mut bucket = Bucket::new(rate, start);
            for (micros, wish) in steps {
                now += Duration::from_micros(micros);
                let take = wish.min(bucket.available(now));
                bucket.take(take);
                taken += u128::from(take);
                let allowed = u128::from(rate) + (now - start).as_nanos() * u128::from(rate) / NANOS;
                prop_assert!(taken <= allowed, "{} of {}", taken, allowed);
            }
            let wait = bucket.wait(1, now);
            prop_assert!(bucket.available(now + wait) >= 1);
        }
    }
}
