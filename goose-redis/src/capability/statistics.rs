//! Counts and workers.

use std::collections::BTreeMap;

use fred::bytes::Bytes;
use goose_core::broker::capability::{LiveWorker, QueueCounts, Statistics, Totals};
use goose_core::broker::{WorkerId, WorkerIdentity};
use goose_core::{BoxFuture, JobId, QueueName, Result, Timestamp};

use crate::RedisBroker;
use crate::broker::Inner;
use crate::connection::{Lane, Reply};
use crate::scripts::COUNTS;

impl Inner {
    /// The ten numbers of `counts.lua`, per queue.
    async fn counts(&self) -> Result<Vec<(QueueName, Vec<u64>)>> {
        let mut all = Vec::new();
        for (queue, k) in self.queues().await? {
            let keys = vec![k.ready, k.scheduled, k.dead, k.meta];
            let reply = self.link.eval(Lane::Data, &COUNTS, keys, Vec::new()).await?.into_array()?;
            let number = |reply: Reply| reply.into_int().map(|n| u64::try_from(n).unwrap_or(0));
            let mut numbers: Vec<u64> = reply.into_iter().map(number).collect::<Result<_>>()?;
            numbers.resize(10, 0);
            all.push((queue, numbers));
        }
        Ok(all)
    }

    async fn live_workers(&self) -> Result<Vec<LiveWorker>> {
        let mut workers: BTreeMap<String, LiveWorker> = BTreeMap::new();
        for queue in self.served_queues(Lane::Data).await? {
            let keys = self.names.queue(&queue);
            let everyone = vec![Bytes::from_static(b"0"), Bytes::from_static(b"-1")];
            let sessions = self.link.command(Lane::Data, "ZRANGE", Some(keys.leases.clone()), everyone).await?;
            for session in sessions.into_array()? {
                let session = session.into_text()?;
                let claims = keys.claims(&session);
                let description =
                    self.link.command(Lane::Data, "HGET", Some(claims.clone()), vec![Bytes::new()]).await?;
                // A session that has been stopped, or is being recovered, has none.
                let Ok(description) = description.into_text() else { continue };
                let held = self.link.command(Lane::Data, "HLEN", Some(claims), Vec::new()).await?.into_int()?;
                let held = u64::try_from(held).unwrap_or(0).saturating_sub(1);
                let worker = workers.entry(session).or_insert_with(|| read(&description));
                worker.queues.push(queue.clone());
                worker.running += held;
            }
        }
        let mut workers: Vec<LiveWorker> = workers.into_values().collect();
        workers.sort_by_key(|worker| worker.started_at);
        Ok(workers)
    }
}

/// What a session says of itself, see `lease`.
fn read(description: &str) -> LiveWorker {
    let mut words = description.split_whitespace();
    let id = words.next().and_then(|id| id.parse::<JobId>().ok()).map(|id| WorkerId::from_bytes(*id.as_bytes()));
    let pid = words.next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
    let started = words.next().and_then(|time| time.parse().ok()).map_or(Timestamp::EPOCH, Timestamp::from_millis);
    let host = words.next().unwrap_or("unknown");
    let identity = WorkerIdentity::new(id.unwrap_or(WorkerId::from_bytes([0; 16])), host, pid);
    LiveWorker::new(identity, Vec::new(), started, 0)
}

impl Statistics for RedisBroker {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueCounts>>> {
        Box::pin(async move {
            let counts = self.inner.counts().await?.into_iter().map(|(queue, n)| {
                let mut counts = QueueCounts::empty(queue);
                (counts.ready, counts.scheduled, counts.running, counts.dead) = (n[0], Some(n[1]), n[2], n[3]);
                counts
            });
            Ok(counts.collect())
        })
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(async move {
            let mut totals = Totals::default();
            for (_, n) in self.inner.counts().await? {
                totals.enqueued += n[4];
                totals.succeeded += n[5];
                totals.failed += n[6];
                totals.died += n[7];
                totals.discarded += n[8];
                totals.recovered += n[9];
            }
            Ok(totals)
        })
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<LiveWorker>>> {
        Box::pin(self.inner.live_workers())
    }
}
