//! Runs one job: may it start, decode, middleware, handler, limit, end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use goose_core::broker::{Consumer, Delivery, Receipt, Verdict};
use goose_core::{Event, Job, JobId, Observer, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ended::{Ended, Report};
use super::panics::{CatchUnwind, caught};
use super::polled::Polling;
use super::running::{Limit, Running};
use super::settler::Message;
use super::verdict;
use crate::context::Surroundings;
use crate::observers::Observers;
use crate::options::Options;
use crate::registry::Registry;
use crate::{Context, Middleware, Next};

/// A job that keeps a thread for longer than this in its first poll is one that blocks, or computes.
const QUICK: Duration = Duration::from_millis(1);
/// For so many jobs after one like that each gets a task of its own.
const APART: u64 = 1000;

/// What all jobs of a pool need. One per pool; jobs hold it by one `Arc`.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) middleware: Chain,
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) observers: Observers,
    pub(crate) options: Options,
    /// Bounded: when the broker cannot store outcomes, hands wait here and no new jobs are taken.
    pub(crate) settler: mpsc::Sender<Message>,
    /// How many jobs have ended since the start: the pool's pace.
    pub(crate) ended: AtomicU64,
    /// Until so many jobs have ended, each gets a task of its own, because one kept a thread for long.
    pub(crate) apart_until: AtomicU64,
    /// The grace period of a stop is over.
    pub(crate) cut: CancellationToken,
}

/// The middleware of a worker, outermost first.
#[derive(Clone)]
pub(crate) struct Chain(pub(crate) Arc<[Arc<dyn Middleware>]>);

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({})", self.0.len())
    }
}

/// A claimed job and the moment it arrived, so that the broker's clock can be read without asking the broker.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Shared by nobody before the job starts. Behind a pointer from here on, for jobs are large and move a lot.
    pub(crate) job: Arc<Job>,
    pub(crate) receipt: Receipt,
    recoveries: u32,
    ready_at: Timestamp,
    claimed_at: Timestamp,
    pub(crate) at: Instant,
    /// Held until its end by a job that may be what kills its workers.
    suspicion: Option<Arc<()>>,
}

impl Arrival {
    pub(crate) fn new(delivery: Delivery, at: Instant, suspicion: Option<Arc<()>>) -> Self {
        let Delivery { job, receipt, recoveries, ready_at, claimed_at, .. } = delivery;
        Self { job: Arc::new(job), receipt, recoveries, ready_at, claimed_at, at, suspicion }
    }

    /// A moment on the broker's clock: the claim's time, moved on by this process's monotonic clock.
    fn on_broker_clock(&self, at: Instant) -> Timestamp {
        let passed = at.saturating_duration_since(self.at).as_millis();
        // Cut to whole milliseconds, for `saturating_add` rounds up and would make a fresh claim late.
        self.claimed_at.saturating_add(Duration::from_millis(u64::try_from(passed).unwrap_or(u64::MAX)))
    }
}

/// An end that the settler is not told yet, with what the job keeps until then.
#[derive(Debug)]
pub(crate) struct Outbound {
    ended: Ended,
    hold: Hold,
}

/// What a job keeps until the settler has taken its end.
#[derive(Debug)]
struct Hold {
    _suspicion: Option<Arc<()>>,
    _hand: OwnedSemaphorePermit,
}

/// Starts a job. Answers its end if it ends at once; otherwise it goes on in a task of its own.
///
/// `cx` belongs to a task that goes on with other jobs: whatever panics in here must be caught around it.
pub(crate) fn execute(
    bench: &Arc<Bench>,
    mut arrival: Arrival,
    hand: OwnedSemaphorePermit,
    cx: &mut task::Context<'_>,
) -> Option<Outbound> {
    let hold = Hold { _suspicion: arrival.suspicion.take(), _hand: hand };
    let claim = Untold { bench, id: arrival.job.id, receipt: Some(arrival.receipt) };
    let ended = match bench.begin(arrival) {
        Begun::Ended(ended) => *ended,
        Begun::Running(mut running, here) => {
            let polled = running.poll(cx);
            drop(here);
            match polled {
                Poll::Ready(end) => {
                    bench.mind(running.started.elapsed());
                    running.conclude(bench, end)
                }
                // The next poll, by its own task, is the one that is waited for.
                Poll::Pending => {
                    claim.told();
                    drop(tokio::spawn(go_on(Arc::clone(bench), running, hold)));
                    return None;
                }
            }
        }
    };
    claim.told();
    Some(Outbound { ended, hold })
}

