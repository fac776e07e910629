//! How many claims end in a tenth of a second: what a session may hold beyond what it was asked for, because it will be
//! asked for it at once.

use std::time::{Duration, Instant};

/// Long enough for the way to the server and back; short enough that a job which waits here would not have run much
/// earlier elsewhere.
const WINDOW: Duration = Duration::from_millis(100);

/// Counts ends in the current window and remembers the last one.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    now: usize,
    last: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, now: 0, last: 0 }
    }

    pub(super) fn ended(&mut self, claims: usize, now: Instant) {
        self.turn(now);
        self.now = self.now.saturating_add(claims);
    }

    /// How many claims ended lately.
    pub(super) fn recent(&self, now: Instant) -> usize {
        match now.saturating_duration_since(self.since) {
            passed if passed < WINDOW => self.last.max(self.now),
            passed if passed < 2 * WINDOW => self.now,
            _ => 0,
        }
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            self.last = if passed < 2 * WINDOW { self.now } else { 0 };
            (self.since, self.now) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_what_is_older_than_two_windows() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.recent(start), 0);
        pace.ended(3, start);
        pace.ended(4, start + WINDOW / 2);
        assert_eq!(pace.recent(start + WINDOW / 2), 7);
        // A window that has only begun does not hide the last one.
        assert_eq!(pace.recent(start + WINDOW), 7);
        pace.ended(9, start + WINDOW);
        assert_eq!(pace.recent(start + WINDOW), 9);
        assert_eq!(pace.recent(start + WINDOW * 4), 0);
    }
}
