//! A clock that stands still until it is told to move.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use goose_core::{Clock, Timestamp};
use parking_lot::Mutex;

/// A clock for tests. It begins at 2026-01-01T00:00:00Z and moves only by hand; clones show the same time.
///
/// Whoever sleeps until a due time on this clock is woken when it moves.
///
/// ```
/// use goose_core::Clock;
/// use goose_testkit::testing::ManualClock;
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(90));
/// assert_eq!(clock.now().to_string(), "2026-01-01T00:01:30.000Z");
/// ```
#[derive(Clone)]
pub struct ManualClock {
    face: Arc<Mutex<Face>>,
}

struct Face {
    now: Timestamp,
    /// Who wants to look again after a jump.
    sleepers: Vec<Arc<dyn Fn() + Send + Sync>>,
}

impl ManualClock {
    /// A clock at 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Timestamp::from_millis(1_767_225_600_000))
    }

    /// A clock at some other time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { face: Arc::new(Mutex::new(Face { now, sleepers: Vec::new() })) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.jump(|now| now.saturating_add(by));
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, to: Timestamp) {
        self.jump(|_| to);
    }

    fn jump(&self, to: impl FnOnce(Timestamp) -> Timestamp) {
        let sleepers = {
            let mut face = self.face.lock();
            face.now = to(face.now);
            face.sleepers.clone()
        };
        // Without the lock: they look at the clock.
        for wake in sleepers {
            wake();
        }
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.face.lock().now
    }

    fn on_jump(&self, on_jump: Arc<dyn Fn() + Send + Sync>) {
        self.face.lock().sleepers.push(on_jump);
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn clones_share_the_time_and_jumps_are_told() {
        let clock = ManualClock::at(Timestamp::EPOCH);
        let (twin, jumps) = (clock.clone(), Arc::new(AtomicU32::new(0)));
        let (told, looking) = (Arc::clone(&jumps), clock.clone());
        clock.on_jump(Arc::new(move || {
            assert_eq!(looking.now(), Timestamp::from_millis(5));
            told.fetch_add(1, Ordering::Relaxed);
        }));
        twin.advance(Duration::from_millis(5));
        assert_eq!((clock.now().as_millis(), jumps.load(Ordering::Relaxed)), (5, 1));
        assert_eq!(format!("{clock:?}"), "ManualClock(1970-01-01T00:00:00.005Z)");
    }
}
