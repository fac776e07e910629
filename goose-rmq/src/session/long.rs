//! Long jobs: turning claims into leases, renewing and ending them, see `lease`.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use goose_core::{Clock, Error, JobId, Result, SystemClock};

use super::lease::Lease;
use super::receipt::Claimed;
use super::shared::Shared;
use super::state::{Claim, Stage, State};
use crate::amqp::Lifetime;
use crate::message::{self, Rank, Ticket};
use crate::outbox;

/// So many leases of a session are made at a time: each takes a channel, and a queue is much work for a server.
pub(super) const AT_A_TIME: usize = 8;

/// Turns a claim into a lease.
pub(super) async fn turn_into_lease(session: Arc<Shared>, claimed: Claimed) {
    // Never closed.
    let _turn = session.leasing.acquire().await;
    let claim = {
        let mut state = session.state();
        if state.leases.contains(claimed) { None } else { state.take_for_lease(claimed) }
    };
    let Some(claim) = claim else { return };
    if let Err(error) = turn(&session, claimed, claim).await {
        put_back(&mut session.state(), claimed);
        let error = format!("{error:#}");
        tracing::warn!(error, "cannot turn the claim of a long job into a lease; will try again");
    }
    tell(&session);
}

async fn turn(session: &Shared, claimed: Claimed, claim: Claim) -> Result<()> {
    let id = claim.id;
    let (made, queue) = make(session, &claim).await?;
    let turned = {
        let now = Instant::now();
        let mut state = session.state();
        // The lease first: from here on the job comes back by that, and not by the channel.
        let is_held = state.generation == claimed.generation && state.ledger.get(claimed.tag).is_some();
        is_held.then(|| {
            // Its message has not ended: it is another one now, of the same name.
            if let Some(claim) = state.ledger.get_mut(claimed.tag) {
                claim.ticket.copy = None;
            }
            state.acknowledge([claimed.tag], now);
            let lease = Lease::new(claim, queue.clone(), made, state.terms);
            state.lease(claimed, lease);
            state.hear()
        })
    };
    let Some(heard) = turned else {
        // The channel is gone, and others have the job.
        return end(session, &queue).await.map(drop);
    };
    tracing::debug!(job.id = %id, queue, "a long job has a lease");
    if let Some(heard) = heard {
        // If it did not get through there are two: this one, and that of whoever has got the job from the server.
        let _ = heard.await;
    }
    Ok(())
}

/// Renews a lease that is due.
pub(super) async fn renew(session: Arc<Shared>, claimed: Claimed) {
    let _turn = session.leasing.acquire().await;
    let Some(claim) = session.state().take_for_lease(claimed) else {
        // It is being settled. If that fails it must go on.
        return again_soon(&mut session.state(), claimed);
    };
    let id = claim.id;
    match renewed(&session, claimed, claim).await {
        Ok(true) => put_back(&mut session.state(), claimed),
        Ok(false) => {
            tracing::warn!(job.id = %id, "the lease of a long job was not renewed in time; others have it");
            session.state().end_lease(claimed);
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(job.id = %id, error, "cannot renew the lease of a long job; will try again");
            let mut state = session.state();
            put_back(&mut state, claimed);
            again_soon(&mut state, claimed);
        }
    }
    tell(&session);
}

/// Moves the job to the next queue. `false` if it was not in the last one any more.
async fn renewed(session: &Shared, claimed: Claimed, claim: Claim) -> Result<bool> {
    let before = session.state().leases.get_mut(claimed).map(|lease| (lease.former.is_empty(), lease.queue.clone()));
    let Some((is_one, queue)) = before else { return Ok(false) };
    if is_one {
        let (moved, next) = make(session, &claim).await?;
        let is_there =
            session.state().leases.get_mut(claimed).map(|lease| lease.move_to(next.clone(), moved)).is_some();
        return Ok(is_there && has_left(session, claimed, &next).await?);
    }
    // It has moved already, and only what it left behind is still there.
    has_left(session, claimed, &queue).await
}

