//! Numbers about jobs: the names, and the trait that a metrics backend implements.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// The numbers Goose reports. Names and meanings are those of nilenso/goose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// Counter: attempts that ended, well or not.
    JobsProcessed,
    /// Counter: attempts that succeeded.
    JobsSucceeded,
    /// Counter: attempts that failed.
    JobsFailed,
    /// Counter: jobs taken from dead sessions.
    JobsRecovered,
    /// Duration: how long a handler ran.
    ExecutionTime,
    /// Duration: from ready to started, for jobs that were enqueued to run at once.
    ExecutionLatency,
    /// Duration: from due to started, for jobs with a schedule.
    ScheduleLatency,
    /// Duration: from due to started, for retries.
    RetryLatency,
}

impl Metric {
    /// The name in dotted form, without prefix, as StatsD wants it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::JobsProcessed => "jobs.processed",
            Self::JobsSucceeded => "jobs.succeeded",
            Self::JobsFailed => "jobs.failed",
            Self::JobsRecovered => "jobs.recovered",
            Self::ExecutionTime => "job.execution_time",
            Self::ExecutionLatency => "execution.latency",
            Self::ScheduleLatency => "scheduled.latency",
            Self::RetryLatency => "retry.latency",
        }
    }
}

/// What a number is about.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Labels<'a> {
    /// The job's name.
    pub job: Option<&'a str>,
    /// The job's queue.
    pub queue: Option<&'a str>,
}

impl<'a> Labels<'a> {
    /// About jobs of a name in a queue.
    #[must_use]
    pub fn new(job: Option<&'a str>, queue: Option<&'a str>) -> Self {
        Self { job, queue }
    }
}

/// Receives numbers, on whatever thread they arise; must be quick and must not block.
///
/// ```
/// use goose_core::{Labels, Metric, Metrics};
/// use std::{sync::atomic::{AtomicU64, Ordering}, time::Duration};
///
/// #[derive(Debug, Default)]
/// struct Failures(AtomicU64);
/// impl Metrics for Failures {
///     fn count(&self, metric: Metric, by: u64, _: &Labels<'_>) {
///         if metric == Metric::JobsFailed {
///             self.0.fetch_add(by, Ordering::Relaxed);
///         }
///     }
///     fn duration(&self, _: Metric, _: Duration, _: &Labels<'_>) {}
/// }
/// ```
pub trait Metrics: Debug + Send + Sync + 'static {
    /// A counter goes up.
    fn count(&self, metric: Metric, by: u64, labels: &Labels<'_>);

    /// Something took this long.
    fn duration(&self, metric: Metric, value: Duration, labels: &Labels<'_>);
}

/// A shared backend is a backend, so that whoever made it can keep it.
impl<M: Metrics + ?Sized> Metrics for Arc<M> {
    fn count(&self, metric: Metric, by: u64, labels: &Labels<'_>) {
        (**self).count(metric, by, labels);
    }

    fn duration(&self, metric: Metric, value: Duration, labels: &Labels<'_>) {
        (**self).duration(metric, value, labels);
    }
}
