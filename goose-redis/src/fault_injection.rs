//! Ways to make the broker fail as a killed process would, for tests of brokers and workers.

use goose_core::{Clock, JobId, QueueName, Result, SystemClock};

use crate::RedisBroker;
use crate::encoding::{self, Header, Kind};

impl RedisBroker {
    /// From now on this handle and its clones behave as if their process had been killed: leases are no longer
    /// renewed, nothing is claimed, recovered or handed back. Settling still reaches the server, as from a process that
    /// was only stopped and wakes up too late.
    pub async fn abandon(&self) {
        for session in self.inner.sessions() {
            session.abandon();
        }
        tokio::task::yield_now().await;
    }

    /// Stores bytes that need not be a job.
    ///
    /// # Errors
    /// As [`enqueue`](goose_core::broker::Broker::enqueue).
    pub async fn enqueue_raw(&self, queue: &QueueName, id: JobId, bytes: Vec<u8>) -> Result<()> {
        let since = SystemClock.now();
        let header =
            Header { kind: Kind::Scheduled, skip_dead_queue: false, generation: encoding::generation(), since };
        self.inner.enqueue_value(queue, id, encoding::raw(header, &bytes)).await
    }
}
