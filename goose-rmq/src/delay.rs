//! The arithmetic of delays: how a time becomes a path through the cascade of level queues.
//!
//! Level *k* holds a message for 32 ms · 2^*k*. A delay is a sum of levels, that is a binary number; a message takes one
//! hop (queue, expiry, dead-lettering) for each bit that is set. Delays are rounded *down*, low bits within a tolerance are
//! dropped to save hops, and the session that receives a job early holds it until its time.

use std::time::Duration;

/// The shortest level.
pub(crate) const UNIT: Duration = Duration::from_millis(32);

/// How many levels there are. All of them together last 4.36 years; what is longer is sent round again.
pub(crate) const LEVELS: u32 = 32;

/// How exact a delay has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// A time somebody has asked for.
    Exact,
    /// The pause before a retry, which has jitter anyway.
    Rough,
}

/// The way of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// So short that it goes to its queue at once and the session holds it, at most this long.
    Straight { hold: Duration },
    /// Through the levels whose bits are set, highest first. `hold` is how early it can arrive, at most. `goes_on` if the
    /// delay is longer than the cascade.
    Levels { levels: u32, hold: Duration, goes_on: bool },
}

/// The way for a delay. `hop` is how long one hop takes beyond its time.
pub(crate) fn path(_delay: Duration, _precision: Precision, _hop: Duration) -> Path {
    unimplemented!()
}
