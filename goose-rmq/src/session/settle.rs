//! Ending claims: first what follows from the verdict is stored, then the message is acknowledged.
//!
//! Most claims end with nothing to store; those are acknowledged at once, from the thread of the caller. All others are
//! ended by a task of the broker's own, so that none is left half ended when the caller does not wait for it.
//!
//! The server does not answer an acknowledgement, and one that was only written is lost with the connection. So it is asked for an
//! answer behind those of each call, and the call waits for that. What was acknowledged has made room for other jobs before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::{DeathReason, SettleError, Settlement, Verdict};
use goose_core::{Clock, Error, ErrorKind, Job, QueueName, Result, SystemClock, Timestamp, codec};

use super::begun::Begun;
use super::long;
use super::receipt::Claimed;
use super::shared::Shared;
use super::state::{Stage, Standing};
use super::surroundings::{self, Corpse};
use crate::again::again;
use crate::amqp::Outgoing;
use crate::broker::Inner;
use crate::delay::{self, Path, Precision};
use crate::error::closed;
use crate::log::Count;
use crate::message::{self, Rank, Ticket, Waits};
use crate::outbox;

/// One answer per settlement, in order.
type Answers = Vec<Result<(), SettleError>>;

/// Ends claims; one answer per settlement, in order. At the end of a session the process may end as soon as it is answered.
pub(super) async fn settle(session: &Arc<Shared>, settlements: &[Settlement]) -> Answers {
    let answers = settle_now(session, settlements).await;
    let is_ending = session.state().phase.is_ending();
    if is_ending && !settlements.is_empty() {
        session.say_counts().await;
    }
    answers
}

async fn settle_now(session: &Arc<Shared>, settlements: &[Settlement]) -> Answers {
    if settlements.is_empty() {
        return Vec::new();
    }
    if let Some(Acknowledged { answers, done, discarded, heard }) = acknowledge(session, settlements) {
        let lost = match heard {
            Some(heard) => heard.await.err(),
            None => None,
        };
        if let Some(error) = lost {
            return answers.into_iter().map(|answer| answer.and_then(|()| Err(broken(&error)))).collect();
        }
        surroundings::count(&session.inner, Count::Succeeded, done);
        surroundings::count(&session.inner, Count::Discarded, discarded);
        return answers;
    }
    let all = settlements.to_vec();
    let task = session.inner.runtime.spawn(settle_by_task(Arc::clone(session), all));
    let closed = |_| settlements.iter().map(|_| Err(SettleError::Broker(closed()))).collect();
    task.await.unwrap_or_else(closed)
}

/// The server may or may not have heard of it; the claim is lost anyway.
fn broken(error: &Error) -> SettleError {
    let message = "the connection broke while a claim was being ended; the job may run again";
    SettleError::Broker(Error::new(ErrorKind::OutcomeUnknown, message).with_source(again(error)))
}

/// Claims that were acknowledged.
struct Acknowledged {
    /// Once the server has heard of it.
    answers: Answers,
    done: usize,
    discarded: usize,
    heard: Option<Begun<Result<()>>>,
}

