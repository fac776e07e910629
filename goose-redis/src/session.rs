//! A claim-holding session: what the consumer's calls and the broker's own tasks share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fred::bytes::Bytes;
use goose_core::broker::{ConsumerOptions, Delivery, Shares, WorkerId};
use goose_core::{Error, QueueName, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::encoding::Claim;
use crate::error::closed;
use crate::held::Held;
use crate::names::{Names, QueueKeys};

/// The numbers of fetches, unique within the process, so that no token comes twice.
static FETCHES: AtomicU64 = AtomicU64::new(1);

/// One open consumer.
///
/// Fetched jobs are put into a buffer here, not into the answer of the call that asked for them: the call may be
/// gone by then, and whoever asks next finds them.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) options: ConsumerOptions,
    pub(crate) lease: Duration,
    /// The queues of the set in its order; a receipt names them by their place.
    pub(crate) queues: Vec<(QueueName, QueueKeys)>,
    state: Mutex<State>,
    pub(crate) held: Mutex<Held>,
    /// How many jobs a waiting fetch wants; zero when nobody waits.
    wanted: AtomicUsize,
    /// Wakes the waiting fetch.
    delivered: Notify,
    /// Wakes the fetching task.
    hungry: Notify,
    /// Wakes whoever waits for the end.
    ended: Notify,
    stopped: AtomicBool,
    /// Behave as if the process had been killed.
    abandoned: AtomicBool,
    /// How many jobs are about as many as one answer should have, going by the last one.
    piece: AtomicUsize,
    /// Held while a new identity is made for one that was found dead.
    pub(crate) renewing: tokio::sync::Mutex<()>,
    /// The fetching task, for whoever must know that it has ended.
    fetching: Mutex<Option<JoinHandle<()>>>,
}

/// How many bytes an answer should have at most, and how many jobs are read at a time when nobody knows how large they are.
/// A few at a time also where all are small: the next one may be large.
const ANSWER_BYTES: usize = 1 << 20;
const PIECES: std::ops::RangeInclusive<usize> = 1..=64;
const FIRST_PIECE: usize = 16;

/// Who we are in one queue. A lease can be lost in one of them, when the server of that one was out of reach, and
/// all is well in the others.
#[derive(Debug, Clone)]
struct Identity {
    /// Random, and another one after the session was found dead there.
    id: String,
    /// The first fetch under this id; claims of earlier ones are lost.
    first_fetch: u64,
    /// When the beat began that last renewed the lease.
    renewed: Instant,
}

#[derive(Debug)]
struct State {
    /// For each queue.
    identities: Vec<Identity>,
    buffer: VecDeque<Delivery>,
    /// When something was last put there or taken.
    buffered_since: Option<Instant>,
    /// Queues that were paused: what fetches before these numbers claimed of them is not handed out.
    withheld: Vec<(u16, u64)>,
    failure: Option<Error>,
    shares: Shares,
}

impl Session {
    pub(crate) fn new(options: ConsumerOptions, lease: Duration, names: &Names) -> Self {
        let queues: Vec<_> = options.queues.names().map(|queue| (queue.clone(), names.queue(queue))).collect();
        let identity = Identity { id: new_id(), first_fetch: 0, renewed: Instant::now() };
        let state = State {
            identities: vec![identity; queues.len()],
            buffer: VecDeque::new(),
            buffered_since: None,
            withheld: Vec::new(),
            failure: None,
            shares: Shares::of(&options.queues),
        };
        Self {
            options,
            lease,
            queues,
            state: Mutex::new(state),
            held: Mutex::default(),
            wanted: AtomicUsize::new(0),
            delivered: Notify::new(),
            hungry: Notify::new(),
            ended: Notify::new(),
            stopped: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            piece: AtomicUsize::new(FIRST_PIECE),
            renewing: tokio::sync::Mutex::new(()),
            fetching: Mutex::new(None),
        }
    }

    // ---- the consumer's side

    /// Buffered jobs, at most `up_to`; `None` when there are none.
    pub(crate) fn take(&self, up_to: usize) -> Option<Result<Vec<Delivery>>> {
        if self.is_stopped() {
            return Some(Err(closed()));
        }
        let mut state = self.state.lock();
        if state.buffer.is_empty() {
            return state.failure.take().map(Err);
        }
        if state.buffer.len() <= up_to {
            // Handed over as it is: jobs are large, and copying them would show.
            return Some(Ok(std::mem::take(&mut state.buffer).into()));
        }
        state.buffered_since = Some(Instant::now());
        Some(Ok(state.buffer.drain(..up_to).collect()))
    }

