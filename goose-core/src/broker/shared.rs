//! A shared broker is a broker, so that `Client::new` and `Worker::builder` take handles and `Arc`s alike.

use std::sync::Arc;

use super::capability::{DeadJobs, EnqueuedJobs, PausedQueues, ScheduledJobs, Statistics};
use super::{Broker, Consumer, ConsumerOptions, EnqueueVerdict};
use crate::{BoxFuture, Job, Result};

// A method forgotten here would silently fall back to its default for every user of an `Arc`.
#[deny(clippy::missing_trait_methods)]
impl<B: Broker + ?Sized> Broker for Arc<B> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn enqueue(&self, jobs: Vec<Job>) -> BoxFuture<'_, Result<Vec<EnqueueVerdict>>> {
        (**self).enqueue(jobs)
    }
    fn consume(&self, options: ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn Consumer>>> {
        (**self).consume(options)
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        (**self).close()
    }
    fn enqueued_jobs(&self) -> Option<&dyn EnqueuedJobs> {
        (**self).enqueued_jobs()
    }
    fn scheduled_jobs(&self) -> Option<&dyn ScheduledJobs> {
        (**self).scheduled_jobs()
    }
    fn dead_jobs(&self) -> Option<&dyn DeadJobs> {
        (**self).dead_jobs()
    }
    fn paused_queues(&self) -> Option<&dyn PausedQueues> {
        (**self).paused_queues()
    }
    fn statistics(&self) -> Option<&dyn Statistics> {
        (**self).statistics()
    }
}
