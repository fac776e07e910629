//! The journal: a stream in which everything stands that waits, for those who want to find, list and move waiting jobs.
//!
//! Only where somebody has asked for it ([`RmqOptions::journal`](crate::RmqOptions::journal)). Messages are published to an exchange that
//! leads both to their queue and to the stream, so the entry of the journal *is* the message. Each has a name, by which
//! sessions note what they run and what is over. Whoever looks folds all of it into an [`Index`](index::Index), which has no jobs in
//! it, and fetches those it shows.

mod index;
mod keep;
mod look;
mod note;
mod notes;
#[cfg(test)]
mod on_a_server;
mod repair;

use std::sync::Arc;

use goose_core::broker::capability::Cursor;
use goose_core::{Clock, Error, ErrorKind, Job, JobId, Result, SystemClock, codec};

use self::index::{Index, Place};
pub(crate) use self::keep::STEP;
pub(crate) use self::notes::Notes;
use crate::amqp::Table;
use crate::log::Log;
use crate::stream::{self, Stream, Wires};
use crate::topology::Topology;

/// How large the stream is, at most, in bytes.
const SIZE: i64 = 1 << 30;

/// What is cut off at once.
const SEGMENT: i64 = 64 << 20;

/// How the stream is declared.
pub(crate) fn stream_arguments() -> Table {
    stream::arguments(SIZE, SEGMENT)
}

/// The journal of one broker handle.
#[derive(Debug)]
pub(crate) struct Journal {
    notes: Arc<Notes>,
    wires: Wires,
    topology: Arc<Topology>,
    log: Arc<Log>,
}

/// A job that was found, and where.
#[derive(Debug)]
pub(crate) struct Found {
    place: Place,
    pub(crate) job: Job,
    headers: Table,
}

/// All calls are to be made on the broker's runtime.
impl Journal {
    pub(crate) fn new(wires: Wires, topology: Arc<Topology>, log: Arc<Log>, notes: Arc<Notes>) -> Arc<Self> {
        Arc::new(Self { notes, wires, topology, log })
    }

    /// What this process has to say there.
    pub(crate) fn notes(&self) -> &Arc<Notes> {
        &self.notes
    }

    /// Whether there is one.
    pub(crate) async fn is_there(&self) -> Result<bool> {
        self.topology.ensure_base().await?;
        Ok(self.topology.names.is_journaled())
    }

    fn stream(&self) -> &Arc<Stream<Index>> {
        self.notes.stream()
    }

    /// Returns once everything is known that anybody knew before this call.
    async fn up_to_date(&self) -> Result<()> {
        let open = self.log.gather().await?;
        self.stream().catch_up_everywhere().await?;
        self.stream().state_mut().settle(&open, SystemClock.now());
        Ok(())
    }

    /// Whether a message will be removed when a worker meets it.
    fn is_dropped(&self, place: &Place) -> bool {
        self.log.is_replaced(place.copy) || self.log.is_deleted(place.id, place.enqueued_at)
    }

    /// The jobs at these places, in this order. What the server has cut off is left out, and forgotten.
    async fn fetch(&self, places: Vec<Place>) -> Result<Vec<Found>> {
        let mut offsets: Vec<u64> = places.iter().map(|place| place.offset).collect();
        offsets.sort_unstable();
        let entries = self.stream().pick(&offsets).await?;
        let mut entries: std::collections::HashMap<u64, stream::Entry> =
            entries.into_iter().map(|entry| (entry.offset, entry)).collect();
        let (mut found, mut gone) = (Vec::with_capacity(places.len()), None);
        for place in places {
            let Some(entry) = entries.remove(&place.offset) else {
                gone = gone.max(Some(place.offset));
                continue;
            };
            // Not so if the stream has been made again a moment ago.
            if let Ok(job) = codec::decode(&entry.body)
                && job.id == place.id
            {
                found.push(Found { place, job, headers: entry.headers });
            }
        }
        if let Some(gone) = gone {
            // The server cuts from the beginning.
            let jobs = self.stream().state_mut().forget_up_to(gone);
            tracing::warn!(jobs, "jobs that wait were cut off the journal; they will be run and are not listed");
        }
        Ok(found)
    }

    async fn fetch_one(&self, place: Option<Place>) -> Result<Option<Found>> {
        match place.filter(|place| !self.is_dropped(place)) {
            Some(place) => Ok(self.fetch(vec![place]).await?.pop()),
            None => Ok(None),
        }
    }

    /// A job that waits in its queue.
    pub(crate) async fn find_ready(&self, id: JobId) -> Result<Option<Found>> {
        self.up_to_date().await?;
        let place = self.stream().state().ready(id);
        self.fetch_one(place).await
    }

    /// A job that waits for its time.
    pub(crate) async fn find_scheduled(&self, id: JobId) -> Result<Option<Found>> {
        self.up_to_date().await?;
        let place = self.stream().state().scheduled(id);
        self.fetch_one(place).await
    }

    /// The same, also if its time has come and no worker has begun it: nobody can tell whether it has left the cascade.
    pub(crate) async fn find_delayed(&self, id: JobId) -> Result<Option<Found>> {
        self.up_to_date().await?;
        let place = self.stream().state().delayed(id);
        self.fetch_one(place).await
    }
}

/// What a cursor says that is not one of ours.
fn bad_cursor(_: &Cursor) -> Error {
    Error::new(ErrorKind::InvalidInput, "the page cursor is not one of this broker, start from the first page")
}
