//! The end of a worker, step by step, each with a bound.

use std::sync::Arc;
use std::time::Duration;

use goose_core::{Error, ErrorKind, Result};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use super::executor::Bench;
use super::panics::CatchUnwind;
use super::polled;
use super::{Engine, PoolRun};

/// How long the poller may take to hand back what it holds; longer only when the settler cannot keep up.
const POLLER_LIMIT: Duration = Duration::from_secs(1);
/// How long cut handlers may take to reach an await point and be gone.
const CUT_LIMIT: Duration = Duration::from_secs(1);
/// How long the last outcomes may take to be stored.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// How long a broker may take to end a session.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How long hooks may take to end.
const HOOKS_LIMIT: Duration = Duration::from_secs(1);

/// Stops fetching, waits for running jobs up to `grace`, cuts the rest, hands back, stores, closes.
pub(crate) async fn shut_down(engine: Arc<Engine>, grace: Duration) -> Result<()> {
    tracing::debug!(worker = %engine.identity.id, ?grace, "worker stops");
    engine.stopping.cancel();
    let pollers_end = Instant::now() + POLLER_LIMIT;
    for pool in &engine.pools {
        // The poller gives back what was not started.
        if !joined(&pool.poller, pollers_end).await {
            tracing::warn!(pool = pool.label, "the broker takes nothing back, held jobs are left to their lease");
        }
    }

    let grace_ends = Instant::now().checked_add(grace);
    for pool in &engine.pools {
        let all_done = pool.idle();
        match grace_ends {
            Some(end) => drop(timeout_at(end, all_done).await),
            None => all_done.await,
        }
    }
    engine.cut.cancel();
    let cut_ends = Instant::now() + CUT_LIMIT;
    for pool in &engine.pools {
        if timeout_at(cut_ends, pool.idle()).await.is_err() {
            for job in polled::jobs(&pool.bench) {
                tracing::warn!(job.id = %job.id, job.name = %job.name, job.queue = %job.queue, "the handler does not yield");
            }
            tracing::warn!(pool = pool.label, "handlers do not yield, their jobs are left to their lease");
        }
    }

    let mut result = Ok(());
    let flush_ends = Instant::now() + FLUSH_LIMIT;
    for pool in &engine.pools {
        pool.closing.cancel();
    }
    for pool in &engine.pools {
        if !joined(&pool.settler, flush_ends).await {
            let message = "the broker did not take the last outcomes in time, their jobs run again";
            result = result.and(Err(Error::new(ErrorKind::Unavailable, message)));
        }
    }
    // Side by side: where the server is away each of them waits, and they must not add up.
    let mut ends = JoinSet::new();
    for pool in &engine.pools {
        ends.spawn(end_session(Arc::clone(&pool.bench)));
    }
    while let Some(ended) = ends.join_next().await {
        let cancelled = |error| Error::new(ErrorKind::Internal, "the end of a session was cut off").with_source(error);
        result = result.and(ended.map_err(cancelled).and_then(|ended| ended));
    }
    if let Some(hooks) = &engine.hooks
        && timeout(HOOKS_LIMIT, hooks.finished()).await.is_err()
    {
        tracing::warn!("hooks are still running");
    }
    engine.runtime_beat.abort();
    tracing::debug!(worker = %engine.identity.id, "worker stopped");
    result
}

async fn end_session(bench: Arc<Bench>) -> Result<()> {
    let stop = CatchUnwind::call(|| bench.consumer.stop());
    match timeout(CLOSE_LIMIT, stop).await {
        Ok(Ok(stopped)) => stopped,
        // The other pools have sessions to end, too.
        Ok(Err(panic)) => Err(Error::new(ErrorKind::Internal, format!("the broker did not end the session, {panic}"))),
        Err(_) => {
            let message = format!("the broker did not end the session in {CLOSE_LIMIT:?}");
            Err(Error::new(ErrorKind::Unavailable, message))
        }
    }
}

/// Waits for a loop to end; aborts it when its time is up.
async fn joined(task: &parking_lot::Mutex<Option<JoinHandle<()>>>, ends: Instant) -> bool {
    let Some(mut task) = task.lock().take() else { return true };
    let ended = timeout_at(ends, &mut task).await.is_ok();
    if !ended {
        task.abort();
    }
    ended
}

impl PoolRun {
    /// Waits until no hand of the pool is busy.
    async fn idle(&self) {
        let all = u32::try_from(self.concurrency).unwrap_or(u32::MAX);
        // An error would mean that the semaphore is closed, which nobody does.
        let _ = self.hands.acquire_many(all).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, OnceLock, mpsc};
    use std::time::{Duration, Instant};

    use goose_core::{BoxFuture, ErrorKind};

