//! Jobs that wait in queues, as far as RabbitMQ lets anybody know of them.

use goose_core::broker::capability::{EnqueuedJobs, JobFilter, Page, Paged};
use goose_core::{BoxFuture, Job, JobId, QueueName, Result};

use super::{Powers, cannot_look};
use crate::log;

impl EnqueuedJobs for Powers {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueName>>> {
        Box::pin(self.run(|powers| async move { powers.log.queues().await }))
    }

    fn size<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        let queue = queue.clone();
        Box::pin(self.run(|powers| async move {
            let counts = powers.waiting_and_held(std::slice::from_ref(&queue)).await?;
            Ok(counts.into_values().map(|(waiting, _)| waiting).sum())
        }))
    }

    fn find_by_id(&self, _: JobId) -> BoxFuture<'_, Result<Option<Job>>> {
        Box::pin(async { Err(cannot_look("finding enqueued jobs")) })
    }

    fn find<'a>(&'a self, _: &'a QueueName, _: &'a JobFilter, _: Page) -> BoxFuture<'a, Result<Paged<Job>>> {
        Box::pin(async { Err(cannot_look("listing enqueued jobs")) })
    }

    fn prioritise(&self, _: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async { Err(cannot_look("prioritising enqueued jobs")) })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.run(move |powers| async move { Ok(powers.log.delete(&[id], log::ENQUEUED).await? > 0) }))
    }

    fn purge<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        let name = self.topology.names.ready(queue);
        Box::pin(self.run(|powers| async move { Ok(powers.purge(&name).await?.unwrap_or(0)) }))
    }
}
