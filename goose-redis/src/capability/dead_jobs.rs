//! Dead jobs.

use fred::bytes::Bytes;
use goose_core::broker::capability::{DeadContent, DeadJob, DeadJobs, JobFilter, Page, Paged};
use goose_core::broker::{DeathCause, DeathReason};
use goose_core::{BoxFuture, Job, JobId, QueueName, Result, Timestamp};

use super::cursor::Place;
use super::scheduled_jobs::whole;
use super::{STEP, Timed, TimedList, id_bytes, limit};
use crate::RedisBroker;
use crate::broker::Inner;
use crate::connection::{Lane, Reply};
use crate::encoding::{self, Kind};
use crate::scripts::{ENQUEUE, ONE_DEAD};

/// A dead job of one queue.
pub(crate) async fn find_dead_in(inner: &Inner, queue: &QueueName, id: JobId) -> Result<Option<DeadJob>> {
    Ok(inner.one_dead(queue, b"?", id, Bytes::new(), Bytes::new()).await?.map(|found| found.dead))
}

/// A dead job, and the time of its death as the server has it: to the microsecond, and another one with each death.
struct Found {
    dead: DeadJob,
    died: Bytes,
}

impl Inner {
    async fn dead_lists(&self) -> Result<Vec<TimedList>> {
        let list = |(queue, k): (_, crate::names::QueueKeys)| TimedList {
            queue,
            jobs: k.jobs,
            set: k.dead,
            notes: k.epitaphs,
        };
        Ok(self.queues().await?.into_iter().map(list).collect())
    }

    /// Does something to one dead job of a queue; if a time is given, only when it has not died again since.
    async fn one_dead(
        &self,
        queue: &QueueName,
        what: &'static [u8],
        id: JobId,
        value: Bytes,
        died: Bytes,
    ) -> Result<Option<Found>> {
        let k = self.names.queue(queue);
        let keys =
            [&k.jobs, &k.ready, &k.dead, &k.epitaphs, &k.meta, &k.wake, &k.recoveries].map(Bytes::clone).to_vec();
        let args = vec![Bytes::from_static(what), id_bytes(id), value, died];
        let mut fields = self.link.eval(Lane::Data, &ONE_DEAD, keys, args).await?.into_array()?.into_iter();
        if fields.next().map_or(Ok(0), Reply::into_int)? == 0 {
            return Ok(None);
        }
        let (Some(value), Some(died), Some(epitaph)) = (fields.next(), fields.next(), fields.next()) else {
            return Ok(None);
        };
        let died = died.into_text()?;
        let time = died.parse().unwrap_or(0.0);
        let dead = dead_job(id, queue.clone(), &value.into_bytes()?, time, &epitaph.into_text()?);
        Ok(Some(Found { dead, died: died.into() }))
    }

    async fn find_dead_anywhere(&self, id: JobId) -> Result<Option<Found>> {
        for queue in self.queue_names().await? {
            if let Some(found) = self.one_dead(&queue, b"?", id, Bytes::new(), Bytes::new()).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Puts a dead job back in line, with all its retries, in its own queue; `false` for what cannot be decoded.
    async fn replay(&self, Found { dead, died }: Found) -> Result<bool> {
        let Some(job) = dead.job() else { return Ok(false) };
        let mut job = Job::clone(job);
        job.attempts.retry_count = 0;
        job.attempts.parked = None;
        let value = encoding::encode(&job, Kind::Scheduled, self.clock.now());
        if job.queue == dead.queue {
            return Ok(self.one_dead(&dead.queue, b"r", dead.id, value, died).await?.is_some());
        }
        // It died in its retry queue, which may live on another node: put where it belongs first.
        let there = self.names.queue(&job.queue);
        let keys = vec![there.jobs, there.ready, there.scheduled, there.wake, there.meta];
        let args = vec![Bytes::from_static(b"0"), id_bytes(dead.id), value, Bytes::from_static(b"f")];
        self.link.eval(Lane::Data, &ENQUEUE, keys, args).await?;
        // By now it may have failed and come back, and even be dead again: then this is another death, and stays.
        self.one_dead(&dead.queue, b"d", dead.id, Bytes::new(), died).await?;
        Ok(true)
    }
}

fn dead_job(id: JobId, queue: QueueName, value: &[u8], died: f64, epitaph: &str) -> DeadJob {
    let (cause, detail) = epitaph.split_once(':').unwrap_or(("", epitaph));
    // A cause that a newer version wrote is shown as the most general one.
    let reason = DeathReason::new(cause.parse().unwrap_or(DeathCause::Buried), detail);
    let content = match encoding::decode(value) {
        Ok((_, job)) => DeadContent::Job(Box::new(job)),
        Err(_) => DeadContent::Undecodable(encoding::split(value).map_or(value, |(_, bytes)| bytes).to_vec()),
    };
    DeadJob::new(id, queue, content, Timestamp::from_millis(whole(died) / 1000), reason)
}

impl Timed {
    fn dead(&self) -> Result<DeadJob> {
        let id = encoding::id(&self.place.id)?;
        Ok(dead_job(id, self.queue.clone(), &self.value, self.place.time, &self.note))
    }
}

impl DeadJobs for RedisBroker {
    fn size(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut size = 0;
            for (_, keys) in self.inner.queues().await? {
                let reply = self.inner.link.command(Lane::Data, "ZCARD", Some(keys.dead), Vec::new()).await?;
                size += u64::try_from(reply.into_int()?).unwrap_or(0);
            }
            Ok(size)
        })
    }

