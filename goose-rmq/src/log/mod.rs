//! The control log: one stream, in total order, that every process folds into the same state.
//!
//! RabbitMQ has no place for a value that can be read and changed. A stream is one: everybody sees the same entries in the same
//! order, so "the first entry of this kind wins" is a compare-and-set. Pausing a queue and deleting a job by its id are
//! entries; what they mean is [`State`].

use goose_core::{JobId, QueueName, Result};

/// What the entries so far amount to, in memory.
#[derive(Debug, Default)]
pub(crate) struct State {}

/// The log of one broker handle: written to, and read to the end all the time once somebody has asked.
#[derive(Debug)]
pub(crate) struct Log {}

impl Log {
    /// Whether a job was deleted: a session asks this before it hands it out. Nanoseconds.
    pub(crate) fn is_deleted(&self, _id: JobId) -> bool {
        unimplemented!()
    }
    /// Whether a queue is paused; sessions also wait for changes.
    pub(crate) fn is_paused(&self, _queue: &QueueName) -> bool {
        unimplemented!()
    }
    /// Told whenever `is_paused` may answer otherwise than before.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        unimplemented!()
    }
    /// Returns once everything written before this call by anybody is folded.
    pub(crate) async fn catch_up(&self) -> Result<()> {
        unimplemented!()
    }
}
