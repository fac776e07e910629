//! Every queue and exchange: names, arguments, and when they are declared.

use std::sync::Arc;

use goose_core::{JobId, QueueName, Result};

use crate::amqp::Outgoing;
use crate::amqp::link::Link;
use crate::delay::Path;
use crate::options::RmqOptions;

/// The priorities of messages. Classic queues have these two levels; quorum queues of RabbitMQ 4 take 5 and more as high.
pub(crate) const NORMAL: u8 = 0;
pub(crate) const HIGH: u8 = 9;

/// Names of everything, below the prefix. `{prefix}/v1/…`: the version is that of the layout.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: Arc<str>,
}

impl Names {
    pub(crate) fn new(_prefix: &str) -> Self {
        unimplemented!()
    }
    /// The ready queue of a queue.
    pub(crate) fn ready(&self, _queue: &QueueName) -> String {
        unimplemented!()
    }
    /// The exchange and the queue of a level, both.
    pub(crate) fn level(&self, _level: u32) -> String {
        unimplemented!()
    }
    /// Where what left the cascade is sent to its queue.
    pub(crate) fn due(&self) -> String {
        unimplemented!()
    }
    /// Exchange and queue of what could not be routed.
    pub(crate) fn unroutable(&self) -> String {
        unimplemented!()
    }
    /// The stream of the control log.
    pub(crate) fn log(&self) -> String {
        unimplemented!()
    }
    /// The stream of dead jobs.
    pub(crate) fn dead(&self) -> String {
        unimplemented!()
    }
    /// A lease queue of a long job.
    pub(crate) fn lease(&self, _job: JobId, _n: u32) -> String {
        unimplemented!()
    }
    /// Addresses a message: exchange and routing key for this path to this queue.
    pub(crate) fn address(&self, _queue: &QueueName, _path: Path) -> (Arc<str>, String) {
        unimplemented!()
    }
}

/// Declares things once per process, and again when they turn out to be missing.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) names: Names,
}

impl Topology {
    pub(crate) fn new(_link: Arc<Link>, _options: &RmqOptions) -> Self {
        unimplemented!()
    }
    /// Sees to it that a ready queue is there, bound to the due exchange. Cheap when it is known.
    pub(crate) async fn ensure_queue(&self, _queue: &QueueName) -> Result<()> {
        unimplemented!()
    }
    /// Sees to it that the cascade is there.
    pub(crate) async fn ensure_cascade(&self) -> Result<()> {
        unimplemented!()
    }
    /// Forgets what is known of a destination: a message to it came back.
    pub(crate) fn forget(&self, _message: &Outgoing) {
        unimplemented!()
    }
}