    fn pop(&self) -> BoxFuture<'_, Result<Option<DeadJob>>> {
        Box::pin(async move {
            loop {
                let lists = self.inner.dead_lists().await?;
                let Some(oldest) = self.inner.merged(&lists, None, "+inf", 1).await?.pop() else { return Ok(None) };
                let dead = oldest.dead()?;
                // Whoever removes it has it.
                let popped = self.inner.one_dead(&dead.queue, b"d", dead.id, Bytes::new(), Bytes::new()).await?;
                if let Some(popped) = popped {
                    return Ok(Some(popped.dead));
                }
            }
        })
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<DeadJob>>> {
        Box::pin(async move { Ok(self.inner.find_dead_anywhere(id).await?.map(|found| found.dead)) })
    }

    fn find<'a>(&'a self, filter: &'a JobFilter, page: Page) -> BoxFuture<'a, Result<Paged<DeadJob>>> {
        Box::pin(async move {
            let (n, after) = (limit(&page), Place::of(&page)?);
            let lists = self.inner.dead_lists().await?;
            let found = self.inner.merged(&lists, after.as_ref(), "+inf", n).await?;
            let next = found.last().filter(|_| found.len() == n).map(|last| last.place.cursor());
            let everything = *filter == JobFilter::default();
            let passes = |dead: &DeadJob| dead.job().map_or(everything, |job| filter.matches(job));
            Ok(Paged { items: found.iter().filter_map(|found| found.dead().ok()).filter(passes).collect(), next })
        })
    }

    fn replay(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            match self.inner.find_dead_anywhere(id).await? {
                Some(found) => self.inner.replay(found).await,
                None => Ok(false),
            }
        })
    }

    fn replay_n(&self, n: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let lists = self.inner.dead_lists().await?;
            let (mut chosen, mut after) = (Vec::new(), None);
            let n = usize::try_from(n).unwrap_or(usize::MAX);
            while chosen.len() < n {
                let page = self.inner.merged(&lists, after.as_ref(), "+inf", STEP).await?;
                after = page.last().map(|last| last.place.clone());
                let is_last = page.len() < STEP;
                let decodable = page.iter().filter_map(|found| found.dead().ok()).filter(|dead| dead.job().is_some());
                chosen.extend(decodable.map(|dead| (dead.queue, dead.id)));
                if is_last {
                    break;
                }
            }
            chosen.truncate(n);
            let mut replayed = 0;
            // Each goes to the front, so the one that died first comes last.
            for (queue, id) in chosen.into_iter().rev() {
                if let Some(found) = self.inner.one_dead(&queue, b"?", id, Bytes::new(), Bytes::new()).await? {
                    replayed += u64::from(self.inner.replay(found).await?);
                }
            }
            Ok(replayed)
        })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            match self.inner.find_dead_anywhere(id).await? {
                Some(Found { dead, .. }) => {
                    Ok(self.inner.one_dead(&dead.queue, b"d", id, Bytes::new(), Bytes::new()).await?.is_some())
                }
                None => Ok(false),
            }
        })
    }

    fn delete_older_than(&self, time: Timestamp) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let before = time.as_millis().saturating_mul(1000).to_string();
            self.inner.purge_dead(if time == Timestamp::MAX { "+inf" } else { &before }).await
        })
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.inner.purge_dead("+inf"))
    }
}

impl Inner {
    async fn purge_dead(&self, before: &str) -> Result<u64> {
        let mut removed = 0;
        for (_, k) in self.queues().await? {
            removed += self.purge(vec![k.jobs, k.dead, k.meta, k.epitaphs, k.recoveries], b"t", before).await?;
        }
        Ok(removed)
    }
}
