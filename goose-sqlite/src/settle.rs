//! Ending claims.

use std::time::Duration;

use goose_core::broker::{DeathCause, DeathReason, SettleError, Settlement, Verdict};
use goose_core::{QueueName, Result, codec};
use tokio::sync::oneshot;

use crate::encoding::{Claim, kind};
use crate::error::SqlResult;
use crate::places::Target;
use crate::tx::Tx;
use crate::work::Work;

/// Ends of claims, encoded by the caller's task.
pub(crate) struct Settle {
    ends: Vec<End>,
    /// Per end, whether the claim still held; in order.
    held: Vec<bool>,
    reply: oneshot::Sender<Result<Vec<bool>>>,
}

struct End {
    claim: Claim,
    action: Action,
}

enum Action {
    Done,
    Discard,
    Again { queue: QueueName, kind: i64, delay: Duration, envelope: Vec<u8> },
    Bury { queue: QueueName, envelope: Vec<u8>, reason: DeathReason },
    Release,
}

impl Settle {
    /// The work, and where the answer will arrive.
    pub(crate) fn work(settlements: &[Settlement]) -> (Box<dyn Work>, oneshot::Receiver<Result<Vec<bool>>>) {
        let (reply, answer) = oneshot::channel();
        let ends = settlements.iter().map(End::of).collect();
        (Box::new(Self { ends, held: Vec::new(), reply }), answer)
    }
}

impl End {
    fn of(settlement: &Settlement) -> Self {
        let again = |job: &goose_core::Job, kind, delay| Action::Again {
            queue: job.ready_queue().clone(),
            kind,
            delay,
            envelope: codec::encode(job),
        };
        let action = match &settlement.verdict {
            Verdict::Done => Action::Done,
            Verdict::Discard => Action::Discard,
            Verdict::Retry { job, delay } => again(job, kind::RETRY, *delay),
            Verdict::Snooze { job, delay } => again(job, kind::SNOOZED, *delay),
            Verdict::Bury { job, reason } => {
                Action::Bury { queue: job.ready_queue().clone(), envelope: codec::encode(job), reason: reason.clone() }
            }
            // `Release`, and what a later core may add before this broker learns of it: handing back loses nothing.
            _ => Action::Release,
        };
        Self { claim: Claim::of(&settlement.receipt), action }
    }

    /// Whether the claim still held.
    fn run(&self, tx: &mut Tx<'_>, front_rank: &mut i64) -> SqlResult<bool> {
        let Claim { seq, queue, .. } = self.claim;
        if !tx.leave_claimed(self.claim)? {
            return Ok(false);
        }
        let mut front = || {
            *front_rank += 1;
            *front_rank - 1
        };
        match &self.action {
            Action::Done => {
                tx.remove(seq)?;
                tx.counts.queue(queue).succeeded += 1;
            }
            Action::Discard => {
                tx.remove(seq)?;
                tx.counts.queue(queue).discarded += 1;
            }
            Action::Again { queue: ready_queue, kind, delay, envelope } => {
                let target = if delay.is_zero() {
                    Target::Ready { rank: front(), since: tx.now }
                } else {
                    Target::Scheduled { at: tx.after(*delay), kind: *kind }
                };
                tx.replace(seq, ready_queue, envelope, target)?;
                tx.counts.queue(queue).failed += i64::from(*kind == kind::RETRY);
            }
            Action::Bury { queue: last_queue, envelope, reason } => {
                let rank = tx.death_rank()?;
                tx.replace(seq, last_queue, envelope, Target::Dead { at: tx.now, rank, reason })?;
                // Nobody ran what nobody knew.
                tx.counts.queue(queue).failed += i64::from(reason.cause != DeathCause::Unhandled);
                tx.counts.queue(queue).died += 1;
            }
            Action::Release => tx.put_back(self.claim)?,
        }
        Ok(true)
    }

    fn goes_to_front(&self) -> bool {
        match &self.action {
            Action::Again { delay, .. } => delay.is_zero(),
            Action::Done | Action::Discard | Action::Release | Action::Bury { .. } => false,
        }
    }
}

impl Work for Settle {
    fn rows(&self) -> usize {
        self.ends.len()
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> SqlResult<()> {
        // Jobs that go back together keep the order in which they were claimed.
        let mut order: Vec<usize> = (0..self.ends.len()).collect();
        order.sort_by_key(|i| self.ends[*i].claim.number);
        let front = self.ends.iter().filter(|end| end.goes_to_front()).count();
        let mut front_rank = if front > 0 { tx.front(front)? } else { 0 };
        self.held = vec![false; self.ends.len()];
        for i in order {
            self.held[i] = self.ends[i].run(tx, &mut front_rank)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { held, reply, .. } = *self;
        let _ = reply.send(outcome.map(|()| held));
    }
}

/// The answers to a settle call.
pub(crate) fn answers(outcome: Result<Vec<bool>>, asked: usize) -> Vec<Result<(), SettleError>> {
    match outcome {
        Ok(held) => held.into_iter().map(|held| if held { Ok(()) } else { Err(SettleError::Fenced) }).collect(),
        Err(error) => {
            let again = || goose_core::Error::new(error.kind(), error.message().to_owned());
            let mut answers: Vec<_> = (1..asked).map(|_| Err(SettleError::Broker(again()))).collect();
            answers.push(Err(SettleError::Broker(error)));
            answers.truncate(asked);
            answers
        }
    }
}
