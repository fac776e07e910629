//! When a job wants to run, and where it stands in line.

use std::time::Duration;

use crate::Timestamp;

/// When the client wants a job to run.
///
/// A delay is kept as a delay, not turned into a time on the client's clock: the broker adds it to its own
/// clock, so a client whose clock is wrong delays nothing wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Schedule {
    /// As soon as a worker is free.
    #[default]
    Now,
    /// Not before this time on the broker's clock. A time in the past means now, at the front of the queue.
    At(Timestamp),
    /// Not before this long after the broker took the job.
    In(Duration),
}

/// Where a job enters its queue.
///
/// Due scheduled jobs, due retries, recovered and replayed jobs always enter at the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Priority {
    /// Behind everything that is already there.
    #[default]
    Normal,
    /// Before everything that is already there.
    Front,
}
