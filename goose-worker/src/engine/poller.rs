//! Fetches as many jobs as there are free hands and a few more, and starts them.

use std::collections::VecDeque;
use std::future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use goose_core::Result;
use goose_core::broker::{Consumer, Delivery};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::complaints::Complaints;
use super::ended::Ended;
use super::executor::{Arrival, Bench};
use super::health::Pulse;
use super::pace::Pace;
use super::panics::CatchUnwind;
use super::runner;
use super::settler::Message;
use super::supervisor::{Actor, pause_after};

/// How often the loop goes round at least, so that others see it is alive; and how long a fetch may wait
/// before it is made anew, in case its answer was lost.
const ROUND: Duration = Duration::from_secs(5);
/// Without a round for this long the poller counts as stalled.
pub(crate) const STALLS_AFTER: Duration = Duration::from_secs(15);

/// A job that has waited for a hand for this long goes back: another worker may have one free.
const PATIENCE: Duration = Duration::from_millis(250);
/// A job that was recovered this often may be what kills its workers.
const SUSPECT_FROM: u32 = 2;

/// The poller of one pool.
#[derive(Debug)]
pub(crate) struct Poller {
    bench: Arc<Bench>,
    /// One permit per job that may run at once.
    hands: Arc<Semaphore>,
    /// How many of them there are.
    concurrency: usize,
    /// The most jobs to hold claimed and not started.
    prefetch: usize,
    /// Those jobs, in the order they were claimed. Lives here and not in the loop, so that a failure of the
    /// loop does not lose them.
    held: VecDeque<Arrival>,
    pace: Pace,
    /// Fetching failed and rests until then. Everything else goes on.
    pause: Option<Instant>,
    complaints: Complaints,
    /// Shared with each suspect that is held or runs.
    suspicion: Arc<()>,
    pulse: Arc<Pulse>,
    stopping: CancellationToken,
}

impl Poller {
    pub(crate) fn new(
        bench: Arc<Bench>,
        hands: Arc<Semaphore>,
        prefetch: usize,
        pulse: Arc<Pulse>,
        stopping: CancellationToken,
    ) -> Self {
        let concurrency = hands.available_permits();
        let (held, pace, suspicion) = (VecDeque::new(), Pace::new(), Arc::default());
        let complaints = Complaints::new();
        Self { bench, hands, concurrency, prefetch, held, pace, pause: None, complaints, suspicion, pulse, stopping }
    }

    /// Starts held jobs, as many as there are free hands.
    fn start_held(&mut self) {
        let free = self.hands.available_permits().min(self.held.len());
        let Ok(hands) = u32::try_from(free) else { return };
        if hands > 0
            && let Ok(hands) = Arc::clone(&self.hands).try_acquire_many_owned(hands)
        {
            let later = self.held.split_off(free);
            // Not waited for: the hands they hold tell when they end.
            runner::start(&self.bench, std::mem::replace(&mut self.held, later), hands);
        }
    }

    /// How many jobs to ask for now. Nothing while more than half of what may be held is there: many small
    /// fetches cost a broker more than few large ones.
    fn wanted(&mut self) -> usize {
        let mut may_hold = self.pace.prefetch(self.prefetch, self.bench.ended.load(Ordering::Relaxed));
        if Arc::strong_count(&self.suspicion) > 1 {
            // Whatever is held when the worker dies counts as a job that may have killed it.
            may_hold = 0;
        }
        if self.held.len() > may_hold / 2 {
            return 0;
        }
        (self.hands.available_permits() + may_hold).saturating_sub(self.held.len())
    }

    /// Whether to ask for more than a fetch on its way does. Jobs that end quickly are long done when its answer comes: a
    /// broker that gets to know of the free hands can work on the next ones meanwhile.
    fn more_than(&mut self, asked: usize) -> More {
        let (free, step) = (self.hands.available_permits(), (self.concurrency + self.prefetch).div_ceil(3));
        let wanted = if self.held.is_empty() { self.wanted() } else { 0 };
        // A pool that holds nothing is slow, or waits for what may have killed others.
        if wanted <= free {
            return More::No;
        }
        match (asked + step).checked_sub(wanted) {
            None | Some(0) => More::Now(wanted),
            Some(missing) if free + missing <= self.concurrency => More::WithFree(free + missing),
            Some(_) => More::No,
        }
    }

