//! Every queue and exchange: names, arguments, and when they are declared.

mod names;

use std::sync::Arc;

use goose_core::{QueueName, Result};

pub(crate) use self::names::Names;
use crate::amqp::Outgoing;
use crate::amqp::link::Link;
use crate::options::RmqOptions;

/// The priorities of messages. Classic queues have these two levels; quorum queues of RabbitMQ 4 take 5 and more as high.
pub(crate) const NORMAL: u8 = 0;
pub(crate) const HIGH: u8 = 9;

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
