//! The handle that clients and workers hold.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goose_core::broker::capability::{DeadJobs, EnqueuedJobs, PausedQueues, ScheduledJobs, Statistics};
use goose_core::broker::{Broker, Consumer, ConsumerOptions, EnqueueVerdict};
use goose_core::{BoxFuture, Error, ErrorKind, Job, Result};
use parking_lot::Mutex;

use crate::RmqOptions;
use crate::amqp::lapin::Connector;
use crate::amqp::link::Link;
use crate::amqp::{Connect, Role};
use crate::capability::Powers;
use crate::dead::{self, Dead};
use crate::enqueue;
use crate::error::closed;
use crate::journal::{self, Journal, Notes};
use crate::log::Log;
use crate::publisher::{Publisher, Restore};
use crate::runtime::Runtime;
use crate::stream::Wires;
use crate::topology::{Streams, Topology};
use crate::{session, strays};

/// How long closing waits for the sessions to end in good order.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

/// The RabbitMQ broker: a handle to one server or to a cluster.
///
/// Cloning is cheap and shares the connections. Connections heal by themselves for as long as the broker lives.
#[derive(Debug, Clone)]
pub struct RmqBroker {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles and tasks of one broker share.
pub(crate) struct Inner {
    pub(crate) options: RmqOptions,
    /// Where everything of this broker runs.
    pub(crate) runtime: Runtime,
    pub(crate) links: Links,
    pub(crate) topology: Arc<Topology>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) log: Arc<Log>,
    pub(crate) dead: Arc<Dead>,
    pub(crate) journal: Arc<Journal>,
    powers: Powers,
    /// Every open session, so that closing the broker stops them.
    sessions: Mutex<Vec<Arc<dyn OpenSession>>>,
    closed: AtomicBool,
    /// Whether somebody here looks after what could not be routed.
    sweeping: AtomicBool,
}

/// The connections of one broker, one for each role.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    pub(crate) publish: Arc<Link>,
    pub(crate) consume: Arc<Link>,
    pub(crate) control: Arc<Link>,
}

/// A session as the broker sees it.
pub(crate) trait OpenSession: fmt::Debug + Send + Sync {
    /// Ends it as [`Consumer::stop`] does, and does not wait for what was handed out: the broker is closing. Polled on
    /// the broker's own runtime.
    fn stop(&self) -> BoxFuture<'_, Result<()>>;

    /// From now on it behaves as if its process had been killed.
    #[cfg(feature = "fault-injection")]
    fn abandon(&self);
}

impl RmqBroker {
    /// Connects with default options; see [`RmqOptions`] for others and for the URLs.
    ///
    /// # Errors
    /// See [`RmqOptions::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        RmqOptions::new(url).open().await
    }

    pub(crate) async fn open(options: RmqOptions) -> Result<Self> {
        let connect: Arc<dyn Connect> = Arc::new(Connector::new(&options)?);
        let runtime = Runtime::start().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "cannot start a thread for the connections").with_source(error)
        })?;
        let open = |role| {
            let servers = options.urls.len();
            Link::open(Arc::clone(&connect), role, options.connect_timeout, servers, runtime.handle())
        };
        // The first alone: what is wrong with one is wrong with all, and is told once.
        let control = open(Role::Control).await?;
        let (publish, consume) = tokio::join!(open(Role::Publish), open(Role::Consume));
        let links = Links { publish: publish?, consume: consume?, control };
        let topology = Arc::new(Topology::new(Arc::clone(&links.control), &options, streams()));
        let restore = Arc::clone(&topology) as Arc<dyn Restore>;
        let publisher = Publisher::new(Arc::clone(&links.publish), &options, restore, runtime.handle());
        let publisher = Arc::new(publisher);
        let wires = Wires {
            runtime: runtime.handle().clone(),
            control: Arc::clone(&links.control),
            publisher: Arc::clone(&publisher),
            is_cluster: options.urls.len() > 1,
        };
        let notes = Notes::new(wires.clone(), &topology.names);
        let log = Log::new(wires.clone(), &topology.names, Arc::clone(&notes));
        let journal = Journal::new(wires.clone(), Arc::clone(&topology), Arc::clone(&log), notes);
        let dead = Dead::new(wires.clone(), Arc::clone(&topology), Arc::clone(&log));
        let powers =
            Powers::new(wires, Arc::clone(&topology), Arc::clone(&log), Arc::clone(&dead), Arc::clone(&journal));
        let inner = Arc::new(Inner {
            options,
            runtime,
            links,
            topology,
            publisher,
            log,
            dead,
            journal,
            powers,
            sessions: Mutex::default(),
            closed: AtomicBool::new(false),
            sweeping: AtomicBool::new(false),
        });
        Ok(Self { inner })
    }
}

