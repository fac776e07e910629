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
use std::time::{Duration, Instant};

use goose_core::{Clock, Error, ErrorKind, QueueName, Result, SystemClock};

use crate::amqp::{Channel, QueueState};
use crate::dead::Dead;
use crate::error::closed;
use crate::journal::Journal;
use crate::log::Log;
use crate::stream::Wires;
use crate::topology::Topology;

/// How long the server waits for the leader of a quorum queue. Then it says that there are no messages and no consumers.
const GIVES_UP: Duration = Duration::from_millis(250);

/// How often a queue is looked at whose leader is slow. After that, what the server says has to be believed.
const TRIES: usize = 8;

/// Everything beside enqueuing and consuming. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Powers {
    wires: Wires,
    topology: Arc<Topology>,
    log: Arc<Log>,
    dead: Arc<Dead>,
    journal: Arc<Journal>,
}

impl Powers {
    pub(crate) fn new(
        wires: Wires,
        topology: Arc<Topology>,
        log: Arc<Log>,
        dead: Arc<Dead>,
        journal: Arc<Journal>,
    ) -> Self {
        Self { wires, topology, log, dead, journal }
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
        let state = inspect(&*channel, name).await?;
        if state.is_some() {
            // If there is no such queue, the channel is over already.
            let _ = channel.close().await;
        }
        Ok(state.map(|state| state.ready))
    }

    /// Removes what is ready in these queues of the server: those of one queue of jobs, or of all that wait for their time. Says
    /// how many jobs that were.
    async fn purge_all(&self, queue: Option<&QueueName>, names: impl IntoIterator<Item = String>) -> Result<u64> {
        let is_journaled = self.journal.is_there().await?;
        let up_to = if is_journaled { self.journal.end().await? } else { 0 };
        let unmet = self.log.unmet(queue);
        let mut purged = 0;
        for name in names {
            purged += self.purge(&name).await?.unwrap_or(0);
        }
        if is_journaled {
            self.log.purged(queue).await?;
            self.journal.is_gone(queue.cloned(), up_to, SystemClock.now().as_millis()).await?;
        }
        Ok(purged.saturating_sub(unmet))
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

/// Looks at a queue, and again while its leader is slow. None if there is no such queue: then the channel is over.
async fn inspect(channel: &dyn Channel, name: &str) -> Result<Option<QueueState>> {
    let mut tries = 0;
    loop {
        let asked = Instant::now();
        let state = channel.inspect_queue(name).await?;
        let took = asked.elapsed();
        tries += 1;
        if tries == TRIES || !state.is_some_and(|state| is_no_answer(state, took)) {
            return Ok(state);
        }
    }
}

/// Whether the server may not know how many messages there are, for it says zero then.
fn is_no_answer(state: QueueState, took: Duration) -> bool {
    (state.ready, state.consumers) == (0, 0) && took >= GIVES_UP
}

/// What a call answers that would have to look into a queue.
fn cannot_look(what: &str) -> Error {
    let message = format!(
        "broker \"rmq\" does not support {what}: RabbitMQ hands out what is in a queue and cannot show it; jobs can be \
         counted, deleted by their ids, and purged, or use a journal (RmqOptions::journal)"
    );
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_at_all_is_believed_only_when_it_is_said_soon() {
        let says =
            |ready, consumers, millis| is_no_answer(QueueState { ready, consumers }, Duration::from_millis(millis));
        assert!(says(0, 0, 250));
        assert!(!says(0, 0, 249));
        assert!(!says(1, 0, 250) && !says(0, 1, 250), "that was counted");
    }
}