    /// Says that a fetch waits, until the guard is dropped.
    pub(crate) fn want(&self, up_to: usize) -> Wanting<'_> {
        self.wanted.store(up_to, Ordering::Release);
        self.hungry.notify_one();
        Wanting(self)
    }

    pub(crate) async fn woken(&self) {
        self.delivered.notified().await;
    }

    /// Whether a claim was made under a lease that nobody can have taken over yet. A sixth of the lease is kept as a
    /// margin for the time between asking and starting.
    pub(crate) fn holds(&self, claim: Claim) -> bool {
        let state = self.state.lock();
        state.identities.get(usize::from(claim.queue)).is_some_and(|identity| {
            claim.fetch >= identity.first_fetch && identity.renewed.elapsed() < self.lease * 5 / 6
        })
    }

    /// How long ago the lease was renewed, where that is longest ago.
    pub(crate) fn last_renewal(&self) -> Duration {
        let oldest = self.state.lock().identities.iter().map(|identity| identity.renewed).min();
        oldest.map_or(Duration::ZERO, |renewed| renewed.elapsed())
    }

    /// The same, in one queue.
    pub(crate) fn last_renewal_in(&self, queue: usize) -> Duration {
        let renewed = self.state.lock().identities.get(queue).map(|identity| identity.renewed);
        renewed.map_or(Duration::ZERO, |renewed| renewed.elapsed())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// From now on fetches answer `Closed`. Returns what was claimed and not fetched.
    pub(crate) fn stop(&self) -> Vec<Delivery> {
        self.stopped.store(true, Ordering::Release);
        let buffered = self.state.lock().buffer.drain(..).collect();
        self.delivered.notify_one();
        self.hungry.notify_one();
        self.ended.notify_waiters();
        buffered
    }

    pub(crate) fn is_fetched_for_by(&self, task: JoinHandle<()>) {
        *self.fetching.lock() = Some(task);
    }

    /// The fetching task, once.
    pub(crate) fn fetching(&self) -> Option<JoinHandle<()>> {
        self.fetching.lock().take()
    }

    // ---- the tasks' side

    pub(crate) fn wanted(&self) -> usize {
        if self.is_over() { 0 } else { self.wanted.load(Ordering::Acquire) }
    }

    /// Waits until a fetch begins to wait.
    pub(crate) async fn hunger(&self) {
        self.hungry.notified().await;
    }

    /// Since when jobs have been here that nobody takes.
    pub(crate) fn buffered_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        state.buffered_since.filter(|_| !state.buffer.is_empty())
    }

    /// Takes what nobody has taken.
    pub(crate) fn take_back(&self) -> Vec<Delivery> {
        self.state.lock().buffer.drain(..).collect()
    }

    /// Stopped or abandoned: its tasks end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_stopped() || self.is_abandoned()
    }

    /// Waits until the session is over.
    pub(crate) async fn over(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Registered before the flags are read, so that no end is missed.
            ended.as_mut().enable();
            if self.is_over() {
                return;
            }
            ended.await;
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    #[cfg(feature = "fault-injection")]
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.hungry.notify_one();
        self.ended.notify_waiters();
    }

    /// Who we are in one queue.
    pub(crate) fn id(&self, queue: usize) -> String {
        self.state.lock().identities.get(queue).map(|identity| identity.id.clone()).unwrap_or_default()
    }

    /// Who we are in each queue.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.state.lock().identities.iter().map(|identity| identity.id.clone()).collect()
    }

    /// The claims key of each queue.
    pub(crate) fn claims(&self) -> Vec<Bytes> {
        self.queues.iter().zip(self.ids()).map(|((_, keys), id)| keys.claims(&id)).collect()
    }

    /// How many jobs the server should read at a time.
    pub(crate) fn piece(&self) -> usize {
        self.piece.load(Ordering::Relaxed)
    }

    /// So many jobs had so many bytes.
    pub(crate) fn saw(&self, jobs: usize, bytes: usize) {
        let fit = ANSWER_BYTES / (bytes / jobs.max(1)).max(1);
        self.piece.store(fit.clamp(*PIECES.start(), *PIECES.end()), Ordering::Relaxed);
    }

    pub(crate) fn shares(&self, total: usize) -> Vec<usize> {
        self.state.lock().shares.next(total)
    }

    /// A number for a fetch that begins now.
    pub(crate) fn next_fetch(&self) -> u64 {
        let fetch = FETCHES.fetch_add(1, Ordering::Relaxed);
        self.held.lock().begin(fetch);
        fetch
    }

    /// A queue was paused: hands out nothing more of what was claimed of it until now, and returns what nobody has taken.
    pub(crate) fn withhold(&self, queue: &QueueName) -> Vec<Delivery> {
        let place = self.queues.iter().position(|(name, _)| name == queue);
        let Some(place) = place.and_then(|place| u16::try_from(place).ok()) else { return Vec::new() };
        let mut state = self.state.lock();
        // A fetch that begins later finds it paused, or rightly not any more.
        let next = FETCHES.load(Ordering::Relaxed);
        state.withheld.retain(|(queue, _)| *queue != place);
        state.withheld.push((place, next));
        let (back, kept) = split_off(std::mem::take(&mut state.buffer), &state.withheld);
        state.buffer = kept.into();
        back
    }

    /// Puts claimed jobs where the next fetch finds them, but for those of queues that were paused meanwhile, which it
    /// returns.
    #[must_use]
    pub(crate) fn deliver(&self, mut jobs: Vec<Delivery>) -> Vec<Delivery> {
        let (mut state, mut back) = (self.state.lock(), Vec::new());
        if !state.withheld.is_empty() {
            (back, jobs) = split_off(jobs, &state.withheld);
        }
        if jobs.is_empty() {
            return back;
        }
        state.buffered_since = Some(Instant::now());
        if state.buffer.is_empty() {
            state.buffer = jobs.into();
        } else {
            state.buffer.extend(jobs);
        }
        drop(state);
        self.wanted.store(0, Ordering::Release);
        self.delivered.notify_one();
        back
    }

    /// Lets the waiting fetch fail.
    pub(crate) fn fail(&self, error: Error) {
        self.state.lock().failure = Some(error);
        self.wanted.store(0, Ordering::Release);
        self.delivered.notify_one();
    }

    /// The lease in a queue was renewed by a beat that began then.
    pub(crate) fn renew(&self, queue: usize, renewed: Instant) {
        if let Some(identity) = self.state.lock().identities.get_mut(queue) {
            identity.renewed = renewed;
        }
    }

    /// The session was found dead in a queue: nothing it held there counts any more.
    pub(crate) fn let_go(&self, queue: usize) {
        let mut state = self.state.lock();
        if let Some(identity) = state.identities.get_mut(queue) {
            identity.first_fetch = FETCHES.load(Ordering::Relaxed);
        }
        let is_here =
            |delivery: &Delivery| Claim::of(&delivery.receipt).is_some_and(|claim| usize::from(claim.queue) == queue);
        state.buffer.retain(|delivery| !is_here(delivery));
        drop(state);
        self.held.lock().let_go(queue);
    }

    /// A new identity, for one that was found dead.
    pub(crate) fn take_on(&self, queue: usize, id: String, renewed: Instant) {
        if let Some(identity) = self.state.lock().identities.get_mut(queue) {
            identity.id = id;
            identity.renewed = renewed;
        }
    }
}

/// Random, never made of host and process number: those come again.
pub(crate) fn new_id() -> String {
    WorkerId::new().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Those that are withheld, and the others.
fn split_off(jobs: impl IntoIterator<Item = Delivery>, withheld: &[(u16, u64)]) -> (Vec<Delivery>, Vec<Delivery>) {
    let is_withheld = |claim: Claim| withheld.iter().any(|(queue, next)| claim.queue == *queue && claim.fetch < *next);
    jobs.into_iter().partition(|delivery| Claim::of(&delivery.receipt).is_some_and(is_withheld))
}

/// While it lives, a fetch waits.
pub(crate) struct Wanting<'a>(&'a Session);

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.wanted.store(0, Ordering::Release);
    }
}
