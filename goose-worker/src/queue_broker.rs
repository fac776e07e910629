//! A small in-memory broker that obeys the contract, and can be told to fail, for the tests of the engine.
//!
//! Due times and claims follow tokio's clock, so tests with a paused clock need not wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::capability::{LiveWorker, QueueCounts, Statistics, Totals};
use goose_core::broker::{
    Broker, Consumer, ConsumerOptions, DeathReason, Delivery, EnqueueVerdict, LoopHealth, QueueSet, Receipt,
    SettleError, Settlement, Shares, Verdict,
};
use goose_core::{BoxFuture, Error, ErrorKind, Job, QueueName, Result, Schedule, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::queue_faults::{Faults, Seen};
use crate::test_bench::number;

/// When the broker's clock stood at the start of the test: any time will do.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

#[derive(Debug, Clone)]
pub(crate) struct QueueBroker {
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    born: Instant,
    ready: HashMap<QueueName, VecDeque<Ready>>,
    scheduled: BTreeMap<(Timestamp, u64), Job>,
    claimed: HashMap<Receipt, Job>,
    dead: Vec<(Job, DeathReason)>,
    next: u64,
    faults: Faults,
    seen: Seen,
}

#[derive(Debug, Clone)]
struct Ready {
    job: Job,
    since: Timestamp,
}

impl QueueBroker {
    pub(crate) fn new() -> Self {
        let state = State {
            born: Instant::now(),
            ready: HashMap::new(),
            scheduled: BTreeMap::new(),
            claimed: HashMap::new(),
            dead: Vec::new(),
            next: 0,
            faults: Faults::default(),
            seen: Seen::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), wake: Arc::new(Notify::new()) }
    }

    pub(crate) fn faults(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.state.lock().faults);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state.lock().seen.clone()
    }

    pub(crate) fn dead(&self) -> Vec<(Job, DeathReason)> {
        self.state.lock().dead.clone()
    }

    pub(crate) fn scheduled(&self) -> Vec<(Timestamp, Job)> {
        self.state.lock().scheduled.iter().map(|((due, _), job)| (*due, job.clone())).collect()
    }

    /// Jobs of a queue that are ready, in order.
    pub(crate) fn ready(&self, queue: &str) -> Vec<Job> {
        let queue = QueueName::new(queue).unwrap();
        let state = self.state.lock();
        state.ready.get(&queue).into_iter().flatten().map(|ready| ready.job.clone()).collect()
    }

    pub(crate) fn claimed(&self) -> usize {
        self.state.lock().claimed.len()
    }

    /// As if the broker had taken all claims for dead: their receipts are stale from now on.
    pub(crate) fn fence_all(&self) {
        self.state.lock().claimed.clear();
    }
}

