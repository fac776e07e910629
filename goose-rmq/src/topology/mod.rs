//! Every queue and exchange: names, arguments, and when they are declared.
//!
//! Nothing is declared before it is needed, and each thing once per process and connection: a server that was replaced
//! by an empty one gets everything again. Whoever finds that something is missing all the same (a message came back, a
//! consumer was told that its queue is gone) says so by [`Topology::forget`].

mod arguments;
mod declare;
mod names;
#[cfg(test)]
mod on_a_server;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goose_core::{BoxFuture, Error, ErrorKind, QueueName, Result};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore, watch};

use self::arguments::Arguments;
pub(crate) use self::names::Names;
use crate::amqp::link::Link;
use crate::amqp::{Outgoing, Table};
use crate::options::{QueueType, RmqOptions};
use crate::publisher::Restore;
use crate::stream;

/// The priorities of messages. Classic queues have these two levels; quorum queues of RabbitMQ 4 take 5 and more as high.
pub(crate) const NORMAL: u8 = 0;
pub(crate) const HIGH: u8 = 9;

/// How many queues are declared at the same time, each on a channel of its own.
const AT_A_TIME: usize = 8;

/// Declares things once per process, and again when they turn out to be missing.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) names: Names,
    link: Arc<Link>,
    epoch: watch::Receiver<u64>,
    arguments: Arguments,
    /// How the stream of the dead is declared.
    dead: Table,
    /// The server has said that ready queues may not have this argument.
    no_timeout: AtomicBool,
    known: Mutex<Known>,
    turns: Semaphore,
}

/// Something that is declared by one task while others wait for the same.
type Once = Arc<OnceCell<()>>;

/// Whether somebody is declaring it at this moment.
fn is_under_way(once: &Once) -> bool {
    !once.initialized() && Arc::strong_count(once) > 1
}

/// What is there, on the connection of this epoch.
#[derive(Debug, Default)]
struct Known {
    epoch: u64,
    base: Once,
    cascade: Once,
    queues: HashMap<QueueName, Once>,
}

impl Topology {
    /// `dead` are the arguments of the stream of dead jobs, to which quorum queues send what they give up.
    pub(crate) fn new(link: Arc<Link>, options: &RmqOptions, dead: Table) -> Self {
        Self {
            names: Names::new(&options.prefix),
            epoch: link.epoch(),
            link,
            arguments: Arguments { queue_type: options.queue_type, consumer_timeout: options.consumer_timeout },
            dead,
            no_timeout: AtomicBool::new(false),
            known: Mutex::default(),
            turns: Semaphore::new(AT_A_TIME),
        }
    }

    /// Whether a ready queue is known to be there: then [`ensure_queue`](Self::ensure_queue) has nothing to do.
    pub(crate) fn knows_queue(&self, queue: &QueueName) -> bool {
        self.known(|known| known.queues.get(queue).is_some_and(|once| once.initialized()))
    }

    /// Whether the cascade is known to be there.
    pub(crate) fn knows_cascade(&self) -> bool {
        self.known(|known| known.cascade.initialized())
    }

    /// Sees to it that a ready queue is there, bound to the due exchange. Cheap when it is known.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] for a queue of another type; whatever the server or the connection say.
    pub(crate) async fn ensure_queue(&self, queue: &QueueName) -> Result<()> {
        let once = self.known(|known| match known.queues.get(queue) {
            Some(once) => Arc::clone(once),
            None => Arc::clone(known.queues.entry(queue.clone()).or_default()),
        });
        once.get_or_try_init(|| self.declare_ready(queue)).await.copied()
    }

    /// Sees to it that the cascade is there.
    ///
    /// # Errors
    /// Whatever the server or the connection say.
    pub(crate) async fn ensure_cascade(&self) -> Result<()> {
        let once = self.known(|known| Arc::clone(&known.cascade));
        let declare = || async {
            self.ensure_base().await?;
            let channel = self.link.channel().await?;
            declare::cascade(&*channel, &self.names, &self.arguments).await.map_err(|error| self.told(error))?;
            declare::let_go(channel).await;
            Ok(())
        };
        once.get_or_try_init(declare).await.copied()
    }

