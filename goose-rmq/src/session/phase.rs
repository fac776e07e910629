//! How a session ends, step by step.

use std::time::Instant;

/// How far a session is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Nothing is handed out any more, and what was not handed out goes back.
    Stopping,
    /// What was handed out may still be settled, until this moment.
    Leaving {
        until: Instant,
    },
    /// Nothing is claimed any more.
    Ended,
}

impl Phase {
    /// Whether nothing is handed out any more.
    pub(super) fn is_ending(self) -> bool {
        self != Self::Open
    }
}