    use super::CLOSE_LIMIT;
    use crate::test_bench::{Gate, Number, TestBench, number, until};
    use crate::{Context, Pool, Worker};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn an_idle_worker_stops_at_once() {
        let bench = TestBench::new();
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        until("the first fetch", || !bench.broker.seen().fetches.is_empty()).await;
        let start = Instant::now();
        worker.stop().await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        assert_eq!(bench.broker.seen().stops, 1);
    }

    #[tokio::test]
    async fn running_jobs_may_end_within_the_grace_period() {
        let bench = TestBench::new();
        bench.enqueue([1]).await;
        let gate = Gate::closed();
        let held = gate.clone();
        let handler = move |_: Number| {
            let gate = held.clone();
            async move { gate.pass().await }
        };
        let worker = bench.worker().handle(handler).start().await.unwrap();
        bench.events.wait(1, "started").await;
        worker.request_stop();
        bench.enqueue([2]).await;
        gate.open();
        worker.stopped().await.unwrap();
        assert_eq!(bench.broker.seen().done.iter().map(number).collect::<Vec<_>>(), [1]);
        assert_eq!(bench.broker.ready("default").iter().map(number).collect::<Vec<_>>(), [2]);
    }

    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// A handler that never ends, and says when it is dropped.
    fn endless(dropped: &Arc<AtomicBool>) -> impl Fn(Number) -> BoxFuture<'static, ()> + Send + Sync + 'static {
        let dropped = Arc::clone(dropped);
        move |_| {
            let guard = SetOnDrop(Arc::clone(&dropped));
            Box::pin(async move {
                let _guard = guard;
                std::future::pending().await
            })
        }
    }

    #[tokio::test]
    async fn jobs_that_outlive_the_grace_period_are_cut_and_handed_back_unchanged() {
        let bench = TestBench::new();
        bench.enqueue([1]).await;
        let dropped = Arc::new(AtomicBool::new(false));
        let worker = bench.worker().grace_period(Duration::from_millis(20)).handle(endless(&dropped));
        let worker = worker.start().await.unwrap();
        bench.events.wait(1, "started").await;
        worker.stop().await.unwrap();
        assert!(dropped.load(Ordering::SeqCst));
        let ready = bench.broker.ready("default");
        assert_eq!((ready.len(), ready[0].attempts.failures.len(), ready[0].attempts.retry_count), (1, 0, 0));
        assert_eq!(bench.events.all(), ["started 1", "released 1"]);
    }

    #[tokio::test]
    async fn a_blocking_handler_that_outlives_it_is_left_to_its_lease() {
        let bench = TestBench::new();
        bench.enqueue([1]).await;
        let (release, released) = mpsc::channel::<()>();
        let (saw, seen) = mpsc::channel();
        let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
        let released = std::sync::Mutex::new(released);
        let handler = move |_: Number, cx: Context| {
            begin.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
            saw.send(cx.is_cancelled()).unwrap();
        };
        let worker = bench.worker().grace_period(Duration::ZERO).handle_blocking(handler).start().await.unwrap();
        begun.recv().await.unwrap();
        worker.stop().await.unwrap();
        assert_eq!((bench.broker.claimed(), bench.broker.seen().stops), (1, 1));
        assert_eq!(bench.events.all(), ["started 1"]);
        drop(release);
        assert!(seen.recv_timeout(10 * SECOND).unwrap(), "it was told to end");
    }

