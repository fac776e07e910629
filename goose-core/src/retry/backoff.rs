//! The pause before a retry, as data and as a formula.

use std::time::Duration;

use crate::{Error, ErrorKind, random};

/// How long to wait before retry *n*, counted from 0.
///
/// A policy is data, so that it travels with the job and every worker computes the same.
///
/// ```
/// use goose_core::Backoff;
/// use std::time::Duration;
///
/// let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60));
/// assert_eq!(backoff.delay_at(3, 0.0), Duration::from_secs(8));
/// assert_eq!(backoff.delay_at(30, 0.0), Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Backoff {
    /// `n⁴ + 20 + random(0..20) · (n + 1)` seconds: half a minute at first, about 30 days over 27 retries.
    ///
    /// The curve of nilenso/goose as its comments state it (its code computes 4ⁿ), which took it from Sidekiq.
    #[default]
    Ancestor,
    /// The same pause each time.
    Fixed(Duration),
    /// `base · 2ⁿ`, at most `cap`, plus up to `jitter` of the result at random.
    Exponential {
        /// The first pause.
        base: Duration,
        /// The longest pause before jitter.
        cap: Duration,
        /// The share of random extra, from `0.0` (none) to `1.0` (up to double).
        jitter: f64,
    },
    /// These pauses one after another; the last one repeats. An empty list means no pause.
    List(Vec<Duration>),
}

impl Backoff {
    /// The same pause before every retry.
    #[must_use]
    pub fn fixed(pause: Duration) -> Self {
        Self::Fixed(pause)
    }

    /// Doubling pauses from `base` up to `cap`, without jitter.
    #[must_use]
    pub fn exponential(base: Duration, cap: Duration) -> Self {
        Self::Exponential { base, cap, jitter: 0.0 }
    }

    /// The pause before retry `n` (from 0), with fresh randomness.
    #[must_use]
    pub fn delay(&self, n: u32) -> Duration {
        self.delay_at(n, random::unit())
    }

    /// The pause before retry `n` (from 0) for a given random number in `0.0..1.0`. Never panics: what
    /// overflows becomes the longest pause that can be written down.
    #[must_use]
    pub fn delay_at(&self, n: u32, random: f64) -> Duration {
        match self {
            Self::Ancestor => {
                let curve = u64::from(n).saturating_pow(4).saturating_add(20);
                let jitter = (random.clamp(0.0, 1.0) * 20.0).floor() * (f64::from(n) + 1.0);
                Duration::from_secs(curve).saturating_add(seconds(jitter))
            }
            Self::Fixed(pause) => *pause,
            Self::Exponential { base, cap, jitter } => {
                let factor = 1_u32.checked_shl(n).unwrap_or(u32::MAX);
                let pause = base.saturating_mul(factor).min(*cap);
                let extra = pause.as_secs_f64() * jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0);
                pause.saturating_add(seconds(extra))
            }
            Self::List(pauses) => {
                let index = usize::try_from(n).unwrap_or(usize::MAX);
                pauses.get(index).or(pauses.last()).copied().unwrap_or_default()
            }
        }
    }

    /// Checks the numbers, before a job with this policy is enqueued.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a jitter outside `0.0..=1.0` or not a number, a cap below the base,
    /// or a list of more than [`Backoff::MAX_LIST`] pauses.
    pub fn validate(&self) -> Result<(), Error> {
        let problem = match self {
            Self::Exponential { jitter, .. } if !(0.0..=1.0).contains(jitter) => {
                format!("backoff jitter is {jitter}, use 0.0 to 1.0")
            }
            Self::Exponential { base, cap, .. } if cap < base => {
                format!("backoff cap {cap:?} is below its base {base:?}")
            }
            Self::List(pauses) if pauses.len() > Self::MAX_LIST => {
                format!("backoff list has {} pauses, the limit is {}", pauses.len(), Self::MAX_LIST)
            }
            Self::Ancestor | Self::Fixed(_) | Self::Exponential { .. } | Self::List(_) => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, problem))
    }

    /// The most pauses a list may have: they travel with every job.
    pub const MAX_LIST: usize = 100;
}

/// Seconds as a duration; nonsense (negative, not a number, too large) becomes an end of the range.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(if value > 0.0 { Duration::MAX } else { Duration::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ancestors_curve() {
        let curve = Backoff::Ancestor;
        for (n, random, seconds) in [
            (0, 0.0, 20),
            (0, 0.999, 39),
            (1, 0.0, 21),
            (2, 0.5, 16 + 20 + 10 * 3),
            (10, 0.0, 10_020),
            (26, 0.95, 456_976 + 20 + 19 * 27),
        ] {
            assert_eq!(curve.delay_at(n, random), Duration::from_secs(seconds), "retry {n} at {random}");
        }
    }

    #[test]
    fn the_last_pause_of_a_list_repeats() {
        let list = Backoff::List(vec![Duration::from_secs(1), Duration::from_secs(7)]);
        assert_eq!([0, 1, 2, 99].map(|n| list.delay_at(n, 0.9).as_secs()), [1, 7, 7, 7]);
        assert_eq!(Backoff::List(Vec::new()).delay_at(0, 0.0), Duration::ZERO);
    }

    #[test]
    fn jitter_only_adds() {
        let backoff = Backoff::Exponential { base: Duration::from_secs(2), cap: Duration::from_secs(10), jitter: 0.5 };
        assert_eq!(backoff.delay_at(1, 0.0), Duration::from_secs(4));
        assert_eq!(backoff.delay_at(1, 1.0), Duration::from_secs(6));
        assert_eq!(backoff.delay_at(9, 1.0), Duration::from_secs(15));
    }

    #[test]
    fn nonsense_numbers_are_refused() {
        let exponential = |jitter| Backoff::Exponential { base: Duration::ZERO, cap: Duration::MAX, jitter };
        for jitter in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(exponential(jitter).validate().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(exponential(1.0).validate().is_ok());
        let upside_down = Backoff::exponential(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(upside_down.validate().unwrap_err().to_string(), "backoff cap 1s is below its base 2s");
        assert!(Backoff::List(vec![Duration::ZERO; 101]).validate().is_err());
    }

    proptest! {
        #[test]
        fn no_input_panics_and_pauses_never_shrink(n in any::<u32>(), random in any::<f64>(), base in any::<u64>()) {
            let base = Duration::from_millis(base);
            for backoff in [Backoff::Ancestor, Backoff::exponential(base, Duration::MAX), Backoff::fixed(base)] {
                let _ = backoff.delay_at(n, random);
                prop_assert!(backoff.delay_at(n, 0.0) <= backoff.delay_at(n.saturating_add(1), 0.0));
            }
        }
    }
}
