//! Sends messages and waits for the server's word on each.
//!
//! Some channels on the publish connection, each with one task, the [`actor`](self::actor): the library mixes confirms up
//! when two tasks publish on one channel. Messages for the same queue take the same channel, so that they keep their
//! order. `flights` are the messages under way, `pace` says how many they may be, `places` keeps a queue that says nothing from
//! holding up the others, `patience` (timeouts) says how long each waits, `refused` when a refusal is believed, `verdict` what
//! the end of a channel means for each; `retired` are channels that others have taken the place of; `request` is a message
//! with those who wait for the word on it.

mod actor;
#[cfg(test)]
mod by_hand;
mod flights;
#[cfg(test)]
mod on_a_server;
mod pace;
mod patience;
mod places;
mod refused;
mod request;
mod retired;
mod verdict;

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use goose_core::{BoxFuture, Error, ErrorKind, Result as CoreResult};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use self::actor::Actor;
use self::request::{Answer, Request};
use crate::amqp::Outgoing;
use crate::amqp::link::Link;
use crate::error::closed;
use crate::hooks::FailureReason;
use crate::options::RmqOptions;

/// Channels that publish. One is as fast as the server takes in messages for one queue; several keep a queue that has no
/// majority or is full from holding up the others.
const CHANNELS: usize = 4;

/// Why a message was not, or perhaps not, stored.
#[derive(Debug)]
pub(crate) enum PublishError {
    /// The server said no: the queue is full, has crashed, or has no majority. It is not stored.
    Nacked,
    /// Nowhere to go, also after its queue was declared again. It is not stored.
    Unroutable,
    /// The server closed the channel because of this message. It is not stored.
    Refused(Error),
    /// No word within the confirm timeout. It may be stored.
    TimedOut,
    /// The connection broke before the server's word came. It may be stored.
    Unknown(Error),
    /// The server blocks publishers, and did so for the whole blocked timeout. Not sent.
    Blocked(String),
    /// No connection within the connect timeout, or the broker is closed. Not sent.
    NotSent(Error),
}

/// Brings back what a message needs that came back as unroutable: its queue, the exchanges on its way.
pub(crate) trait Restore: fmt::Debug + Send + Sync {
    fn restore<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, CoreResult<()>>;
}

/// The publishing side of a broker.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Empty once it is closed.
    actors: Mutex<Vec<UnboundedSender<Request>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Publisher {
    /// Its tasks run on `runtime`; channels are opened when they are needed.
    #[allow(clippy::needless_pass_by_value, reason = "it keeps them, in each of its tasks")]
    pub(crate) fn new(link: Arc<Link>, options: &RmqOptions, restore: Arc<dyn Restore>, runtime: &Handle) -> Self {
        let start = || {
            let (sender, actor) = Actor::new(Arc::clone(&link), Arc::clone(&restore), options);
            (sender, runtime.spawn(actor.run()))
        };
        let (actors, tasks) = std::iter::repeat_with(start).take(CHANNELS).unzip();
        Self { actors: Mutex::new(actors), tasks: Mutex::new(tasks) }
    }

    /// Publishes in the order of the calls (also if the future is never polled) and resolves with the word on this
    /// message. May be awaited on any runtime.
    #[cfg(test)]
    pub(crate) fn publish(&self, message: Outgoing) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        let all = self.publish_all(vec![message]);
        async move { all.await.pop().unwrap_or_else(|| Err(PublishError::Unknown(closed()))) }
    }

    /// Publishes many, in order, and resolves with the word on each.
    pub(crate) fn publish_all(
        &self,
        messages: Vec<Outgoing>,
    ) -> impl Future<Output = Vec<Result<(), PublishError>>> + Send + 'static {
        let (requests, answers) = request::batch(messages);
        let count = requests.len();
        {
            let actors = self.actors.lock();
            for request in requests {
                // What cannot be sent is dropped, and answered by that.
                if let Some(actor) = actors.get(index(&request.message, actors.len())) {
                    let _ = actor.send(request);
                }
            }
        }
        async move {
            let lost =
                |_| std::iter::repeat_with(|| Answer::Err(PublishError::Unknown(closed()))).take(count).collect();
            answers.await.unwrap_or_else(lost)
        }
    }

    /// Takes in nothing more, and waits until there is word on all that was taken in, but not for ever.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.actors.lock().clear();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let all = async {
            for task in tasks {
                // An error means that its runtime is gone.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("the server takes too long to confirm the last messages");
        }
    }
}

/// Which channel a message takes: that of its queue.
fn index(message: &Outgoing, channels: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    message.exchange.hash(&mut hasher);
    message.routing_key.hash(&mut hasher);
    let channels = u64::try_from(channels).unwrap_or(1).max(1);
    usize::try_from(hasher.finish() % channels).unwrap_or(0)
}

impl PublishError {
    pub(crate) fn reason(&self) -> FailureReason {
        match self {
            Self::Nacked => FailureReason::Nacked,
            Self::Unroutable => FailureReason::Unroutable,
            Self::Refused(_) => FailureReason::Refused,
            Self::TimedOut => FailureReason::TimedOut,
            Self::Unknown(_) => FailureReason::Unknown,
            Self::Blocked(_) => FailureReason::Blocked,
            Self::NotSent(_) => FailureReason::NotSent,
        }
    }
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Nacked => Self::new(
                ErrorKind::Full,
                "the server refused to store the job: its queue is full, has crashed or has no majority; nothing was \
                 enqueued, look at the queue and the server's log",
            ),
            PublishError::Unroutable => Self::new(
                ErrorKind::Unavailable,
                "the queue of the job is gone, also after it was declared again; nothing was enqueued, find out who \
                 deletes it",
            ),
            PublishError::TimedOut => Self::new(
                ErrorKind::OutcomeUnknown,
                "the server did not confirm the job in time; it may be enqueued or not",
            ),
            PublishError::Unknown(source) => Self::new(
                ErrorKind::OutcomeUnknown,
                "the connection broke before the server had confirmed the job; it may be enqueued or not",
            )
            .with_source(source),
            PublishError::Blocked(reason) => Self::new(
                ErrorKind::Blocked,
                format!("the server takes in no jobs at the moment ({reason}); nothing was sent"),
            ),
            PublishError::NotSent(source) if source.kind() == ErrorKind::OutcomeUnknown => {
                Self::new(ErrorKind::Unavailable, "nothing was sent to the server").with_source(source)
            }
            PublishError::NotSent(source) | PublishError::Refused(source) => source,
        }
    }
}
