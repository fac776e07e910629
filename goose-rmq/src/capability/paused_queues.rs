//! Pausing queues: entries of the control log.

use goose_core::broker::capability::PausedQueues;
use goose_core::{BoxFuture, QueueName, Result};

use super::Powers;

impl PausedQueues for Powers {
    fn pause<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>> {
        let queue = queue.clone();
        Box::pin(self.run(|powers| async move { powers.log.pause(&queue).await }))
    }

    fn resume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>> {
        let queue = queue.clone();
        Box::pin(self.run(|powers| async move { powers.log.resume(&queue).await }))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<QueueName>>> {
        Box::pin(self.run(|powers| async move { powers.log.paused().await }))
    }
}
