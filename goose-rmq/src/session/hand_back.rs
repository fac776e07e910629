//! Handing back: what nobody asks for any more, what a paused queue has, and everything when the session ends.
//!
//! A job goes back as a new message at the front of its queue, with its count of recoveries as it was, and its old message is
//! acknowledged when that is stored. The consumer is cancelled before, or it would get the job again at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::{SettleError, Settlement, Verdict};
use goose_core::{Error, ErrorKind, Result, Timestamp};

use super::errands::{self, Errand, News, Patience, What};
use super::receipt::Claimed;
use super::settle;
use super::shared::{End, Shared};
use super::slot::Slot;
use super::state::{Phase, Stage, State};
use super::surroundings;
use super::task::{Task, Until};
use super::wires::{Change, Event, Wire};
use crate::delay::Path;
use crate::message::{self, Rank, Ticket};

/// How long a session may take to hand back its jobs when it ends. After that the server does it.
const WITHIN: Duration = Duration::from_secs(5);

/// The smallest difference between two times.
const A_LITTLE: Duration = Duration::from_millis(1);

/// How far the task has come with the end.
#[derive(Debug, Default)]
pub(super) enum Ending {
    #[default]
    No,
    /// Consumers are being cancelled, and then jobs handed back, until this moment.
    HandingBack { is_under_way: bool, until: Instant },
    /// What was not handed out is back. If `released`, so will be what was.
    Waiting { released: bool },
}

impl Ending {
    /// The channel was lost, and nobody will tell what became of what was being handed back.
    pub(super) fn begin_again(&mut self) {
        if let Self::HandingBack { is_under_way, .. } = self {
            *is_under_way = false;
        }
    }
}

impl Task {
    /// Gives back what slots hold that nobody asks for; returns the consumers to cancel for that, and when to look again.
    pub(super) fn give_back_slots(&mut self, state: &mut State, now: Instant) -> (Vec<Change>, Option<Instant>) {
        let is_ending = state.phase.is_ending();
        let is_idle = state.gives_up_at(now).is_some_and(|at| at <= now);
        let (mut changes, mut errands, mut look_again) = (Vec::new(), Vec::new(), None);
        for n in 0..state.slots.len() {
            let slot = &mut state.slots[n];
            let is_over = is_ending || slot.is_paused;
            slot.gives_back |= is_over || (is_idle && slot.held() > 0);
            if !slot.gives_back {
                continue;
            }
            if slot.has_consumers() {
                match slot.can_be_cancelled(now) {
                    Ok(()) => changes.push(Change { slot: n, cancel: slot.cancel(), make: None }),
                    Err(at) => look_again = look_again.into_iter().chain(at).min(),
                }
            } else if self.wires[n].is_silent() {
                slot.gives_back = is_over;
                // While its consumers were being cancelled, a fetch has begun to wait: it gets what is here.
                let goes_back = slot.is_paused || std::mem::take(&mut slot.is_stale) || state.wanted == 0;
                if !is_ending && goes_back {
                    let back = drain(&self.session, state, n);
                    if !back.is_empty() && !is_over {
                        state.slots[n].is_going_back(now);
                    }
                    errands.extend(back);
                }
            }
        }
        if !errands.is_empty() {
            let session = Arc::clone(&self.session);
            let generation = state.generation;
            self.calls.spawn(async move {
                let _ = errands::run(session, generation, errands, Patience::Endless).await;
            });
        }
        (changes, look_again)
    }

    /// One step towards the end of the session. `None` when it has come.
    pub(super) fn end_step(&mut self, now: Instant) -> Option<Until> {
        match self.ending {
            Ending::No => {
                self.ending = Ending::HandingBack { is_under_way: false, until: now + WITHIN };
                self.end_step(now)
            }
            Ending::HandingBack { until, .. } if now >= until => {
                // What was handed out can still be settled: the server may take in nothing and hear acknowledgements all the same.
                let words = "cannot hand back jobs in time; the server will give them to others";
                self.handed_back(Err(Error::new(ErrorKind::Unavailable, words)));
                self.end_step(now)
            }
            Ending::HandingBack { is_under_way, until } => {
                let is_silent = self.wires.iter().all(Wire::is_silent)
                    && !self.session.state().slots.iter().any(Slot::has_consumers);
                // What is on its way back already goes first, and must be back as well.
                if !is_under_way && is_silent && !self.session.state().is_sending() {
                    self.ending = Ending::HandingBack { is_under_way: true, until };
                    let mut state = self.session.state();
                    let slots = state.slots.len();
                    let errands = (0..slots).flat_map(|n| drain(&self.session, &mut state, n)).collect();
                    drop(state);
                    self.hand_back(errands);
                }
                Some(Until::Moment(until))
            }
            Ending::Waiting { released } => self.leave(released, now),
        }
    }

