//! The control log: one stream, in total order, that every process folds into the same state.
//!
//! RabbitMQ has no place for a value that can be read and changed. A stream is one: everybody sees the same entries in the
//! same order, so "the first entry of this kind wins" is a compare-and-set. Pausing a queue and deleting a job by its id are
//! entries; so are the names of queues that are used, what was counted, and which sessions are open.
//!
//! A process that consumes reads the log to its end before it hands out its first job, and everything that comes from then on. A process that
//! only enqueues reads nothing; it says which queues it uses, once, and what it counted, once a second.

mod census;
mod content;
mod keeper;
#[cfg(test)]
mod on_a_server;
mod packed;
mod presence;
mod said;
mod state;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::capability::Totals;
use goose_core::{Clock, Error, ErrorKind, JobId, QueueName, Result, SystemClock, Timestamp};
use tokio::sync::watch;

pub(crate) use self::census::Holdings;
use self::content::Unmet;
use self::keeper::Keeper;
pub(crate) use self::presence::Presence;
use self::said::Said;
pub(crate) use self::said::{Text, Whereabouts};
pub(crate) use self::state::State;
use crate::journal::Notes;
use crate::message::CopyId;
use crate::stream::{self, Stream, Wires};
use crate::topology::Names;

/// How large the stream is, at most, in bytes: many times what comes between two snapshots.
const SIZE: i64 = 128 << 20;

/// Small segments, for the oldest can go only as a whole.
const SEGMENT: i64 = 8 << 20;

/// How long it is remembered that a job was deleted whose message may wait in a cascade: longer than the cascade reaches.
pub(crate) const SCHEDULED: Duration = Duration::from_secs(5 * 366 * 86_400);

/// How long it is remembered that a job was deleted that waits in a queue.
pub(crate) const ENQUEUED: Duration = Duration::from_secs(90 * 86_400);

/// How long it is remembered once its message has been met and removed: a second copy of it can be on its way.
const REMOVED: Duration = Duration::from_secs(7 * 86_400);

/// How many deleted jobs are remembered: a snapshot of so many is a quarter of the stream, so that there is always a complete
/// one in it.
const MOST_DELETED: usize = 1_000_000;

/// The log of one broker handle: written to, and read to the end all the time once somebody has asked.
#[derive(Debug)]
pub(crate) struct Log {
    stream: Arc<Stream<State>>,
    keeper: Keeper,
}

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Jobs taken in.
    Enqueued,
    /// Attempts that succeeded.
    Succeeded,
    /// Attempts that failed and were followed by a retry or a death.
    Failed,
    /// Jobs that were stored among the dead.
    Died,
    /// Jobs removed without having succeeded.
    Discarded,
    /// Times a job was taken from a dead session.
    Recovered,
}

impl Log {
    /// `notes` for the journal are told before what is said here about the same jobs.
    pub(crate) fn new(wires: Wires, names: &Names, notes: Arc<Notes>) -> Arc<Self> {
        let stream = Stream::new(wires.clone(), names.log(), stream::arguments(SIZE, SEGMENT));
        Arc::new(Self { keeper: Keeper::new(wires, Arc::clone(&stream), notes), stream })
    }

    /// Whether a job that was enqueued at that time was deleted since: a session asks this before it hands it out. Cheap.
    pub(crate) fn is_deleted(&self, id: JobId, enqueued_at: Timestamp) -> bool {
        let state = self.stream.state();
        !state.content.deleted.is_empty()
            && state.content.deleted.get(&id).is_some_and(|deletion| enqueued_at <= deletion.at)
    }

    fn knows_deleted(&self, id: JobId) -> bool {
        self.stream.state().content.deleted.contains_key(&id)
    }

    /// Takes note that the message of a deleted job was met and removed.
    pub(crate) fn removed(&self, id: JobId) {
        self.keeper.removed(Unmet::Job(id));
    }

    /// Whether a message was replaced by another one of the same job. Nanoseconds.
    pub(crate) fn is_replaced(&self, copy: CopyId) -> bool {
        let state = self.stream.state();
        !state.content.replaced.is_empty() && state.content.replaced.contains_key(&copy.0)
    }

    /// Takes note that a message that was replaced was met and removed.
    pub(crate) fn removed_copy(&self, copy: CopyId) {
        self.keeper.removed(Unmet::Copy(copy.0));
    }

    /// Has a message removed when a worker meets it, for there is another one of its job.
    pub(crate) async fn replace(&self, copy: CopyId, from: Whereabouts) -> Result<()> {
        let until = SystemClock.now().saturating_add(SCHEDULED).as_millis();
        self.say(Said::Replace { copy: copy.0, until, from }).await.map(drop)
    }

    /// How many messages of a queue, or of all that wait for their time, are counted by the server and will not be run, as far as
    /// the log has been read.
    pub(crate) fn unmet(&self, queue: Option<&QueueName>) -> u64 {
        self.stream.state().content.unmet(queue, SystemClock.now())
    }

    /// Takes note that a queue was emptied, or all that waited for its time.
    pub(crate) async fn purged(&self, queue: Option<&QueueName>) -> Result<()> {
        let queue = queue.cloned().map(Text);
        self.say(Said::Purged { queue, at: SystemClock.now().as_millis() }).await.map(drop)
    }

