//! Tells the broker how jobs ended, many at a time, for as long as it takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{Consumer, Receipt, SettleError, Settlement, Verdict};
use goose_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ended::{self, Ended, Report};
use super::health::Pulse;
use super::panics::CatchUnwind;
use super::poller::{at, rounds};
use super::refused::{self, Refused};
use super::supervisor::Actor;
use crate::observers::Observers;

/// The most ends told to the broker in one call, unless more must be told together.
const BATCH: usize = 256;
/// How many ends may wait for the settler before hands begin to wait.
pub(crate) const INBOX: usize = 1024;
/// A call that takes longer is made again: that is safe, because an end that was stored is fenced then.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Without a round for this long the settler counts as stalled.
pub(crate) const STALLS_AFTER: Duration = Duration::from_secs(15);

/// What hands and poller send.
#[derive(Debug)]
pub(crate) enum Message {
    One(Ended),
    /// Ends of one call, whose order must be kept.
    Together(Vec<Ended>),
}

impl Message {
    /// Says of each of its jobs what has become of it.
    pub(crate) fn warn(&self, what: &str) {
        let ends = match self {
            Self::One(end) => std::slice::from_ref(end),
            Self::Together(ends) => ends,
        };
        ends.iter().for_each(|end| ended::warn(&end.settlement, &end.report, what));
    }
}

/// The settler of one pool.
///
/// Batches form by themselves: while one call is on its way, the ends of the next gather. So a lone job is
/// settled at once and a busy pool pays one round trip for many.
///
/// Some brokers answer all ends of a call with the error of one. So when calls fail, ends are told in smaller and
/// smaller pieces, those that need no room first, until the guilty ones stand alone. Those are kept apart, and the
/// others go on.
#[derive(Debug)]
pub(crate) struct Settler {
    consumer: Arc<dyn Consumer>,
    inbox: mpsc::Receiver<Message>,
    /// Ends that the broker has not stored yet, and in the same order what to report then. They live here
    /// and not in the loop: an end must not be lost while its claim may still be ours.
    settlements: Vec<Settlement>,
    reports: Vec<Report>,
    /// The most ends of the next call. When there are more, the call takes the last ones.
    piece: usize,
    /// Calls that failed for a reason that passes, since the last one that did not.
    failed_in_a_row: u32,
    /// Calls in which the broker has stored something.
    answered: u64,
    /// Ends that failed alone, and how many calls had been answered by then. Once there are more, the broker was
    /// there and it is the end that it cannot store.
    accused: HashMap<Receipt, u64>,
    refused: Refused,
    observers: Observers,
    pulse: Arc<Pulse>,
    /// No more ends will come; the loop ends when it has told all.
    closing: CancellationToken,
}