/// The quick way, where nothing has to be stored.
fn acknowledge(session: &Shared, settlements: &[Settlement]) -> Option<Acknowledged> {
    if !settlements.iter().all(|settlement| matches!(settlement.verdict, Verdict::Done | Verdict::Discard)) {
        return None;
    }
    let now = Instant::now();
    let mut state = session.state();
    if !state.is_fresh(session.heartbeat(), now) {
        return None;
    }
    let (mut answers, mut tags) = (Vec::with_capacity(settlements.len()), BTreeSet::new());
    let mut done = 0;
    for settlement in settlements {
        let claimed = session.seal.read(&settlement.receipt);
        let standing = claimed.map_or(Standing::Lost, |claimed| state.standing(claimed, now));
        if claimed.is_some_and(|claimed| state.leases.contains(claimed)) {
            return None;
        }
        match (standing, claimed) {
            (Standing::Held { .. }, Some(claimed)) => {
                // The same receipt once more in this call is refused.
                let is_new = tags.insert(claimed.tag);
                done += usize::from(is_new && matches!(settlement.verdict, Verdict::Done));
                answers.push(if is_new { Ok(()) } else { Err(SettleError::Fenced) });
            }
            (Standing::Busy, _) => return None,
            _ => answers.push(Err(SettleError::Fenced)),
        }
    }
    let discarded = tags.len() - done;
    let heard = if tags.is_empty() {
        None
    } else {
        state.acknowledge(tags, now);
        state.hear()
    };
    let is_leaving = state.phase.is_ending();
    drop(state);
    if is_leaving {
        session.hungry.notify_one();
    }
    Some(Acknowledged { answers, done, discarded, heard })
}

/// What has to be stored before a claim may end.
enum Store {
    Nothing,
    Send { message: Outgoing, to: QueueName, by_cascade: bool },
    Bury(Corpse),
}

/// A claim that is being ended.
struct Work {
    /// Of the settlement.
    n: usize,
    claimed: Claimed,
    place: u64,
    /// The queue that must be deleted at its end, of a lease.
    lease: Option<String>,
    store: Store,
}

pub(super) async fn settle_by_task(session: Arc<Shared>, settlements: Vec<Settlement>) -> Answers {
    make_sure(&session).await;
    let mut answers: Vec<Option<Result<(), SettleError>>> = settlements.iter().map(|_| None).collect();
    loop {
        // Before looking, so that no end is missed.
        let mut settled = std::pin::pin!(session.settled.notified());
        settled.as_mut().enable();
        let work = begin(&session, &settlements, &mut answers);
        if work.is_empty() && answers.iter().all(Option::is_some) {
            break;
        }
        if work.is_empty() {
            // Others are ending the same claims; what is left for us depends on what they achieve.
            settled.await;
            continue;
        }
        for (n, answer) in end(&session, work).await {
            let counted = answer.is_ok().then(|| counted(&settlements[n].verdict)).flatten();
            if let Some(what) = counted {
                surroundings::count(&session.inner, what, 1);
            }
            answers[n] = Some(answer);
        }
        session.settled.notify_waiters();
        session.hungry.notify_one();
    }
    answers.into_iter().map(|answer| answer.unwrap_or(Err(SettleError::Fenced))).collect()
}

/// What the end of a claim counts as.
fn counted(verdict: &Verdict) -> Option<Count> {
    match verdict {
        Verdict::Done => Some(Count::Succeeded),
        Verdict::Discard => Some(Count::Discarded),
        Verdict::Retry { .. } | Verdict::Bury { .. } => Some(Count::Failed),
        _ => None,
    }
}

/// After a silence, asks the server whether we are still there: whoever comes late must change nothing.
async fn make_sure(session: &Shared) {
    let (channel, generation) = {
        let state = session.state();
        let is_fresh = state.is_fresh(session.heartbeat(), Instant::now());
        (state.channel.clone().filter(|_| !is_fresh), state.generation)
    };
    if let Some(channel) = channel
        && channel.round_trip().await.is_err()
    {
        let mut state = session.state();
        state.is_mute |= state.generation == generation;
    }
}

