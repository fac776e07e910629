//! What a session asks of the rest of the broker: the control log and the dead.

use std::sync::Arc;

use goose_core::broker::DeathReason;
use goose_core::{Clock, JobId, QueueName, Result, SystemClock};

use crate::broker::Inner;
use crate::dead::Burial;
use crate::error::closed;

/// A job for the dead: its envelope, or bytes that are none.
#[derive(Debug, Clone)]
pub(super) struct Corpse {
    pub(super) id: JobId,
    pub(super) queue: QueueName,
    pub(super) body: Arc<[u8]>,
    pub(super) reason: DeathReason,
}

/// Whether somebody has deleted a job.
pub(super) fn is_deleted(inner: &Inner, id: JobId) -> bool {
    inner.log.is_deleted(id)
}

/// Whether somebody has paused a queue.
pub(super) fn is_paused(inner: &Inner, queue: &QueueName) -> bool {
    inner.log.is_paused(queue)
}

/// Waits until all that was paused or deleted before is known.
pub(super) async fn catch_up(inner: &Inner) -> Result<()> {
    inner.log.catch_up().await
}

/// Stores a job among the dead.
pub(super) async fn bury(inner: &Arc<Inner>, corpse: &Corpse) -> Result<()> {
    let Corpse { id, queue, body, reason } = corpse.clone();
    let burial = Burial::new(id, body, queue, reason, SystemClock.now());
    inner.dead.bury(vec![burial]).await.pop().unwrap_or_else(|| Err(closed()))
}