impl Settler {
    pub(crate) fn new(
        consumer: Arc<dyn Consumer>,
        inbox: mpsc::Receiver<Message>,
        observers: Observers,
        pulse: Arc<Pulse>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            consumer,
            inbox,
            settlements: Vec::new(),
            reports: Vec::new(),
            piece: usize::MAX,
            failed_in_a_row: 0,
            answered: 0,
            accused: HashMap::new(),
            refused: Refused::default(),
            observers,
            pulse,
            closing,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::One(end) => self.put(end.settlement, end.report),
            Message::Together(ends) => ends.into_iter().for_each(|end| self.put(end.settlement, end.report)),
        }
    }

    fn put(&mut self, settlement: Settlement, report: Report) {
        self.settlements.push(settlement);
        self.reports.push(report);
    }

    /// Adds what has come meanwhile, up to a batch.
    fn gather(&mut self) {
        while self.settlements.len() < BATCH && self.has_room() {
            match self.inbox.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => return,
            }
        }
    }

    /// A broker that takes nothing must not fill the memory: jobs wait, until hands do.
    fn has_room(&self) -> bool {
        self.refused.len() < refused::MOST || self.closing.is_cancelled()
    }

    /// How many of the last ends the next call tells. Where it cannot tell all, puts those last that need no room.
    fn arrange(&mut self) -> usize {
        let all = self.settlements.len();
        if self.piece >= all {
            return all;
        }
        let settlements = std::mem::take(&mut self.settlements).into_iter();
        let mut ends: Vec<_> = settlements.zip(std::mem::take(&mut self.reports)).collect();
        // Stable, so that releases keep their order. Later ones are told first, as they go to the front.
        ends.sort_by_key(|(end, _)| needs_no_room(&end.verdict) && !self.accused.contains_key(&end.receipt));
        (self.settlements, self.reports) = ends.into_iter().unzip();
        self.piece
    }

    /// One call. Keeps what must be told again; an error asks for a pause before that.
    async fn settle(&mut self) -> Result<()> {
        let size = self.arrange();
        let from = self.settlements.len() - size;
        let answers = match tell(&*self.consumer, &self.settlements[from..]).await {
            Ok(answers) => answers,
            Err(error) => return self.failed(error, size),
        };
        let ends = self.settlements.split_off(from).into_iter().zip(self.reports.split_off(from));
        let (mut told, mut failed) = (Vec::new(), Vec::new());
        for (end, answer) in ends.zip(answers) {
            match answer {
                Ok(fate) => told.push((end, fate)),
                Err(error) => failed.push((end, error)),
            }
        }
        // Where the broker has stored some ends it judges each one by itself.
        let judged_alone = size == 1 || !told.is_empty();
        let (mut passing, mut refused) = (None, None);
        for ((settlement, report), error) in failed {
            if error.is_retryable() {
                self.put(settlement, report);
                passing.get_or_insert(error);
            } else if judged_alone {
                self.refuse(settlement, report, &error);
            } else {
                self.put(settlement, report);
                refused.get_or_insert(error);
            }
        }
        if !told.is_empty() {
            self.answered += 1;
            self.pulse.progress();
        }
        // Reports come last: whatever they meet, no end is lost.
        for ((settlement, report), fate) in told {
            self.accused.remove(&settlement.receipt);
            fate.report(&settlement, &report, &self.observers);
        }
        if let Some(error) = refused {
            // No pause: the next call is another one.
            self.pulse.note(refusal(&error));
            self.piece = size / 2;
            return Ok(());
        }
        if let Some(error) = passing {
            return self.failed(error, size);
        }
        self.failed_in_a_row = 0;
        self.piece = if self.piece >= BATCH { usize::MAX } else { self.piece * 2 };
        Ok(())
    }

    /// A call of so many ends failed for a reason that passes, and they stand at the end again.
    fn failed(&mut self, error: Error, size: usize) -> Result<()> {
        self.failed_in_a_row += 1;
        if size > 1 {
            if self.failed_in_a_row > 1 {
                self.piece = size / 2;
            }
        } else if let (Some(settlement), Some(report)) = (self.settlements.pop(), self.reports.pop()) {
            let answered = *self.accused.entry(settlement.receipt).or_insert(self.answered);
            if answered < self.answered {
                self.refuse(settlement, report, &error);
                return Ok(());
            }
            // The others first.
            self.settlements.insert(0, settlement);
            self.reports.insert(0, report);
            self.piece = 1;
        }
        Err(Error::new(error.kind(), "cannot tell the broker how jobs ended").with_source(error))
    }

    /// Keeps an end apart that the broker will not store for now.
    fn refuse(&mut self, settlement: Settlement, report: Report, error: &Error) {
        let id = ended::job(&settlement, &report).map(|job| job.id);
        self.accused.remove(&settlement.receipt);
        self.refused.add(settlement, report);
        self.pulse.hold_up(true);
        let error = refusal(error);
        tracing::error!(
            job.id = id.map(tracing::field::display),
            error,
            "the job stays claimed until the broker takes its end, which is told again and again"
        );
        self.pulse.note(error);
    }

    /// Tells a refused end again.
    async fn repeat(&mut self) {
        let Some((place, end)) = self.refused.due() else { return };
        let answer = tell(&*self.consumer, std::slice::from_ref(&end.settlement)).await;
        match answer.and_then(|answers| answers.into_iter().collect::<Result<Vec<Fate>>>()) {
            Ok(fates) => {
                let end = self.refused.remove(place);
                self.pulse.hold_up(!self.refused.is_empty());
                fates.into_iter().for_each(|fate| fate.report(&end.settlement, &end.report, &self.observers));
            }
            Err(error) => {
                end.put_off(self.closing.is_cancelled());
                self.pulse.note(refusal(&error));
            }
        }
    }
}

fn refusal(error: &Error) -> String {
    format!("the broker refuses how a job ended: {error:#}")
}

/// What became of an end that need not be told again.
enum Fate {
    Stored,
    Fenced,
    /// The broker is closed, and the session with it: the job is recovered when its lease has ended.
    Gone,
}

impl Fate {
    fn report(self, settlement: &Settlement, report: &Report, observers: &Observers) {
        match self {
            Self::Stored => ended::stored(settlement, report, observers),
            Self::Fenced => ended::fenced(settlement, report, observers),
            Self::Gone => ended::warn(settlement, report, "the broker was closed before it knew how a job ended"),
        }
    }
}

