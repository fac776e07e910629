//! The handle of a running worker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{Broker, WorkerIdentity};
use goose_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

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
    /// Begins the one stop of the worker, however many ask for it. Dropped with the worker, it begins the stop too.
    begin: Mutex<Option<oneshot::Sender<Duration>>>,
    ended: watch::Receiver<Ending>,
}

/// `None` until the worker has stopped.
type Ending = Option<Result<(), Arc<Error>>>;

impl Worker {
    /// Says what a worker serves and how, then starts it. Takes a broker handle or an `Arc` of one.
    pub fn builder(broker: impl Broker) -> WorkerBuilder {
        WorkerBuilder::new(Arc::new(broker))
    }

    pub(crate) fn running(engine: Arc<Engine>) -> Self {
        let ((begin, begun), (says, ended)) = (oneshot::channel(), watch::channel(None));
        // A task of its own, on the worker's runtime: the stop must not depend on who asks for it. And there from
        // the start: when it panics or the runtime ends, `says` goes with it, and nobody waits in vain.
        engine.runtime.spawn(stop(Arc::clone(&engine), begun, says));
        Self { engine, begin: Mutex::new(Some(begin)), ended }
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
    /// Whoever is left behind is named in the log, as a warning, and is no error.
    ///
    /// Beyond the grace period a stop has bounds as well: one second each for handing back and for cutting handlers, five
    /// for a broker that does not take the last outcomes, five for one that does not end the session, one for hooks.
    ///
    /// Any number of callers may wait for the same stop. It goes on when a caller gives up waiting. A
    /// handler that waits for it waits for itself, up to the grace period; let it call
    /// [`request_stop`](Self::request_stop).
    ///
    /// # Errors
    /// What kept the worker from giving everything back, such as
    /// [`ErrorKind::Unavailable`], or [`ErrorKind::Internal`] when the worker's runtime ended before the worker.
    /// It has ended all the same, and its jobs are recovered by others.
    pub async fn stop(&self) -> Result<()> {
        self.request_stop();
        self.stopped().await
    }

    /// Begins to stop and does not wait. Safe to call from a handler.
    pub fn request_stop(&self) {
        if let Some(begin) = self.begin.lock().take() {
            // Nobody listens when the runtime has ended.
            let _ = begin.send(self.engine.options.grace_period);
        }
    }

    /// Waits until somebody has stopped the worker.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn stopped(&self) -> Result<()> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(error))) => {
                let message = "the worker did not end cleanly";
                Err(Error::new(error.kind(), message).with_source(Arc::clone(error)))
            }
            Ok(_) => Ok(()),
            Err(_) => {
                let message = "the worker's runtime ended before the worker, or its stop panicked; \
                               its jobs are recovered by others";
                Err(Error::new(ErrorKind::Internal, message))
            }
        }
    }
}

/// Waits for the stop to begin, stops, and says how that went.
async fn stop(engine: Arc<Engine>, begun: oneshot::Receiver<Duration>, says: watch::Sender<Ending>) {
    // A worker that was dropped has no grace.
    let grace = begun.await.unwrap_or(Duration::ZERO);
    let result = engine::shut_down(engine, grace).await.map_err(Arc::new);
    if let Err(error) = &result {
        tracing::warn!(error = format!("{error:#}"), "the worker did not end cleanly");
    }
    says.send_replace(Some(result));
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("identity", &self.engine.identity)
            .field("stopping", &self.begin.lock().is_none())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;
    use crate::test_bench::{Number, TestBench};

    #[tokio::test]
    async fn nobody_waits_for_a_worker_whose_runtime_has_ended() {
        // Ends when a runtime of its own has ended, together with that runtime's worker.
        let start = |asked: bool| async move {
            let worker = std::thread::spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let bench = TestBench::new();
                    bench.enqueue([1]).await;
                    let worker = bench.worker().handle(|_: Number| future::pending::<()>()).start().await.unwrap();
                    bench.events.wait(1, "started").await;
                    if asked {
                        worker.request_stop();
                        tokio::task::yield_now().await;
                    }
                    worker
                })
            });
            tokio::task::spawn_blocking(|| worker.join().unwrap()).await.unwrap()
        };
        let limit = Duration::from_secs(10);
        for asked in [true, false] {
            let worker = start(asked).await;
            let error = timeout(limit, worker.stopped()).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
            let error = timeout(limit, worker.stop()).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_stop_that_panicked() {
        let bench = TestBench::new();
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        let (_begin, begun) = oneshot::channel();
        let (says, ended) = watch::channel(None);
        let failing = tokio::spawn(async move {
            let _says = says;
            panic!("in a stop");
        });
        assert!(failing.await.unwrap_err().is_panic());
        drop::<oneshot::Receiver<Duration>>(begun);
        let broken = Worker { engine: Arc::clone(&worker.engine), begin: Mutex::new(None), ended };
        let error = timeout(Duration::from_secs(10), broken.stop()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        worker.stop().await.unwrap();
    }
}
