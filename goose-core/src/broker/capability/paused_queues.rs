//! Stopping and starting queues, for all workers at once.

use crate::{BoxFuture, QueueName, Result};

/// Queues whose jobs are not handed out for a while: a service they need is down, or a bad release is being taken back.
///
/// A pause is a fact about the queue, not about a worker: it must hold for every session of every process, also for those that begin
/// later, and survive the end of them all. Enqueuing goes on, and so do jobs that run: they are settled as always, and those
/// that are to be retried wait in the queue like the others.
///
/// When [`pause`](Self::pause) returns, or [`list`](Self::list) shows the queue, sessions that were opened from the same
/// handle must hand out nothing more of it. Those of other processes must follow within moments.
pub trait PausedQueues: Send + Sync {
    /// Stops a queue, whether it has ever been used or not. `false` if it was paused already.
    fn pause<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>>;

    /// Starts it again: sessions that wait must be woken. `false` if it was not paused.
    fn resume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>>;

    /// The paused queues, in alphabetical order.
    fn list(&self) -> BoxFuture<'_, Result<Vec<QueueName>>>;
}
