//! Storing jobs among the dead.

use std::sync::Arc;

use goose_core::broker::DeathReason;
use goose_core::{Error, Job, JobId, QueueName, Result, Timestamp, codec};

use super::Dead;
use super::death::Death;
use crate::log::Count;
use crate::stream::NewEntry;

/// A job that is to be stored among the dead.
#[derive(Debug, Clone)]
pub(crate) struct Burial {
    death: Death,
    body: Arc<[u8]>,
}

impl Burial {
    /// Of a job, out of that queue.
    pub(crate) fn of_job(job: &Job, queue: QueueName, reason: DeathReason, died_at: Timestamp) -> Self {
        let death = Death { id: job.id, queue, died_at: Some(died_at), reason, is_job: true };
        Self { death, body: codec::encode(job).into() }
    }

    /// Of bytes that are no job, as they were found. The id is that of the message, or a new one.
    pub(crate) fn of_bytes(
        id: JobId,
        bytes: Arc<[u8]>,
        queue: QueueName,
        reason: DeathReason,
        died_at: Timestamp,
    ) -> Self {
        Self { death: Death { id, queue, died_at: Some(died_at), reason, is_job: false }, body: bytes }
    }
}

impl Dead {
    /// Stores jobs among the dead, in this order; returns when the server has them, with its word on each. Only then the messages may
    /// be acknowledged from which they come. Counts them.
    pub(crate) async fn bury(&self, burials: Vec<Burial>) -> Vec<Result<()>> {
        let entry = |Burial { death, body }| NewEntry::new(death.headers(), body);
        let entries: Vec<NewEntry> = burials.into_iter().map(entry).collect();
        let words = self.stream.append(&entries).await;
        let died = words.iter().filter(|word| word.is_ok()).count();
        self.log.count(Count::Died, u64::try_from(died).unwrap_or(0));
        words.into_iter().map(|word| word.map_err(Error::from)).collect()
    }
}
