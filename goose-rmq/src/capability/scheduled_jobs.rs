//! Jobs that wait for their time: those in the queues of the cascade.

use std::sync::Arc;

use goose_core::broker::capability::{JobFilter, Page, Paged, ScheduledJob, ScheduledJobs};
use goose_core::{BoxFuture, JobId, Result};

use super::{Powers, inspect};
use crate::amqp::Channel;
use crate::delay::LEVELS;
use crate::journal::Found;
use crate::log;

impl Powers {
    /// How many jobs are in the cascade. Each is in one of its queues, or on its way from one to the next.
    pub(super) async fn scheduled(&self) -> Result<u64> {
        let names = &self.topology.names;
        let (mut size, mut channel) = (0, None);
        // From the longest delays down, as jobs move: none is overlooked because it moves meanwhile. And all on one
        // channel, so that hardly any has the time to be counted twice.
        for level in (0..LEVELS).rev() {
            let open: Arc<dyn Channel> = match channel.take() {
                Some(open) => open,
                None => self.wires.control.channel().await?,
            };
            match inspect(&*open, &names.level(level)).await? {
                Some(state) => {
                    size += state.ready;
                    channel = Some(open);
                }
                // The channel is over. All are declared together, so nobody has scheduled anything.
                None if level + 1 == LEVELS => return Ok(0),
                None => {}
            }
        }
        if let Some(channel) = channel {
            let _ = channel.close().await;
        }
        Ok(size)
    }
}

impl Powers {
    /// With a journal: takes out of it what does not wait any more.
    async fn check_scheduled(&self) -> Result<()> {
        let (is_something, up_to) = self.journal.believed_scheduled().await?;
        if is_something && self.scheduled().await? == 0 {
            self.journal.forget_ghosts(None, up_to).await?;
        }
        Ok(())
    }
}

impl ScheduledJobs for Powers {
    fn size(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.run(|powers| async move {
            let waiting = powers.scheduled().await?;
            if waiting == 0 || !powers.journal.is_there().await? {
                return Ok(waiting);
            }
            powers.log.catch_up().await?;
            Ok(waiting.saturating_sub(powers.log.unmet(None)))
        }))
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<ScheduledJob>>> {
        Box::pin(self.run(move |powers| async move {
            powers.must_look("finding scheduled jobs").await?;
            powers.check_scheduled().await?;
            Ok(powers.journal.find_scheduled(id).await?.map(Found::scheduled))
        }))
    }

    fn find<'a>(&'a self, filter: &'a JobFilter, page: Page) -> BoxFuture<'a, Result<Paged<ScheduledJob>>> {
        let filter = filter.clone();
        Box::pin(self.run(|powers| async move {
            powers.must_look("listing scheduled jobs").await?;
            if page.after.is_none() {
                powers.check_scheduled().await?;
            }
            powers.journal.page_of_scheduled(&filter, page).await
        }))
    }

    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.run(move |powers| async move {
            powers.must_look("prioritising scheduled jobs").await?;
            let Some(found) = powers.journal.find_delayed(id).await? else { return Ok(false) };
            powers.journal.prioritise(&found).await?;
            Ok(true)
        }))
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.run(move |powers| async move {
            if !powers.journal.is_there().await? {
                return powers.log.delete(id, log::SCHEDULED, None).await;
            }
            match powers.journal.find_delayed(id).await? {
                Some(found) => powers.journal.delete(&found, log::SCHEDULED).await,
                None => Ok(false),
            }
        }))
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.run(|powers| async move {
            // From the longest delays down, so that none gets away to a level that has been purged.
            let names = &powers.topology.names;
            powers.purge_all(None, (0..LEVELS).rev().map(|level| names.level(level))).await
        }))
    }
}
