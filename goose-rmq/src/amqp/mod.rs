//! What this broker asks of an AMQP 0.9.1 client library: the one seam between Goose and `lapin`.
//!
//! Everything else in this crate speaks these traits and types, so that another client can be put underneath
//! (`decisions/0021-rabbitmq-client.md`). [`Link`](link::Link) keeps one connection alive for ever and hands out its
//! channels; [`lapin`](self::lapin) is the only module that names the library.
//!
//! # Rules of the seam
//!
//! - A channel belongs to one connection and dies with it. Nothing is recovered behind our back.
//! - Frames go out in the order in which the returned futures are *polled for the first time*, not in the order in which
//!   they end. Whoever needs an order polls once and parks.
//! - One task publishes on a channel; two tasks at once would get each other's confirms.
//! - Dropping a future does not take back what it has sent.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use goose_core::{BoxFuture, Result};

#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod lapin;
pub(crate) mod link;
#[cfg(test)]
mod on_a_server;

/// What a connection is for. Each process has one of each: a server that blocks publishers for want of memory must not
/// hold up acknowledgements, and a lock or a log must not wait behind a burst of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Publish,
    Consume,
    Control,
}

/// Makes connections: to the next of the configured servers each time.
pub(crate) trait Connect: Debug + Send + Sync {
    /// Connects and checks the server, once. Errors are classified: wrong password, not a RabbitMQ server, nobody there…
    fn connect(&self, role: Role) -> BoxFuture<'_, Result<Arc<dyn Connection>>>;

    /// Is told of every connection that has ended, and why: whether by us, or to be made again.
    fn ended(&self, role: Role, reason: &str, is_closed: bool) {
        let _ = (role, reason, is_closed);
    }
}

/// One connection.
pub(crate) trait Connection: Debug + Send + Sync {
    /// Opens a channel.
    fn open_channel(&self) -> BoxFuture<'_, Result<Arc<dyn Channel>>>;

    /// Waits until the server begins or ends to block publishers, or the connection is over. One caller only.
    fn next_event(&self) -> BoxFuture<'_, ConnectionEvent>;

    /// Says goodbye to the server.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Closes the socket as the system does when a process is killed: nothing is said.
    #[cfg(any(test, feature = "fault-injection"))]
    fn cut(&self);
}

/// What happens to a connection as a whole.
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    /// The server takes in nothing more from publishers, for this reason.
    Blocked(String),
    /// It does again.
    Unblocked,
    /// The connection is over, for this reason. The last event.
    Over(goose_core::Error),
}