    /// Waits for what was handed out to be settled, and releases what is not.
    fn leave(&mut self, released: bool, now: Instant) -> Option<Until> {
        let state = self.session.state();
        if state.ledger.is_empty() && state.leases.is_empty() {
            return None;
        }
        let Phase::Leaving { until } = state.phase else { return None };
        let until = if state.leaves_at_once { now } else { until };
        if now < until {
            return Some(Until::Moment(until));
        }
        if released {
            return if now < until + WITHIN { Some(Until::Moment(until + WITHIN)) } else { None };
        }
        let generation = state.generation;
        let out = state.handed_out();
        drop(state);
        self.ending = Ending::Waiting { released: true };
        let (session, tell) = (Arc::clone(&self.session), self.tell.clone());
        let release = |claimed: Claimed| {
            let receipt = session.seal.receipt(claimed.generation, claimed.tag);
            Settlement::new(receipt, Verdict::Release)
        };
        let releases: Vec<Settlement> = out.into_iter().map(release).collect();
        self.calls.spawn(async move {
            let failed = settle::settle_by_task(session, releases).await.into_iter().find_map(|answer| match answer {
                Err(SettleError::Broker(error)) => Some(error),
                _ => None,
            });
            let _ = tell.send((generation, Event::Released(failed.map_or(Ok(()), Err))));
        });
        Some(Until::Moment(now + WITHIN))
    }

    fn hand_back(&mut self, errands: Vec<Errand>) {
        let (session, tell) = (Arc::clone(&self.session), self.tell.clone());
        let generation = session.state().generation;
        self.calls.spawn(async move {
            let outcome = errands::run(session, generation, errands, Patience::Once).await;
            let _ = tell.send((generation, Event::HandedBack(outcome)));
        });
    }

    pub(super) fn handed_back(&mut self, outcome: Result<()>) {
        if matches!(self.ending, Ending::HandingBack { .. }) {
            self.ending = Ending::Waiting { released: false };
            let mut state = self.session.state();
            state.phase = Phase::Leaving { until: Instant::now() + self.session.heartbeat() };
            state.stop_error = outcome.err();
            drop(state);
            self.session.end.send_replace(End::HandedBack);
        }
    }

    pub(super) fn released(&mut self, outcome: &Result<()>) {
        if outcome.is_err() {
            // The server gives them to others when the channel closes.
            self.session.state().phase = Phase::Ended;
        }
    }
}

/// Takes everything out of a slot that was not handed out, in the order in which it would have been.
fn drain(session: &Shared, state: &mut State, n: usize) -> Vec<Errand> {
    let slot = &mut state.slots[n];
    let mut ready: Vec<u64> = std::iter::from_fn(|| slot.buffer.pop()).map(|waiting| waiting.tag).collect();
    let early: Vec<u64> = slot.early.drain().map(|waiting| waiting.tag).collect();
    turn_round(&mut ready, |tag| state.ledger.get(*tag).map(|claim| (claim.ticket.rank, claim.ticket.ready_at)));
    let mut errands: Vec<Errand> = ready.into_iter().filter_map(|tag| errand(session, state, tag, returned)).collect();
    errands.extend(early.into_iter().filter_map(|tag| errand(session, state, tag, kept)));
    errands
}

/// Of front jobs of the same millisecond the last to arrive goes first. So they are sent the other way round.
fn turn_round<T>(jobs: &mut [T], place: impl Fn(&T) -> Option<(Rank, Timestamp)>) {
    let are_alike =
        |one: &T, other: &T| place(one) == place(other) && place(one).is_some_and(|(rank, _)| rank == Rank::Front);
    jobs.chunk_by_mut(are_alike).for_each(<[T]>::reverse);
}