    /// Keeps what was fetched, or pauses.
    fn take(&mut self, fetched: Result<Vec<Delivery>, String>) {
        match fetched {
            Ok(deliveries) => {
                let at = Instant::now();
                for delivery in deliveries {
                    let suspicion = (delivery.recoveries >= SUSPECT_FROM).then(|| Arc::clone(&self.suspicion));
                    self.held.push_back(Arrival::new(delivery, at, suspicion));
                }
                self.pulse.progress();
            }
            Err(error) => {
                if self.complaints.is_due() {
                    tracing::warn!(error, "cannot fetch jobs, it will be tried again");
                } else {
                    tracing::debug!(error, "still cannot fetch jobs");
                }
                self.pause = Instant::now().checked_add(pause_after(self.pulse.failed(error)));
            }
        }
    }

    /// What was not started, to be given back in one go so that its order is kept.
    fn give_up_held(&mut self) -> Message {
        let released = self.held.drain(..).map(|Arrival { job, receipt, .. }| Ended::released(receipt, job));
        Message::Together(released.collect())
    }

    /// Gives back what was not started when the worker stops.
    async fn hand_back(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let message = self.give_up_held();
        if let Err(mpsc::error::SendError(lost)) = self.bench.settler.send(message).await {
            lost.warn("a job that was not started could not be handed back, it is left to its lease");
        }
    }
}

impl Actor for Poller {
    async fn run(&mut self) -> Result<()> {
        let (bench, hands) = (Arc::clone(&self.bench), Arc::clone(&self.hands));
        // Stays in flight while jobs end and start; dropped only to stop, or when it waits for too long.
        let mut fetch: Option<Fetch<'_>> = None;
        let mut round = rounds();
        loop {
            self.pulse.beat();
            self.start_held();
            let now = Instant::now();
            self.pause = self.pause.filter(|end| *end > now);
            if fetch.is_none() && self.pause.is_none() {
                let wanted = self.wanted();
                fetch = (wanted > 0).then(|| Fetch::begin(&*bench.consumer, wanted));
            }
            let more = fetch.as_ref().map_or(More::No, |fetch| self.more_than(fetch.up_to));
            if let More::Now(wanted) = more {
                // In this order: one call at a time. One that is dropped loses nothing.
                drop(fetch.take());
                fetch = Some(Fetch::begin(&*bench.consumer, wanted));
                continue;
            }
            let needs_hand = !self.held.is_empty() || (fetch.is_none() && self.pause.is_none());
            let patience_ends = self.held.front().map(|oldest| oldest.at + PATIENCE);
            let gives_up = patience_ends.is_some_and(|end| end <= now);
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => {
                    drop(fetch);
                    self.hand_back().await;
                    return Ok(());
                }
                fetched = Fetch::answer(&mut fetch) => {
                    fetch = None;
                    self.take(fetched);
                }
                // Given back at once: the next round takes all that are free by then.
                _ = hands.acquire(), if needs_hand => {}
                () = free(&hands, more) => {}
                // Waits while the settler has no room: then the broker takes nothing back either.
                Ok(room) = bench.settler.reserve(), if gives_up => {
                    tracing::debug!(jobs = self.held.len(), "work has become slow, held jobs are handed back");
                    // It would claim again at once what goes back now.
                    fetch = None;
                    self.pace.forget(bench.ended.load(Ordering::Relaxed));
                    room.send(self.give_up_held());
                }
                () = at(patience_ends), if !gives_up => {}
                () = at(self.pause) => {}
                _ = round.tick() => {
                    fetch = fetch.filter(|fetch| fetch.since.elapsed() < ROUND);
                }
            }
        }
    }
}

