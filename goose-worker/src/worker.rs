//! The handle of a running worker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goose_core::broker::{Broker, WorkerIdentity};
use goose_core::{Error, ErrorKind, Result};
use tokio::sync::watch;

use crate::engine::{self, Engine};
use crate::{Health, WorkerBuilder};

/// A running worker: it takes jobs out of a broker and runs their handlers.
///
/// ```
/// use goose_worker::{JobArgs, Worker};
///
/// # #[derive(serde::Deserialize)]
/// # struct SendEmail { to: String }
/// # impl JobArgs for SendEmail { const NAME: &'static str = "send-email"; }
/// # async fn send_email(_: SendEmail) {}
/// # async fn example(broker: impl goose_worker::broker::Broker) -> goose_worker::Result<()> {
/// let worker = Worker::builder(broker).queue("mail").concurrency(10).handle(send_email).start().await?;
/// assert!(worker.health().is_healthy());
/// worker.stop().await?;
/// # Ok(()) }
/// ```
///
/// # Without `stop`
///
/// Dropping the handle ends the worker without grace: running async handlers are cut at their next `.await`
/// and all its jobs are handed back, in the background and as far as the runtime lives long enough. What is
/// not handed back is recovered when its lease has ended. Either way nothing is lost.
#[must_use = "a worker that is dropped ends"]
pub struct Worker {
    engine: Arc<Engine>,
    stop: Arc<Stop>,
}

/// The one stop of a worker, however many ask for it.
struct Stop {
    begun: AtomicBool,
    /// `None` until the worker has stopped.
    ended: watch::Sender<Option<Result<(), Arc<Error>>>>,
}

impl Worker {
    /// Says what a worker serves and how, then starts it. Takes a broker handle or an `Arc` of one.
    pub fn builder(broker: impl Broker) -> WorkerBuilder {
        WorkerBuilder::new(Arc::new(broker))
    }

    pub(crate) fn running(engine: Arc<Engine>) -> Self {
        let stop = Stop { begun: AtomicBool::new(false), ended: watch::Sender::new(None) };
        Self { engine, stop: Arc::new(stop) }
    }

    /// Who this worker is in logs and in the broker's list of workers.
    #[must_use]
    pub fn identity(&self) -> &WorkerIdentity {
        &self.engine.identity
    }

    /// How the worker's loops and those of its broker are doing. Answers at once, from any thread, also when
    /// the runtime is blocked.
    #[must_use]
    pub fn health(&self) -> Health {
        self.engine.health()
    }

    /// Stops gracefully: takes no more jobs, gives back those not started, waits for running ones up to the
    /// grace period, cuts async handlers that outlive it and gives their jobs back, and ends the session.
    /// Blocking handlers that outlive it are left to their lease. An idle worker stops at once.
    ///
    /// Any number of callers may wait for the same stop. It goes on when a caller gives up waiting. A
    /// handler that waits for it waits for itself, up to the grace period; let it call
    /// [`request_stop`](Self::request_stop).
    ///
    /// # Errors
    /// What kept the worker from giving everything back, such as
    /// [`ErrorKind::Unavailable`]. It has ended all the same, and its jobs are recovered by others.
    pub async fn stop(&self) -> Result<()> {
        self.request_stop();
        self.stopped().await
    }

    /// Begins to stop and does not wait. Safe to call from a handler.
    pub fn request_stop(&self) {
        self.begin(self.engine.options.grace_period);
    }

    /// Waits until somebody has stopped the worker.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn stopped(&self) -> Result<()> {
        let mut ended = self.stop.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(error))) => {
                let message = "the worker did not end cleanly";
                Err(Error::new(error.kind(), message).with_source(Arc::clone(error)))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::Internal, "the worker ended without saying how")),
        }
    }

    fn begin(&self, grace: Duration) {
        if self.stop.begun.swap(true, Ordering::AcqRel) {
            return;
        }
        let (engine, stop) = (Arc::clone(&self.engine), Arc::clone(&self.stop));
        // A task of its own, on the worker's runtime: the stop must not depend on who asked for it.
        self.engine.runtime.spawn(async move {
            let result = engine::shut_down(engine, grace).await.map_err(Arc::new);
            if let Err(error) = &result {
                tracing::warn!(error = format!("{error:#}"), "the worker did not end cleanly");
            }
            stop.ended.send_replace(Some(result));
        });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.begin(Duration::ZERO);
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("identity", &self.engine.identity)
            .field("stopping", &self.stop.begun.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