/// Takes the claims that can be ended now; answers those that are lost, and leaves out those that others are ending.
fn begin(session: &Shared, settlements: &[Settlement], answers: &mut [Option<Result<(), SettleError>>]) -> Vec<Work> {
    let (clock, now) = (SystemClock.now(), Instant::now());
    let mut state = session.state();
    let mut work = Vec::new();
    for (n, settlement) in settlements.iter().enumerate() {
        if answers[n].is_some() {
            continue;
        }
        let claimed = session.seal.read(&settlement.receipt);
        let standing = claimed.map_or(Standing::Lost, |claimed| state.standing(claimed, now));
        let (place, claimed) = match (standing, claimed) {
            (Standing::Held { place }, Some(claimed)) => (place, claimed),
            (Standing::Busy, _) => continue,
            _ => {
                answers[n] = Some(Err(SettleError::Fenced));
                continue;
            }
        };
        let lease = state.leases.get_mut(claimed).map(|lease| lease.queue.clone());
        let Some(claim) = state.claim_mut(claimed) else { continue };
        claim.stage = Stage::Ending { place };
        let home = &session.queues[claim.slot];
        let store = match &settlement.verdict {
            Verdict::Done | Verdict::Discard => Store::Nothing,
            Verdict::Retry { job, delay } => later(&session.inner, job, *delay, Precision::Rough, clock),
            Verdict::Snooze { job, delay } => later(&session.inner, job, *delay, Precision::Exact, clock),
            Verdict::Bury { job, reason } => Store::Bury(corpse(job, home, reason)),
            // `Release`, and what a later core may add before this broker learns of it: handing back loses nothing.
            _ => {
                let ticket = claim.ticket.clone().back(clock);
                let (exchange, key) = session.inner.topology.names.address(home, Path::NOW);
                let message = message::sealed(claim.id, Arc::clone(&claim.envelope), &ticket, exchange, key);
                Store::Send { message, to: home.clone(), by_cascade: false }
            }
        };
        work.push(Work { n, claimed, place, lease, store });
    }
    // What is sent goes out in the order of the claims.
    work.sort_by_key(|work| work.place);
    work
}

fn corpse(job: &Job, home: &QueueName, reason: &DeathReason) -> Corpse {
    Corpse { id: job.id, queue: home.clone(), body: codec::encode(job).into(), reason: reason.clone() }
}

/// The job as it will come back.
fn later(inner: &Inner, job: &Job, delay: Duration, precision: Precision, clock: Timestamp) -> Store {
    let (path, ticket) = if delay.is_zero() {
        (Path::NOW, Ticket::now(Rank::Again, clock))
    } else {
        let path = delay::path(delay, precision, delay::hop(inner.options.queue_type));
        (path, Ticket::due(clock.saturating_add(delay), path))
    };
    let to = job.ready_queue().clone();
    let (exchange, key) = inner.topology.names.address(&to, path);
    let mut message = message::outgoing(job, &ticket, exchange, key);
    if inner.topology.names.is_journaled() {
        let kind = if precision == Precision::Rough { Waits::ForRetry } else { Waits::Snoozed };
        kind.mark(&mut message);
    }
    Store::Send { message, to, by_cascade: matches!(path, Path::Levels { .. }) }
}

/// Stores what follows from the verdicts, and ends the claims of which that was stored.
async fn end(session: &Arc<Shared>, work: Vec<Work>) -> Vec<(usize, Result<(), SettleError>)> {
    let needs_nothing = |work: &Work| matches!(work.store, Store::Nothing);
    // These need not wait for the others.
    let heard = acknowledge_of(session, work.iter().filter(|work| needs_nothing(work)));
    let outcomes = store(session, &work).await;
    let stored = work.iter().zip(&outcomes).filter(|(work, outcome)| outcome.is_ok() && !needs_nothing(work));
    // If the server does not hear of these, what it gives to somebody else is a second message of the same job: what was stored
    // is stored.
    let _ = acknowledge_of(session, stored.map(|(work, _)| work)).await;
    let heard = heard.await;
    let mut answers = Vec::with_capacity(work.len());
    for (work, outcome) in work.iter().zip(outcomes) {
        let answer = match (outcome, &work.lease, &heard) {
            (Ok(()), Some(queue), _) => end_lease(session, work, queue).await,
            (Ok(()), None, Err(error)) if needs_nothing(work) => Err(broken(error)),
            (outcome, ..) => outcome.map_err(SettleError::Broker),
        };
        if answer.is_err()
            && let Some(claim) = session.state().claim_mut(work.claimed)
        {
            claim.stage = Stage::Out { place: work.place };
        }
        answers.push((work.n, answer));
    }
    answers
}