/// Tells the broker some ends, in one call. An error is one of the call as a whole: whatever it is, it may pass.
async fn tell(consumer: &dyn Consumer, ends: &[Settlement]) -> Result<Vec<Result<Fate>>> {
    let call = CatchUnwind::call(|| consumer.settle(ends));
    let answers = match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(panic)) => return Err(Error::new(ErrorKind::Internal, panic)),
        Err(_) => {
            return Err(Error::new(ErrorKind::Unavailable, format!("settling took longer than {CALL_LIMIT:?}")));
        }
    };
    if answers.len() != ends.len() {
        let message = format!("the broker answered {} of {} settlements", answers.len(), ends.len());
        return Err(Error::new(ErrorKind::Internal, message));
    }
    let fate = |answer| match answer {
        Ok(()) => Ok(Fate::Stored),
        Err(SettleError::Fenced) => Ok(Fate::Fenced),
        Err(SettleError::Broker(error)) if error.kind() == ErrorKind::Closed => Ok(Fate::Gone),
        Err(SettleError::Broker(error)) => Err(error),
        Err(other) => Err(Error::new(ErrorKind::Internal, "the broker's answer is not known here").with_source(other)),
    };
    Ok(answers.into_iter().map(fate).collect())
}

/// Whether an end can be stored where there is no room left.
fn needs_no_room(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Done | Verdict::Discard | Verdict::Release)
}

