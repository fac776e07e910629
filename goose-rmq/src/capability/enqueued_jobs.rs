//! Jobs that wait in queues: as far as RabbitMQ lets anybody know of them, and with a journal all of it.

use goose_core::broker::capability::{EnqueuedJobs, JobFilter, Page, Paged};
use goose_core::{BoxFuture, Job, JobId, QueueName, Result};

use super::{Powers, cannot_look};
use crate::log;

impl Powers {
    /// An error where there is no journal.
    pub(super) async fn must_look(&self, what: &str) -> Result<()> {
        if self.journal.is_there().await? { Ok(()) } else { Err(cannot_look(what)) }
    }

    async fn size_of(&self, queue: &QueueName) -> Result<u64> {
        let counts = self.waiting_and_held(std::slice::from_ref(queue)).await?;
        let waiting: u64 = counts.into_values().map(|(waiting, _)| waiting).sum();
        Ok(waiting.saturating_sub(self.log.unmet(Some(queue))))
    }

    /// With a journal: takes out of it what is not in a queue any more.
    async fn check_queue(&self, queue: &QueueName) -> Result<()> {
        let (is_something, up_to) = self.journal.believed(queue).await?;
        if !is_something {
            return Ok(());
        }
        let counts = self.waiting_and_held(std::slice::from_ref(queue)).await?;
        let has_none = counts
            .into_values()
            .all(|(waiting, holdings)| waiting == 0 && (holdings.running, holdings.held, holdings.moving) == (0, 0, 0));
        if has_none { self.journal.forget_ghosts(Some(queue), up_to).await } else { Ok(()) }
    }
}

impl EnqueuedJobs for Powers {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueName>>> {
        Box::pin(self.run(|powers| async move { powers.log.queues().await }))
    }

    fn size<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        let queue = queue.clone();
        Box::pin(self.run(|powers| async move { powers.size_of(&queue).await }))
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<Job>>> {
        Box::pin(self.run(move |powers| async move {
            powers.must_look("finding enqueued jobs").await?;
            let Some(found) = powers.journal.find_ready(id).await? else { return Ok(None) };
            powers.check_queue(found.job.ready_queue()).await?;
            Ok(powers.journal.find_ready(id).await?.map(|found| found.job))
        }))
    }

    fn find<'a>(
        &'a self,
        queue: &'a QueueName,
        filter: &'a JobFilter,
        page: Page,
    ) -> BoxFuture<'a, Result<Paged<Job>>> {
        let (queue, filter) = (queue.clone(), filter.clone());
        Box::pin(self.run(|powers| async move {
            powers.must_look("listing enqueued jobs").await?;
            if page.after.is_none() {
                powers.check_queue(&queue).await?;
            }
            powers.journal.page_of_queue(&queue, &filter, page).await
        }))
    }

    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.run(move |powers| async move {
            powers.must_look("prioritising enqueued jobs").await?;
            let Some(found) = powers.journal.find_ready(id).await? else { return Ok(false) };
            powers.journal.prioritise(&found).await?;
            Ok(true)
        }))
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.run(move |powers| async move {
            if !powers.journal.is_there().await? {
                return powers.log.delete(id, log::ENQUEUED, None).await;
            }
            match powers.journal.find_ready(id).await? {
                Some(found) => powers.journal.delete(&found, log::ENQUEUED).await,
                None => Ok(false),
            }
        }))
    }

    fn purge<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        let queue = queue.clone();
        Box::pin(
            self.run(
                |powers| async move { powers.purge_all(Some(&queue), [powers.topology.names.ready(&queue)]).await },
            ),
        )
    }
}
