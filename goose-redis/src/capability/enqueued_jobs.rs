//! Jobs that wait in queues.

use fred::bytes::Bytes;
use goose_core::broker::capability::{Cursor, EnqueuedJobs, JobFilter, Page, Paged};
use goose_core::{BoxFuture, Error, ErrorKind, Job, JobId, QueueName, Result};

use super::{cursor, id_bytes, limit};
use crate::RedisBroker;
use crate::broker::Inner;
use crate::connection::{Lane, Reply};
use crate::encoding;
use crate::names::QueueKeys;
use crate::scripts::{COUNTS, HOLDERS, ONE_READY, READY_PAGE, SEEK};
use crate::together::together;

/// How often to look again when sessions came or went meanwhile, or the job was claimed.
const TRIES: usize = 20;

/// How many sessions one script asks. Each costs it 2 µs, and all others wait for it.
const ASKED_AT_ONCE: usize = 500;

/// How many such calls are on their way at once.
const CALLS_AT_ONCE: usize = 4;

impl Inner {
    /// Does something to one job in line; `None` when it is not in line in this queue.
    async fn one_ready(&self, k: &QueueKeys, what: &'static [u8], id: JobId) -> Result<Option<Bytes>> {
        for _ in 0..TRIES {
            let mut sessions = self.sessions_of(k).await?;
            let mut search = Bytes::new();
            if sessions.len() > ASKED_AT_ONCE {
                // The others are read again behind the beginning of the search: whoever comes later and claims the job
                // ends it.
                search = Bytes::copy_from_slice(&JobId::new().as_bytes()[8..]);
                let keys = [&k.jobs, &k.scheduled, &k.dead, &k.meta].map(Bytes::clone).to_vec();
                let seek = self.link.eval(Lane::Data, &SEEK, keys, vec![id_bytes(id), search.clone()]);
                if seek.await?.into_int()? == 0 || self.is_held(k, &self.sessions_of(k).await?, id).await? {
                    return Ok(None);
                }
                sessions.clear();
            }
            let mut keys = [&k.jobs, &k.ready, &k.scheduled, &k.dead, &k.leases, &k.meta, &k.wake, &k.recoveries]
                .map(Bytes::clone)
                .to_vec();
            keys.extend(sessions.iter().map(|session| k.claims(session)));
            let generation = Bytes::copy_from_slice(&encoding::generation());
            let mut args = vec![Bytes::from_static(what), id_bytes(id), generation, search];
            args.extend(sessions.into_iter().map(Bytes::from));
            let mut fields = self.link.eval(Lane::Data, &ONE_READY, keys, args).await?.into_array()?.into_iter();
            match fields.next().map_or(Ok(0), Reply::into_int)? {
                0 => return Ok(None),
                1 => return fields.next().map(Reply::into_bytes).transpose(),
                _ => {}
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "workers come and go too fast to look at one job, try again"))
    }

    async fn sessions_of(&self, k: &QueueKeys) -> Result<Vec<String>> {
        let everyone = vec![Bytes::from_static(b"0"), Bytes::from_static(b"-1")];
        let sessions = self.link.command(Lane::Data, "ZRANGE", Some(k.leases.clone()), everyone).await?.into_array()?;
        sessions.into_iter().map(Reply::into_text).collect()
    }

    /// Whether one of these sessions has claimed a job. They are asked some at a time.
    async fn is_held(&self, k: &QueueKeys, sessions: &[String], id: JobId) -> Result<bool> {
        let parts: Vec<&[String]> = sessions.chunks(ASKED_AT_ONCE).collect();
        for some in parts.chunks(CALLS_AT_ONCE) {
            let calls = some.iter().map(|part| {
                let claims = part.iter().map(|session| k.claims(session)).collect();
                self.link.eval(Lane::Data, &HOLDERS, claims, vec![id_bytes(id)])
            });
            for answer in together(calls).await {
                if answer?.into_int()? == 1 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The same, in whichever queue the job is.
    async fn one_ready_anywhere(&self, what: &'static [u8], id: JobId) -> Result<Option<Bytes>> {
        for (_, keys) in self.queues().await? {
            if let Some(value) = self.one_ready(&keys, what, id).await? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

impl EnqueuedJobs for RedisBroker {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueName>>> {
        Box::pin(self.inner.queue_names())
    }

    fn size<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let k = self.inner.names.queue(queue);
            let reply =
                self.inner.link.eval(Lane::Data, &COUNTS, vec![k.ready, k.scheduled, k.dead, k.meta], Vec::new());
            let ready = reply.await?.into_array()?.into_iter().next().map_or(Ok(0), Reply::into_int)?;
            Ok(u64::try_from(ready).unwrap_or(0))
        })
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<Job>>> {
        Box::pin(async move {
            let value = self.inner.one_ready_anywhere(b"?", id).await?;
            value.map(|value| encoding::decode(&value).map(|(_, job)| job)).transpose()
        })
    }

    fn find<'a>(
        &'a self,
        queue: &'a QueueName,
        filter: &'a JobFilter,
        page: Page,
    ) -> BoxFuture<'a, Result<Paged<Job>>> {
        Box::pin(async move {
            let k = self.inner.names.queue(queue);
            let after = page.after.as_ref().map_or("", Cursor::as_str);
            if !after.is_empty() && after.parse::<i64>().is_err() {
                return Err(cursor::invalid());
            }
            let args = vec![after.to_owned().into(), limit(&page).to_string().into()];
            let reply = self.inner.link.eval(Lane::Data, &READY_PAGE, vec![k.jobs, k.ready, k.meta], args).await?;
            let mut fields = reply.into_array()?.into_iter();
            let last = fields.next().map_or(Ok(String::new()), Reply::into_text)?;
            let mut items = Vec::new();
            while let (Some(_), Some(value)) = (fields.next(), fields.next()) {
                // Bytes that are no job stay invisible here; a worker that meets them buries them.
                if let Ok((_, job)) = encoding::decode(&value.into_bytes()?)
                    && filter.matches(&job)
                {
                    items.push(job);
                }
            }
            Ok(Paged { items, next: (!last.is_empty()).then(|| Cursor::new(last)) })
        })
    }

    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { Ok(self.inner.one_ready_anywhere(b"p", id).await?.is_some()) })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { Ok(self.inner.one_ready_anywhere(b"d", id).await?.is_some()) })
    }

    fn purge<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let k = self.inner.names.queue(queue);
            self.inner.purge(vec![k.jobs, k.ready, k.meta, k.epitaphs, k.recoveries], b"r", "").await
        })
    }
}
