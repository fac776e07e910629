//! What waits, as the journal says: where each job stands, in the order in which it will run.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use goose_core::broker::capability::ScheduledKind;
use goose_core::{JobId, QueueName, Timestamp, codec};

use super::note::{Kept, Note};
use crate::message::{CopyId, Rank, Ticket, Waits};
use crate::stream::{Entry, Fold};

/// Ends are remembered while what waits is said again, up to so many.
const MOST_ENDS: usize = 1_000_000;

/// What waits, without the jobs themselves: these are fetched by their places. Each job is in it once, with its last message.
#[derive(Debug)]
pub(crate) struct Index {
    jobs: HashMap<JobId, Place>,
    copies: HashMap<CopyId, JobId>,
    /// In the order in which workers take them.
    queues: BTreeMap<QueueName, BTreeMap<Key, JobId>>,
    /// Those that wait, or have waited, for their time.
    later: BTreeMap<(i64, u64), JobId>,
    /// Those that run, with the sessions that run them.
    running: HashMap<JobId, JobId>,
    /// What is said again at present, by those who began with it: the place, and what has ended since.
    begun: Option<(u64, HashSet<CopyId>)>,
    /// The last place that was read.
    pub(super) last: u64,
    /// How much was read, in bytes.
    bytes: u64,
}

/// A job that waits or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: JobId,
    pub(super) copy: CopyId,
    /// Where it stands in the stream.
    pub(super) offset: u64,
    /// How much stands before that, of what was read.
    at: u64,
    /// Where it stood at first.
    pub(super) first: u64,
    pub(super) queue: QueueName,
    pub(super) rank: Rank,
    pub(super) ready_at: i64,
    pub(super) enqueued_at: Timestamp,
    pub(super) kind: ScheduledKind,
}

/// A place in the order of a queue, as sessions sort what they have, and the server what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) Rank, pub(super) i64, pub(super) i64);

impl Place {
    /// The message in an entry.
    fn of(entry: &Entry) -> Option<Self> {
        let kept = Kept::of(entry);
        if kept.is_none() && entry.is_ours() {
            return None;
        }
        let job = codec::decode(&entry.body).ok()?;
        let ticket = Ticket::of_headers(&entry.headers, job.enqueued_at);
        let kind = match Waits::of(&entry.headers) {
            _ if ticket.recoveries > 0 => ScheduledKind::Recovered,
            Some(Waits::ForRetry) => ScheduledKind::Retry,
            Some(Waits::Snoozed) => ScheduledKind::Snoozed,
            None => ScheduledKind::Scheduled,
        };
        Some(Self {
            id: job.id,
            copy: ticket.copy?,
            offset: entry.offset,
            at: 0,
            first: kept.map_or(entry.offset, |kept| kept.first),
            queue: job.ready_queue().clone(),
            rank: ticket.rank,
            ready_at: ticket.ready_at.as_millis(),
            enqueued_at: job.enqueued_at,
            kind,
        })
    }

    pub(super) fn key(&self) -> Key {
        let first = i64::try_from(self.first).unwrap_or(i64::MAX);
        match self.rank {
            Rank::Normal => Key(self.rank, 0, first),
            // The newest goes first.
            Rank::Front => Key(self.rank, self.ready_at.saturating_neg(), -first),
            Rank::Again | Rank::Due | Rank::Returned => Key(self.rank, self.ready_at, first),
        }
    }

    fn due(&self) -> (i64, u64) {
        (self.ready_at, self.first)
    }
}

impl Fold for Index {
    fn empty() -> Self {
        Self {
            jobs: HashMap::new(),
            copies: HashMap::new(),
            queues: BTreeMap::new(),
            later: BTreeMap::new(),
            running: HashMap::new(),
            begun: None,
            last: 0,
            bytes: 0,
        }
    }

