//! Events as `tracing` events: failures and deaths loud, the rest for those who look.

use goose_core::{Event, Job, Observer};

/// Writes every event of a worker to `tracing`, with the job's id, name and queue.
#[derive(Debug)]
pub(crate) struct Log;

macro_rules! log {
    ($level:ident, $job:expr, $message:literal $(, $($field:tt)*)?) => {{
        let job: &Job = $job;
        tracing::$level!(job.id = %job.id, job.name = %job.name, job.queue = %job.queue $(, $($field)*)?, $message);
    }};
}

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Started { job, waited } => log!(debug, job, "job started", ?waited),
            Event::Succeeded { job, ran } => log!(debug, job, "job succeeded", ?ran),
            Event::Failed { job, error, ran } => {
                log!(warn, job, "attempt failed", job.attempt = job.attempts.next_attempt(), error, ?ran);
            }
            Event::Retried { job, delay } => log!(debug, job, "job will be retried", ?delay),
            Event::Died { id, queue, job, reason } => {
                let name = job.map(|job| job.name.as_str());
                tracing::error!(job.id = %id, job.name = name, job.queue = %queue, %reason, "job died");
            }
            Event::Snoozed { job, delay } => log!(debug, job, "job snoozed", ?delay),
            Event::Discarded { job, reason } => log!(info, job, "job discarded", reason),
            Event::Expired { job } => log!(info, job, "job expired before it was started"),
            Event::Parked { job, delay } => log!(warn, job, "no handler for this job here, parked it", ?delay),
            Event::Released { job } => log!(debug, job, "job handed back"),
            Event::Recovered { id, queue, recoveries } => {
                tracing::warn!(job.id = %id, job.queue = %queue, recoveries, "job recovered from a dead worker");
            }
            Event::Fenced { job } => log!(warn, job, "a late outcome changed nothing, the job is someone else's"),
            _ => tracing::debug!(event = event.name(), "job event"),
        }
    }
}
