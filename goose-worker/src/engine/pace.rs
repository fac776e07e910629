//! How fast a pool gets through jobs, so that it holds only as many as it will start at once.

use std::time::Duration;

use tokio::time::Instant;

/// A pool holds no more jobs than it gets through in this time. Long enough to cover the way to any broker and
/// back; short enough that a job held here would not have run much earlier elsewhere.
const WINDOW: Duration = Duration::from_millis(100);

/// Counts ends in the current window and remembers the last one. Ends and not starts: a pool that fills its
/// hands with slow jobs starts many at once and will not start more for a while.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
    /// The pool's count of ends at the start of the window.
    ended_before: u64,
    /// Ends in the last full window.
    last_window: u64,
    /// Whether ends of a window that is not over yet count.
    trusts_bursts: bool,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), ended_before: 0, last_window: 0, trusts_bursts: true }
    }

    /// How many jobs may be held, at most `limit`, by a pool that has ended so many jobs since its start.
    pub(crate) fn prefetch(&mut self, limit: usize, ended: u64) -> usize {
        let passed = self.since.elapsed();
        let mut in_this_window = ended.saturating_sub(self.ended_before);
        if passed >= WINDOW {
            let windows = u64::try_from(passed.as_millis() / WINDOW.as_millis()).unwrap_or(u64::MAX).max(1);
            self.last_window = in_this_window / windows;
            // A pool that was not looked at for long was not busy.
            self.trusts_bursts |= windows == 1 && self.last_window > 0;
            self.since = Instant::now();
            self.ended_before = ended;
            in_this_window = 0;
        }
        if !self.trusts_bursts {
            in_this_window = 0;
        }
        // A pool that just became busy need not wait for the end of its window.
        usize::try_from(self.last_window.max(in_this_window)).unwrap_or(usize::MAX).min(limit)
    }

    /// What the pool held it could not start: its work has become slow. Nothing is held from now on, until a full
    /// window shows that work is quick again; slow jobs that happen to end together do not show it.
    pub(crate) fn forget(&mut self, ended: u64) {
        *self = Self { ended_before: ended, trusts_bursts: false, ..Self::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_pool_holds_jobs_and_an_idle_one_none() {
        let mut pace = Pace::new();
        assert_eq!(pace.prefetch(32, 0), 0);
        assert_eq!(pace.prefetch(32, 20), 20);
        assert_eq!(pace.prefetch(32, 500), 32);
        tokio::time::advance(WINDOW).await;
        assert_eq!(pace.prefetch(1000, 500), 500);
        tokio::time::advance(WINDOW).await;
        assert_eq!(pace.prefetch(1000, 500), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_jobs_are_not_held() {
        let mut pace = Pace::new();
        // 25 hands, jobs of ten seconds: nothing has ended, then 25 in a hundred windows.
        assert_eq!(pace.prefetch(32, 0), 0);
        tokio::time::advance(WINDOW * 100).await;
        assert_eq!(pace.prefetch(32, 25), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_pace_is_learned_anew() {
        let mut pace = Pace::new();
        assert_eq!(pace.prefetch(32, 20), 20);
        pace.forget(20);
        assert_eq!(pace.prefetch(32, 20), 0);
        // Slow jobs that end together.
        tokio::time::advance(WINDOW * 50).await;
        assert_eq!(pace.prefetch(32, 21), 0);
        assert_eq!(pace.prefetch(32, 45), 0);
        tokio::time::advance(WINDOW * 50).await;
        assert_eq!(pace.prefetch(32, 46), 0);
        // Quick ones.
        tokio::time::advance(WINDOW).await;
        assert_eq!(pace.prefetch(32, 66), 20);
        assert_eq!(pace.prefetch(32, 96), 30);
    }
}