/// Whether to ask for more jobs than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    No,
    /// For so many.
    Now(usize),
    /// As soon as so many hands are free.
    WithFree(usize),
}

/// Comes when there are hands free for more jobs. They are given back at once: nobody else takes any.
async fn free(hands: &Semaphore, more: More) {
    let count = match more {
        More::WithFree(count) => u32::try_from(count).ok(),
        More::No | More::Now(_) => None,
    };
    match count {
        Some(count) => drop(hands.acquire_many(count).await),
        None => future::pending().await,
    }
}

/// A call to the broker that has not answered yet.
struct Fetch<'a> {
    answer: CatchUnwind<'a, Result<Vec<Delivery>>>,
    since: Instant,
    /// The most jobs it may bring.
    up_to: usize,
}

impl<'a> Fetch<'a> {
    fn begin(consumer: &'a dyn Consumer, up_to: usize) -> Self {
        Self { answer: CatchUnwind::call(|| consumer.fetch(up_to)), since: Instant::now(), up_to }
    }

    /// The answer of a fetch in flight, where an error or a panic is a text; never comes when there is none.
    async fn answer(fetch: &mut Option<Self>) -> Result<Vec<Delivery>, String> {
        match fetch {
            Some(fetch) => (&mut fetch.answer).await.and_then(|answer| answer.map_err(|error| format!("{error:#}"))),
            None => future::pending().await,
        }
    }
}

/// Comes at a moment, or never.
pub(crate) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => future::pending().await,
    }
}

