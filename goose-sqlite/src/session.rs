//! A claim-holding session: what the engine's thread and the consumer's tasks share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goose_core::broker::{ConsumerOptions, Delivery, Shares};
use goose_core::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::encoding::Claim;
use crate::error::closed;

/// One open consumer.
///
/// Claimed jobs are put into a buffer here, not into the answer of the call that asked for them: the call may
/// be gone by then, and whoever asks next finds them.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) options: ConsumerOptions,
    /// How long the lease lasts without being renewed.
    pub(crate) lease: Duration,
    // A plain mutex: it is held for moments, by the engine's thread as well as by tasks, never across an await.
    state: Mutex<State>,
    /// How many jobs a waiting fetch wants; zero when nobody waits.
    wanted: AtomicUsize,
    /// Wakes the waiting fetch. There is at most one.
    notify: Notify,
    stopped: AtomicBool,
}

#[derive(Debug)]
struct State {
    lease_id: i64,
    /// The number of the last claim under this lease.
    last_claim: u32,
    /// When the beat began that last renewed the lease: nobody can take its jobs before `lease` after that.
    renewed: Instant,
    /// Earlier leases of this session whose claim numbers were used up; kept alive until their jobs are settled.
    retired: Vec<i64>,
    buffer: VecDeque<Delivery>,
    /// What the next fetch has to report.
    failure: Option<Error>,
    shares: Shares,
}

impl Session {
    pub(crate) fn new(options: ConsumerOptions, lease: Duration, lease_id: i64, renewed: Instant) -> Self {
        let shares = Shares::of(&options.queues);
        let state = State {
            lease_id,
            last_claim: 0,
            renewed,
            retired: Vec::new(),
            buffer: VecDeque::new(),
            failure: None,
            shares,
        };
        Self {
            options,
            lease,
            state: Mutex::new(state),
            wanted: AtomicUsize::new(0),
            notify: Notify::new(),
            stopped: AtomicBool::new(false),
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
        let n = up_to.min(state.buffer.len());
        Some(Ok(state.buffer.drain(..n).collect()))
    }

    /// Says that a fetch waits, until the guard is dropped.
    pub(crate) fn want(&self, up_to: usize) -> Wanting<'_> {
        self.wanted.store(up_to, Ordering::Release);
        Wanting(self)
    }

    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Whether a claim was made under a lease that nobody can have taken over yet. A sixth of the lease is kept as a
    /// margin for the time between asking and starting.
    pub(crate) fn holds(&self, claim: Claim) -> bool {
        let state = self.state.lock();
        let lease = lease_of(claim);
        let current = lease == state.lease_id || state.retired.contains(&lease);
        current && state.renewed.elapsed() < self.lease * 5 / 6
    }

    /// Since when the lease has not been renewed.
    pub(crate) fn last_renewal(&self) -> Duration {
        self.state.lock().renewed.elapsed()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    // ---- the engine's side

    pub(crate) fn wanted(&self) -> usize {
        if self.is_stopped() { 0 } else { self.wanted.load(Ordering::Acquire) }
    }

    pub(crate) fn lease_id(&self) -> i64 {
        self.state.lock().lease_id
    }

    /// All leases of this session, the current one first.
    pub(crate) fn leases(&self) -> Vec<i64> {
        let state = self.state.lock();
        std::iter::once(state.lease_id).chain(state.retired.iter().copied()).collect()
    }

    pub(crate) fn shares(&self, total: usize) -> Vec<usize> {
        self.state.lock().shares.next(total)
    }

    /// A claim number that never came before: each beat sees to it, see [`needs_new_lease`](Self::needs_new_lease).
    pub(crate) fn next_claim(&self) -> i64 {
        let mut state = self.state.lock();
        state.last_claim = state.last_claim.wrapping_add(1);
        (state.lease_id << 32) | i64::from(state.last_claim)
    }

    /// Whether the claim numbers of the lease go to an end: with this many left, hours before they would.
    pub(crate) fn needs_new_lease(&self) -> bool {
        self.state.lock().last_claim > u32::MAX - (1 << 28)
    }

    /// Goes on under a new lease because the claim numbers of the old one are used up; its jobs stay ours.
    pub(crate) fn roll_over(&self, lease_id: i64) {
        let mut state = self.state.lock();
        let old = std::mem::replace(&mut state.lease_id, lease_id);
        state.retired.push(old);
        state.last_claim = 0;
    }

    /// An earlier lease has no claims left, or was lost.
    pub(crate) fn drop_retired(&self, lease_id: i64) {
        self.state.lock().retired.retain(|retired| *retired != lease_id);
    }

    /// Goes on under a new lease because the old one was lost, with all its jobs.
    pub(crate) fn start_over(&self, lease_id: i64, renewed: Instant) {
        let mut state = self.state.lock();
        state.lease_id = lease_id;
        state.last_claim = 0;
        state.renewed = renewed;
        // What was claimed under an earlier lease that still lives stays ours.
        let State { buffer, retired, .. } = &mut *state;
        buffer.retain(|delivery| retired.contains(&lease_of(Claim::of(&delivery.receipt))));
    }

    pub(crate) fn renew(&self, renewed: Instant) {
        self.state.lock().renewed = renewed;
    }

    /// Puts claimed jobs where the next fetch finds them.
    pub(crate) fn deliver(&self, jobs: Vec<Delivery>) {
        self.state.lock().buffer.extend(jobs);
        self.wanted.store(0, Ordering::Release);
        self.notify.notify_one();
    }

    /// Takes what was claimed of a queue that was paused, and not fetched.
    pub(crate) fn withhold(&self, queue: i64) -> Vec<Delivery> {
        let mut state = self.state.lock();
        let is_of_queue = |delivery: &Delivery| Claim::of(&delivery.receipt).queue == queue;
        let (back, kept): (VecDeque<_>, _) = std::mem::take(&mut state.buffer).into_iter().partition(is_of_queue);
        state.buffer = kept;
        back.into()
    }

    /// Puts it there again, since it could not be handed back.
    pub(crate) fn keep(&self, jobs: Vec<Delivery>) {
        let mut state = self.state.lock();
        jobs.into_iter().rev().for_each(|job| state.buffer.push_front(job));
    }

    /// Lets the waiting fetch fail, if there is one.
    pub(crate) fn fail(&self, error: Error) {
        self.state.lock().failure = Some(error);
        self.wanted.store(0, Ordering::Release);
        self.notify.notify_one();
    }

    /// From now on fetches answer `Closed`. Returns what was claimed and not fetched.
    pub(crate) fn stop(&self) -> Vec<Delivery> {
        self.stopped.store(true, Ordering::Release);
        let buffered = self.state.lock().buffer.drain(..).collect();
        self.notify.notify_one();
        buffered
    }

    #[cfg(test)]
    pub(crate) fn use_up_claim_numbers(&self) {
        self.state.lock().last_claim = u32::MAX - 50_000_000;
    }
}

/// The lease in the upper half of a claim number.
fn lease_of(claim: Claim) -> i64 {
    claim.number >> 32
}

/// While it lives, a fetch waits.
pub(crate) struct Wanting<'a>(&'a Session);

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.wanted.store(0, Ordering::Release);
    }
}