    #[test]
    fn a_blocking_handler_that_still_waits_for_a_thread_is_handed_back() {
        let one_thread = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        one_thread.unwrap().block_on(async {
            let bench = TestBench::new();
            let (release, released) = mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || released.recv());
            bench.enqueue([1]).await;
            let handler = |Number(n)| assert_ne!(n, 1, "it must not run");
            let worker = bench.worker().grace_period(Duration::ZERO).handle_blocking(handler).start().await.unwrap();
            bench.events.wait(1, "started").await;
            worker.stop().await.unwrap();
            assert_eq!(bench.events.all(), ["started 1", "released 1"]);
            drop(release);
            assert!(busy.await.unwrap().is_err());
        });
    }

    #[tokio::test]
    async fn a_broker_that_panics_at_the_end_of_a_session_holds_up_neither_the_stop_nor_other_sessions() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.stop_panics = 1);
        let worker = bench.worker().pool(Pool::queue("a")).pool(Pool::queue("b")).handle(|_: Number| async {});
        let worker = worker.start().await.unwrap();
        let stopped = tokio::time::timeout(10 * SECOND, worker.stop()).await.unwrap();
        let error = stopped.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        let text = "the worker did not end cleanly: the broker did not end the session, panicked: stop panicked";
        assert_eq!((format!("{error:#}").as_str(), bench.broker.seen().stops), (text, 1));
    }

    #[tokio::test]
    async fn any_number_may_stop_it() {
        let bench = TestBench::new();
        let worker = Arc::new(bench.worker().handle(|_: Number| async {}).start().await.unwrap());
        let stops: Vec<_> = (0..3)
            .map(|_| {
                let worker = Arc::clone(&worker);
                tokio::spawn(async move { worker.stop().await })
            })
            .collect();
        for stop in stops {
            stop.await.unwrap().unwrap();
        }
        worker.stop().await.unwrap();
        assert_eq!(bench.broker.seen().stops, 1);
    }

    #[tokio::test]
    async fn a_handler_may_stop_its_own_worker() {
        let bench = TestBench::new();
        bench.enqueue([1]).await;
        let cell: Arc<OnceLock<Worker>> = Arc::default();
        let inside = Arc::clone(&cell);
        let handler = move |_: Number| {
            let cell = Arc::clone(&inside);
            async move {
                until("the worker", || cell.get().is_some()).await;
                cell.get().unwrap().request_stop();
            }
        };
        cell.set(bench.worker().handle(handler).start().await.unwrap()).unwrap();
        cell.get().unwrap().stopped().await.unwrap();
        assert_eq!(bench.broker.seen().done.len(), 1);
    }

    #[tokio::test]
    async fn a_handler_that_waits_for_the_stop_is_cut_like_any_other() {
        let bench = TestBench::new();
        bench.enqueue([1]).await;
        let cell: Arc<OnceLock<Worker>> = Arc::default();
        let inside = Arc::clone(&cell);
        let handler = move |_: Number| {
            let cell = Arc::clone(&inside);
            async move {
                until("the worker", || cell.get().is_some()).await;
                cell.get().unwrap().stop().await
            }
        };
        let worker = bench.worker().grace_period(Duration::from_millis(20)).handle(handler).start().await.unwrap();
        cell.set(worker).unwrap();
        cell.get().unwrap().stopped().await.unwrap();
        assert_eq!(bench.broker.ready("default").len(), 1);
    }

    #[tokio::test]
    async fn a_dropped_worker_hands_back_without_grace() {
        let bench = TestBench::new();
        bench.enqueue([1]).await;
        let dropped = Arc::new(AtomicBool::new(false));
        let worker = bench.worker().handle(endless(&dropped)).start().await.unwrap();
        bench.events.wait(1, "started").await;
        drop(worker);
        until("the end of the session", || bench.broker.seen().stops == 1).await;
        assert!(dropped.load(Ordering::SeqCst));
        assert_eq!((bench.broker.ready("default").len(), bench.broker.claimed()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_do_not_end_do_not_add_up() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.stop_hangs = true);
        let pools = ["a", "b", "c", "d"].map(Pool::queue);
        let worker = pools.into_iter().fold(bench.worker(), crate::WorkerBuilder::pool);
        let worker = worker.handle(|_: Number| async {}).start().await.unwrap();
        let begun = tokio::time::Instant::now();
        let error = worker.stop().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(begun.elapsed() < CLOSE_LIMIT + SECOND, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_hangs_does_not_hold_up_the_stop_for_ever() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.settle_hangs = true);
        bench.enqueue([1]).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        until("the settle", || bench.broker.seen().settles.len() == 1).await;
        let error = worker.stop().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(
            format!("{error:#}"),
            "the worker did not end cleanly: the broker did not take the last outcomes in time, their jobs run again"
        );
        assert_eq!(bench.broker.seen().stops, 1);
    }

    #[tokio::test]
    async fn outcomes_are_stored_before_the_session_ends_although_the_broker_was_away() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.settle_errors = 2);
        bench.enqueue([1]).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        until("the first settle", || bench.broker.seen().settles.len() == 1).await;
        worker.stop().await.unwrap();
        assert_eq!(bench.broker.seen().done.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_are_stored_by_a_broker_that_is_back_while_the_settler_still_pauses() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.settle_errors = usize::MAX);
        bench.enqueue([1]).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        // By now the pauses are longer than a stop waits for the last outcomes.
        until("many settles", || bench.broker.seen().settles.len() == 10).await;
        bench.broker.faults(|faults| faults.settle_errors = 0);
        worker.stop().await.unwrap();
        assert_eq!(bench.broker.seen().done.len(), 1);
    }

    #[tokio::test]
    async fn runs_until_told_otherwise() {
        let bench = TestBench::new();
        bench.enqueue([1]).await;
        let events = Arc::clone(&bench.events);
        bench
            .worker()
            .handle(|_: Number| async {})
            .run_until(async move { events.wait(1, "succeeded").await })
            .await
            .unwrap();
        assert_eq!((bench.broker.seen().done.len(), bench.broker.seen().stops), (1, 1));
    }
}
