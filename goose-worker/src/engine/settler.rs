//! Tells the broker how jobs ended, many at a time, for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{Consumer, SettleError, Settlement};
use goose_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ended::{self, Ended, Report};
use super::health::Pulse;
use super::poller::rounds;
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

/// The settler of one pool.
///
/// Batches form by themselves: while one call is on its way, the ends of the next gather. So a lone job is
/// settled at once and a busy pool pays one round trip for many.
#[derive(Debug)]
pub(crate) struct Settler {
    consumer: Arc<dyn Consumer>,
    inbox: mpsc::Receiver<Message>,
    /// Ends that the broker has not stored yet, and in the same order what to report then. They live here
    /// and not in the loop: an end must not be lost while its claim may still be ours.
    settlements: Vec<Settlement>,
    reports: Vec<Report>,
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
        Self { consumer, inbox, settlements: Vec::new(), reports: Vec::new(), observers, pulse, closing }
    }

    fn take(&mut self, message: Message) {
        let ends = match message {
            Message::One(end) => {
                self.settlements.push(end.settlement);
                self.reports.push(end.report);
                return;
            }
            Message::Together(ends) => ends,
        };
        for end in ends {
            self.settlements.push(end.settlement);
            self.reports.push(end.report);
        }
    }

    /// Adds what has come meanwhile, up to a batch.
    fn gather(&mut self) {
        while self.settlements.len() < BATCH {
            match self.inbox.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => return,
            }
        }
    }

    /// One call. Keeps what must be told again, and answers the error that made it so.
    async fn settle(&mut self) -> Result<()> {
        let call = self.consumer.settle(&self.settlements);
        let Ok(answers) = tokio::time::timeout(CALL_LIMIT, call).await else {
            return Err(Error::new(ErrorKind::Unavailable, format!("settling took longer than {CALL_LIMIT:?}")));
        };
        let asked = self.settlements.len();
        let answered = answers.len();
        let mut answers = answers.into_iter();
        let mut again = Ok(());
        let settlements = std::mem::take(&mut self.settlements);
        for (settlement, report) in settlements.into_iter().zip(std::mem::take(&mut self.reports)) {
            match answers.next() {
                Some(Ok(())) => ended::stored(&settlement, &report, &self.observers),
                Some(Err(SettleError::Fenced)) => ended::fenced(&settlement, &report, &self.observers),
                Some(Err(SettleError::Broker(error))) if !error.is_retryable() => {
                    let error = format!("{error:#}");
                    tracing::error!(
                        ?settlement,
                        error,
                        "the broker refuses how a job ended, which stays claimed until this worker ends"
                    );
                }
                failed => {
                    self.settlements.push(settlement);
                    self.reports.push(report);
                    if again.is_ok() {
                        again = Err(unsettled(failed, asked, answered));
                    }
                }
            }
        }
        if again.is_ok() {
            self.pulse.progress();
        }
        again
    }
}

fn unsettled(answer: Option<Result<(), SettleError>>, asked: usize, answered: usize) -> Error {
    match answer {
        Some(Err(SettleError::Broker(error))) => {
            Error::new(error.kind(), "cannot tell the broker how jobs ended").with_source(error)
        }
        _ => Error::new(ErrorKind::Internal, format!("the broker answered {answered} of {asked} settlements")),
    }
}

impl Actor for Settler {
    async fn run(&mut self) -> Result<()> {
        let mut round = rounds();
        loop {
            self.pulse.beat();
            self.gather();
            if !self.settlements.is_empty() {
                self.settle().await?;
                continue;
            }
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return Ok(()),
                },
                () = self.closing.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
                _ = round.tick() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::test_bench::{Number, TestBench};

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
        let settler = worker.health().loops.into_iter().find(|each| each.health.name == "settler").unwrap();
        assert_eq!(settler.health.restarts, 3);
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
        let settler = worker.health().loops.into_iter().find(|each| each.health.name == "settler").unwrap();
        assert_eq!(settler.health.last_error.as_deref(), Some("the broker answered 0 of 1 settlements"));
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

    #[tokio::test]
    async fn an_end_that_the_broker_refuses_is_given_up_and_others_go_on() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.settles_refused = 1);
        bench.enqueue([1]).await;
        let worker = bench.worker().handle(|_: Number| async {}).start().await.unwrap();
        crate::test_bench::until("the refusal", || bench.broker.seen().settles.len() == 1).await;
        bench.enqueue([2]).await;
        bench.events.wait(1, "succeeded 2").await;
        worker.stop().await.unwrap();
        assert_eq!((bench.broker.seen().done.len(), bench.broker.claimed()), (1, 1));
    }
}
