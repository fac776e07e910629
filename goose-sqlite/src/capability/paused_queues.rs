//! Pausing queues. The engine's thread does it, for it knows what its sessions have claimed.

use goose_core::broker::capability::PausedQueues;
use goose_core::{BoxFuture, QueueName, Result};
use tokio::sync::oneshot;

use crate::SqliteBroker;
use crate::engine::Message;
use crate::work::answer;

impl SqliteBroker {
    async fn set_paused(&self, queue: &QueueName, paused: bool) -> Result<bool> {
        let (reply, done) = oneshot::channel();
        self.engine.send(Message::Pause(queue.clone(), paused, reply))?;
        answer(done).await
    }
}

impl PausedQueues for SqliteBroker {
    fn pause<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.set_paused(queue, true))
    }

    fn resume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.set_paused(queue, false))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<QueueName>>> {
        Box::pin(async move {
            let (reply, read) = oneshot::channel();
            self.engine.send(Message::ListPaused(reply))?;
            answer(read).await
        })
    }
}
