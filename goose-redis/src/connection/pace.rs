//! Pauses between attempts: growing, bounded, and never the same for two processes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Pauses that double from `first` up to `limit`; each is between half and all of its length.
#[derive(Debug)]
pub(super) struct Pace {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Pace {
    /// Between attempts to connect. The limit is short because a server that comes back must be found within two
    /// seconds; the randomness keeps a thousand workers from coming at once. Where several servers are asked in turn the
    /// one that knows better may be the next.
    pub(super) fn reconnecting(servers: usize) -> Self {
        Self::new(Duration::from_millis(50), Duration::from_millis(if servers > 1 { 500 } else { 1000 }))
    }

    /// Between sendings of one call.
    pub(super) fn resending() -> Self {
        Self::new(Duration::from_millis(5), Duration::from_millis(500))
    }

    fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.limit);
        whole / 2 + whole.mul_f64(unit() / 2.0)
    }

    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A span that is about so long: a quarter more or less, so that a thousand workers do not keep step.
pub(super) fn about(span: Duration) -> Duration {
    span.mul_f64(0.75 + unit() / 2.0)
}

/// A random number in `0.0..1.0`, from the key the operating system gives every new hasher.
fn unit() -> f64 {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_differ() {
        let mut pace = Pace::reconnecting(1);
        let pauses: Vec<_> = (0..20).map(|_| pace.pause()).collect();
        assert!(pauses[0] >= Duration::from_millis(25) && pauses[0] <= Duration::from_millis(50), "{pauses:?}");
        assert!(pauses[5..].iter().all(|pause| *pause >= Duration::from_millis(500)), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(1)), "{pauses:?}");
        assert!(pauses[10..].iter().any(|pause| pause.abs_diff(pauses[10]) > Duration::from_millis(5)), "{pauses:?}");
        pace.reset();
        assert!(pace.pause() <= Duration::from_millis(50));
        let mut pace = Pace::reconnecting(2);
        assert!((0..20).all(|_| pace.pause() <= Duration::from_millis(500)));
        let span = Duration::from_millis(400);
        assert!((0..20).map(|_| about(span)).all(|about| about.abs_diff(span) <= span / 4));
    }
}