/// Deletes what the job has left. If it was gone from there, others have it, and it must not lie in this queue either.
async fn has_left(session: &Shared, claimed: Claimed, queue: &str) -> Result<bool> {
    let was_there = end_former(session, claimed).await?;
    if !was_there && let Err(error) = end(session, queue).await {
        tracing::warn!(queue, error = format!("{error:#}"), "cannot delete a queue; the job in it may run again");
    }
    Ok(was_there)
}

/// Deletes the queues in which the job of a lease lay before. `false` if it was not in one of them any more.
pub(super) async fn end_former(session: &Shared, claimed: Claimed) -> Result<bool> {
    loop {
        let former = session.state().leases.get_mut(claimed).and_then(|lease| lease.former.first().cloned());
        let Some(former) = former else { return Ok(true) };
        let was_there = end(session, &former).await?;
        let mut state = session.state();
        let terms = state.terms;
        if let Some(lease) = state.leases.get_mut(claimed) {
            lease.has_left(&former, terms);
        }
        if !was_there {
            return Ok(false);
        }
    }
}

/// Nobody touches it any more.
fn put_back(state: &mut State, claimed: Claimed) {
    if let Some(claim) = state.claim_mut(claimed)
        && let Stage::Ending { place } = claim.stage
    {
        claim.stage = Stage::Out { place };
    }
}

/// Tries again to renew a lease, while it lasts.
fn again_soon(state: &mut State, claimed: Claimed) {
    let (terms, now) = (state.terms, Instant::now());
    let Some(lease) = state.leases.get_mut(claimed) else { return };
    lease.renew_at = now + terms.renewed_after() / 4;
    if now.saturating_duration_since(lease.made) >= terms.length && matches!(lease.claim.stage, Stage::Out { .. }) {
        state.end_lease(claimed);
    }
}

fn tell(session: &Shared) {
    session.settled.notify_waiters();
    session.hungry.notify_one();
}

/// Puts a job into a queue of its own; returns when that began, and the name of the queue.
async fn make(session: &Shared, claim: &Claim) -> Result<(Instant, String)> {
    let (inner, home) = (&session.inner, &session.queues[claim.slot]);
    // Where it goes back to.
    inner.topology.ensure_queue(home).await?;
    let queue = inner.topology.names.lease(claim.id, number(claim.id));
    let length = session.state().terms.length;
    let channel = inner.links.control.channel().await?;
    channel.declare_queue(&queue, Lifetime::Durable, &inner.topology.of_lease(home, length)).await?;
    let _ = channel.close().await;
    let made = Instant::now();
    // Whoever gets it from there is told that the one who had it before is gone.
    let recoveries = claim.ticket.recoveries.saturating_add(1);
    let ticket = Ticket {
        recoveries,
        lease: Some(queue.clone()),
        copy: claim.ticket.copy,
        ..Ticket::now(Rank::Again, SystemClock.now())
    };
    let message = message::sealed(claim.id, Arc::clone(&claim.envelope), &ticket, "".into(), queue.clone());
    match outbox::publish_all(inner, vec![message]).await.pop() {
        Some(Err(error)) => {
            // It may be there all the same.
            let _ = end(session, &queue).await;
            Err(error)
        }
        _ => Ok((made, queue)),
    }
}

/// Deletes a lease queue. `false` if the job was not in it any more.
pub(super) async fn end(session: &Shared, queue: &str) -> Result<bool> {
    let channel = session.inner.links.control.channel().await?;
    let jobs = channel.delete_queue(queue).await?;
    let _ = channel.close().await;
    Ok(jobs > 0)
}

/// Deletes the empty queues of leases that ran out, whose jobs have come here.
pub(super) async fn clear_away(session: Arc<Shared>, queues: Vec<String>) {
    for queue in queues {
        let cleared: Result<bool, Error> = end(&session, &queue).await;
        if let Err(error) = cleared {
            tracing::debug!(queue, error = format!("{error:#}"), "cannot delete an empty queue; it will go by itself");
        }
    }
}

/// Not used before: a name that comes again could be deleted by whoever had it first.
fn number(id: JobId) -> u32 {
    let bits = RandomState::new().hash_one(id);
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default()
}