/// Stores what follows from each verdict.
async fn store(session: &Arc<Shared>, work: &[Work]) -> Vec<Result<()>> {
    let inner = &session.inner;
    let mut outcomes: Vec<Result<()>> = Vec::with_capacity(work.len());
    for work in work {
        outcomes.push(prepare(inner, &work.store).await);
    }
    let (mut messages, mut corpses) = (Vec::new(), Vec::new());
    for (work, _) in work.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()) {
        match &work.store {
            Store::Nothing => {}
            Store::Send { message, .. } => messages.push(message.clone()),
            Store::Bury(corpse) => corpses.push(corpse.clone()),
        }
    }
    let mut sent = outbox::publish_all(inner, messages).await.into_iter();
    let mut buried = surroundings::bury(inner, corpses).await.into_iter();
    for (work, outcome) in work.iter().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_ok()) {
        *outcome = match &work.store {
            Store::Nothing => Ok(()),
            Store::Send { .. } => sent.next().unwrap_or_else(|| Err(closed())),
            Store::Bury(_) => buried.next().unwrap_or_else(|| Err(closed())),
        };
    }
    outcomes
}

/// Ends a lease. If its job had gone back already, nothing has happened that was not stored before.
async fn end_lease(session: &Shared, work: &Work, queue: &str) -> Result<(), SettleError> {
    let ended = async {
        let lay_there = long::end_former(session, work.claimed).await?;
        Ok(long::end(session, queue).await? && lay_there)
    };
    let was_there = match ended.await {
        Ok(was_there) => was_there,
        Err(error) if matches!(work.store, Store::Nothing) => return Err(SettleError::Broker(error)),
        Err(error) => {
            // What follows is stored, and must not be stored again.
            tracing::warn!(error = format!("{error:#}"), "cannot end the lease of a job; it may run again");
            true
        }
    };
    let mut state = session.state();
    if was_there
        && let (Some(claim), Some((notes, _))) = (state.claim_mut(work.claimed).cloned(), &state.notes)
        && let Some(copy) = claim.ticket.copy
    {
        notes.ended(copy);
    }
    state.end_lease(work.claimed);
    drop(state);
    if was_there || !matches!(work.store, Store::Nothing) { Ok(()) } else { Err(SettleError::Fenced) }
}

/// Sees to it that there is somewhere to send to.
async fn prepare(inner: &Inner, store: &Store) -> Result<()> {
    let Store::Send { to, by_cascade, .. } = store else { return Ok(()) };
    if !inner.topology.knows_queue(to) {
        inner.topology.ensure_queue(to).await?;
    }
    if *by_cascade && !inner.topology.knows_cascade() {
        inner.topology.ensure_cascade().await?;
    }
    Ok(())
}

/// Acknowledges claims that the channel has; what is returned ends when the server has heard of it, and with an error if that
/// is not known.
fn acknowledge_of<'a>(session: &Shared, work: impl Iterator<Item = &'a Work>) -> Begun<Result<()>> {
    let of_channel: Vec<Claimed> = work.filter(|work| work.lease.is_none()).map(|work| work.claimed).collect();
    let mut state = session.state();
    // All of them were held when this call began, by the same channel.
    let heard = match of_channel.first() {
        None => return Begun::Ended(Some(Ok(()))),
        Some(first) if first.generation != state.generation => None,
        Some(_) => {
            state.acknowledge(of_channel.iter().map(|claimed| claimed.tag), Instant::now());
            state.hear()
        }
    };
    heard.unwrap_or_else(|| {
        Begun::Ended(Some(Err(Error::new(ErrorKind::Unavailable, "the channel of the claim was lost"))))
    })
}
