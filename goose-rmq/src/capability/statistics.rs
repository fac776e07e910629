//! Counts and workers.

use std::collections::BTreeMap;

use goose_core::broker::capability::{LiveWorker, QueueCounts, Statistics, Totals};
use goose_core::{BoxFuture, QueueName, Result};

use super::Powers;

impl Powers {
    async fn counts(&self) -> Result<Vec<QueueCounts>> {
        let mut all: BTreeMap<QueueName, QueueCounts> = BTreeMap::new();
        for queue in self.log.queues().await? {
            let mut counts = QueueCounts::empty(queue.clone());
            // The cascade is shared by all queues, and it cannot be seen where its jobs are going.
            counts.scheduled = None;
            counts.ready = self.ready_in(&self.topology.names.ready(&queue)).await?.unwrap_or(0);
            all.insert(queue, counts);
        }
        for (queue, (running, held)) in self.log.holdings().await? {
            if let Some(counts) = all.get_mut(&queue) {
                counts.running = running;
                counts.ready += held;
            }
        }
        for (queue, dead) in self.dead.sizes().await? {
            if let Some(counts) = all.get_mut(&queue) {
                counts.dead = dead;
            }
        }
        Ok(all.into_values().collect())
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
