//! Sends messages and waits for the server's word on each.

use std::future::Future;
use std::sync::Arc;

use goose_core::Error;

use crate::amqp::Outgoing;
use crate::amqp::link::Link;
use crate::options::RmqOptions;

/// Why a message was not, or perhaps not, stored.
#[derive(Debug)]
pub(crate) enum PublishError {
    /// The server said no: the queue is full, has crashed, or has no majority. It is not stored.
    Nacked,
    /// Nowhere to go, also after its queue was declared again. It is not stored.
    Unroutable,
    /// No word within the confirm timeout. It may be stored.
    TimedOut,
    /// The connection broke before the server's word came. It may be stored.
    Unknown(Error),
    /// The server blocks publishers, and did so for the whole blocked timeout. Not sent.
    Blocked(String),
    /// No connection within the connect timeout, or the broker is closed. Not sent.
    NotSent(Error),
}

/// The publishing side of a broker: some channels on the publish connection, each with one task.
#[derive(Debug)]
pub(crate) struct Publisher {}

impl Publisher {
    pub(crate) fn new(_link: Arc<Link>, _options: &RmqOptions) -> Self {
        unimplemented!()
    }

    /// Publishes in the order of the calls (first poll not needed) and resolves with the word on this message.
    pub(crate) fn publish(
        &self,
        _message: Outgoing,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        async { unimplemented!() }
    }

    /// Publishes many, in order, and resolves with the word on each.
    pub(crate) fn publish_all(
        &self,
        _messages: Vec<Outgoing>,
    ) -> impl Future<Output = Vec<Result<(), PublishError>>> + Send + 'static {
        async { unimplemented!() }
    }
}

impl From<PublishError> for Error {
    fn from(_: PublishError) -> Self {
        unimplemented!()
    }
}
