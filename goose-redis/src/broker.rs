//! The handle that clients and workers hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use goose_core::broker::capability::{DeadJob, DeadJobs, EnqueuedJobs, PausedQueues, ScheduledJobs, Statistics};
use goose_core::broker::{Broker, Consumer, ConsumerOptions, EnqueueVerdict};
use goose_core::{BoxFuture, Error, Job, JobId, QueueName, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::RedisOptions;
use crate::connection::{Lane, Link};
use crate::consumer::RedisConsumer;
use crate::enqueue::Intake;
use crate::error::closed;
use crate::lease;
use crate::names::Names;
use crate::server_clock::ServerClock;
use crate::session::{self, Session};

/// How long closing waits for the sessions to end in good order, and for the answers to enqueues that are under way.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

/// The Redis broker: a handle to one server, to a primary found by Sentinels, or to a cluster.
///
/// Cloning is cheap and shares the connections. Connections heal by themselves for as long as the broker lives.
///
/// It has all optional powers. Several of them have methods of the same name (`size`, `find`, `delete`, `purge`), so they are
/// called through their trait, or through what [`Broker::dead_jobs`] and its like return:
///
/// ```no_run
/// # async fn f() -> goose_core::Result<()> {
/// use goose_core::QueueName;
/// use goose_core::broker::capability::{DeadJobs, JobFilter, Page, PausedQueues};
/// use goose_redis::RedisBroker;
///
/// let broker = RedisBroker::connect("redis://localhost").await?;
/// for dead in DeadJobs::find(&broker, &JobFilter::default(), Page::first(20)).await?.items {
///     println!("{} of {}: {}", dead.id, dead.queue, dead.reason.detail);
///     DeadJobs::replay(&broker, dead.id).await?; // or `delete`
/// }
/// let queue = QueueName::new("mail")?;
/// PausedQueues::pause(&broker, &queue).await?;
/// PausedQueues::resume(&broker, &queue).await?;
/// for complaint in broker.check_consistency().await? {
///     eprintln!("{complaint}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct RedisBroker {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles and tasks of one broker share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) link: Arc<dyn Link>,
    pub(crate) names: Names,
    pub(crate) options: RedisOptions,
    pub(crate) clock: ServerClock,
    intake: Intake,
    /// Every open session, so that closing the broker stops them.
    sessions: Mutex<Vec<Arc<Session>>>,
    last_error: Mutex<Option<String>>,
    closed: AtomicBool,
}