    fn fold(&mut self, entry: &Entry) -> u64 {
        self.last = entry.offset;
        self.bytes += entry.size();
        if let Some(kept) = Kept::of(entry) {
            return u64::from(Place::of(entry).is_some_and(|place| self.kept(kept, place)));
        }
        if entry.is_ours() {
            return Note::of(entry).map_or(0, |note| self.note(entry.offset, note));
        }
        if let Some(place) = Place::of(entry) {
            self.came(place);
        }
        0
    }
}

impl Index {
    /// A message.
    fn came(&mut self, mut place: Place) {
        // The server may store a message twice whose first confirm was lost.
        if self.copies.contains_key(&place.copy) {
            return;
        }
        place.at = self.bytes;
        // Whatever became of another message of this job, this one is the last.
        self.remove(place.id);
        if let Some((queue, _)) = self.queues.get_key_value(&place.queue) {
            // All share one name.
            place.queue = queue.clone();
        }
        self.wait(&place);
        self.copies.insert(place.copy, place.id);
        self.jobs.insert(place.id, place);
    }

    /// A message is said again. Answers whether it still waits.
    fn kept(&mut self, kept: Kept, place: Place) -> bool {
        if let Some(known) = self.jobs.get_mut(&place.id) {
            let is_the_same = known.copy == place.copy;
            if is_the_same {
                (known.offset, known.at) = (place.offset, self.bytes);
            }
            return is_the_same;
        }
        // Of what came before the beginning of what was read, nothing else is known.
        let has_ended =
            self.begun.as_ref().is_some_and(|(begin, ended)| *begin <= kept.begin && ended.contains(&place.copy));
        if !has_ended {
            self.came(place);
        }
        !has_ended
    }

    fn wait(&mut self, place: &Place) {
        if place.rank == Rank::Due {
            self.later.insert(place.due(), place.id);
        } else {
            self.queues.entry(place.queue.clone()).or_default().insert(place.key(), place.id);
        }
    }

    fn wait_no_more(&mut self, place: &Place) {
        if place.rank == Rank::Due && self.later.remove(&place.due()).is_some() {
            return;
        }
        if let Some(queue) = self.queues.get_mut(&place.queue) {
            queue.remove(&place.key());
            if queue.is_empty() {
                self.queues.remove(&place.queue);
            }
        }
    }

    fn remove(&mut self, id: JobId) -> bool {
        let Some(place) = self.jobs.remove(&id) else { return false };
        self.copies.remove(&place.copy);
        if let Some((_, ended)) = &mut self.begun {
            ended.insert(place.copy);
        }
        if self.running.remove(&id).is_none() {
            self.wait_no_more(&place);
        }
        true
    }

    /// Answers how many jobs it changed; of a begin, its place.
    fn note(&mut self, offset: u64, note: Note) -> u64 {
        let mut changed = 0;
        match note {
            Note::Began { by, copies } => {
                for id in self.ids(&copies) {
                    if self.running.insert(id, by).is_none()
                        && let Some(place) = self.jobs.get(&id).cloned()
                    {
                        self.wait_no_more(&place);
                        changed += 1;
                    }
                }
            }
            Note::Ended { copies } => {
                if let Some((_, ended)) = &mut self.begun {
                    ended.extend(&copies);
                    if ended.len() > MOST_ENDS {
                        self.begun = None;
                    }
                }
                for id in self.ids(&copies) {
                    changed += u64::from(self.remove(id));
                }
            }
            Note::Back { copies } => {
                for id in self.ids(&copies) {
                    changed += u64::from(self.back(id));
                }
            }
            Note::Gone { queue, up_to, due } => {
                let is_meant = |place: &&Place| {
                    let is_later = place.rank == Rank::Due && place.ready_at > due;
                    let is_there = queue.as_ref().map_or(is_later, |queue| place.queue == *queue && !is_later);
                    is_there && place.offset <= up_to && !self.running.contains_key(&place.id)
                };
                let meant: Vec<JobId> = self.jobs.values().filter(is_meant).map(|place| place.id).collect();
                for id in meant {
                    changed += u64::from(self.remove(id));
                }
            }
            Note::Begin => {
                self.begun.get_or_insert((offset, HashSet::new()));
                changed = offset;
            }
            Note::End { begin } => {
                if self.begun.as_ref().is_some_and(|(begun, _)| *begun <= begin) {
                    self.begun = None;
                }
            }
        }
        changed
    }

