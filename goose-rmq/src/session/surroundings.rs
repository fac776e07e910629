//! What a session asks of the rest of the broker: the control log and the dead.

use std::sync::Arc;

use goose_core::broker::DeathReason;
use goose_core::{Clock, Job, JobId, QueueName, Result, SystemClock};

use super::shared::Shared;
use crate::broker::Inner;
use crate::dead::Burial;
use crate::log::Count;
use crate::message::CopyId;

/// A job for the dead: its envelope, or bytes that are none.
#[derive(Debug, Clone)]
pub(super) struct Corpse {
    pub(super) id: JobId,
    pub(super) queue: QueueName,
    pub(super) body: Arc<[u8]>,
    pub(super) reason: DeathReason,
}

/// Whether somebody has deleted a job or moved it to another message, so that the message it came in must be removed. Cheap.
pub(super) fn is_dropped(inner: &Inner, job: &Job, copy: Option<CopyId>) -> bool {
    if inner.log.is_deleted(job.id, job.enqueued_at) {
        inner.log.removed(job.id);
        return true;
    }
    is_moved(inner, copy)
}

/// Whether somebody has moved a job to another message.
pub(super) fn is_moved(inner: &Inner, copy: Option<CopyId>) -> bool {
    let replaced = copy.filter(|copy| inner.log.is_replaced(*copy));
    replaced.inspect(|copy| inner.log.removed_copy(*copy)).is_some()
}

/// Whether somebody has paused a queue.
pub(super) fn is_paused(inner: &Inner, queue: &QueueName) -> bool {
    inner.log.is_paused(queue)
}

/// Tells the session's task whenever queues may have been paused or resumed.
pub(super) async fn watch_pauses(session: Arc<Shared>) {
    let mut changes = session.inner.log.changes();
    while changes.changed().await.is_ok() {
        session.hungry.notify_one();
    }
}

/// Waits until all that was paused or deleted before is known.
pub(super) async fn catch_up(inner: &Inner) -> Result<()> {
    inner.log.catch_up().await
}

/// Counts, for statistics.
pub(super) fn count(inner: &Inner, what: Count, n: usize) {
    if n > 0 {
        inner.log.count(what, u64::try_from(n).unwrap_or(0));
    }
}

/// Stores jobs among the dead, with the word on each.
pub(super) async fn bury(inner: &Inner, corpses: Vec<Corpse>) -> Vec<Result<()>> {
    if corpses.is_empty() {
        return Vec::new();
    }
    let now = SystemClock.now();
    let burial = |Corpse { id, queue, body, reason }| Burial::new(id, body, queue, reason, now);
    inner.dead.bury(corpses.into_iter().map(burial).collect()).await
}