/// Ticks every [`ROUND`], the first time after one.
pub(crate) fn rounds() -> Interval {
    let mut round = tokio::time::interval_at(Instant::now() + ROUND, ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    round
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use crate::Pool;
    use crate::test_bench::{Gate, Number, TestBench, number, until};

    #[tokio::test]
    async fn asks_for_as_many_jobs_as_there_are_free_hands() {
        let bench = TestBench::new();
        bench.enqueue(0..10).await;
        let gate = Gate::closed();
        let held = gate.clone();
        let handler = move |_: Number| {
            let gate = held.clone();
            async move { gate.pass().await }
        };
        let worker = bench.worker().concurrency(3).prefetch(0).handle(handler).start().await.unwrap();
        bench.events.wait(3, "started").await;
        assert_eq!(bench.broker.seen().fetches, [3]);
        assert_eq!((bench.broker.claimed(), bench.broker.ready("default").len()), (3, 7));
        gate.open();
        bench.events.wait(10, "succeeded").await;
        assert!(bench.broker.seen().fetches.iter().all(|up_to| (1..=3).contains(up_to)));
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_busy_pool_fetches_more_than_it_has_hands_within_its_bound() {
        let bench = TestBench::new();
        bench.enqueue(0..2000).await;
        let handler = |_: Number| async { tokio::task::yield_now().await };
        let worker = bench.worker().concurrency(4).prefetch(16).handle(handler).start().await.unwrap();
        bench.events.wait(2000, "succeeded").await;
        let fetches = bench.broker.seen().fetches;
        let widest = fetches.iter().copied().max().unwrap();
        assert!((5..=20).contains(&widest), "{widest}");
        assert!(fetches.len() < 1000, "{} fetches for 2000 jobs", fetches.len());
        worker.stop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_pool_asks_for_more_when_hands_come_free_during_a_fetch() {
        let bench = TestBench::new();
        bench.enqueue(0..40).await;
        let gate = Gate::closed();
        let held = gate.clone();
        let handler = move |Number(n)| {
            let gate = held.clone();
            async move {
                if n >= 36 {
                    gate.pass().await;
                }
            }
        };
        let worker = bench.worker().concurrency(4).prefetch(8).handle(handler).start().await.unwrap();
        until("the last four", || bench.events.count("started") == 40 && bench.broker.claimed() == 4).await;
        let before = bench.broker.seen().fetches;
        assert_eq!(before.last(), Some(&8), "all hands are busy: {before:?}");
        gate.open();
        until("a larger fetch", || bench.broker.seen().fetches.len() > before.len()).await;
        assert_eq!(bench.broker.seen().fetches[before.len()..], [12], "once, for all hands");
        bench.enqueue(100..200).await;
        bench.events.wait(140, "succeeded").await;
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn what_it_holds_goes_back_in_order_when_it_stops() {
        let bench = TestBench::new();
        bench.enqueue(0..100).await;
        let handler = |Number(n)| async move {
            if n == 40 {
                std::future::pending::<()>().await;
            }
        };
        let worker = bench.worker().concurrency(1).grace_period(Duration::ZERO).handle(handler);
        let worker = worker.start().await.unwrap();
        bench.events.wait(1, "started 40").await;
        // Either still held, or already given back because the one hand is busy.
        until("held jobs", || bench.broker.claimed() > 1 || bench.broker.seen().released > 0).await;
        bench.events.wait(40, "succeeded").await;
        worker.stop().await.unwrap();
        let ready: Vec<u32> = bench.broker.ready("default").iter().map(number).collect();
        assert_eq!(ready, (40..100).collect::<Vec<_>>());
        assert!(bench.broker.seen().released > 1);
        assert_eq!(bench.events.count("released"), bench.broker.seen().released);
    }

    #[tokio::test]
    async fn errors_and_panics_of_the_broker_do_not_end_it() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| (faults.fetch_errors, faults.fetch_panics) = (2, 1));
        bench.enqueue(0..3).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        bench.events.wait(3, "succeeded").await;
        let health = worker.health();
        let poller = health.loops.iter().find(|each| each.health.name == "poller").unwrap();
        assert_eq!((poller.pool.as_deref(), poller.health.restarts), (Some("default"), 3));
        assert_eq!(poller.health.last_error.as_deref(), Some("panicked: fetch panicked"));
        assert!(health.is_healthy());
        worker.stop().await.unwrap();
    }

    /// Blocks one job of many, and says how to let it go.
    fn one_slow_job(
        slow: u32,
    ) -> (Gate, impl Fn(Number) -> goose_core::BoxFuture<'static, ()> + Send + Sync + 'static) {
        let gate = Gate::closed();
        let held = gate.clone();
        let handler = move |Number(n)| -> goose_core::BoxFuture<'static, ()> {
            let gate = held.clone();
            Box::pin(async move {
                if n == slow {
                    gate.pass().await;
                }
            })
        };
        (gate, handler)
    }

    #[tokio::test(start_paused = true)]
    async fn held_jobs_go_back_when_all_hands_are_busy_for_long_and_are_not_fetched_again() {
        let bench = TestBench::new();
        // In the second case the queue is empty by then, and a fetch for more is on its way.
        for (jobs, held) in [(100, 59), (43, 2)] {
            let before = bench.broker.seen().released;
            bench.enqueue(0..jobs).await;
            let (gate, handler) = one_slow_job(40);
            let worker = bench.worker().concurrency(1).prefetch(100).handle(handler).start().await.unwrap();
            until("the hand-back", || bench.broker.seen().released > before).await;
            let ready: Vec<u32> = bench.broker.ready("default").iter().map(number).collect();
            assert_eq!(ready, (41..jobs).collect::<Vec<_>>());
            assert!(bench.broker.seen().released - before <= held);
            let again = timeout(Duration::from_secs(3), until("more claims", || bench.broker.claimed() > 1)).await;
            assert!(again.is_err(), "it holds jobs again that it cannot start");
            gate.open();
            until("the rest", || bench.broker.ready("default").is_empty() && bench.broker.claimed() == 0).await;
            worker.stop().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn held_jobs_are_started_while_fetching_pauses_after_an_error() {
        let bench = TestBench::new();
        bench.enqueue(0..100).await;
        let (gate, handler) = one_slow_job(40);
        let worker = bench.worker().concurrency(1).prefetch(16).handle(handler).start().await.unwrap();
        bench.events.wait(1, "started 40").await;
        let held = bench.broker.claimed() - 1;
        assert!(held > 4, "{held}");
        bench.broker.faults(|faults| faults.fetch_errors = usize::MAX);
        let start = Instant::now();
        gate.open();
        until("held jobs", || bench.broker.claimed() == 0).await;
        assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
        assert_eq!((bench.events.count("succeeded"), bench.events.count("released")), (41 + held, 0));
        until("a failure", || worker.health().loops.iter().any(|each| each.health.restarts > 0)).await;
        bench.broker.faults(|faults| faults.fetch_errors = 0);
        bench.events.wait(100, "succeeded").await;
        worker.stop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_fetched_for_later_while_a_suspect_is_there() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.recoveries = Some((40, 2)));
        bench.enqueue(0..1000).await;
        let gate = Gate::closed();
        let (held, broker, fetched) = (gate.clone(), bench.broker.clone(), Arc::new(OnceLock::new()));
        let before = Arc::clone(&fetched);
        let handler = move |Number(n)| {
            let (gate, broker, before) = (held.clone(), broker.clone(), Arc::clone(&before));
            async move {
                if n == 40 {
                    before.set(broker.seen().fetches.len()).unwrap();
                    gate.pass().await;
                }
            }
        };
        let worker = bench.worker().concurrency(2).prefetch(16).handle(handler).start().await.unwrap();
        bench.events.wait(999, "succeeded").await;
        let (before, fetches) = (*fetched.get().unwrap(), bench.broker.seen().fetches);
        assert!(fetches[..before].iter().any(|up_to| *up_to > 2), "it held nothing before: {fetches:?}");
        assert!(fetches[before..].iter().all(|up_to| *up_to == 1), "{fetches:?}");
        gate.open();
        bench.events.wait(1, "succeeded 40").await;
        bench.enqueue(2000..3000).await;
        bench.events.wait(2000, "succeeded").await;
        assert!(bench.broker.seen().fetches[fetches.len()..].iter().any(|up_to| *up_to > 2));
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn pools_serve_their_queues_by_weight_and_side_by_side() {
        let bench = TestBench::new();
        for n in 0..40 {
            bench.job(n).queue("a").enqueue().await.unwrap();
            bench.job(100 + n).queue("b").enqueue().await.unwrap();
        }
        bench.job(999).queue("alone").enqueue().await.unwrap();
        let gate = Gate::closed();
        let held = gate.clone();
        let handler = move |_: Number| {
            let gate = held.clone();
            async move { gate.pass().await }
        };
        let weighted = Pool::weighted([("a", 3), ("b", 1)]).concurrency(8).prefetch(0);
        let worker = bench.worker().pool(weighted).pool(Pool::queue("alone").concurrency(1)).handle(handler);
        let worker = worker.start().await.unwrap();
        bench.events.wait(9, "started").await;
        let started = bench.events.all();
        assert_eq!(started.iter().filter(|line| line.starts_with("started 10")).count(), 2, "{started:?}");
        assert!(started.contains(&"started 999".to_owned()), "{started:?}");
        gate.open();
        bench.events.wait(81, "succeeded").await;
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_strict_pool_empties_the_first_queue_first() {
        let bench = TestBench::new();
        for n in 0..5 {
            bench.job(n).queue("later").enqueue().await.unwrap();
            bench.job(100 + n).queue("urgent").enqueue().await.unwrap();
        }
        let pool = Pool::strict(["urgent", "later"]).concurrency(1).prefetch(0);
        let worker = bench.worker().pool(pool).handle(|_: Number| async {}).start().await.unwrap();
        bench.events.wait(10, "succeeded").await;
        worker.stop().await.unwrap();
        let done: Vec<u32> = bench.broker.seen().done.iter().map(number).collect();
        assert_eq!(done, [100, 101, 102, 103, 104, 0, 1, 2, 3, 4]);
    }
}
