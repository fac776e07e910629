//! The optional powers, one file each. Calls over many queues ask them one by one and merge.

mod cursor;
mod dead_jobs;
mod enqueued_jobs;
mod paused_queues;
mod scheduled_jobs;
mod statistics;

pub(crate) use dead_jobs::find_dead_in;

use fred::bytes::Bytes;
use goose_core::broker::capability::Page;
use goose_core::{JobId, QueueName, Result};

use crate::broker::Inner;
use crate::connection::{Lane, Reply};
use crate::names::QueueKeys;
use crate::scripts::{PURGE, QUEUES, TIMED_PAGE};
use cursor::Place;

/// How many jobs one script call of a call that removes everything touches.
const STEP: usize = 500;

/// A limit, wherever the page came from.
fn limit(page: &Page) -> usize {
    usize::try_from(page.limit.clamp(1, Page::MAX)).unwrap_or(1)
}

fn id_bytes(id: JobId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

impl Inner {
    /// Every queue that ever held a job, in alphabetical order.
    pub(crate) async fn queue_names(&self) -> Result<Vec<QueueName>> {
        self.names_in(Lane::Data, self.names.queues()).await
    }

    /// Every queue that ever had a session, in alphabetical order.
    pub(crate) async fn served_queues(&self, lane: Lane) -> Result<Vec<QueueName>> {
        self.names_in(lane, self.names.served()).await
    }

    async fn names_in(&self, lane: Lane, set: Bytes) -> Result<Vec<QueueName>> {
        let reply = self.link.eval(lane, &QUEUES, vec![set], Vec::new()).await?;
        // A name that cannot be one was put there by somebody else, and must not hide the others.
        let name = |name: Reply| name.into_text().and_then(QueueName::new).ok();
        let mut names: Vec<QueueName> = reply.into_array()?.into_iter().skip(1).filter_map(name).collect();
        names.sort();
        Ok(names)
    }

    async fn queues(&self) -> Result<Vec<(QueueName, QueueKeys)>> {
        Ok(self.queue_names().await?.into_iter().map(|name| (name.clone(), self.names.queue(&name))).collect())
    }

    /// The next entries of one queue's scheduled or dead jobs.
    async fn timed(&self, list: &TimedList, after: Option<&Place>, before: &str, n: usize) -> Result<Vec<Timed>> {
        let (time, id) = after.map_or_else(Default::default, Place::arguments);
        let args = vec![time, id, before.to_owned().into(), n.to_string().into()];
        let keys = vec![list.jobs.clone(), list.set.clone(), list.notes.clone()];
        let mut fields = self.link.eval(Lane::Data, &TIMED_PAGE, keys, args).await?.into_array()?.into_iter();
        let mut found = Vec::new();
        while let (Some(id), Some(time), Some(value), Some(note)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        {
            found.push(Timed {
                place: Place { time: time.into_text()?.parse().unwrap_or(0.0), id: id.into_bytes()? },
                value: value.into_bytes()?,
                note: note.into_text()?,
                queue: list.queue.clone(),
            });
        }
        Ok(found)
    }

    /// The next entries over several queues, in the order of their times.
    async fn merged(&self, lists: &[TimedList], after: Option<&Place>, before: &str, n: usize) -> Result<Vec<Timed>> {
        let mut all = Vec::new();
        for list in lists {
            all.extend(self.timed(list, after, before, n).await?);
        }
        all.sort_by(|a, b| a.place.cmp(&b.place));
        all.truncate(n);
        Ok(all)
    }

    /// Removes everything from a list or set, step by step, and says how many.
    async fn purge(&self, keys: Vec<Bytes>, what: &'static [u8], before: &str) -> Result<u64> {
        let mut removed = 0;
        loop {
            let args = vec![Bytes::from_static(what), before.to_owned().into(), STEP.to_string().into()];
            let mut fields = self.link.eval(Lane::Data, &PURGE, keys.clone(), args).await?.into_array()?.into_iter();
            let (Some(n), Some(more)) = (fields.next(), fields.next()) else { return Ok(removed) };
            removed += u64::try_from(n.into_int()?).unwrap_or(0);
            if more.into_int()? == 0 {
                return Ok(removed);
            }
        }
    }
}

/// One queue's scheduled or dead jobs.
struct TimedList {
    queue: QueueName,
    jobs: Bytes,
    set: Bytes,
    /// Epitaphs or recoveries.
    notes: Bytes,
}

/// An entry of such a list.
struct Timed {
    place: Place,
    value: Bytes,
    note: String,
    queue: QueueName,
}