impl State {
    fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.born.elapsed().as_millis()).unwrap();
        START.saturating_add(Duration::from_millis(passed))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn push(&mut self, job: Job, front: bool) {
        let since = self.now();
        let queue = self.ready.entry(job.ready_queue().clone()).or_default();
        let ready = Ready { job, since };
        if front { queue.push_front(ready) } else { queue.push_back(ready) }
    }

    fn schedule(&mut self, job: Job, due: Timestamp) {
        let number = self.number();
        self.scheduled.insert((due, number), job);
    }

    fn promote(&mut self) {
        let now = self.now();
        let mut due: Vec<Job> = Vec::new();
        while let Some(entry) = self.scheduled.first_entry().filter(|entry| entry.key().0 <= now) {
            due.push(entry.remove());
        }
        for job in due.into_iter().rev() {
            self.push(job, true);
        }
    }

    fn take(&mut self, queue: &QueueName, up_to: usize) -> Vec<Delivery> {
        let now = self.now();
        let mut taken = Vec::new();
        while taken.len() < up_to {
            let Some(Ready { job, since }) = self.ready.get_mut(queue).and_then(VecDeque::pop_front) else { break };
            let receipt = Receipt::new([self.number(), 0, 0, 0]);
            self.claimed.insert(receipt, job.clone());
            let recoveries = self.faults.recoveries.filter(|(suspect, _)| *suspect == number(&job));
            let mut delivery = Delivery::new(job, receipt, since, now);
            delivery.recoveries = recoveries.map_or(0, |(_, recoveries)| recoveries);
            taken.push(delivery);
        }
        taken
    }

    fn claim(&mut self, queues: &QueueSet, up_to: usize) -> Vec<Delivery> {
        self.promote();
        let mut deliveries = Vec::new();
        let shares = Shares::of(queues).next(up_to);
        // Shares first, then what is left over.
        for quotas in [shares, vec![up_to; queues.names().count()]] {
            for (queue, quota) in queues.names().zip(quotas) {
                let room = quota.min(up_to - deliveries.len());
                deliveries.extend(self.take(queue, room));
            }
        }
        self.seen.most_claimed = self.seen.most_claimed.max(self.claimed.len());
        deliveries
    }

    fn settle(&mut self, settlement: &Settlement) -> Result<(), SettleError> {
        let Some(held) = self.claimed.remove(&settlement.receipt) else { return Err(SettleError::Fenced) };
        let now = self.now();
        match settlement.verdict.clone() {
            Verdict::Done => self.seen.done.push(held),
            Verdict::Discard => self.seen.discarded.push(held.id),
            Verdict::Retry { job, delay } | Verdict::Snooze { job, delay } => {
                self.schedule(*job, now.saturating_add(delay));
            }
            Verdict::Bury { job, reason } => self.dead.push((*job, reason)),
            verdict => return Err(SettleError::Broker(Error::new(ErrorKind::Internal, format!("{verdict:?}")))),
        }
        Ok(())
    }

    /// How a whole call fails, if it does.
    fn fault(&mut self, settlements: &[Settlement]) -> Option<ErrorKind> {
        let is_refused = |end: &Settlement| {
            let job = self.claimed.get(&end.receipt);
            self.faults.refuses.is_some_and(|refused| job.is_some_and(|job| number(job) == refused))
        };
        let has_refused = settlements.iter().any(is_refused);
        let has_retry = settlements.iter().any(|end| matches!(end.verdict, Verdict::Retry { .. }));
        if strikes(&mut self.faults.settle_errors) {
            Some(ErrorKind::Unavailable)
        } else if strikes(&mut self.faults.settles_closed) {
            Some(ErrorKind::Closed)
        } else if self.faults.full && has_retry {
            Some(ErrorKind::Full)
        } else {
            (has_refused || strikes(&mut self.faults.settles_refused)).then_some(ErrorKind::Corrupt)
        }
    }

    fn settle_all(&mut self, settlements: &[Settlement]) -> Vec<Result<(), SettleError>> {
        let mut released = Vec::new();
        let mut answers = Vec::new();
        for settlement in settlements {
            if !matches!(settlement.verdict, Verdict::Release) {
                answers.push(self.settle(settlement));
            } else if let Some(job) = self.claimed.remove(&settlement.receipt) {
                released.push(job);
                answers.push(Ok(()));
            } else {
                answers.push(Err(SettleError::Fenced));
            }
        }
        self.seen.released += released.len();
        for job in released.into_iter().rev() {
            self.push(job, true);
        }
        answers
    }
}

/// Uses up one of so many faults.
fn strikes(left: &mut usize) -> bool {
    let strikes = *left > 0;
    *left = left.saturating_sub(1);
    strikes
}

fn away() -> Error {
    Error::new(ErrorKind::Unavailable, "the broker is away")
}

