//! Jobs that wait for their time.

use fred::bytes::Bytes;
use goose_core::broker::capability::{JobFilter, Page, Paged, ScheduledJob, ScheduledJobs, ScheduledKind};
use goose_core::{BoxFuture, JobId, Result, Timestamp};

use super::cursor::Place;
use super::{Timed, TimedList, id_bytes, limit};
use crate::RedisBroker;
use crate::broker::Inner;
use crate::connection::{Lane, Reply};
use crate::encoding;
use crate::scripts::ONE_SCHEDULED;

impl Inner {
    async fn scheduled_lists(&self) -> Result<Vec<TimedList>> {
        let list = |(queue, k): (_, crate::names::QueueKeys)| TimedList {
            queue,
            jobs: k.jobs,
            set: k.scheduled,
            notes: k.recoveries,
        };
        Ok(self.queues().await?.into_iter().map(list).collect())
    }

    /// Does something to one scheduled job, in whichever queue it is; answers its stored form, due time and recoveries.
    async fn one_scheduled(&self, what: &'static [u8], id: JobId) -> Result<Option<(Bytes, f64, String)>> {
        for (_, k) in self.queues().await? {
            let keys = [&k.jobs, &k.ready, &k.scheduled, &k.meta, &k.wake, &k.recoveries].map(Bytes::clone).to_vec();
            let args = vec![Bytes::from_static(what), id_bytes(id)];
            let mut fields = self.link.eval(Lane::Data, &ONE_SCHEDULED, keys, args).await?.into_array()?.into_iter();
            if fields.next().map_or(Ok(0), Reply::into_int)? == 1
                && let (Some(value), Some(due), Some(crashes)) = (fields.next(), fields.next(), fields.next())
            {
                let due = due.into_text()?.parse().unwrap_or(0.0);
                return Ok(Some((value.into_bytes()?, due, crashes.into_text()?)));
            }
        }
        Ok(None)
    }
}

fn scheduled(value: &[u8], due: f64, crashes: &str) -> Result<ScheduledJob> {
    let (header, job) = encoding::decode(value)?;
    let was_recovered = crashes.parse::<u32>().is_ok_and(|crashes| crashes > 1);
    let kind = if was_recovered { ScheduledKind::Recovered } else { header.kind.public() };
    Ok(ScheduledJob::new(job, Timestamp::from_millis(whole(due)), kind))
}

/// A score as the whole number it is; the last time there is for those beyond.
pub(super) fn whole(score: f64) -> i64 {
    format!("{score:.0}").parse().unwrap_or(if score > 0.0 { i64::MAX } else { i64::MIN })
}

impl ScheduledJobs for RedisBroker {
    fn size(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut size = 0;
            for (_, keys) in self.inner.queues().await? {
                let reply = self.inner.link.command(Lane::Data, "ZCARD", Some(keys.scheduled), Vec::new()).await?;
                size += u64::try_from(reply.into_int()?).unwrap_or(0);
            }
            Ok(size)
        })
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<ScheduledJob>>> {
        Box::pin(async move {
            let found = self.inner.one_scheduled(b"?", id).await?;
            found.map(|(value, due, crashes)| scheduled(&value, due, &crashes)).transpose()
        })
    }

    fn find<'a>(&'a self, filter: &'a JobFilter, page: Page) -> BoxFuture<'a, Result<Paged<ScheduledJob>>> {
        Box::pin(async move {
            let (n, after) = (limit(&page), Place::of(&page)?);
            let lists = self.inner.scheduled_lists().await?;
            let found = self.inner.merged(&lists, after.as_ref(), "+inf", n).await?;
            let next = found.last().filter(|_| found.len() == n).map(|last| last.place.cursor());
            let job = |found: &Timed| scheduled(&found.value, found.place.time, &found.note).ok();
            let items = found.iter().filter_map(job).filter(|found| filter.matches(&found.job)).collect();
            Ok(Paged { items, next })
        })
    }

    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { Ok(self.inner.one_scheduled(b"p", id).await?.is_some()) })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { Ok(self.inner.one_scheduled(b"d", id).await?.is_some()) })
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut removed = 0;
            for (_, k) in self.inner.queues().await? {
                removed +=
                    self.inner.purge(vec![k.jobs, k.scheduled, k.meta, k.epitaphs, k.recoveries], b"t", "+inf").await?;
            }
            Ok(removed)
        })
    }
}