    /// Forgets what is known of a destination: a message to it came back. Not what is being declared at this moment, for one
    /// of the others that came back with it.
    pub(crate) fn forget(&self, message: &Outgoing) {
        let queue = self.names.queue_of_key(&message.routing_key);
        self.known(|known| {
            if !message.exchange.is_empty() && !is_under_way(&known.cascade) && !is_under_way(&known.base) {
                (known.base, known.cascade) = Default::default();
            }
            if let Some(queue) = queue
                && known.queues.get(&queue).is_some_and(|once| !is_under_way(once))
            {
                known.queues.remove(&queue);
            }
        });
    }

    /// Forgets a queue: a consumer was told that it is gone.
    pub(crate) fn forget_queue(&self, queue: &QueueName) {
        self.known(|known| known.queues.remove(queue));
    }

    /// Forgets everything: an exchange is gone, and perhaps more.
    pub(crate) fn forget_all(&self) {
        self.known(|known| *known = Known { epoch: known.epoch, ..Known::default() });
    }

    /// The arguments of the queue of a lease of this length, of a job of this queue.
    pub(crate) fn of_lease(&self, home: &QueueName, length: Duration) -> Table {
        self.arguments.lease(&self.names, home, length)
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        let epoch = *self.epoch.borrow();
        let mut known = self.known.lock();
        if known.epoch != epoch {
            *known = Known { epoch, ..Known::default() };
        }
        look(&mut known)
    }

    /// Sees to it that there are the exchange of what is due and the place for what cannot be routed.
    ///
    /// # Errors
    /// Whatever the server or the connection say.
    pub(crate) async fn ensure_base(&self) -> Result<()> {
        let once = self.known(|known| Arc::clone(&known.base));
        let declare = || async {
            let channel = self.link.channel().await?;
            declare::base(&*channel, &self.names, &self.arguments).await.map_err(|error| self.told(error))?;
            if self.arguments.queue_type == QueueType::Quorum {
                stream::declare(&self.link, &self.names.dead(), &self.dead).await?;
                declare::dead_letters(&*channel, &self.names).await?;
            }
            declare::let_go(channel).await;
            Ok(())
        };
        once.get_or_try_init(declare).await.copied()
    }

    fn told(&self, refusal: Error) -> Error {
        declare::another_type(refusal, self.arguments.queue_type)
    }

    /// Sees to it that a message that came back has somewhere to go when it is sent again.
    ///
    /// # Errors
    /// Whatever the server or the connection say.
    pub(crate) async fn restore(&self, message: &Outgoing) -> Result<()> {
        self.forget(message);
        if !message.exchange.is_empty() {
            self.ensure_cascade().await?;
        }
        match self.names.queue_of_key(&message.routing_key) {
            Some(queue) => self.ensure_queue(&queue).await,
            None => Ok(()),
        }
    }

    async fn declare_ready(&self, queue: &QueueName) -> Result<()> {
        self.ensure_base().await?;
        // Never closed.
        let _turn = self.turns.acquire().await;
        let mut refusal = None;
        for timeout in [true, false] {
            if timeout && self.no_timeout.load(Ordering::Relaxed) {
                continue;
            }
            let arguments = self.arguments.ready(&self.names, timeout);
            let channel = self.link.channel().await?;
            match declare::ready(&*channel, &self.names, queue, &arguments).await {
                Ok(()) => {
                    declare::let_go(channel).await;
                    return Ok(());
                }
                Err(error) if error.kind() != ErrorKind::Misconfigured => return Err(error),
                Err(error) if timeout && declare::refuses_argument(&error, "x-consumer-timeout") => {
                    self.no_timeout.store(true, Ordering::Relaxed);
                }
                Err(error) => {
                    refusal = Some(error);
                    break;
                }
            }
        }
        let ready = self.names.ready(queue);
        if let Some(refusal) = refusal {
            declare::judge(refusal, &ready, self.arguments.queue_type)?;
        }
        let channel = self.link.channel().await?;
        declare::bind_ready(&*channel, &self.names, queue).await?;
        declare::let_go(channel).await;
        Ok(())
    }
}

impl Restore for Topology {
    fn restore<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Result<()>> {
        Box::pin(Self::restore(self, message))
    }
}
