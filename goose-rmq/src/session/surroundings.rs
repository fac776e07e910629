//! What a session asks of the rest of the broker: the control log and the dead.

use std::sync::Arc;

use goose_core::broker::DeathReason;
use goose_core::{JobId, QueueName, Result};

use crate::broker::Inner;

/// A job for the dead: its envelope, or bytes that are none.
#[derive(Debug, Clone)]
pub(super) struct Corpse {
    pub(super) id: JobId,
    pub(super) queue: QueueName,
    pub(super) body: Arc<[u8]>,
    pub(super) reason: DeathReason,
}

/// Whether somebody has deleted a job.
pub(super) fn is_deleted(_inner: &Inner, _id: JobId) -> bool {
    false
}

/// Whether somebody has paused a queue.
pub(super) fn is_paused(_inner: &Inner, _queue: &QueueName) -> bool {
    false
}

/// Waits until all that was paused or deleted before is known.
pub(super) async fn catch_up(_inner: &Inner) -> Result<()> {
    Ok(())
}

/// Stores a job among the dead.
pub(super) async fn bury(_inner: &Arc<Inner>, _corpse: &Corpse) -> Result<()> {
    Ok(())
}
