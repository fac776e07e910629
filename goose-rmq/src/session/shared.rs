//! One session, as everybody who has to do with it knows it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::{ConsumerOptions, Delivery, Receipt};
use goose_core::{BoxFuture, Clock, Job, QueueName, Result, SystemClock};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, watch};

use super::lease::Terms;
use super::long;
use super::receipt::Seal;
use super::state::{Phase, State};
use super::surroundings;
use crate::broker::{Inner, OpenSession};
use crate::error::closed;

/// One open consumer.
pub(crate) struct Shared {
    pub(super) inner: Arc<Inner>,
    pub(super) options: ConsumerOptions,
    /// The queues of the set, as the slots are numbered.
    pub(super) queues: Vec<QueueName>,
    pub(super) seal: Seal,
    state: Mutex<State>,
    /// Wakes the waiting fetch.
    pub(super) delivered: Notify,
    /// Wakes the session's task.
    pub(super) hungry: Notify,
    /// Tells that a call of settle has come to its end.
    pub(super) settled: Notify,
    /// Turns of those who make leases.
    pub(super) leasing: Semaphore,
    /// How far the end has come.
    pub(super) end: watch::Sender<End>,
}

/// How far the end of a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    No,
    /// What was not handed out is back, or will come back by itself.
    HandedBack,
    /// Its task is over.
    Over,
}

impl Shared {
    pub(super) fn new(inner: Arc<Inner>, options: ConsumerOptions) -> Self {
        let terms = Terms::new(inner.options.consumer_timeout, inner.options.heartbeat);
        let state =
            Mutex::new(State::new(&options, inner.options.queue_type, terms, inner.log.changes(), Instant::now()));
        Self {
            inner,
            queues: options.queues.names().cloned().collect(),
            options,
            seal: Seal::new(),
            state,
            delivered: Notify::new(),
            hungry: Notify::new(),
            settled: Notify::new(),
            leasing: Semaphore::new(long::AT_A_TIME),
            end: watch::Sender::new(End::No),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// How long the server waits for a sign of life, at least.
    pub(super) fn heartbeat(&self) -> Duration {
        self.inner.options.heartbeat
    }

    // ---- fetching

    /// Jobs for a fetch. When there are none, the fetch waits from now on, until it says otherwise.
    pub(super) fn take(&self, up_to: usize) -> Option<Result<Vec<Delivery>>> {
        let now = Instant::now();
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Some(Err(closed()));
        }
        state.look_for_pauses(|queue| surroundings::is_paused(&self.inner, queue));
        let is_dropped = |job: &Job, copy| surroundings::is_dropped(&self.inner, job, copy);
        let taken = state.take(up_to, &self.seal, &is_dropped, (now, SystemClock.now()));
        let answer = if taken.is_empty() { state.failure.take().map(Err) } else { Some(Ok(taken)) };
        let task_is_needed = if answer.is_none() { state.want(up_to, now) } else { state.want_nothing(now) };
        drop(state);
        if task_is_needed {
            self.hungry.notify_one();
        }
        answer
    }

    /// A fetch waits no more.
    pub(super) fn want_nothing(&self) {
        if self.state().want_nothing(Instant::now()) {
            self.hungry.notify_one();
        }
    }

    // ---- claims

    pub(super) fn holds(&self, receipt: &Receipt) -> bool {
        let claimed = self.seal.read(receipt);
        claimed.is_some_and(|claimed| self.state().holds(claimed, self.heartbeat(), Instant::now()))
    }

    // ---- the end

    /// Begins to end it, if that has not begun.
    pub(super) fn begin_stop(&self) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Stopping;
            self.delivered.notify_one();
            self.hungry.notify_one();
        }
    }

    /// Gives back what was handed out too, as soon as everything else is back.
    fn leave_at_once(&self) {
        self.begin_stop();
        self.state().leaves_at_once = true;
        self.hungry.notify_one();
    }

    /// Says what was counted: a process that ends at once takes with it what was not said.
    pub(super) async fn say_counts(&self) {
        let inner = Arc::clone(&self.inner);
        let _ = self.inner.runtime.spawn(async move { inner.log.close().await }).await;
    }

    /// Waits until it has ended so far.
    pub(super) async fn ended(&self, so_far: End) {
        // The sender is our own.
        let _ = self.end.subscribe().wait_for(|end| *end >= so_far).await;
    }
}

impl OpenSession for Shared {
    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.leave_at_once();
            self.ended(End::Over).await;
            Ok(())
        })
    }

    #[cfg(feature = "fault-injection")]
    fn abandon(&self) {
        let mut state = self.state();
        state.phase = Phase::Ended;
        // Nobody takes leave for a killed process.
        (state.presence, state.notes) = (None, None);
        state.leases = Default::default();
        state.lose(Instant::now());
        drop(state);
        self.delivered.notify_one();
        self.settled.notify_waiters();
        self.hungry.notify_one();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("queues", &self.queues).finish_non_exhaustive()
    }
}
