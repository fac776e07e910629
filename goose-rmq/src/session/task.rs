//! The task of a session: keeps a channel, gives its consumers as much room as fetches ask for, and takes in what comes.
//!
//! It runs on the broker's own thread and goes round when something has come, when a fetch needs it, or when a moment has
//! come that somebody waits for; never because time has passed. Nothing ends it but the end of the session.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

use super::errands::{self, Errand, Patience};
use super::hand_back;
use super::intake::{self, Source};
use super::lease::Leases;
use super::shared::{End, Shared};
use super::state::{Phase, State};
use super::window::More;
use super::wires::{self, Change, Ended, Event, Wire};
use super::{connect, long, probe, surroundings};
use crate::amqp::{Channel, Delivered};

/// The pauses between attempts to open a channel, or to restore a queue that was deleted.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs a session.
pub(super) struct Task {
    pub(super) session: Arc<Shared>,
    /// The consumers of each queue.
    pub(super) wires: Vec<Wire>,
    /// The names of the queues on the server.
    ready: Vec<String>,
    pub(super) tell: UnboundedSender<(u64, Event)>,
    events: UnboundedReceiver<(u64, Event)>,
    /// Calls that wait for the server, and errands. They end with the session.
    pub(super) calls: JoinSet<()>,
    pub(super) probe: Option<AbortHandle>,
    is_connecting: bool,
    pause: Duration,
    /// How often consumers could not be made, since they could be.
    pub(super) refusals: u32,
    /// Numbers consumers.
    consumers: u64,
    /// Changes of consumers whose streams are not here yet.
    pub(super) opening: usize,
    pub(super) ending: hand_back::Ending,
}

/// What woke the task.
#[derive(Default)]
struct Came {
    events: Vec<(u64, Event)>,
    delivered: Vec<(Source, Delivered)>,
    ended: Vec<Ended>,
}

impl Came {
    fn receive(&mut self, wires: &mut [Wire], context: &mut Context<'_>) {
        for (slot, wire) in wires.iter_mut().enumerate() {
            wire.poll(slot, &mut self.delivered, &mut self.ended, context);
        }
    }

    fn is_something(&self) -> bool {
        !(self.events.is_empty() && self.delivered.is_empty() && self.ended.is_empty())
    }
}

impl Task {
    pub(super) fn new(session: Arc<Shared>) -> Self {
        let (tell, events) = unbounded_channel();
        let names = &session.inner.topology.names;
        let ready = session.queues.iter().map(|queue| names.ready(queue)).collect();
        let wires = session.queues.iter().map(|_| Wire::default()).collect();
        let ending = hand_back::Ending::default();
        Self {
            session,
            wires,
            ready,
            tell,
            events,
            calls: JoinSet::new(),
            probe: None,
            is_connecting: false,
            pause: FIRST_PAUSE,
            refusals: 0,
            consumers: 0,
            opening: 0,
            ending,
        }
    }

    /// Runs until the session is over.
    pub(super) async fn run(mut self, channel: Arc<dyn Channel>) {
        self.connected(channel);
        self.calls.spawn(surroundings::watch_pauses(Arc::clone(&self.session)));
        while let Some(until) = self.turn() {
            let came = self.wait(until).await;
            self.handle(came);
        }
        let channel = self.session.state().channel.take();
        if let Some(channel) = channel {
            // What is not acknowledged goes back to its queues by this.
            let _ = tokio::time::timeout(LONGEST_PAUSE, channel.close()).await;
        }
    }

