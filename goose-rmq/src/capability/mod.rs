//! The optional powers of the broker, one per file.
//!
//! Whatever asks the server runs on the broker's own runtime; callers wait for its end.

mod dead_jobs;
mod enqueued_jobs;
mod paused_queues;
mod scheduled_jobs;
mod statistics;

use std::future::Future;
use std::sync::Arc;

use goose_core::{Error, ErrorKind, Result};

use crate::dead::Dead;
use crate::error::closed;
use crate::log::Log;
use crate::stream::Wires;
use crate::topology::Topology;

/// Everything beside enqueuing and consuming. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Powers {
    wires: Wires,
    topology: Arc<Topology>,
    log: Arc<Log>,
    dead: Arc<Dead>,
}

impl Powers {
    pub(crate) fn new(wires: Wires, topology: Arc<Topology>, log: Arc<Log>, dead: Arc<Dead>) -> Self {
        Self { wires, topology, log, dead }
    }

    /// Runs something over there. Dropping the future does not end it.
    async fn run<T, F>(&self, call: impl FnOnce(Self) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let call = call(self.clone());
        self.wires.runtime.spawn(call).await.unwrap_or_else(|_| Err(closed()))
    }

    /// The number of messages that are ready in a queue of the server. None if there is no such queue.
    async fn ready_in(&self, name: &str) -> Result<Option<u64>> {
        let channel = self.wires.control.channel().await?;
        let state = channel.inspect_queue(name).await?;
        if state.is_some() {
            // A channel on which a queue was not found is over already.
            let _ = channel.close().await;
        }
        Ok(state.map(|state| state.ready))
    }

    /// Removes what is ready in a queue of the server. None if there is no such queue.
    async fn purge(&self, name: &str) -> Result<Option<u64>> {
        if self.ready_in(name).await?.is_none() {
            return Ok(None);
        }
        let channel = self.wires.control.channel().await?;
        let purged = channel.purge_queue(name).await?;
        let _ = channel.close().await;
        Ok(Some(purged))
    }
}

/// What a call answers that would have to look into a queue.
fn cannot_look(what: &str) -> Error {
    let message = format!(
        "broker \"rmq\" does not support {what}: RabbitMQ hands out what is in a queue and cannot show it; jobs can be \
         counted, deleted by their ids, and purged"
    );
    Error::new(ErrorKind::Unsupported, message)
}