    fn ids(&self, copies: &[CopyId]) -> Vec<JobId> {
        copies.iter().filter_map(|copy| self.copies.get(copy).copied()).collect()
    }

    /// A job that ran waits again.
    fn back(&mut self, id: JobId) -> bool {
        let was_running = self.running.remove(&id).is_some();
        if was_running && let Some(place) = self.jobs.get(&id).cloned() {
            self.wait(&place);
        }
        was_running
    }

    /// What sessions ran that are open no more waits again, as far as is known; and what is due has come to its queue.
    pub(super) fn settle(&mut self, open: &HashSet<JobId>, now: Timestamp) {
        let lost: Vec<JobId> = self.running.iter().filter(|(_, by)| !open.contains(by)).map(|(id, _)| *id).collect();
        for id in lost {
            self.back(id);
        }
        while let Some(first) = self.later.first_entry() {
            if first.key().0 > now.as_millis() {
                break;
            }
            let id = first.remove();
            if let Some(place) = self.jobs.get(&id) {
                self.queues.entry(place.queue.clone()).or_default().insert(place.key(), id);
            }
        }
    }

    /// A job that waits in a queue.
    pub(super) fn ready(&self, id: JobId) -> Option<Place> {
        let place = self.waiting(id)?;
        (!self.later.contains_key(&place.due()) || place.rank != Rank::Due).then(|| place.clone())
    }

    /// A job that waits for its time.
    pub(super) fn scheduled(&self, id: JobId) -> Option<Place> {
        let place = self.waiting(id)?;
        (place.rank == Rank::Due && self.later.contains_key(&place.due())).then(|| place.clone())
    }

    /// The same, also if its time has come: it may be on its way still.
    pub(super) fn delayed(&self, id: JobId) -> Option<Place> {
        self.waiting(id).filter(|place| place.rank == Rank::Due).cloned()
    }

    fn waiting(&self, id: JobId) -> Option<&Place> {
        self.jobs.get(&id).filter(|_| !self.running.contains_key(&id))
    }

    pub(super) fn is_running(&self, id: JobId) -> bool {
        self.running.contains_key(&id)
    }

    /// The next jobs of a queue behind a key.
    pub(super) fn of_queue(&self, queue: &QueueName, after: Option<Key>) -> impl Iterator<Item = &Place> {
        let from = after.map_or(Key(Rank::Again, i64::MIN, i64::MIN), |Key(rank, time, first)| {
            Key(rank, time, first.saturating_add(1))
        });
        self.queues
            .get(queue)
            .into_iter()
            .flat_map(move |jobs| jobs.range(from..))
            .filter_map(|(_, id)| self.jobs.get(id))
    }

    /// The next jobs that wait for their time.
    pub(super) fn of_later(&self, after: Option<(i64, u64)>) -> impl Iterator<Item = &Place> {
        let from = after.map_or((i64::MIN, 0), |(due, first)| (due, first.saturating_add(1)));
        self.later.range(from..).filter_map(|(_, id)| self.jobs.get(id))
    }

    /// What waits and stands so many bytes before the end, or more: the places, and where each stood at first.
    pub(super) fn older_than(&self, bytes: u64) -> Vec<(u64, u64)> {
        let is_old = |place: &&Place| self.bytes.saturating_sub(place.at) >= bytes;
        let places: BTreeSet<_> = self.jobs.values().filter(is_old).map(|place| (place.offset, place.first)).collect();
        places.into_iter().collect()
    }

    /// Forgets what the server has cut off, and says how many.
    pub(super) fn forget_up_to(&mut self, offset: u64) -> usize {
        let gone: Vec<JobId> =
            self.jobs.values().filter(|place| place.offset <= offset).map(|place| place.id).collect();
        gone.iter().filter(|id| self.remove(**id)).count()
    }
}

#[cfg(test)]
mod tests;
