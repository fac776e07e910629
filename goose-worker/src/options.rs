//! What holds for all pools of a worker.

use std::time::Duration;

/// The options of a worker, each with its default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// How long a stop waits for running jobs.
    pub(crate) grace_period: Duration,
    /// The timeout of jobs that bring none.
    pub(crate) default_timeout: Option<Duration>,
    /// How long a job of an unknown name is put off each time.
    pub(crate) unknown_delay: Duration,
    /// How long it is put off in all before it is dead.
    pub(crate) unknown_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            grace_period: Duration::from_secs(30),
            default_timeout: None,
            unknown_delay: Duration::from_secs(30),
            unknown_patience: Duration::from_secs(24 * 60 * 60),
        }
    }
}