/// Runs a job that has begun to its end and tells the settler.
async fn go_on(bench: Arc<Bench>, running: Box<Running>, hold: Hold) {
    let claim = Untold { bench: &bench, id: running.job.id, receipt: Some(running.receipt) };
    let ended = running.finish(&bench).await;
    claim.told();
    match ended {
        Some(ended) => tell(&bench, vec![Outbound { ended, hold }]),
        None => bench.count(hold),
    }
}

/// Hands ends to the settler; where it has no room, a task waits for that, and the hands with it.
pub(crate) fn tell(bench: &Arc<Bench>, ends: Vec<Outbound>) {
    // The settler only goes when the worker has stopped; then jobs are left to their lease.
    let too_late = |lost: Message| lost.warn("a job ended after its worker had stopped, it will run again");
    let mut ends = ends.into_iter();
    while let Some(Outbound { ended, hold }) = ends.next() {
        match bench.settler.try_send(Message::One(ended)) {
            Ok(()) => bench.count(hold),
            Err(mpsc::error::TrySendError::Closed(lost)) => {
                too_late(lost);
                bench.count(hold);
            }
            Err(mpsc::error::TrySendError::Full(message)) => {
                let bench = Arc::clone(bench);
                drop(tokio::spawn(async move {
                    let mut next = Some((message, hold));
                    while let Some((message, hold)) = next {
                        if let Err(mpsc::error::SendError(lost)) = bench.settler.send(message).await {
                            too_late(lost);
                        }
                        bench.count(hold);
                        next = ends.next().map(|Outbound { ended, hold }| (Message::One(ended), hold));
                    }
                }));
                return;
            }
        }
    }
}

/// A claim whose end the settler does not know yet. Dropped like that, because the task unwinds, it hands the job
/// back: whatever breaks in here, a claim must not stay for ever.
struct Untold<'a> {
    bench: &'a Arc<Bench>,
    id: JobId,
    /// `None` once it is told.
    receipt: Option<Receipt>,
}

impl Untold<'_> {
    fn told(mut self) {
        self.receipt = None;
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        let Some(receipt) = self.receipt else { return };
        // Caught, for the log itself may be what panicked.
        let _ =
            caught(|| tracing::error!(job.id = %self.id, "the task of a job ended too early, the job is handed back"));
        let settler = self.bench.settler.clone();
        if let Err(mpsc::error::TrySendError::Full(message)) = settler.try_send(Message::One(Ended::unwound(receipt)))
            && let Ok(runtime) = Handle::try_current()
        {
            drop(runtime.spawn(async move { settler.send(message).await }));
        }
    }
}

/// A job that was looked at.
enum Begun {
    /// It must not run.
    Ended(Box<Ended>),
    /// The handler was called, and its future is to be polled on this thread.
    Running(Box<Running>, Polling),
}