/// The ticket of a ready job that goes back.
///
/// What nobody has asked for has no right to go before what came meanwhile for the front, but goes before those of the same
/// rank and time, behind which it will stand on the server: hence a millisecond earlier.
fn returned(ticket: &Ticket) -> Ticket {
    let (rank, ready_at) = match ticket.rank {
        Rank::Normal => (Rank::Returned, ticket.ready_at),
        // Here the newest goes first.
        Rank::Front => (Rank::Front, ticket.ready_at),
        rank => (rank, ticket.ready_at.saturating_sub(A_LITTLE)),
    };
    Ticket { rank, ready_at, ..kept(ticket) }
}

/// The ticket of a job that goes back before its time, which stays what it was.
fn kept(ticket: &Ticket) -> Ticket {
    Ticket { lease: None, ..ticket.clone() }
}

/// The errand that hands a claim back.
fn errand(session: &Shared, state: &mut State, tag: u64, ticket: impl Fn(&Ticket) -> Ticket) -> Option<Errand> {
    let claim = state.ledger.get_mut(tag)?;
    claim.stage = Stage::Leaving;
    if surroundings::is_moved(&session.inner, claim.ticket.copy) {
        return Some(Errand { tag, slot: claim.slot, what: What::Drop, news: News::None });
    }
    let ticket = ticket(&claim.ticket);
    let (exchange, key) = session.inner.topology.names.address(&session.queues[claim.slot], Path::NOW);
    let message = message::sealed(claim.id, Arc::clone(&claim.envelope), &ticket, exchange, key);
    Some(Errand { tag, slot: claim.slot, what: What::Send { message, by_cascade: false }, news: News::None })
}

#[cfg(test)]
mod tests {
    use super::super::buffer::Buffer;
    use super::*;

    #[test]
    fn what_was_handed_back_goes_before_what_came_behind_it_in_the_same_millisecond() {
        for rank in [Rank::Again, Rank::Due, Rank::Returned, Rank::Normal] {
            let ticket = Ticket::now(rank, Timestamp::from_millis(5));
            let mut buffer = Buffer::default();
            // On the server it stands behind the other one now.
            for (tag, ticket, job) in [(1, ticket.clone(), "second"), (2, returned(&ticket), "first")] {
                buffer.push(ticket.rank, ticket.ready_at, tag, job);
            }
            assert_eq!([buffer.pop(), buffer.pop()], [Some("first"), Some("second")], "{rank:?}");
        }
    }

    #[test]
    fn what_was_handed_back_keeps_its_order_also_within_a_millisecond() {
        let at = |rank, time| (rank, Timestamp::from_millis(time));
        let came = [at(Rank::Front, 5), at(Rank::Front, 5), at(Rank::Front, 6), at(Rank::Front, 6), at(Rank::Due, 5)];
        let came = came.into_iter().chain([at(Rank::Due, 5), at(Rank::Returned, 5), at(Rank::Returned, 5)]);
        let mut jobs: Vec<(usize, (Rank, Timestamp))> = came.enumerate().collect();
        let mut first = Vec::new();
        for _ in 0..3 {
            let mut buffer = Buffer::default();
            for (tag, job) in (1..).zip(std::mem::take(&mut jobs)) {
                buffer.push(job.1.0, job.1.1, tag, job);
            }
            jobs.extend(std::iter::from_fn(|| buffer.pop()));
            let order: Vec<usize> = jobs.iter().map(|(n, _)| *n).collect();
            first.push(order);
            turn_round(&mut jobs, |(_, place)| Some(*place));
        }
        assert_eq!(first, vec![vec![3, 2, 1, 0, 4, 5, 6, 7]; 3]);
    }

    #[test]
    fn a_job_that_is_not_due_keeps_its_time() {
        let ticket = Ticket { lease: Some("a".to_owned()), ..Ticket::now(Rank::Due, Timestamp::from_millis(5)) };
        assert_eq!(kept(&ticket), Ticket::now(Rank::Due, Timestamp::from_millis(5)));
    }
}
