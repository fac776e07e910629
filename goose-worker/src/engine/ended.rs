//! A claim that ends: what the broker is told, and what is reported once the broker has stored it.

use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{DeathReason, Receipt, Settlement, Verdict};
use goose_core::{Event, Job, Observer};

/// One claim's end on its way to the settler.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) settlement: Settlement,
    pub(crate) report: Report,
}

/// What is reported after the broker has stored the end. Where the verdict carries the job, the report does not.
#[derive(Debug)]
pub(crate) enum Report {
    Succeeded {
        job: Arc<Job>,
        ran: Duration,
    },
    Retried,
    Died,
    /// Dead, and not kept.
    Forgotten {
        job: Box<Job>,
        reason: DeathReason,
    },
    Snoozed,
    Discarded {
        job: Arc<Job>,
        reason: String,
    },
    Expired {
        job: Box<Job>,
    },
    Parked,
    Released {
        job: Arc<Job>,
    },
    /// The task that ran it panicked, outside of the application's code. The job went with it.
    Unwound,
}

impl Ended {
    pub(crate) fn new(receipt: Receipt, (verdict, report): (Verdict, Report)) -> Self {
        Self { settlement: Settlement::new(receipt, verdict), report }
    }

    /// A job that goes back because its task is gone.
    pub(crate) fn unwound(receipt: Receipt) -> Self {
        Self::new(receipt, (Verdict::Release, Report::Unwound))
    }

    /// A job that goes back as it was.
    pub(crate) fn released(receipt: Receipt, job: Arc<Job>) -> Self {
        Self::new(receipt, (Verdict::Release, Report::Released { job }))
    }
}

/// Reports an end that the broker has stored.
pub(crate) fn stored(settlement: &Settlement, report: &Report, observer: &dyn Observer) {
    let event = match (report, &settlement.verdict) {
        (Report::Succeeded { job, ran }, _) => Event::Succeeded { job, ran: *ran },
        (Report::Discarded { job, reason }, _) => Event::Discarded { job, reason },
        (Report::Expired { job }, _) => Event::Expired { job },
        (Report::Released { job }, _) => Event::Released { job },
        (Report::Forgotten { job, reason }, _) => {
            Event::Died { id: job.id, queue: job.ready_queue(), job: Some(job), reason }
        }
        (Report::Died, Verdict::Bury { job, reason }) => {
            Event::Died { id: job.id, queue: job.ready_queue(), job: Some(job), reason }
        }
        (Report::Retried, Verdict::Retry { job, delay }) => Event::Retried { job, delay: *delay },
        (Report::Snoozed, Verdict::Snooze { job, delay }) => Event::Snoozed { job, delay: *delay },
        (Report::Parked, Verdict::Snooze { job, delay }) => Event::Parked { job, delay: *delay },
        // Already in the log, as an error.
        (Report::Unwound, _) => return,
        (Report::Retried | Report::Died | Report::Snoozed | Report::Parked, verdict) => {
            tracing::error!(?report, ?verdict, "report and verdict do not match, please report this bug of Goose");
            return;
        }
    };
    observer.observe(&event);
}

/// Reports an end that came too late.
pub(crate) fn fenced(settlement: &Settlement, report: &Report, observer: &dyn Observer) {
    if let Some(job) = job(settlement, report) {
        observer.observe(&Event::Fenced { job });
    }
}

/// Says in the log what has become of an end that the broker does not know.
pub(crate) fn warn(settlement: &Settlement, report: &Report, what: &str) {
    let job = job(settlement, report);
    let (id, name) = (job.map(|job| tracing::field::display(job.id)), job.map(|job| job.name.as_str()));
    tracing::warn!(job.id = id, job.name = name, "{what}");
}

/// The job that ended.
pub(crate) fn job<'a>(settlement: &'a Settlement, report: &'a Report) -> Option<&'a Job> {
    match (report, &settlement.verdict) {
        (Report::Succeeded { job, .. } | Report::Discarded { job, .. } | Report::Released { job }, _) => Some(job),
        (Report::Expired { job } | Report::Forgotten { job, .. }, _) => Some(job),
        (_, Verdict::Retry { job, .. } | Verdict::Snooze { job, .. } | Verdict::Bury { job, .. }) => Some(job),
        (Report::Retried | Report::Died | Report::Snoozed | Report::Parked | Report::Unwound, _) => None,
    }
}
