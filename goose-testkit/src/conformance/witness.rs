//! An observer that remembers what it was told.

use std::fmt;

use goose_core::broker::DeathCause;
use goose_core::{Event, JobId, Observer};
use parking_lot::Mutex;

/// Keeps what a broker reports on its own: recoveries and deaths.
#[derive(Default)]
pub(crate) struct Witness {
    seen: Mutex<Vec<Seen>>,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Recovered(JobId, u32),
    Died(JobId, DeathCause),
    Other(&'static str),
}

impl Witness {
    pub(crate) fn saw(&self, expected: &Seen) -> bool {
        self.seen.lock().contains(expected)
    }
}

impl Observer for Witness {
    fn observe(&self, event: &Event<'_>) {
        let seen = match event {
            Event::Recovered { id, recoveries, .. } => Seen::Recovered(*id, *recoveries),
            Event::Died { id, reason, .. } => Seen::Died(*id, reason.cause),
            other => Seen::Other(other.name()),
        };
        self.seen.lock().push(seen);
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.seen.lock().iter()).finish()
    }
}
