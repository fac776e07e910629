//! Ways to make the broker fail as a killed process would, for tests of brokers and workers.

use std::sync::Arc;
use std::time::Duration;

use goose_core::{Clock, JobId, QueueName, Result, SystemClock};

use crate::delay::Path;
use crate::error::closed;
use crate::message::{self, Rank, Ticket};
use crate::outbox;
use crate::{RmqBroker, RmqOptions};

impl RmqOptions {
    /// Opens a broker that takes the server's `consumer_timeout` to be this, however short, so that tests need not wait a minute
    /// for leases.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with_consumer_timeout(mut self, timeout: Duration) -> Result<RmqBroker> {
        self.validate()?;
        self.consumer_timeout = timeout;
        RmqBroker::open(self).await
    }
}

impl RmqBroker {
    /// From now on this handle and its clones behave as if their process had been killed: sockets are closed without a
    /// goodbye, nothing is acknowledged, handed back or claimed any more.
    pub fn abandon(&self) {
        for session in self.inner.sessions() {
            session.abandon();
        }
        let links = &self.inner.links;
        for link in [&links.consume, &links.publish, &links.control] {
            link.abandon();
        }
    }

    /// Stores bytes that need not be a job.
    ///
    /// # Errors
    /// As [`enqueue`](goose_core::broker::Broker::enqueue).
    pub async fn enqueue_raw(&self, queue: &QueueName, id: JobId, bytes: Vec<u8>) -> Result<()> {
        let topology = Arc::clone(&self.inner.topology);
        let ticket = Ticket::now(Rank::Normal, SystemClock.now());
        let (exchange, key) = topology.names.address(queue, Path::NOW);
        let message = message::sealed(id, bytes.into(), &ticket, exchange, key);
        let queue = queue.clone();
        let ensured = self.inner.runtime.spawn(async move { topology.ensure_queue(&queue).await });
        ensured.await.unwrap_or_else(|_| Err(closed()))?;
        outbox::publish_all(&self.inner, vec![message]).await.into_iter().collect()
    }
}
