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
use std::time::{Duration, Instant};

use goose_core::{BoxFuture, Error, ErrorKind, QueueName, Result};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore, watch};

use self::arguments::Arguments;
pub(crate) use self::names::Names;
use crate::amqp::link::Link;
use crate::amqp::{Channel, Outgoing, Table};
use crate::options::{QueueType, RmqOptions};
use crate::publisher::Restore;
use crate::stream;

/// The priorities of messages. Classic queues have these two levels; quorum queues of RabbitMQ 4 take 5 and more as high.
pub(crate) const NORMAL: u8 = 0;
pub(crate) const HIGH: u8 = 9;

/// How long it is believed that a queue is there, with a journal: a message of which only the journal could be reached does not
/// come back.
const LASTS: Duration = Duration::from_secs(1);

/// How many queues are declared at the same time, each on a channel of its own.
const AT_A_TIME: usize = 8;

/// Declares things once per process, and again when they turn out to be missing.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) names: Names,
    link: Arc<Link>,
    epoch: watch::Receiver<u64>,
    arguments: Arguments,
    /// How the streams of the dead and of the journal are declared.
    streams: Streams,
    /// This process is told to keep a journal.
    keeps_journal: bool,
    /// The server has said that ready queues may not have this argument.
    no_timeout: AtomicBool,
    known: Mutex<Known>,
    turns: Semaphore,
}

/// How streams are declared on which queues and exchanges depend.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Of the dead, to which quorum queues send what they give up.
    pub(crate) dead: Table,
    pub(crate) journal: Table,
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
    /// Each with the time when that was found out.
    queues: HashMap<QueueName, (Once, Instant)>,
}

impl Topology {
    pub(crate) fn new(link: Arc<Link>, options: &RmqOptions, streams: Streams) -> Self {
        let names = Names::new(&options.prefix);
        names.set_journaled(options.journal);
        Self {
            names,
            epoch: link.epoch(),
            link,
            arguments: Arguments { queue_type: options.queue_type, consumer_timeout: options.consumer_timeout },
            streams,
            keeps_journal: options.journal,
            no_timeout: AtomicBool::new(false),
            known: Mutex::default(),
            turns: Semaphore::new(AT_A_TIME),
        }
    }

    /// Whether a ready queue is known to be there: then [`ensure_queue`](Self::ensure_queue) has nothing to do.
    pub(crate) fn knows_queue(&self, queue: &QueueName) -> bool {
        let is_journaled = self.names.is_journaled();
        let knows = |(once, since): &(Once, Instant)| once.initialized() && !(is_journaled && since.elapsed() >= LASTS);
        self.known(|known| known.queues.get(queue).is_some_and(knows))
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
        let is_journaled = self.names.is_journaled();
        let once = self.known(|known| match known.queues.get(queue) {
            Some((once, since)) if !is_journaled || since.elapsed() < LASTS => Arc::clone(once),
            _ => {
                let once = Once::default();
                known.queues.insert(queue.clone(), (Arc::clone(&once), Instant::now()));
                once
            }
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
            if self.names.is_journaled() {
                declare::journal_to_cascade(&*channel, &self.names).await?;
            }
            declare::let_go(channel).await;
            Ok(())
        };
        once.get_or_try_init(declare).await.copied()
    }

    /// Forgets what is known of a destination: a message to it came back. Not what is being declared at this moment, for one
    /// of the others that came back with it.
    pub(crate) fn forget(&self, message: &Outgoing) {
        let queue = self.names.queue_of(&message.exchange, &message.routing_key);
        self.known(|known| {
            if !message.exchange.is_empty() && !is_under_way(&known.cascade) && !is_under_way(&known.base) {
                (known.base, known.cascade) = Default::default();
            }
            if let Some(queue) = queue
                && known.queues.get(&queue).is_some_and(|(once, _)| !is_under_way(once))
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
                stream::declare(&self.link, &self.names.dead(), &self.streams.dead).await?;
                declare::dead_letters(&*channel, &self.names).await?;
            }
            self.ensure_journal(&*channel).await?;
            declare::let_go(channel).await;
            Ok(())
        };
        once.get_or_try_init(declare).await.copied()
    }

    /// Sees to it that there is a journal, if there is to be one: this process is told to keep it, or another one was. It belongs
    /// to all processes of a prefix.
    async fn ensure_journal(&self, channel: &dyn Channel) -> Result<()> {
        let is_there = self.keeps_journal || self.is_there(self.names.journal()).await?;
        if is_there {
            stream::declare(&self.link, self.names.journal(), &self.streams.journal).await?;
            declare::journal(channel, &self.names).await?;
        }
        self.names.set_journaled(is_there);
        Ok(())
    }

    async fn is_there(&self, queue: &str) -> Result<bool> {
        let channel = self.link.channel().await?;
        let is_there = channel.inspect_queue(queue).await?.is_some();
        if is_there {
            declare::let_go(channel).await;
        }
        Ok(is_there)
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
        match self.names.queue_of(&message.exchange, &message.routing_key) {
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
