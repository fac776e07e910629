//! All of the model's data, and how jobs come in and move; `claims` has the rest of the steps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::capability::{DeadContent, ScheduledKind, Totals};
use goose_core::broker::{ConsumerOptions, DeathCause, DeathReason, Shares};
use goose_core::{Clock, Event, Job, JobId, Priority, QueueName, Schedule, SystemClock, Timestamp};

use super::Defect;
use super::record::{Class, Place, Rank, Record};

/// How long a session that is gone keeps its claims.
pub(crate) const LEASE: Duration = Duration::from_millis(400);
pub(crate) const MAX_RECOVERIES: u32 = 2;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) defect: Option<Defect>,
    pub(crate) jobs: HashMap<JobId, Record>,
    pub(crate) ready: BTreeMap<(QueueName, Rank), JobId>,
    pub(crate) scheduled: BTreeMap<Rank, JobId>,
    pub(crate) queues: BTreeSet<QueueName>,
    pub(crate) paused: BTreeSet<QueueName>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) totals: Totals,
    /// Where every claim there ever was leads.
    pub(super) claims: HashMap<u64, JobId>,
    counter: u64,
    enqueues: u64,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) process: u64,
    pub(crate) options: ConsumerOptions,
    pub(crate) started_at: Timestamp,
    pub(crate) shares: Shares,
    /// Set when the session has ended, and whether it ended well.
    pub(crate) gone: Option<(Instant, bool)>,
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

impl State {
    pub(crate) fn is(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn front(&mut self) -> Rank {
        let tie = self.next();
        Rank { class: Class::Front, at: -i64::try_from(tie).unwrap_or(i64::MAX), tie }
    }

    fn normal(&mut self) -> Rank {
        Rank { class: Class::Normal, at: 0, tie: self.next() }
    }

    /// What happens by itself: jobs become due, gone sessions lose their jobs. Done before each look at the data.
    pub(crate) fn tick(&mut self) {
        while let Some((rank, id)) = self.scheduled.first_key_value().map(|(rank, id)| (*rank, *id)) {
            let early = if self.is(Defect::IsEarly) { Duration::from_millis(60) } else { Duration::ZERO };
            if Timestamp::from_millis(rank.at) > now().saturating_add(early) {
                break;
            }
            self.scheduled.remove(&rank);
            self.make_ready(id, rank, Timestamp::from_millis(rank.at));
        }
        let ended = |session: &Session| session.gone.filter(|(at, _)| at.elapsed() >= LEASE);
        let ended: Vec<_> = self.sessions.iter().filter_map(|(key, s)| Some((*key, ended(s)?.1))).collect();
        for (key, graceful) in ended {
            self.sessions.remove(&key);
            self.recover(key, !graceful || self.is(Defect::CountsStopsAsCrashes));
        }
    }

    /// When something will happen by itself next.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let due = self.scheduled.keys().next().map(|rank| Timestamp::from_millis(rank.at).since(now()));
        let due = due.and_then(|wait| Instant::now().checked_add(wait));
        let ends = self.sessions.values().filter_map(|session| session.gone.map(|(at, _)| at + LEASE));
        ends.chain(due).min()
    }

    fn recover(&mut self, session: u64, crashed: bool) {
        if self.is(Defect::RecoversNothing) {
            return;
        }
        let mut lost = self.claims_of(session);
        lost.reverse();
        for id in lost {
            let Some(record) = self.jobs.get_mut(&id) else { continue };
            if !crashed {
                self.put_back(id);
                continue;
            }
            record.recoveries += 1;
            let (recoveries, queue) = (record.recoveries, record.queue.clone());
            self.totals.recovered += 1;
            if recoveries > MAX_RECOVERIES && !self.is(Defect::ToleratesPoison) {
                let reason = DeathReason::new(DeathCause::Poison, format!("{recoveries} crashes"));
                self.die(id, &reason, true);
            } else {
                self.put_back(id);
                self.report(&Event::Recovered { id, queue: &queue, recoveries });
            }
        }
    }

    /// The jobs a session holds, in the order of its claims.
    pub(crate) fn claims_of(&self, key: u64) -> Vec<JobId> {
        let claim = |record: &Record| match record.place {
            Place::Claimed { session, claim } if session == key => Some((claim, record.id)),
            _ => None,
        };
        let mut claims: Vec<_> = self.jobs.values().filter_map(claim).collect();
        claims.sort_unstable();
        claims.into_iter().map(|(_, id)| id).collect()
    }

    fn report(&self, event: &Event<'_>) {
        for session in self.sessions.values().filter(|session| session.gone.is_none()) {
            session.options.observer.observe(event);
        }
    }

