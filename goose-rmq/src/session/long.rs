//! Long jobs: turning claims into leases, and renewing them, see `lease`.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::{Clock, JobId, Result, SystemClock};

use super::lease::Lease;
use super::receipt::Claimed;
use super::shared::Shared;
use super::state::{Claim, Stage};
use crate::amqp::{Lifetime, Table, Value};
use crate::message::{self, Rank, Ticket};
use crate::options::QueueType;
use crate::outbox;

/// A lease queue outlives its message by far, so that it is never the queue that goes first; then it goes by itself.
const QUEUE_OUTLIVES: u32 = 10;

/// Turns claims into leases. They are being settled by us, as everybody else sees it.
pub(super) async fn turn_into_leases(session: Arc<Shared>, claims: Vec<Claimed>) {
    for claimed in claims {
        let Some(claim) = session.state().copy(claimed) else { continue };
        if let Err(error) = turn(&session, claimed, claim).await {
            put_back(&session, claimed);
            tracing::warn!(
                error = format!("{error:#}"),
                "cannot turn the claim of a long job into a lease; will try again"
            );
        }
        session.settled.notify_waiters();
        session.hungry.notify_one();
    }
}

async fn turn(session: &Shared, claimed: Claimed, claim: Claim) -> Result<()> {
    let (made, queue) = lease(session, &claim).await?;
    let turned = {
        let now = Instant::now();
        let mut state = session.state();
        // The lease first: from here on the job comes back by that, and not by the channel.
        let is_held = state.generation == claimed.generation && state.ledger.get(claimed.tag).is_some();
        is_held.then(|| {
            let id = claim.id;
            let written = state.acknowledge([claimed.tag], now);
            let renew_at = made + state.terms.renewed_after();
            state.lease(claimed, Lease { claim, queue: queue.clone(), made, renew_at });
            (id, written)
        })
    };
    let Some((id, written)) = turned else {
        // The channel is gone, and others have the job.
        return end(session, &queue).await.map(drop);
    };
    tracing::debug!(job.id = %id, queue, "a long job has a lease");
    if let Some(written) = written {
        let _ = written.await;
    }
    Ok(())
}

/// Renews a lease that is due.
pub(super) async fn renew(session: Arc<Shared>, claimed: Claimed) {
    let Some(claim) = session.state().copy(claimed) else { return };
    let id = claim.id;
    match renewed(&session, claimed, claim).await {
        Ok(true) => put_back(&session, claimed),
        Ok(false) => {
            tracing::warn!(job.id = %id, "the lease of a long job was not renewed in time; others have it");
            session.state().end_lease(claimed);
        }
        Err(error) => {
            tracing::warn!(job.id = %id, error = format!("{error:#}"), "cannot renew the lease of a long job; will try again");
            let mut state = session.state();
            let (terms, now) = (state.terms, Instant::now());
            if let Some(lease) = state.leases.get_mut(claimed) {
                lease.renew_at = now + terms.renewed_after() / 4;
                if now.saturating_duration_since(lease.made) >= terms.length {
                    state.end_lease(claimed);
                }
            }
            drop(state);
            put_back(&session, claimed);
        }
    }
    session.settled.notify_waiters();
    session.hungry.notify_one();
}

/// Moves the job to the next queue. `false` if it was not in the last one any more.
async fn renewed(session: &Shared, claimed: Claimed, claim: Claim) -> Result<bool> {
    let (made, queue) = lease(session, &claim).await?;
    let old = {
        let mut state = session.state();
        let terms = state.terms;
        state.leases.get_mut(claimed).map(|lease| {
            (lease.made, lease.renew_at) = (made, made + terms.renewed_after());
            std::mem::replace(&mut lease.queue, queue.clone())
        })
    };
    let was_there = match old {
        Some(old) => end(session, &old).await?,
        None => false,
    };
    if !was_there {
        end(session, &queue).await?;
    }
    Ok(was_there)
}

fn put_back(session: &Shared, claimed: Claimed) {
    if let Some(claim) = session.state().claim_mut(claimed)
        && let Stage::Ending { place } = claim.stage
    {
        claim.stage = Stage::Out { place };
    }
}

/// Puts a job into a queue of its own; returns when that began, and the name of the queue.
async fn lease(session: &Shared, claim: &Claim) -> Result<(Instant, String)> {
    let inner = &session.inner;
    let queue = inner.topology.names.lease(claim.id, number(claim.id));
    let ready = inner.topology.names.ready(&session.queues[claim.slot]);
    let length = session.state().terms.length;
    let channel = inner.links.control.channel().await?;
    channel.declare_queue(&queue, Lifetime::Durable, &arguments(inner.options.queue_type, &ready, length)).await?;
    let _ = channel.close().await;
    let made = Instant::now();
    // Whoever gets it from there is told that the one who had it before is gone.
    let recoveries = claim.ticket.recoveries.saturating_add(1);
    let ticket = Ticket { recoveries, lease: Some(queue.clone()), ..Ticket::now(Rank::Again, SystemClock.now()) };
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

/// Not used before: a name that comes again could be deleted by whoever had it first.
fn number(id: JobId) -> u32 {
    let bits = RandomState::new().hash_one(id);
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default()
}

fn arguments(queue_type: QueueType, ready: &str, length: Duration) -> Table {
    let text = |text: &str| Value::Text(text.to_owned());
    let millis = |time: Duration| Value::Int(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    let mut table = Table::from([
        ("x-message-ttl".to_owned(), millis(length)),
        ("x-expires".to_owned(), millis(length * QUEUE_OUTLIVES)),
        // The default exchange, which routes to the queue named by the key.
        ("x-dead-letter-exchange".to_owned(), text("")),
        ("x-dead-letter-routing-key".to_owned(), text(ready)),
    ]);
    match queue_type {
        QueueType::Classic => {
            table.insert("x-queue-type".to_owned(), text("classic"));
        }
        QueueType::Quorum => {
            table.insert("x-queue-type".to_owned(), text("quorum"));
            table.insert("x-dead-letter-strategy".to_owned(), text("at-least-once"));
            table.insert("x-overflow".to_owned(), text("reject-publish"));
        }
    }
    table
}
