//! Counts and workers.

use std::collections::BTreeMap;
use std::time::Duration;

use goose_core::broker::capability::{LiveWorker, QueueCounts, Statistics, Totals};
use goose_core::{BoxFuture, QueueName, Result};

use super::Powers;
use crate::log::Holdings;

/// How often counts are taken again that changed hands while they were taken.
const TRIES: usize = 10;
const LOOKS_AGAIN: Duration = Duration::from_millis(10);

impl Powers {
    /// How many jobs of some queues are ready, and what sessions have of each.
    ///
    /// The server is asked, and the sessions are; a job that goes from one to the other in between would be counted twice
    /// or not at all. So the sessions are asked before and after, and all of it again if that makes a difference.
    pub(super) async fn waiting_and_held(&self, queues: &[QueueName]) -> Result<BTreeMap<QueueName, (u64, Holdings)>> {
        let mut before = self.log.holdings().await?;
        let mut tries = 0;
        loop {
            let mut counts = BTreeMap::new();
            for queue in queues {
                let ready = self.ready_in(&self.topology.names.ready(queue)).await?.unwrap_or(0);
                let holdings = before.get(queue).copied().unwrap_or_default();
                counts.insert(queue.clone(), (ready + holdings.held, holdings));
            }
            if before.is_empty() {
                return Ok(counts);
            }
            let after = self.log.holdings().await?;
            let is_quiet = queues.iter().all(|queue| {
                after.get(queue) == before.get(queue) && after.get(queue).is_none_or(|holdings| holdings.moving == 0)
            });
            tries += 1;
            // A busy system is never quiet, and there nobody counts on the last job.
            if is_quiet || tries == TRIES {
                return Ok(counts);
            }
            tokio::time::sleep(LOOKS_AGAIN).await;
            before = after;
        }
    }

    async fn counts(&self) -> Result<Vec<QueueCounts>> {
        let queues = self.log.queues().await?;
        let dead: BTreeMap<QueueName, u64> = self.dead.sizes().await?.into_iter().collect();
        let waiting = self.waiting_and_held(&queues).await?;
        let mut counts = Vec::with_capacity(waiting.len());
        for (queue, (ready, holdings)) in waiting {
            let unmet = self.log.unmet(Some(&queue));
            let mut of_queue = QueueCounts::empty(queue);
            // The cascade is shared by all queues, and it cannot be seen where its jobs are going.
            of_queue.scheduled = None;
            (of_queue.ready, of_queue.running) = (ready.saturating_sub(unmet), holdings.running);
            of_queue.dead = dead.get(&of_queue.queue).copied().unwrap_or(0);
            counts.push(of_queue);
        }
        Ok(counts)
    }
}

impl Statistics for Powers {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueCounts>>> {
        Box::pin(self.run(|powers| async move { powers.counts().await }))
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(self.run(|powers| async move { powers.log.totals().await }))
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<LiveWorker>>> {
        Box::pin(self.run(|powers| async move { powers.log.workers().await }))
    }
}