impl Bench {
    /// One more job has ended; its hand is free.
    fn count(&self, hold: Hold) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        drop(hold);
    }

    /// Whether jobs are to have a task each.
    pub(crate) fn keeps_apart(&self) -> bool {
        self.ended.load(Ordering::Relaxed) < self.apart_until.load(Ordering::Relaxed)
    }

    /// Notes how long the first poll of a job took.
    fn mind(&self, first_poll: Duration) {
        if first_poll > QUICK {
            self.apart_until.store(self.ended.load(Ordering::Relaxed) + APART, Ordering::Relaxed);
        }
    }

    /// Decides whether a job may start, and makes its attempt.
    fn begin(&self, arrival: Arrival) -> Begun {
        let ended = |receipt, end| Begun::Ended(Box::new(Ended::new(receipt, end)));
        let started = Instant::now();
        let now = arrival.on_broker_clock(started);
        let Arrival { mut job, receipt, recoveries, ready_at, claimed_at, at, .. } = arrival;
        // Whoever cannot be sure of a claim must not start the job: somebody else may have it.
        if !self.consumer.holds(&receipt) {
            return Begun::Ended(Box::new(Ended::released(receipt, job)));
        }
        if job.expires_at.is_some_and(|expires_at| expires_at < now) {
            let job = Box::new(Arc::unwrap_or_clone(job));
            return ended(receipt, (Verdict::Discard, Report::Expired { job }));
        }
        if let Some(deadline) = job.deadline.filter(|deadline| *deadline <= now) {
            return ended(receipt, verdict::too_late(Arc::unwrap_or_clone(job), deadline));
        }
        let Some(handler) = self.registry.find(&job.name) else {
            let Options { unknown_delay, unknown_patience, .. } = self.options;
            let job = Arc::unwrap_or_clone(job);
            return ended(receipt, verdict::unhandled(job, now, unknown_delay, unknown_patience));
        };
        if job.attempts.parked.is_some() || job.attempts.retry_count > 0 {
            let job = Arc::make_mut(&mut job);
            job.attempts.parked = None;
            if job.attempts.retry_count > 0 {
                job.attempts.last_retried_at = Some(now);
            }
        }
        let waited = claimed_at.since(ready_at).saturating_add(started.saturating_duration_since(at));
        self.observers.observe(&Event::Started { job: &job, waited });

        let limit = Limit::of(&job, self.options.default_timeout, now);
        let deadline = limit.as_ref().and_then(|limit| started.checked_add(limit.after));
        let cx =
            Context::new(Arc::clone(&job), recoveries, deadline.map(Instant::into_std), Arc::clone(&self.surroundings));
        let span = tracing::info_span!(
            "job",
            job.id = %job.id,
            job.name = %job.name,
            job.queue = %job.queue,
            job.attempt = cx.attempt(),
        );
        let here = Polling::begin(self, &job);
        let attempt = span.in_scope(|| {
            CatchUnwind::call(|| {
                let (job, cx) = (Arc::clone(&job), cx.clone());
                if self.middleware.0.is_empty() {
                    handler.call(&job, cx)
                } else {
                    Next::first(Arc::clone(&self.middleware.0), Arc::clone(handler)).run(job, cx)
                }
            })
        });
        let is_blocking = handler.is_blocking();
        let running = Running { attempt, span, cx, job, receipt, now, started, limit, deadline, is_blocking };
        Begun::Running(Box::new(running), here)
    }
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::sync::mpsc as std_mpsc;

    use goose_core::{Backoff, Outcome, Result};

    use super::*;
    use crate::queue_broker::START;
    use crate::test_bench::{Number, TestBench, number};
    use crate::{JobBuilder, WorkerBuilder};

    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// Runs one job until an event has come, and says all events.
    async fn run(bench: &TestBench, worker: WorkerBuilder, job: JobBuilder, last: &str) -> Vec<String> {
        job.enqueue().await.unwrap();
        let worker = worker.start().await.unwrap();
        bench.events.wait(1, last).await;
        worker.stop().await.unwrap();
        bench.events.all()
    }

    /// A job that is dead at its first failure.
    fn once(bench: &TestBench, n: u32) -> JobBuilder {
        bench.job(n).retries(0)
    }

    #[tokio::test]
    async fn a_job_runs_with_its_arguments_and_context() {
        let bench = TestBench::new();
        let job = bench.job(7).retries(4).tag("vip").header("trace", "abc").timeout(SECOND * 60);
        let handler = |Number(n): Number, cx: Context| async move {
            assert_eq!((n, cx.attempt(), cx.max_attempts(), cx.recoveries()), (7, 1, 5, 0));
            assert_eq!(
                (cx.tags(), cx.header("trace"), cx.header("none")),
                (&["vip".to_owned()][..], Some("abc"), None)
            );
            assert!(cx.deadline().unwrap() > std::time::Instant::now() + SECOND * 30);
            assert_eq!(cx.job_id(), cx.job().id);
            assert!(!cx.is_cancelled());
        };
        assert_eq!(run(&bench, bench.worker().handle(handler), job, "succeeded").await, ["started 7", "succeeded 7"]);
    }

    #[tokio::test]
    async fn retries_run_in_the_retry_queue_until_one_succeeds() {
        let bench = TestBench::new();
        let job = bench.job(7).retries(5).backoff(Backoff::fixed(MILLI)).retry_queue("again");
        let handler = |_: Number, cx: Context| async move {
            assert_eq!(cx.job().attempts.last_retried_at.is_some(), cx.attempt() > 1);
            if cx.attempt() < 3 { Err("not yet") } else { Ok(()) }
        };
        let worker = bench.worker().queue("default").queue("again").handle(handler);
        let events = run(&bench, worker, job, "succeeded").await;
        let failure = ["started 7", "failed 7: not yet", "retried 7 for 1ms"];
        assert_eq!(events, [&failure[..], &failure[..], &["started 7", "succeeded 7"]].concat());
        let done = &bench.broker.seen().done[0];
        assert_eq!((done.attempts.retry_count, done.ready_queue().as_str()), (2, "again"));
        let attempts: Vec<u32> = done.attempts.failures.iter().map(|failure| failure.attempt).collect();
        assert_eq!(attempts, [1, 2]);
        assert!(done.attempts.first_failed_at.unwrap() >= START);
    }

    #[tokio::test]
    async fn panics_are_failed_attempts() {
        let bench = TestBench::new();
        let worker = bench.worker().handle(|Number(n)| async move {
            tokio::task::yield_now().await;
            assert!(n != 7, "seven is out");
        });
        let events = run(&bench, worker, once(&bench, 7), "died").await;
        let died = "died 7: retries-exhausted: panicked: seven is out";
        assert_eq!(events, ["started 7", "failed 7: panicked: seven is out", died]);

        let bench = TestBench::new();
        let worker = bench.worker().handle_blocking(|Number(n)| assert!(n != 7, "in a thread"));
        let events = run(&bench, worker, once(&bench, 7), "died").await;
        assert_eq!(events[1], "failed 7: panicked: in a thread");
    }

    /// An error that cannot be told, or not be dropped.
    #[derive(Debug)]
    struct Bomb {
        in_text: bool,
        in_drop: bool,
    }
    impl std::fmt::Display for Bomb {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.text())
        }
    }
    impl std::error::Error for Bomb {}
    impl Bomb {
        fn text(&self) -> &'static str {
            assert!(!self.in_text, "in its text");
            "a bomb"
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.in_drop, "in its destructor");
        }
    }

    #[tokio::test]
    async fn an_error_that_panics_is_a_failed_attempt() {
        for (in_text, in_drop, message) in
            [(true, false, "in its text"), (false, true, "in its destructor"), (true, true, "in its text")]
        {
            let bench = TestBench::new();
            let worker = bench.worker().handle(move |_: Number| async move { Err::<(), _>(Bomb { in_text, in_drop }) });
            let events = run(&bench, worker, once(&bench, 7), "died").await;
            assert_eq!(events[1], format!("failed 7: panicked: {message}"));
            assert_eq!(bench.broker.claimed(), 0);
        }
    }

    #[tokio::test]
    async fn a_job_whose_task_panics_outside_of_its_handler_is_handed_back() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.holds_panics = 1);
        let events = run(&bench, bench.worker().handle(|_: Number| async {}), bench.job(7), "succeeded").await;
        assert_eq!(events, ["started 7", "succeeded 7"]);
        assert_eq!((bench.broker.seen().released, bench.broker.claimed()), (1, 0));
    }

    #[tokio::test]
    async fn an_attempt_that_takes_too_long_is_cut() {
        let bench = TestBench::new();
        let (tell, told) = std_mpsc::channel();
        let worker = bench.worker().handle(move |_: Number, cx: Context| {
            let tell = tell.clone();
            // A task that outlives the attempt hears of its end.
            tokio::spawn(async move {
                cx.cancelled().await;
                tell.send(cx.is_cancelled()).unwrap();
            });
            future::pending::<()>()
        });
        let events = run(&bench, worker, once(&bench, 7).timeout(MILLI * 20), "died").await;
        assert_eq!(events[1], "failed 7: timed out after 20ms");
        tokio::task::spawn_blocking(move || assert!(told.recv_timeout(SECOND * 10).unwrap())).await.unwrap();
    }

    #[tokio::test]
    async fn the_default_timeout_is_for_jobs_without_one() {
        let bench = TestBench::new();
        let worker = bench.worker().default_timeout(MILLI * 5).handle(|_: Number| future::pending::<()>());
        assert_eq!(run(&bench, worker, once(&bench, 7), "died").await[1], "failed 7: timed out after 5ms");
    }

    #[tokio::test]
    async fn a_blocking_handler_is_told_of_its_timeout_and_waited_for() {
        let bench = TestBench::new();
        let returned = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let says = Arc::clone(&returned);
        let worker = bench.worker().handle_blocking(move |_: Number, cx: Context| {
            while !cx.is_cancelled() {
                std::thread::yield_now();
            }
            says.store(true, Ordering::SeqCst);
        });
        let events = run(&bench, worker, once(&bench, 7).timeout(MILLI * 5), "failed").await;
        assert!(returned.load(Ordering::SeqCst), "it had returned before it counted as failed");
        assert_eq!(events[1], "failed 7: timed out after 5ms");
    }

    #[tokio::test]
    async fn a_deadline_cuts_and_kills_whatever_retries_are_left() {
        let bench = TestBench::new();
        let mut job = bench.job(7).timeout(SECOND * 60).build().unwrap();
        job.enqueued_at = START;
        job.deadline = Some(START.saturating_add(SECOND / 4));
        assert!(bench.client.enqueue_jobs(vec![job]).await.unwrap().is_complete());
        let worker = bench.worker().handle(|_: Number| future::pending::<()>()).start().await.unwrap();
        bench.events.wait(1, "died").await;
        worker.stop().await.unwrap();
        let cut = "cut at the job's deadline";
        let died = format!("died 7: deadline-exceeded: {cut}");
        assert_eq!(bench.events.all(), ["started 7", &format!("failed 7: {cut}"), &died]);
    }

    #[tokio::test]
    async fn jobs_that_are_too_late_are_not_started() {
        let bench = TestBench::new();
        let late = |n, change: fn(&mut Job)| {
            let mut job = bench.job(n).build().unwrap();
            job.enqueued_at = START.saturating_sub(SECOND * 60);
            change(&mut job);
            job
        };
        let expired = late(1, |job| job.expires_at = Some(START.saturating_sub(MILLI)));
        let overdue = late(2, |job| job.deadline = Some(START.saturating_sub(MILLI)));
        assert!(bench.client.enqueue_jobs(vec![expired, overdue]).await.unwrap().is_complete());
        let worker = bench.worker().concurrency(1).handle(|_: Number| async {}).start().await.unwrap();
        bench.events.wait(1, "died 2").await;
        worker.stop().await.unwrap();
        let died = "died 2: deadline-exceeded: its deadline 2025-12-31T23:59:59.999Z passed before it was started";
        assert_eq!(bench.events.all(), ["expired 1", died]);
        assert_eq!((bench.broker.seen().discarded.len(), bench.broker.dead().len()), (1, 1));
    }

    #[derive(serde::Deserialize)]
    struct Other;
    impl goose_core::JobArgs for Other {
        const NAME: &'static str = "other";
    }

    #[tokio::test]
    async fn an_unknown_job_waits_for_a_worker_that_knows_it() {
        let bench = TestBench::new();
        let stranger = bench.worker().unknown_jobs(MILLI, SECOND * 60).handle(|_: Other| async {});
        bench.enqueue([7]).await;
        let stranger = stranger.start().await.unwrap();
        bench.events.wait(2, "parked 7 for 1ms").await;
        stranger.stop().await.unwrap();

        let worker = bench.worker().handle(|_: Number, cx: Context| async move {
            assert_eq!(cx.job().attempts.parked, None);
        });
        let worker = worker.start().await.unwrap();
        bench.events.wait(1, "succeeded 7").await;
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn an_unknown_job_dies_when_patience_ends() {
        let bench = TestBench::new();
        let stranger = bench.worker().unknown_jobs(MILLI, MILLI * 20).handle(|_: Other| async {});
        let events = run(&bench, stranger, bench.job(7), "died").await;
        assert!(
            events.last().unwrap().starts_with("died 7: unhandled: no worker handled number jobs for"),
            "{events:?}"
        );
        let (job, _) = &bench.broker.dead()[0];
        assert!(job.attempts.parked.unwrap().times > 1);
    }

    #[tokio::test]
    async fn a_job_whose_claim_is_unsure_is_not_started() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.claims_unsure = true);
        bench.enqueue([7]).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        bench.events.wait(1, "released").await;
        assert_eq!(bench.events.count("started"), 0);
        bench.broker.faults(|faults| faults.claims_unsure = false);
        bench.events.wait(1, "succeeded").await;
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn arguments_that_cannot_be_read_are_a_failure_to_be_retried() {
        let bench = TestBench::new();
        #[derive(Debug, serde::Deserialize)]
        struct Text(#[expect(dead_code, reason = "never read")] String);
        impl goose_core::JobArgs for Text {
            const NAME: &'static str = "number";
        }
        let worker = bench.worker().handle(|_: Text| async {});
        let events = run(&bench, worker, bench.job(7), "retried").await;
        assert!(events[1].starts_with("failed 7: cannot decode arguments as "), "{events:?}");
        assert_eq!(bench.broker.scheduled()[0].1.attempts.retry_count, 1);
    }

    #[tokio::test]
    async fn outcomes_are_obeyed() {
        let bench = TestBench::new();
        bench.enqueue(0..3).await;
        let handler = |Number(n)| async move {
            match n {
                0 => Outcome::Snooze(SECOND * 60),
                1 => Outcome::Discard("stale".to_owned()),
                _ => Outcome::Bury("hopeless".to_owned()),
            }
        };
        let worker = bench.worker().concurrency(1).prefetch(0).handle(handler).start().await.unwrap();
        bench.events.wait(1, "died").await;
        worker.stop().await.unwrap();
        let mut heard = bench.events.all();
        heard.retain(|line| !line.starts_with("started"));
        // Failures are told at once, the rest when it is stored: the order among jobs is not fixed.
        heard.sort();
        assert_eq!(
            heard,
            ["died 2: buried: hopeless", "discarded 1: stale", "failed 2: hopeless", "snoozed 0 for 60s"]
        );
    }

    #[tokio::test]
    async fn middleware_wraps_the_attempt_and_may_change_what_the_handler_sees_only() {
        async fn doubles(job: Arc<Job>, cx: Context, next: Next) -> Outcome {
            let mut changed = Job::clone(&job);
            changed.args = goose_client::ArgsCodec::Json.encode(&Number(number(&job) * 2)).unwrap();
            next.run(Arc::new(changed), cx).await
        }
        async fn outcome_to_snooze(job: Arc<Job>, cx: Context, next: Next) -> Outcome {
            match next.run(job, cx).await {
                Outcome::Discard(reason) if reason == "14" => Outcome::Snooze(SECOND),
                other => other,
            }
        }
        let bench = TestBench::new();
        let worker = bench.worker().middleware(outcome_to_snooze).middleware(doubles);
        let worker = worker.handle(|Number(n)| async move { Outcome::Discard(n.to_string()) });
        let events = run(&bench, worker, bench.job(7), "snoozed").await;
        assert_eq!(events, ["started 7", "snoozed 7 for 1s"]);
        assert_eq!(number(&bench.broker.scheduled()[0].1), 7);
    }

    #[tokio::test]
    async fn a_panic_in_middleware_is_a_failed_attempt() {
        let bench = TestBench::new();
        let broken = |_: Arc<Job>, _: Context, _: Next| -> future::Ready<Outcome> { panic!("in middleware") };
        let worker = bench.worker().middleware(broken).handle(|_: Number| async {});
        let events = run(&bench, worker, once(&bench, 7), "died").await;
        assert_eq!(events[1], "failed 7: panicked: in middleware");
    }

    #[tokio::test]
    async fn state_is_found_by_type_and_missed_by_name() {
        let bench = TestBench::new();
        let worker = bench.worker().state(String::from("database")).handle(|Number(n), cx: Context| async move {
            let name = cx.state::<String>()?;
            assert_eq!(*name, "database");
            if n == 7 {
                cx.state::<Number>()?;
            }
            Result::<()>::Ok(())
        });
        let events = run(&bench, worker, once(&bench, 7), "died").await;
        let missing = "the worker has no state of type `goose_worker::test_bench::Number`, \
                       add it with `WorkerBuilder::state`";
        assert_eq!(events[1], format!("failed 7: {missing}"));
    }

    #[tokio::test]
    async fn jobs_enqueue_jobs() {
        let bench = TestBench::new();
        let worker = bench.worker().handle(|Number(n), cx: Context| async move {
            if n > 0 {
                cx.client().perform_async(Number(n - 1)).await?;
            }
            Result::<()>::Ok(())
        });
        let events = run(&bench, worker, bench.job(3), "succeeded 0").await;
        assert_eq!(events.iter().filter(|line| line.starts_with("succeeded")).count(), 4);
    }

    #[tokio::test]
    async fn five_wide_ten_jobs_of_50_ms_take_about_110_ms() {
        let bench = TestBench::new();
        bench.enqueue(0..10).await;
        let start = Instant::now();
        let sleep = |_: Number| tokio::time::sleep(MILLI * 50);
        let worker = bench.worker().concurrency(5).handle(sleep).start().await.unwrap();
        bench.events.wait(10, "succeeded").await;
        let took = start.elapsed();
        assert!((MILLI * 100..MILLI * 200).contains(&took), "{took:?}");
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn hooks_hear_of_failures_and_deaths_and_cannot_hurt() {
        let bench = TestBench::new();
        let (tell, mut told) = mpsc::unbounded_channel();
        let tell_death = tell.clone();
        let worker = bench
            .worker()
            .on_error(|_| async { panic!("in a hook") })
            .on_error(move |failed: crate::FailedAttempt| {
                let tell = tell.clone();
                async move { tell.send(format!("{}: {}", failed.attempt, failed.error)).unwrap() }
            })
            .on_death(move |death: crate::Death| {
                let tell = tell_death.clone();
                async move { tell.send(format!("{} {}", number(&death.job.unwrap()), death.reason)).unwrap() }
            })
            .handle(|_: Number| async { Err::<(), _>("no") });
        let job = bench.job(7).retries(1).backoff(Backoff::fixed(Duration::ZERO));
        run(&bench, worker, job, "died").await;
        let mut heard = Vec::new();
        while let Some(line) = told.recv().await {
            heard.push(line);
        }
        assert_eq!(heard, ["1: no", "2: no", "7 retries-exhausted: no"]);
    }
}