impl Broker for QueueBroker {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn enqueue(&self, jobs: Vec<Job>) -> BoxFuture<'_, Result<Vec<EnqueueVerdict>>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            let verdicts = jobs.iter().map(|job| EnqueueVerdict::Enqueued(job.id)).collect();
            let now = state.now();
            for job in jobs {
                match job.schedule {
                    Schedule::In(delay) => state.schedule(job, now.saturating_add(delay)),
                    Schedule::At(time) => state.schedule(job, time),
                    _ => state.push(job, false),
                }
            }
            self.wake.notify_waiters();
            Ok(verdicts)
        })
    }

    fn consume(&self, options: ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn Consumer>>> {
        Box::pin(async move {
            if let Some(allowed) = &mut self.state.lock().faults.consumes_allowed
                && !strikes(allowed)
            {
                return Err(away());
            }
            Ok(Box::new(QueueConsumer { broker: self.clone(), options }) as Box<dyn Consumer>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn statistics(&self) -> Option<&dyn Statistics> {
        Some(self)
    }
}

impl Statistics for QueueBroker {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueCounts>>> {
        Box::pin(async {
            let state = self.state.lock();
            let counts = state.ready.iter().map(|(queue, ready)| {
                let mut counts = QueueCounts::empty(queue.clone());
                counts.ready = ready.len().try_into().unwrap();
                let running = state.claimed.values().filter(|job| job.ready_queue() == queue).count();
                counts.running = running.try_into().unwrap();
                counts
            });
            Ok(counts.collect())
        })
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(async { Ok(Totals::default()) })
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<LiveWorker>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[derive(Debug)]
struct QueueConsumer {
    broker: QueueBroker,
    options: ConsumerOptions,
}

impl Consumer for QueueConsumer {
    fn fetch(&self, up_to: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            {
                let mut state = self.broker.state.lock();
                state.seen.fetches.push(up_to);
                if strikes(&mut state.faults.fetch_errors) {
                    return Err(away());
                }
                if strikes(&mut state.faults.fetch_panics) {
                    drop(state);
                    panic!("fetch panicked");
                }
            }
            loop {
                let mut woken = std::pin::pin!(self.broker.wake.notified());
                woken.as_mut().enable();
                let next_due = {
                    let mut state = self.broker.state.lock();
                    // Claimed and handed out without an await in between: a dropped call loses nothing.
                    let deliveries = state.claim(&self.options.queues, up_to);
                    if !deliveries.is_empty() {
                        return Ok(deliveries);
                    }
                    let now = state.now();
                    state.scheduled.keys().next().map(|(due, _)| due.since(now))
                };
                match next_due {
                    Some(pause) => drop(tokio::time::timeout(pause, woken).await),
                    None => woken.await,
                }
            }
        })
    }

    fn settle<'a>(&'a self, settlements: &'a [Settlement]) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            // A round trip takes a moment, in which other tasks run.
            tokio::task::yield_now().await;
            let (answers, hangs) = {
                let mut state = self.broker.state.lock();
                state.seen.settles.push(settlements.len());
                if strikes(&mut state.faults.settle_panics) {
                    drop(state);
                    panic!("settle panicked");
                }
                let answers = match state.fault(settlements) {
                    Some(kind) => {
                        settlements.iter().map(|_| Err(SettleError::Broker(Error::new(kind, "no")))).collect()
                    }
                    None => state.settle_all(settlements),
                };
                let lost = strikes(&mut state.faults.settle_answers_lost);
                (if lost { Vec::new() } else { answers }, state.faults.settle_hangs)
            };
            if hangs {
                std::future::pending::<()>().await;
            }
            self.broker.wake.notify_waiters();
            answers
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let (panics, hangs) = {
                let faults = &mut self.broker.state.lock().faults;
                (strikes(&mut faults.stop_panics), faults.stop_hangs)
            };
            assert!(!panics, "stop panicked");
            if hangs {
                std::future::pending::<()>().await;
            }
            self.broker.state.lock().seen.stops += 1;
            Ok(())
        })
    }

    fn holds(&self, _: &Receipt) -> bool {
        let mut state = self.broker.state.lock();
        if strikes(&mut state.faults.holds_panics) {
            drop(state);
            panic!("holds panicked");
        }
        !state.faults.claims_unsure
    }

    fn health(&self) -> Vec<LoopHealth> {
        vec![LoopHealth::new("heartbeat", Duration::ZERO, Duration::from_secs(1))]
    }
}