/// One channel of a connection. Everything fails with a retryable kind once the channel is over.
pub(crate) trait Channel: Debug + Send + Sync {
    /// Declares a queue. A queue of that name with other arguments answers
    /// [`ErrorKind::Misconfigured`](goose_core::ErrorKind::Misconfigured) and ends the channel.
    fn declare_queue<'a>(&'a self, name: &'a str, how: Lifetime, args: &'a Table) -> BoxFuture<'a, Result<QueueState>>;

    /// Looks at a queue; `None` if there is no such queue, which ends the channel.
    fn inspect_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<QueueState>>>;

    /// Deletes a queue and says how many ready messages went with it. Zero if there is no such queue.
    fn delete_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<u64>>;

    /// Removes the ready messages of a queue and says how many.
    fn purge_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<u64>>;

    /// Declares a durable exchange.
    fn declare_exchange<'a>(&'a self, name: &'a str, kind: ExchangeKind, args: &'a Table) -> BoxFuture<'a, Result<()>>;

    /// Binds a queue to an exchange.
    fn bind_queue<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Binds an exchange to another one, the source.
    fn bind_exchange<'a>(&'a self, exchange: &'a str, source: &'a str, key: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Asks for publisher confirms. Needed once before [`publish`](Self::publish).
    fn confirm(&self) -> BoxFuture<'_, Result<()>>;

    /// Publishes, persistent and mandatory, and waits for the server's word. The body is shared, not copied, where the
    /// library allows it.
    ///
    /// An error of the kind [`Unavailable`](goose_core::ErrorKind::Unavailable) means that nothing was sent,
    /// [`OutcomeUnknown`](goose_core::ErrorKind::OutcomeUnknown) that the channel ended before there was word. Other kinds
    /// say why the server has ended the channel, because of this message or another one.
    fn publish<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'static, Result<Confirmation>>;

    /// Returns when the confirms are told of everything that the library has read from the server up to now: what is not
    /// ready by then has no word yet. Blocks for microseconds.
    fn let_confirms_land(&self) {}

    /// Sets how many unacknowledged messages the *next* consumer of this channel may have.
    fn limit_next_consumer(&self, unacknowledged: u16) -> BoxFuture<'_, Result<()>>;

    /// Starts a consumer with manual acknowledgement. It lasts until it is cancelled or dropped.
    fn consume<'a>(
        &'a self,
        queue: &'a str,
        tag: &'a str,
        args: &'a Table,
    ) -> BoxFuture<'a, Result<Box<dyn Deliveries>>>;

    /// Ends a consumer. What was sent to it before still comes out of its [`Deliveries`], which end then.
    fn cancel<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Acknowledges one message, or with `multiple` all up to and including this one. There is no answer: the future
    /// ends when the frame has been written.
    fn ack(&self, delivery_tag: u64, multiple: bool) -> BoxFuture<'static, Result<()>>;

    /// Gives one message back to its queue. There is no answer, as with [`ack`](Self::ack).
    fn give_back(&self, delivery_tag: u64) -> BoxFuture<'static, Result<()>>;

    /// Asks the server for any answer on this channel, in order behind everything sent before.
    fn round_trip(&self) -> BoxFuture<'_, Result<()>>;

    /// Whether it still works, as far as is known.
    fn is_open(&self) -> bool;

    /// Ends the channel; unacknowledged messages go back to their queues.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

/// The messages of one consumer, in the order of the server.
pub(crate) trait Deliveries: Debug + Send {
    /// `None` at the end: cancelled by us or by the server (the queue was deleted), or the channel is over.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivered>>;
}

impl dyn Deliveries {
    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Option<Delivered> {
        poll_fn(|context| self.poll_next(context)).await
    }
}

/// How long a queue lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// For ever, across restarts of the server.
    Durable,
    /// As long as this connection, and only this connection can use it. Another one is refused with
    /// [`ErrorKind::Unavailable`](goose_core::ErrorKind::Unavailable).
    Exclusive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    Topic,
    Fanout,
}

/// What the server says of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueState {
    /// Messages that are ready: not the ones a consumer holds.
    pub(crate) ready: u64,
    pub(crate) consumers: u64,
}

/// Arguments and headers.
pub(crate) type Table = BTreeMap<String, Value>;

/// A value of a [`Table`]; other types that a server sends are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    /// Sent as a 64-bit integer.
    Int(i64),
    Bool(bool),
}

/// A message to publish.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// Empty for the default exchange, which routes to the queue named by the key.
    pub(crate) exchange: Arc<str>,
    pub(crate) routing_key: String,
    /// The job id as text, or a random one for what is not a job. Matches returned messages.
    pub(crate) message_id: String,
    pub(crate) priority: u8,
    pub(crate) headers: Table,
    pub(crate) body: Arc<[u8]>,
}

/// What the server said of a message.
#[derive(Debug)]
pub(crate) enum Confirmation {
    /// It is stored, unless it was handed back as unroutable. `returned` is the `message_id` of one that was, this one or
    /// another: the library attaches it to any confirm that comes no later than that of the message itself.
    Acked { returned: Option<String> },
    /// It is not stored.
    Nacked { returned: Option<String> },
}

/// A message from a queue.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) tag: u64,
    /// Somebody had it before.
    pub(crate) redelivered: bool,
    pub(crate) message_id: Option<String>,
    pub(crate) headers: Table,
    pub(crate) body: Vec<u8>,
}
