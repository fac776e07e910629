//! Storing jobs among the dead.

use std::sync::Arc;

use goose_core::broker::{DeathCause, DeathReason};
use goose_core::{Error, JobId, QueueName, Result, Timestamp};

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
    /// Of what was taken out of that queue: an envelope or, if the cause says so, bytes that are none. The id is that of
    /// the job or of the message.
    pub(crate) fn new(id: JobId, body: Arc<[u8]>, queue: QueueName, reason: DeathReason, died_at: Timestamp) -> Self {
        let is_job = reason.cause != DeathCause::Undecodable;
        Self { death: Death { id, queue, died_at: Some(died_at), reason, is_job }, body }
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
