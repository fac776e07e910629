//! Jobs that wait for their time: those in the queues of the cascade.

use std::sync::Arc;

use goose_core::broker::capability::{JobFilter, Page, Paged, ScheduledJob, ScheduledJobs};
use goose_core::{BoxFuture, JobId, Result};

use super::{Powers, cannot_look, inspect};
use crate::amqp::Channel;
use crate::delay::LEVELS;
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

impl ScheduledJobs for Powers {
    fn size(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.run(|powers| async move { powers.scheduled().await }))
    }

    fn find_by_id(&self, _: JobId) -> BoxFuture<'_, Result<Option<ScheduledJob>>> {
        Box::pin(async { Err(cannot_look("finding scheduled jobs")) })
    }

    fn find<'a>(&'a self, _: &'a JobFilter, _: Page) -> BoxFuture<'a, Result<Paged<ScheduledJob>>> {
        Box::pin(async { Err(cannot_look("listing scheduled jobs")) })
    }

    fn prioritise(&self, _: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async { Err(cannot_look("prioritising scheduled jobs")) })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.run(move |powers| async move { Ok(powers.log.delete(&[id], log::SCHEDULED).await? > 0) }))
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.run(|powers| async move {
            let mut purged = 0;
            // From the longest delays down, so that none gets away to a level that has been purged.
            for level in (0..LEVELS).rev() {
                purged += powers.purge(&powers.topology.names.level(level)).await?.unwrap_or(0);
            }
            Ok(purged)
        }))
    }
}
