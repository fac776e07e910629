//! What must be there before a session can receive.

use std::sync::Arc;

use goose_core::{Clock, Result, SystemClock};

use tokio::task::JoinSet;

use super::shared::Shared;
use super::surroundings;
use crate::amqp::Channel;
use crate::error::closed;
use crate::log::Presence;

/// The first channel of a session, which is known to others from then on.
pub(super) async fn first(session: &Shared) -> Result<Arc<dyn Channel>> {
    let channel = channel(session).await?;
    let (worker, queues) = (session.options.worker.clone(), session.queues.iter().cloned());
    let presence = Presence::new(worker, SystemClock.now(), queues);
    let presence = session.inner.log.arrive(presence).await;
    let mut state = session.state();
    state.notes = Some((Arc::clone(session.inner.journal.notes()), presence.id()));
    state.presence = Some(presence);
    drop(state);
    Ok(channel)
}

/// A channel on which the session's queues can be consumed.
pub(super) async fn channel(session: &Shared) -> Result<Arc<dyn Channel>> {
    let inner = &session.inner;
    let mut declaring = JoinSet::new();
    for queue in session.queues.iter().filter(|queue| !inner.topology.knows_queue(queue)) {
        let (topology, queue) = (Arc::clone(&inner.topology), queue.clone());
        declaring.spawn(async move { topology.ensure_queue(&queue).await });
    }
    while let Some(declared) = declaring.join_next().await {
        declared.map_err(|_| closed())??;
    }
    // No job of a paused queue, and none that was deleted, may be handed out.
    surroundings::catch_up(inner).await?;
    inner.links.consume.channel().await
}