impl RedisBroker {
    /// Connects with default options; see [`RedisOptions`] for others and for the URLs.
    ///
    /// # Errors
    /// See [`RedisOptions::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        RedisOptions::new(url).open().await
    }

    pub(crate) fn over(link: Arc<dyn Link>, options: RedisOptions) -> Self {
        let names = Names::new(options.key_prefix());
        let (intake, serve_intake) = Intake::new(Arc::clone(&link), names.clone(), options.command_timeout);
        link.spawn(Box::pin(serve_intake));
        let inner = Inner {
            link,
            names,
            options,
            clock: ServerClock::default(),
            intake,
            sessions: Mutex::new(Vec::new()),
            last_error: Mutex::new(None),
            closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Inner {
    pub(crate) fn note_error(&self, error: &Error) {
        *self.last_error.lock() = Some(format!("{error:#}"));
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }

    /// A session was found dead in a queue while this process was stopped or cut off: others have its jobs. It goes on
    /// there under a new identity, and nothing it held there counts any more. `lost` is the identity that was found
    /// dead: beats and fetches both find it, and only the first of them may act.
    pub(crate) async fn renew_lost(&self, session: &Arc<Session>, queue: usize, lost: &str) {
        let _one_at_a_time = session.renewing.lock().await;
        if session.is_over() || session.id(queue) != lost {
            return;
        }
        let silent_for = session.last_renewal_in(queue);
        session.let_go(queue);
        let name = session.queues.get(queue).map(|(name, _)| name.as_str());
        let cause = match silent_for >= session.lease {
            true => "the lease was not renewed in time",
            false => "the keys were deleted, or a failover lost them",
        };
        tracing::warn!(
            queue = name,
            ?silent_for,
            cause,
            "lost the claims of this process in a queue; its jobs there run again elsewhere, and their ends here do not count"
        );
        // Taken on when it is open: until then a fetch still goes by the old one, and gets nothing.
        let (id, began) = (session::new_id(), Instant::now());
        match lease::open_in(self, session, queue, &id, Lane::Beat).await {
            Ok(()) => session.take_on(queue, id, began),
            Err(error) => {
                self.note_error(&error);
                session.fail(error);
            }
        }
    }

    pub(crate) async fn find_dead(&self, queue: &QueueName, id: JobId) -> Option<DeadJob> {
        crate::capability::find_dead_in(self, queue, id).await.ok().flatten()
    }

    #[cfg(feature = "fault-injection")]
    pub(crate) async fn enqueue_value(&self, queue: &QueueName, id: JobId, value: fred::bytes::Bytes) -> Result<()> {
        self.intake.enqueue_value(queue, id, value).await
    }

    pub(crate) fn forget(&self, session: &Arc<Session>) {
        self.sessions.lock().retain(|other| !Arc::ptr_eq(other, session));
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().clone()
    }
}

/// Waits until sessions have stopped, and not for ever.
async fn wait_for(stops: Vec<oneshot::Receiver<Result<()>>>) {
    let all = async {
        for stop in stops {
            if !matches!(stop.await, Ok(Ok(()))) {
                tracing::warn!("cannot hand back jobs; they will be recovered");
            }
        }
    };
    if tokio::time::timeout(STOPS_WITHIN, all).await.is_err() {
        tracing::warn!("handing back jobs takes too long; they will be recovered");
    }
}

impl Broker for RedisBroker {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn enqueue(&self, jobs: Vec<Job>) -> BoxFuture<'_, Result<Vec<EnqueueVerdict>>> {
        Box::pin(async move {
            self.inner.check_open()?;
            self.inner.intake.enqueue(jobs, &self.inner.clock).await
        })
    }

    fn consume(&self, options: ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn Consumer>>> {
        Box::pin(async move {
            self.inner.check_open()?;
            let session = Arc::new(Session::new(options, self.inner.options.lease, &self.inner.names));
            // Not with the short limit of heartbeats: nobody is held up by this but the caller.
            lease::open(&self.inner, &session).await?;
            self.inner.sessions.lock().push(Arc::clone(&session));
            let consumer = RedisConsumer::start(Arc::clone(&self.inner), session);
            Ok(Box::new(consumer) as Box<dyn Consumer>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.inner.closed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            // All at the same time, for each waits a while for a server that is away.
            let begin = |session| crate::consumer::begin_stop(&self.inner, session);
            let stops: Vec<_> = self.inner.sessions().iter().filter_map(begin).collect();
            let intake = self.inner.intake.clone();
            let ends = async move {
                let flush = tokio::time::timeout(STOPS_WITHIN, intake.flush());
                // What is not answered by then is told as unknown to whoever waits for it.
                let _ = tokio::join!(wait_for(stops), flush);
            };
            let _ = self.inner.link.spawn(Box::pin(ends)).await;
            self.inner.link.close().await;
            Ok(())
        })
    }

    fn enqueued_jobs(&self) -> Option<&dyn EnqueuedJobs> {
        Some(self)
    }

    fn scheduled_jobs(&self) -> Option<&dyn ScheduledJobs> {
        Some(self)
    }

    fn dead_jobs(&self) -> Option<&dyn DeadJobs> {
        Some(self)
    }

    fn paused_queues(&self) -> Option<&dyn PausedQueues> {
        Some(self)
    }

    fn statistics(&self) -> Option<&dyn Statistics> {
        Some(self)
    }
}
