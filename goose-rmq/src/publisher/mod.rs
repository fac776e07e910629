//! Sends messages and waits for the server's word on each.
//!
//! One task owns the channel on which everything is published, so that confirms cannot be mixed up (`actor`). How many
//! messages may be without a word adapts to what the server says (`window`).

mod actor;
mod window;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use goose_core::{BoxFuture, Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::amqp::Outgoing;
use crate::amqp::link::Link;
use crate::error::closed;
use crate::options::RmqOptions;
use actor::{Actor, Request};

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

/// Makes a destination again that a message did not find.
pub(crate) trait Restore: fmt::Debug + Send + Sync {
    /// Sees to it that the message has somewhere to go when it is sent again.
    fn restore<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Result<()>>;
}

/// What the publisher goes by.
#[derive(Debug, Clone)]
struct Limits {
    window: usize,
    confirm: Duration,
    blocked: Duration,
}

/// The publishing side of a broker.
#[derive(Debug)]
pub(crate) struct Publisher {
    requests: mpsc::UnboundedSender<Request>,
}

impl Publisher {
    /// Starts its task on `runtime`. It ends when the publisher is dropped and everything has its word.
    pub(crate) fn new(link: Arc<Link>, options: &RmqOptions, restore: Arc<dyn Restore>, runtime: &Handle) -> Self {
        let limits =
            Limits { window: options.window, confirm: options.confirm_timeout, blocked: options.blocked_timeout };
        let (requests, received) = mpsc::unbounded_channel();
        runtime.spawn(Actor::new(link, limits, restore).serve(received));
        Self { requests }
    }

    /// Publishes in the order of the calls (first poll not needed) and resolves with the word on this message.
    pub(crate) fn publish(&self, message: Outgoing) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        let words = self.publish_all(vec![message]);
        async { words.await.pop().unwrap_or_else(|| Err(PublishError::NotSent(closed()))) }
    }

    /// Publishes many, in order, and resolves with the word on each.
    pub(crate) fn publish_all(
        &self,
        messages: Vec<Outgoing>,
    ) -> impl Future<Output = Vec<Result<(), PublishError>>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let count = messages.len();
        // Memory is bounded by those who wait: each holds its own messages until it has their words.
        let sent = self.requests.send(Request { messages, reply });
        async move {
            let words = if sent.is_ok() { answer.await.ok() } else { None };
            words.unwrap_or_else(|| (0..count).map(|_| Err(PublishError::NotSent(closed()))).collect())
        }
    }
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Nacked => Self::new(
                ErrorKind::Full,
                "the server refused the job: its queue is full, or it has lost the majority of its nodes",
            ),
            PublishError::Unroutable => Self::new(
                ErrorKind::Unavailable,
                "the server has no queue for the job, although it was declared; does somebody delete queues?",
            ),
            PublishError::TimedOut => Self::new(
                ErrorKind::OutcomeUnknown,
                "the server has not confirmed the job in time; enqueue it again with the same id",
            ),
            PublishError::Unknown(source) => Self::new(
                ErrorKind::OutcomeUnknown,
                "the connection broke before the server confirmed the job; enqueue it again with the same id",
            )
            .with_source(source),
            PublishError::Blocked(reason) => {
                Self::new(ErrorKind::Blocked, format!("the server takes in no messages for the time being: {reason}"))
            }
            PublishError::NotSent(error) => error,
        }
    }
}
