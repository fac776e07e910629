//! Events as `tracing` events: failures and deaths loud, the rest for those who look.

use goose_core::broker::DeathCause;
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
                if matches!(reason.cause, DeathCause::Poison | DeathCause::Undecodable) {
                    tracing::warn!(job.id = %id, job.name = name, job.queue = %queue, %reason, "the broker buried a job");
                    return;
                }
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

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Write};
    use std::sync::Arc;

    use goose_core::broker::DeathReason;
    use goose_core::{JobId, QueueName};
    use parking_lot::Mutex;
    use tracing::field::{Field, Visit};
    use tracing::{Level, Metadata, Subscriber, span};

    use super::*;

    /// Keeps the level and the fields of all events.
    #[derive(Debug, Default, Clone)]
    struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().push((*event.metadata().level(), line.0));
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    struct Line(String);
    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, "{}={value:?};", field.name()).unwrap();
        }
    }

    #[test]
    fn what_the_broker_does_on_its_own_is_a_warning_with_id_queue_and_reason() {
        let (lines, id, queue) = (Lines::default(), JobId::new(), QueueName::new("mail").unwrap());
        let died = |cause, detail| {
            let reason = DeathReason::new(cause, detail);
            Log.observe(&Event::Died { id, queue: &queue, job: None, reason: &reason });
        };
        tracing::subscriber::with_default(lines.clone(), || {
            Log.observe(&Event::Recovered { id, queue: &queue, recoveries: 2 });
            died(DeathCause::Poison, "4 crashes");
            died(DeathCause::Undecodable, "not an envelope");
            died(DeathCause::RetriesExhausted, "no");
        });
        let (start, lines) = (format!("job.id={id};"), lines.0.lock());
        let levels: Vec<_> = lines.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [Level::WARN, Level::WARN, Level::WARN, Level::ERROR]);
        for ((_, line), says) in lines.iter().zip([
            "recoveries=2;",
            "reason=poison: 4 crashes;",
            "reason=undecodable: not an envelope;",
            "reason=retries-exhausted: no;",
        ]) {
            assert!([start.as_str(), "job.queue=mail;", says].iter().all(|part| line.contains(part)), "{line}");
        }
    }
}