fn streams() -> Streams {
    Streams { dead: dead::stream_arguments(), journal: journal::stream_arguments() }
}

impl Inner {
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }

    /// Takes note of a session that has been opened.
    pub(crate) fn remember(&self, session: Arc<dyn OpenSession>) {
        self.sessions.lock().push(session);
    }

    /// Forgets a session that has ended.
    pub(crate) fn forget(&self, session: &dyn OpenSession) {
        self.sessions.lock().retain(|other| !std::ptr::addr_eq(Arc::as_ptr(other), session));
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<dyn OpenSession>> {
        self.sessions.lock().clone()
    }

    /// Why one of the connections could last not be made or was broken, for health.
    pub(crate) fn last_error(&self) -> Option<String> {
        let Links { publish, consume, control } = &self.links;
        [consume, publish, control].into_iter().find_map(|link| link.last_error())
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("options", &self.options).field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// Stops sessions, all at the same time, for each waits a while for a server that is away; and not for ever.
async fn stop_all(sessions: Vec<Arc<dyn OpenSession>>) {
    let mut stops = tokio::task::JoinSet::new();
    for session in sessions {
        stops.spawn(async move { session.stop().await });
    }
    let all = async {
        while let Some(stopped) = stops.join_next().await {
            if let Ok(Err(error)) = stopped {
                tracing::warn!(error = format!("{error:#}"), "cannot hand back jobs; they will be recovered");
            }
        }
    };
    if tokio::time::timeout(STOPS_WITHIN, all).await.is_err() {
        tracing::warn!("handing back jobs takes too long; they will be recovered");
    }
}

impl Broker for RmqBroker {
    fn name(&self) -> &'static str {
        "rmq"
    }

    fn enqueue(&self, jobs: Vec<Job>) -> BoxFuture<'_, Result<Vec<EnqueueVerdict>>> {
        Box::pin(async move {
            self.inner.check_open()?;
            enqueue::enqueue(&self.inner, jobs).await
        })
    }

    fn consume(&self, options: ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn Consumer>>> {
        Box::pin(async move {
            self.inner.check_open()?;
            if !self.inner.sweeping.swap(true, Ordering::AcqRel) {
                self.inner.runtime.spawn(strays::bring_back(Arc::downgrade(&self.inner)));
            }
            session::open(Arc::clone(&self.inner), options).await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.inner.closed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            let (sessions, links) = (self.inner.sessions(), self.inner.links.clone());
            let (log, publisher) = (Arc::clone(&self.inner.log), Arc::clone(&self.inner.publisher));
            let end = self.inner.runtime.spawn(async move {
                stop_all(sessions).await;
                log.close().await;
                publisher.finish(STOPS_WITHIN).await;
                let goodbye = async {
                    tokio::join!(links.consume.close(), links.publish.close(), links.control.close());
                };
                // A server that hangs does not answer.
                let _ = tokio::time::timeout(STOPS_WITHIN, goodbye).await;
            });
            // It ends without an answer if another handle is closing at the same time.
            let _ = end.await;
            self.inner.runtime.shut_down().await;
            Ok(())
        })
    }

    fn enqueued_jobs(&self) -> Option<&dyn EnqueuedJobs> {
        Some(&self.inner.powers)
    }

    fn scheduled_jobs(&self) -> Option<&dyn ScheduledJobs> {
        Some(&self.inner.powers)
    }

    fn dead_jobs(&self) -> Option<&dyn DeadJobs> {
        Some(&self.inner.powers)
    }

    fn paused_queues(&self) -> Option<&dyn PausedQueues> {
        Some(&self.inner.powers)
    }

    fn statistics(&self) -> Option<&dyn Statistics> {
        Some(&self.inner.powers)
    }
}
