//! What the model knows of one job.

use goose_core::broker::DeathReason;
use goose_core::broker::capability::{DeadContent, DeadJob, ScheduledKind};
use goose_core::{Job, JobId, QueueName, Timestamp};

/// A stored job and where it is. A job is in exactly one place.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: JobId,
    pub(crate) content: DeadContent,
    pub(crate) queue: QueueName,
    pub(crate) place: Place,
    pub(crate) recoveries: u32,
    pub(crate) ready_at: Timestamp,
}

/// Where a job is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Ready(Rank),
    Scheduled { due: Rank, kind: ScheduledKind },
    Claimed { session: u64, claim: u64 },
    Dead { at: Timestamp, order: u64, reason: DeathReason },
}

/// A place in line; smaller goes first.
///
/// Fronts before due jobs before the rest. Fronts count down, so that the last comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) class: Class,
    pub(crate) at: i64,
    pub(crate) tie: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Front,
    Due,
    Normal,
}

impl Record {
    pub(crate) fn job(&self) -> Option<&Job> {
        match &self.content {
            DeadContent::Job(job) => Some(job),
            DeadContent::Undecodable(_) => None,
        }
    }

    pub(crate) fn dead(&self) -> Option<(u64, DeadJob)> {
        let Place::Dead { at, order, reason } = &self.place else { return None };
        Some((*order, DeadJob::new(self.id, self.queue.clone(), self.content.clone(), *at, reason.clone())))
    }
}
