//! The retry policy of a job: data that travels with it.

use crate::{Backoff, QueueName};

/// What happens after a failure. Every job carries its own.
///
/// ```
/// use goose_core::{Backoff, RetryPolicy};
/// use std::time::Duration;
///
/// let mut policy = RetryPolicy::default();
/// assert_eq!(policy.max_retries, 27);
/// policy.max_retries = 3;
/// policy.backoff = Backoff::fixed(Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How often the job is tried *again*; 27 by default. `0` means dead at the first failure.
    pub max_retries: u32,
    /// How long to wait before each retry; [`Backoff::Ancestor`] by default.
    pub backoff: Backoff,
    /// The queue that retries run in, for instance one with fewer workers. By default the job's own.
    pub retry_queue: Option<QueueName>,
    /// Forget the job after its last retry instead of keeping it among the dead. `false` by default.
    pub skip_dead_queue: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_retries: 27, backoff: Backoff::default(), retry_queue: None, skip_dead_queue: false }
    }
}