    /// Has everybody say everything they know by now, here and in the journal, and answers which sessions are open.
    pub(crate) async fn gather(&self) -> Result<HashSet<JobId>> {
        self.keeper.flush().await;
        self.open_sessions().await
    }

    /// Whether a queue is paused; sessions also wait for changes.
    pub(crate) fn is_paused(&self, queue: &QueueName) -> bool {
        self.stream.state().content.paused.contains(queue)
    }

    /// Told whenever `is_paused` may answer otherwise than before.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.stream.state().changes.subscribe()
    }

    /// Returns once everything written before this call by anybody is folded. Begins to read the log, if nobody has.
    ///
    /// To be called on the broker's runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](goose_core::ErrorKind::Unavailable) when the log cannot be read, and what declaring the
    /// stream answers.
    pub(crate) async fn catch_up(&self) -> Result<()> {
        self.keeper.start_reading();
        self.stream.catch_up_everywhere().await
    }

    /// Takes note that a queue is used. Cheap after the first time.
    pub(crate) fn used(&self, queue: &QueueName) {
        self.keeper.used(queue);
    }

    /// Counts. Cheap; said once a second.
    pub(crate) fn count(&self, what: Count, n: u64) {
        self.keeper.count(what, n);
    }

    /// Takes note of a session that is open now, and waits until that is known, but not for long.
    pub(crate) async fn arrive(&self, presence: Presence) -> Arc<Presence> {
        self.keeper.start_reading();
        self.keeper.arrive(presence).await
    }

    /// Takes note that a session has ended.
    pub(crate) fn leave(&self, presence: &Presence) {
        self.keeper.leave(presence);
    }

    /// Pauses a queue; `false` if it was paused already.
    pub(crate) async fn pause(&self, queue: &QueueName) -> Result<bool> {
        self.say(Said::Pause { queue: Text(queue.clone()) }).await.map(|changed| changed > 0)
    }

    /// Resumes a queue; `false` if it was not paused.
    pub(crate) async fn resume(&self, queue: &QueueName) -> Result<bool> {
        self.say(Said::Resume { queue: Text(queue.clone()) }).await.map(|changed| changed > 0)
    }

    /// The paused queues, in alphabetical order.
    pub(crate) async fn paused(&self) -> Result<Vec<QueueName>> {
        self.catch_up().await?;
        Ok(self.stream.state().content.paused.iter().cloned().collect())
    }

    /// Has a job removed when workers meet it, and remembers that for a time; `false` if it was deleted before. `from` is where its
    /// message waits, if that is known.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when too many are remembered already.
    pub(crate) async fn delete(&self, id: JobId, remembered: Duration, from: Option<Whereabouts>) -> Result<bool> {
        let at = SystemClock.now();
        self.check_room(1, at).await?;
        let until = packed::whole_days(at.saturating_add(remembered)).as_millis();
        let said = Said::Delete { ids: vec![Text(id)], at: at.as_millis(), until, from };
        let deleted = self.say(said).await?;
        // What is enqueued under the same id from now on has a later time.
        while SystemClock.now() <= at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(deleted > 0)
    }

    async fn check_room(&self, more: usize, now: Timestamp) -> Result<()> {
        self.keeper.start_reading();
        if !self.stream.progress().borrow().is_live {
            self.catch_up().await?;
        }
        let is_full = |state: &State| state.content.deleted.len() + more > MOST_DELETED;
        if !is_full(&self.stream.state()) {
            return Ok(());
        }
        let mut state = self.stream.state_mut();
        state.content.forget_until(now);
        if is_full(&state) { Err(too_many()) } else { Ok(()) }
    }

    /// Lets jobs run that were deleted, for somebody replays them.
    pub(crate) async fn restore(&self, ids: &[JobId]) -> Result<()> {
        self.catch_up().await?;
        let deleted: Vec<_> = ids.iter().copied().filter(|id| self.knows_deleted(*id)).map(Text).collect();
        if !deleted.is_empty() {
            self.say(Said::Restore { ids: deleted }).await?;
        }
        Ok(())
    }

    /// Every queue that was ever used, in alphabetical order.
    pub(crate) async fn queues(&self) -> Result<Vec<QueueName>> {
        self.keeper.flush().await;
        self.catch_up().await?;
        Ok(self.stream.state().content.queues.iter().cloned().collect())
    }

    /// What was counted, by other processes up to a second ago.
    pub(crate) async fn totals(&self) -> Result<Totals> {
        self.keeper.flush().await;
        self.catch_up().await?;
        Ok(self.stream.state().content.counts.totals())
    }

    /// Says what has not been said yet.
    pub(crate) async fn close(&self) {
        self.keeper.close().await;
    }

    /// Appends what somebody waits for.
    async fn say(&self, said: Said) -> Result<u64> {
        self.keeper.start_reading();
        self.stream.append_and_read_back(said.entry()).await
    }
}

fn too_many() -> Error {
    let message = format!(
        "{MOST_DELETED} deleted jobs are remembered, and the control log takes no more; nothing was deleted. Purge queues, or \
         let handlers find out that there is nothing left to do; room comes 7 days after workers have met deleted jobs"
    );
    Error::new(ErrorKind::Full, message)
}