    /// Does what is to be done now. Says until when there is nothing more to do, or `None` at the end.
    fn turn(&mut self) -> Option<Until> {
        while self.calls.try_join_next().is_some() {}
        let now = Instant::now();
        let session = Arc::clone(&self.session);
        let mut state = session.state();
        if state.phase == Phase::Ended {
            return None;
        }
        self.keep_leases(&mut state, now);
        let is_open = state.channel.as_ref().is_some_and(|channel| channel.is_open());
        if state.channel.is_some() && !is_open {
            drop(state);
            self.lose(None);
            state = session.state();
        }
        let Some(channel) = state.channel.clone() else {
            let (is_ending, next) = (state.phase.is_ending(), state.next_moment(now));
            drop(state);
            if is_ending {
                // All but the leases has gone back by itself.
                return self.end_step(now);
            }
            self.connect();
            return Some(Until::Woken.or(next));
        };
        state.look_for_pauses(|queue| surroundings::is_paused(&session.inner, queue));
        state.slots.iter_mut().for_each(|slot| slot.wake(now));
        if state.satisfies(now) {
            session.delivered.notify_one();
        }
        let (mut changes, quiet_at) = self.give_back_slots(&mut state, now);
        for (n, More { limit, replaces }) in state.more_consumers(now) {
            self.consumers += 1;
            let slot = &mut state.slots[n];
            let cancel = if replaces { slot.cancel_full() } else { Vec::new() };
            slot.consume(self.consumers, limit);
            changes.push(Change { slot: n, cancel, make: Some((self.consumers, limit)) });
        }
        let gives_up_at = state.gives_up_at(now);
        state.is_watched = gives_up_at.is_some();
        let next = state.next_moment(now).into_iter().chain(gives_up_at).chain(quiet_at).min();
        let (generation, phase) = (state.generation, state.phase);
        if !changes.is_empty() {
            let (ready, tell) = (&self.ready, self.tell.clone());
            // Its frames go out under the lock, see `State::hear`.
            let call = wires::change(&channel, &mut self.wires, changes, ready, tell, generation);
            self.calls.spawn(call);
            self.opening += 1;
        }
        drop(state);
        match phase {
            Phase::Open => Some(next.map_or(Until::Woken, Until::Moment)),
            _ => self.end_step(now).map(|until| until.or(next)),
        }
    }

