//! Dead jobs: a stream of the whole jobs, and an index of it in memory.
//!
//! An entry of the stream is a job with the reason of its death, or a note about such entries: somebody replays them, has replayed
//! them, has removed them. Who wants to look at the dead folds all of it into an [`Index`](index::Index), which has no
//! jobs in it, and fetches those it shows. A process that only buries reads nothing.

mod bury;
mod death;
mod index;
mod note;
#[cfg(test)]
mod on_a_server;
mod replay;

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::capability::DeadJob;
use goose_core::{JobId, QueueName, Result, Timestamp};
use parking_lot::Mutex;

pub(crate) use self::bury::Burial;
use self::index::{Index, Place};
use self::note::Note;
use crate::amqp::Table;
use crate::log::Log;
use crate::stream::{self, Stream, Wires};
use crate::topology::Topology;

/// How much of the dead is kept, in bytes. Beyond, those that died first are cut off.
const SIZE: i64 = 1 << 30;

/// What is cut off at once.
const SEGMENT: i64 = 64 << 20;

/// How often it is looked at whether something was cut off, while somebody asks for the sizes.
const LOOK: Duration = Duration::from_secs(1);

/// How many places one note names at most, and how many jobs are in hand at once.
const STEP: usize = 500;

/// How the stream is declared, also by queues that send here what they give up.
pub(crate) fn stream_arguments() -> Table {
    stream::arguments(SIZE, SEGMENT)
}

/// The dead jobs of one broker handle.
#[derive(Debug)]
pub(crate) struct Dead {
    stream: Arc<Stream<Index>>,
    wires: Wires,
    topology: Arc<Topology>,
    log: Arc<Log>,
    /// When it was last looked at where the stream begins.
    looked: Mutex<Option<Instant>>,
}

/// All calls are to be made on the broker's runtime.
impl Dead {
    pub(crate) fn new(wires: Wires, topology: Arc<Topology>, log: Arc<Log>) -> Arc<Self> {
        let stream = Stream::new(wires.clone(), topology.names.dead(), stream_arguments());
        Arc::new(Self { stream, wires, topology, log, looked: Mutex::default() })
    }

    /// What is known, up to now.
    async fn up_to_date(&self) -> Result<()> {
        self.stream.catch_up().await
    }

    pub(crate) async fn size(&self) -> Result<u64> {
        self.up_to_date().await?;
        self.forget_what_was_cut_off().await?;
        Ok(self.stream.state().size())
    }

    /// How many of each queue.
    pub(crate) async fn sizes(&self) -> Result<Vec<(QueueName, u64)>> {
        self.up_to_date().await?;
        self.forget_what_was_cut_off().await?;
        Ok(self.stream.state().sizes())
    }

    /// The one that died first. It is gone then.
    pub(crate) async fn pop(&self) -> Result<Option<DeadJob>> {
        loop {
            self.up_to_date().await?;
            let Some(first) = self.stream.state().after(None, 1).pop() else { return Ok(None) };
            // Fetched before it is removed: a fetch that fails loses nothing.
            let Some((_, dead)) = self.fetch(std::slice::from_ref(&first)).await?.pop() else { continue };
            let remove = Note::Remove { deaths: vec![first.known()] };
            if self.stream.append_and_read_back(remove.entry()).await? > 0 {
                return Ok(Some(dead));
            }
        }
    }

    pub(crate) async fn find(&self, id: JobId) -> Result<Option<DeadJob>> {
        self.up_to_date().await?;
        let Some(place) = self.stream.state().of(id) else { return Ok(None) };
        Ok(self.fetch(&[place]).await?.pop().map(|(_, dead)| dead))
    }

    /// The next dead jobs behind a place, with their places; and the place of the last that was looked at, if there may
    /// be more.
    pub(crate) async fn page(&self, after: Option<u64>, limit: usize) -> Result<(Vec<DeadJob>, Option<u64>)> {
        self.up_to_date().await?;
        let places = self.stream.state().after(after, limit);
        let next = places.last().filter(|_| places.len() == limit).map(|last| last.offset);
        let found = self.fetch(&places).await?;
        Ok((found.into_iter().map(|(_, dead)| dead).collect(), next))
    }

    /// Whether there was one.
    pub(crate) async fn delete(&self, id: JobId) -> Result<bool> {
        self.up_to_date().await?;
        let Some(place) = self.stream.state().of(id) else { return Ok(false) };
        let remove = Note::Remove { deaths: vec![place.known()] };
        Ok(self.stream.append_and_read_back(remove.entry()).await? > 0)
    }

    /// Removes all that died before a time, or all, and says how many.
    pub(crate) async fn delete_before(&self, time: Option<Timestamp>) -> Result<u64> {
        self.up_to_date().await?;
        let Some((up_to, lapsed)) = self.stream.state().all() else { return Ok(0) };
        let note = Note::RemoveAll { up_to, before: time.map(Timestamp::as_millis), lapsed };
        self.stream.append_and_read_back(note.entry()).await
    }

    /// The dead jobs at these places, ascending. What the server has cut off is left out, and forgotten.
    async fn fetch(&self, places: &[Place]) -> Result<Vec<(Place, DeadJob)>> {
        let offsets: Vec<u64> = places.iter().map(|place| place.offset).collect();
        let mut entries = self.stream.pick(&offsets).await?.into_iter().peekable();
        let (mut found, mut gone) = (Vec::with_capacity(places.len()), None);
        for place in places {
            match entries.next_if(|entry| entry.offset == place.offset) {
                // Not so if the stream has been made again a moment ago.
                Some(entry) => {
                    let death = death::Death::of(&entry);
                    if death.id == place.id {
                        found.push((place.clone(), death.dead_job(place.died_at, entry.body)));
                    }
                }
                None => gone = Some(place.offset),
            }
        }
        if let Some(gone) = gone {
            // The server cuts from the beginning.
            self.forget_up_to(gone);
        }
        Ok(found)
    }

    async fn forget_what_was_cut_off(&self) -> Result<()> {
        let is_time = !self.looked.lock().is_some_and(|looked| looked.elapsed() < LOOK);
        if !is_time || self.stream.state().all().is_none() {
            return Ok(());
        }
        *self.looked.lock() = Some(Instant::now());
        if let Some(before) = self.stream.first_place().await?.and_then(|first| first.checked_sub(1)) {
            self.forget_up_to(before);
        }
        Ok(())
    }

    fn forget_up_to(&self, place: u64) {
        let jobs = self.stream.state_mut().forget_up_to(place);
        if jobs > 0 {
            tracing::warn!(jobs, "the oldest dead jobs were cut off: there are more than the server keeps");
        }
    }
}
