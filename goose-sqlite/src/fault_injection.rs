//! Ways to make the broker fail as a killed process would, for tests of brokers and workers.

use goose_core::{JobId, QueueName, Result};
use tokio::sync::oneshot;

use crate::SqliteBroker;
use crate::engine::Message;
use crate::enqueue::Enqueue;

impl SqliteBroker {
    /// From now on this handle and its clones behave as if their process had been killed: leases are no longer
    /// renewed, nothing is claimed, recovered or handed back. Settling still reaches the file, as from a process that
    /// was only stopped and wakes up too late. Returns once it is so.
    pub async fn abandon(&self) {
        let (reply, done) = oneshot::channel();
        if self.engine.send(Message::Abandon(reply)).is_ok() {
            let _ = done.await;
        }
    }

    /// Stores bytes that need not be a job.
    ///
    /// # Errors
    /// As [`enqueue`](goose_core::broker::Broker::enqueue).
    pub async fn enqueue_raw(&self, queue: &QueueName, id: JobId, bytes: Vec<u8>) -> Result<()> {
        self.engine.ask(Enqueue::raw(id, queue.clone(), bytes)).await
    }
}