    /// Waits until something has come.
    async fn wait(&mut self, until: Until) -> Came {
        let session = Arc::clone(&self.session);
        let mut woken = std::pin::pin!(session.hungry.notified());
        let mut timer = match until {
            Until::Moment(moment) => Some(Box::pin(tokio::time::sleep_until(moment.into()))),
            Until::Woken => None,
        };
        poll_fn(|context| {
            let mut came = Came::default();
            let mut is_due = woken.as_mut().poll(context).is_ready();
            is_due |= timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready());
            while let Poll::Ready(Some(event)) = self.events.poll_recv(context) {
                came.events.push(event);
            }
            came.receive(&mut self.wires, context);
            is_due |= came.is_something();
            if is_due { Poll::Ready(came) } else { Poll::Pending }
        })
        .await
    }

    fn handle(&mut self, mut came: Came) {
        self.take_in(&mut came);
        for (generation, event) in came.events {
            if matches!(event, Event::Proved(_)) {
                // What proves a consumer was sent behind its deliveries, and these may not have been looked at yet.
                let (of, highest) = self.session.state().highest();
                let mut more = Came::default();
                more.receive(&mut self.wires, &mut Context::from_waker(Waker::noop()));
                self.take_in(&mut more);
                if self.opening == 0 {
                    self.session.state().give_back_lost(of, highest);
                }
            }
            self.happened(generation, event);
        }
    }

    fn take_in(&mut self, came: &mut Came) {
        if !came.delivered.is_empty() {
            let (errands, leases) = intake::take_in(&self.session, std::mem::take(&mut came.delivered));
            self.send(errands);
            if !leases.is_empty() {
                self.calls.spawn(long::clear_away(Arc::clone(&self.session), leases));
            }
        }
        for Ended { slot, number, by_the_server } in came.ended.drain(..) {
            if by_the_server {
                self.restore(slot, number);
            }
        }
    }

    fn happened(&mut self, generation: u64, event: Event) {
        let session = Arc::clone(&self.session);
        let is_stale = generation != session.state().generation;
        if is_stale && !matches!(event, Event::Refused(_)) {
            return;
        }
        match event {
            Event::Connected(Ok(channel)) => {
                self.is_connecting = false;
                self.connected(channel);
            }
            Event::Connected(Err(error)) => {
                self.is_connecting = false;
                self.fail(error);
            }
            Event::Opened(streams) => {
                self.opening = self.opening.saturating_sub(1);
                streams.into_iter().for_each(|(slot, stream)| self.wires[slot].connect(stream));
            }
            Event::Proved(numbers) => {
                // Not before: a server that gives channels and refuses consumers would be asked without a pause.
                if !numbers.is_empty() {
                    (self.pause, self.refusals) = (FIRST_PAUSE, 0);
                }
                let mut state = session.state();
                numbers.into_iter().for_each(|(slot, number)| state.slots[slot].is_proved(number));
            }
            Event::Failed(error) => self.lose(Some(&error)),
            Event::Refused(error) => self.refused(error, is_stale),
            Event::Restored(slot) => session.state().slots[slot].is_missing = false,
            Event::CannotRestore(error) => self.fail(error),
            Event::HandedBack(outcome) => self.handed_back(outcome),
            Event::Released(outcome) => self.released(&outcome),
        }
    }

    /// Turns claims that have been held for long into leases, and renews those.
    fn keep_leases(&mut self, state: &mut State, now: Instant) {
        for claimed in state.long_claims(now) {
            self.calls.spawn(long::turn_into_lease(Arc::clone(&self.session), claimed));
        }
        for claimed in state.leases.due(state.terms, now) {
            self.calls.spawn(long::renew(Arc::clone(&self.session), claimed));
        }
    }

    // ---- the channel

    fn connect(&mut self) {
        if self.is_connecting {
            return;
        }
        self.is_connecting = true;
        let generation = self.session.state().generation;
        // The first attempt comes at once.
        let pause = if self.pause == FIRST_PAUSE { Duration::ZERO } else { self.pause };
        let (session, tell) = (Arc::clone(&self.session), self.tell.clone());
        self.calls.spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = tell.send((generation, Event::Connected(connect::channel(&session).await)));
        });
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn connected(&mut self, channel: Arc<dyn Channel>) {
        let mut state = self.session.state();
        state.begin(Arc::clone(&channel), Instant::now());
        let generation = state.generation;
        drop(state);
        let probe = probe::serve(Arc::clone(&self.session), channel, generation, self.tell.clone());
        self.probe = Some(self.calls.spawn(probe));
    }

    /// Sends jobs to where they belong, for as long as it takes.
    pub(super) fn send(&mut self, errands: Vec<Errand>) {
        if !errands.is_empty() {
            let generation = self.session.state().generation;
            let errands = errands::run(Arc::clone(&self.session), generation, errands, Patience::Endless);
            self.calls.spawn(async move {
                // Endless: it comes to no end with an error.
                let _ = errands.await;
            });
        }
    }
}

/// Until when there is nothing to do.
pub(super) enum Until {
    Woken,
    Moment(Instant),
}

impl Until {
    /// Or until this moment.
    fn or(self, moment: Option<Instant>) -> Self {
        match (self, moment) {
            (Self::Moment(one), Some(other)) => Self::Moment(one.min(other)),
            (Self::Woken, Some(moment)) => Self::Moment(moment),
            (until, None) => until,
        }
    }
}

impl Drop for Task {
    /// Also when the broker's runtime ends with everything on it: nobody may wait for ever.
    fn drop(&mut self) {
        let mut state = self.session.state();
        state.phase = Phase::Ended;
        state.leases = Leases::default();
        state.lose(Instant::now());
        let presence = state.presence.take();
        drop(state);
        if let Some(presence) = presence {
            self.session.inner.log.leave(&presence);
        }
        self.session.end.send_replace(End::Over);
        self.session.delivered.notify_one();
        self.session.settled.notify_waiters();
        self.session.inner.forget(&*self.session);
    }
}