impl Actor for Settler {
    async fn run(&mut self) -> Result<()> {
        let mut round = rounds();
        let mut drained = false;
        loop {
            self.pulse.beat();
            self.gather();
            self.repeat().await;
            if !self.settlements.is_empty() {
                self.settle().await?;
                continue;
            }
            if drained && self.refused.is_empty() {
                return Ok(());
            }
            let next_repeat = self.refused.next_due();
            let takes = !drained && self.has_room();
            tokio::select! {
                biased;
                message = self.inbox.recv(), if takes => match message {
                    Some(message) => self.take(message),
                    None => drained = true,
                },
                () = self.closing.cancelled(), if !self.inbox.is_closed() => {
                    self.inbox.close();
                    self.refused.hurry();
                }
                () = at(next_repeat) => {}
                _ = round.tick() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use goose_core::ErrorKind;

    use crate::test_bench::{Number, TestBench, until};
    use crate::{Worker, WorkerLoop};

    #[tokio::test]
    async fn ends_gather_while_a_call_is_on_its_way() {
        let bench = TestBench::new();
        bench.enqueue(0..500).await;
        let worker = bench.worker().concurrency(100).handle(|_: Number| async {}).start().await.unwrap();
        bench.events.wait(500, "succeeded").await;
        let settles = bench.broker.seen().settles;
        assert!(settles.len() < 250, "{} calls for 500 jobs", settles.len());
        assert!(settles.iter().all(|size| *size <= super::BATCH), "{settles:?}");
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn what_the_broker_could_not_store_is_told_again_until_it_is() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| (faults.settle_errors, faults.settle_panics) = (2, 1));
        bench.enqueue(0..10).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        bench.events.wait(10, "succeeded").await;
        assert_eq!((bench.broker.seen().done.len(), bench.broker.claimed()), (10, 0));
        assert_eq!(settler(&worker).health.restarts, 3);
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn repeating_what_was_stored_is_fenced_and_harmless() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.settle_answers_lost = 1);
        bench.enqueue([7]).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        bench.events.wait(1, "fenced").await;
        assert_eq!(bench.broker.seen().done.len(), 1);
        assert_eq!(bench.events.all(), ["started 7", "fenced 7"]);
        let last_error = settler(&worker).health.last_error;
        let answers = "cannot tell the broker how jobs ended: the broker answered 0 of 1 settlements";
        assert_eq!(last_error.as_deref(), Some(answers));
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_late_end_is_fenced_and_says_nothing_else() {
        let bench = TestBench::new();
        bench.enqueue([7]).await;
        let broker = bench.broker.clone();
        let handler = move |_: Number| {
            let broker = broker.clone();
            async move { broker.fence_all() }
        };
        let worker = bench.worker().handle(handler).start().await.unwrap();
        bench.events.wait(1, "fenced").await;
        worker.stop().await.unwrap();
        assert_eq!(bench.events.all(), ["started 7", "fenced 7"]);
        assert!(bench.broker.seen().done.is_empty());
    }

    fn settler(worker: &Worker) -> WorkerLoop {
        worker.health().loops.into_iter().find(|each| each.health.name == "settler").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_end_is_told_again_until_it_is_taken_and_others_go_on() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.settles_refused = 4);
        bench.enqueue([1]).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        until("the refusal", || !worker.health().is_healthy()).await;
        let health = settler(&worker).health;
        assert_eq!(health.last_error.as_deref(), Some("the broker refuses how a job ended: no"));
        assert_eq!((health.is_stalled(), health.restarts), (true, 0));
        bench.events.wait(1, "succeeded 1").await;
        assert_eq!((bench.broker.seen().settles.len(), bench.broker.claimed()), (5, 0));
        until("its health", || worker.health().is_healthy()).await;

        bench.broker.faults(|faults| faults.refuses = Some(2));
        bench.enqueue(2..5).await;
        bench.events.wait(2, "succeeded").await;
        bench.events.wait(1, "succeeded 4").await;
        assert_eq!((bench.events.count("succeeded 2"), worker.health().is_healthy()), (0, false));
        bench.broker.faults(|faults| faults.refuses = None);
        bench.events.wait(1, "succeeded 2").await;
        worker.stop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_refused_for_one_end_is_told_in_pieces() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.refuses = Some(17));
        bench.enqueue(0..100).await;
        let worker = bench.worker().concurrency(100).handle(|_: Number| async {}).start().await.unwrap();
        bench.events.wait(99, "succeeded").await;
        assert_eq!((bench.events.count("succeeded 17"), bench.broker.claimed()), (0, 1));
        let calls = bench.broker.seen().settles.len();
        assert!(calls < 60, "{calls} calls");
        bench.broker.faults(|faults| faults.refuses = None);
        bench.events.wait(1, "succeeded 17").await;
        worker.stop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn retries_that_do_not_fit_hold_up_nobody_else() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.full = true);
        bench.enqueue(0..100).await;
        let handler = |Number(n)| async move { if n % 10 == 0 { Err("no") } else { Ok(()) } };
        let worker = bench.worker().concurrency(100).handle(handler).start().await.unwrap();
        bench.events.wait(90, "succeeded").await;
        // With others stored in between, the broker is there: it is they that it cannot store.
        bench.enqueue([101]).await;
        bench.events.wait(1, "succeeded 101").await;
        assert_eq!((bench.events.count("retried"), bench.broker.claimed()), (0, 10));
        bench.broker.faults(|faults| faults.full = false);
        bench.events.wait(10, "retried").await;
        until("its health", || worker.health().is_healthy()).await;
        worker.stop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_always_fails_is_found_out_and_then_costs_the_others_no_pause() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.full = true);
        let handler = |Number(n)| async move { if n == 0 { Err("no") } else { Ok(()) } };
        let worker = bench.worker().handle(handler).start().await.unwrap();
        for n in 0..3 {
            bench.enqueue([n]).await;
        }
        bench.events.wait(2, "succeeded").await;
        // It was the last one, and the broker might have gone. The next one shows that it is there.
        bench.enqueue([3]).await;
        until("the guilty one", || !worker.health().is_healthy()).await;
        let restarts = settler(&worker).health.restarts;
        for n in 4..20 {
            bench.enqueue([n]).await;
            bench.events.wait(1, &format!("succeeded {n}")).await;
        }
        assert_eq!(settler(&worker).health.restarts, restarts);
        bench.broker.faults(|faults| faults.full = false);
        bench.events.wait(1, "retried 0").await;
        worker.stop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_outage_makes_no_end_guilty() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.settle_errors = 14);
        bench.enqueue(0..300).await;
        let worker = bench.worker().concurrency(300).handle(|_: Number| async {}).start().await.unwrap();
        until("the outage", || settler(&worker).health.restarts >= 14).await;
        assert!(!settler(&worker).health.is_stalled());
        bench.events.wait(300, "succeeded").await;
        assert!(bench.broker.seen().settles.len() < 80, "{:?}", bench.broker.seen().settles);
        worker.stop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_tells_refused_ends_again_and_says_what_was_not_taken() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.refuses = Some(1));
        bench.enqueue([1]).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        // By now the pauses are longer than a stop waits for the last outcomes.
        until("refusals", || bench.broker.seen().settles.len() == 5).await;
        let before = bench.broker.seen().settles.len();
        let error = worker.stop().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(bench.broker.seen().settles.len() > before + 3, "{:?}", bench.broker.seen().settles);
        assert_eq!((bench.broker.claimed(), bench.broker.seen().stops), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_refuses_everything_gets_no_more_jobs_run() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.settles_refused = usize::MAX);
        bench.enqueue(0..4000).await;
        let worker = bench.worker().concurrency(50).handle(|_: Number| async {}).start().await.unwrap();
        until("repeats", || bench.broker.seen().settles.len() > 2 * super::refused::MOST).await;
        let most = super::refused::MOST + super::INBOX + super::BATCH + 50;
        assert!(bench.events.count("started") <= most, "{}", bench.events.count("started"));
        bench.broker.faults(|faults| faults.settles_refused = 0);
        bench.events.wait(4000, "succeeded").await;
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_broker_is_told_nothing_more() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.settles_closed = 1);
        bench.enqueue([1]).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        until("the answer", || bench.broker.seen().settles.len() == 1).await;
        bench.enqueue([2]).await;
        bench.events.wait(1, "succeeded 2").await;
        worker.stop().await.unwrap();
        assert_eq!((bench.broker.claimed(), bench.broker.seen().settles.len()), (1, 2));
    }
}