    /// Takes a job in, unless it is there.
    pub(crate) fn enqueue(&mut self, mut job: Job) {
        self.enqueues += 1;
        if self.is(Defect::LosesOneJobInAThousand) && self.enqueues.is_multiple_of(1_000) {
            return;
        }
        if self.is(Defect::ForgetsIds) && self.jobs.contains_key(&job.id) {
            job.id = JobId::new();
        }
        if self.jobs.contains_key(&job.id) {
            return;
        }
        if self.is(Defect::DropsHeaders) {
            job.headers.clear();
        }
        if self.is(Defect::CutsArguments) {
            job.args.bytes.truncate(1 << 20);
        }
        let due = match job.schedule {
            _ if self.is(Defect::IgnoresDelays) => None,
            Schedule::At(at) => Some(at),
            Schedule::In(delay) => Some(now().saturating_add(delay)),
            _ => None,
        };
        let (id, priority, queue) = (job.id, job.priority, job.ready_queue().clone());
        self.insert(id, queue, DeadContent::Job(Box::new(job)));
        match (due, priority) {
            (Some(due), _) => self.schedule(id, due, ScheduledKind::Scheduled),
            (None, Priority::Front) => {
                let front = self.front();
                self.make_ready(id, front, now());
            }
            (None, _) => {
                let end = self.normal();
                self.make_ready(id, end, now());
            }
        }
    }

    /// Takes bytes in that need not be a job.
    pub(crate) fn enqueue_raw(&mut self, id: JobId, queue: QueueName, bytes: Vec<u8>) {
        self.insert(id, queue, DeadContent::Undecodable(bytes));
        let end = self.normal();
        self.make_ready(id, end, now());
    }

    fn insert(&mut self, id: JobId, queue: QueueName, content: DeadContent) {
        self.totals.enqueued += 1;
        self.queues.insert(queue.clone());
        let place = Place::Claimed { session: 0, claim: 0 };
        self.jobs.insert(id, Record { id, content, queue, place, recoveries: 0, ready_at: now() });
    }

    fn make_ready(&mut self, id: JobId, rank: Rank, ready_at: Timestamp) {
        if let Some(record) = self.jobs.get_mut(&id) {
            record.place = Place::Ready(rank);
            record.ready_at = ready_at;
            self.queues.insert(record.queue.clone());
            self.ready.insert((record.queue.clone(), rank), id);
        }
    }

    pub(super) fn schedule(&mut self, id: JobId, due: Timestamp, kind: ScheduledKind) {
        let due = Rank { class: Class::Due, at: due.as_millis(), tie: self.next() };
        if let Some(record) = self.jobs.get_mut(&id) {
            record.place = Place::Scheduled { due, kind };
            self.scheduled.insert(due, id);
        }
    }

    /// To the front of its queue.
    pub(crate) fn put_back(&mut self, id: JobId) {
        let front = if self.is(Defect::ReleasesToTheEnd) { self.normal() } else { self.front() };
        self.make_ready(id, front, now());
    }

    pub(super) fn die(&mut self, id: JobId, reason: &DeathReason, report: bool) {
        let order = self.next();
        let Some(record) = self.jobs.get_mut(&id) else { return };
        record.place = Place::Dead { at: now(), order, reason: reason.clone() };
        self.totals.died += 1;
        if report && let Some(record) = self.jobs.get(&id) {
            let (queue, job) = (&record.queue, record.job());
            self.report(&Event::Died { id, queue, job, reason });
        }
    }

    /// Removes a job from wherever it is.
    pub(crate) fn remove(&mut self, id: JobId) -> Option<Record> {
        let record = self.jobs.remove(&id)?;
        self.unlist(&record);
        Some(record)
    }

    /// Removes a job from its line, so that it can go to another place.
    pub(crate) fn unlist(&mut self, record: &Record) {
        match &record.place {
            Place::Ready(rank) => drop(self.ready.remove(&(record.queue.clone(), *rank))),
            Place::Scheduled { due, .. } => drop(self.scheduled.remove(due)),
            Place::Claimed { .. } | Place::Dead { .. } => {}
        }
    }

    /// Makes a dead job run again.
    pub(crate) fn replay(&mut self, id: JobId) -> bool {
        let keep_retries = self.is(Defect::ReplaysWithoutReset);
        let Some(record) = self.jobs.get_mut(&id) else { return false };
        let (Place::Dead { .. }, DeadContent::Job(job)) = (&record.place, &mut record.content) else { return false };
        if !keep_retries {
            job.attempts.retry_count = 0;
        }
        record.queue = job.queue.clone();
        record.recoveries = 0;
        self.put_back(id);
        true
    }

    /// Opens a session.
    pub(crate) fn open(&mut self, process: u64, options: ConsumerOptions) -> u64 {
        let key = self.next();
        let shares = Shares::of(&options.queues);
        self.sessions.insert(key, Session { process, options, started_at: now(), shares, gone: None });
        key
    }

    /// Ends a session, unless it has ended.
    pub(crate) fn close(&mut self, key: u64, graceful: bool) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.gone.get_or_insert((Instant::now(), graceful));
        }
    }

    /// Ends all sessions of a process as a crash would.
    pub(crate) fn crash(&mut self, process: u64) {
        for session in self.sessions.values_mut().filter(|session| session.process == process) {
            session.gone.get_or_insert((Instant::now(), false));
        }
    }
}

/// The data, shared by all handles.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: parking_lot::Mutex<State>,
    pub(crate) wake: tokio::sync::Notify,
}

impl Shared {
    pub(crate) fn new(defect: Option<Defect>) -> Arc<Self> {
        let shared = Self::default();
        shared.state.lock().defect = defect;
        Arc::new(shared)
    }

    /// Looks at the data as it is now, changes it, and lets everyone who waits look again.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        state.tick();
        let result = change(&mut state);
        drop(state);
        self.wake.notify_waiters();
        result
    }

    /// Looks at the data as it is now.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        state.tick();
        look(&mut state)
    }
}
