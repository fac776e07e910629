//! How claims begin and end: fetch and settle.

use std::time::Duration;

use goose_core::broker::capability::{DeadContent, ScheduledKind};
use goose_core::broker::{DeathCause, DeathReason, Delivery, Receipt, SettleError, Settlement, Verdict};
use goose_core::{Job, JobId, QueueName};

use super::Defect;
use super::record::{Class, Place, Rank};
use super::state::{State, now};

impl State {
    fn first_of(&self, queue: &QueueName) -> Option<(Rank, JobId)> {
        if self.paused.contains(queue) && !self.is(Defect::IgnoresPauses) {
            return None;
        }
        let lowest = Rank { class: Class::Front, at: i64::MIN, tie: 0 };
        let ((found, rank), id) = self.ready.range((queue.clone(), lowest)..).next()?;
        (found == queue).then_some((*rank, *id))
    }

    /// Claims up to `up_to` jobs for a session.
    pub(crate) fn claim(&mut self, key: u64, up_to: usize) -> Vec<Delivery> {
        let Some(session) = self.sessions.get_mut(&key) else { return Vec::new() };
        let queues: Vec<QueueName> = session.options.queues.names().cloned().collect();
        let all = vec![up_to; queues.len()];
        let strict = self.defect == Some(Defect::IsAlwaysStrict);
        let parts = if strict { all.clone() } else { session.shares.next(up_to) };
        let mut claimed = Vec::new();
        // Everyone's part first, then what is left over.
        for parts in [parts, all] {
            for (queue, part) in queues.iter().zip(parts) {
                for _ in 0..part.min(up_to - claimed.len()) {
                    match self.claim_first(key, queue) {
                        Some(delivery) => claimed.push(delivery),
                        None => break,
                    }
                }
            }
        }
        if self.is(Defect::ReversesFetches) {
            claimed.reverse();
        }
        claimed
    }

    fn claim_first(&mut self, session: u64, queue: &QueueName) -> Option<Delivery> {
        loop {
            let (rank, id) = self.first_of(queue)?;
            let undecodable = self.jobs.get(&id)?.job().is_none();
            if undecodable && self.is(Defect::StumblesOverGarbage) {
                return None;
            }
            let claim = self.next();
            if !(self.is(Defect::SharesJobs) && claim.is_multiple_of(500)) {
                self.ready.remove(&(queue.clone(), rank));
            }
            if undecodable {
                let reason = DeathReason::new(DeathCause::Undecodable, "not an envelope");
                self.die(id, &reason, true);
                continue;
            }
            self.claims.insert(claim, id);
            let record = self.jobs.get_mut(&id)?;
            record.place = Place::Claimed { session, claim };
            let receipt = Receipt::new([session, claim, 0, 0]);
            let mut delivery = Delivery::new(record.job()?.clone(), receipt, record.ready_at, now());
            delivery.recoveries = record.recoveries;
            return Some(delivery);
        }
    }

    /// Whether a receipt stands for a claim that has not ended.
    pub(crate) fn holds(&self, receipt: &Receipt) -> Option<JobId> {
        let [of_session, of_claim, 0, 0] = receipt.words() else { return None };
        let id = self.claims.get(&of_claim)?;
        let place = &self.jobs.get(id)?.place;
        let held = matches!(place, Place::Claimed { session, claim } if (*session, *claim) == (of_session, of_claim));
        let unfenced = self.is(Defect::ForgetsFencing) && matches!(place, Place::Claimed { .. });
        (held || unfenced).then_some(*id)
    }

    pub(crate) fn settle(&mut self, settlements: &[Settlement]) -> Vec<Result<(), SettleError>> {
        let mut released = Vec::new();
        let mut answers = Vec::new();
        for Settlement { receipt, verdict, .. } in settlements {
            let Some(id) = self.holds(receipt) else {
                answers.push(if self.is(Defect::LiesAboutFencing) { Ok(()) } else { Err(SettleError::Fenced) });
                continue;
            };
            answers.push(Ok(()));
            if matches!(verdict, Verdict::Release) {
                released.push((receipt.words()[1], id));
                // Not claimed any more, but not yet in line: see below.
                if let Some(record) = self.jobs.get_mut(&id) {
                    record.place = Place::Claimed { session: 0, claim: 0 };
                }
            } else {
                self.end(id, verdict);
            }
        }
        // The last claim goes to the front first, so that the first claim ends up before it.
        released.sort_unstable();
        for (_, id) in released.into_iter().rev() {
            self.put_back(id);
        }
        answers
    }

    fn end(&mut self, id: JobId, verdict: &Verdict) {
        match verdict {
            Verdict::Done => {
                self.totals.succeeded += 1;
                self.remove(id);
            }
            Verdict::Discard => {
                self.totals.discarded += 1;
                self.remove(id);
            }
            Verdict::Retry { job, delay } => {
                self.totals.failed += 1;
                self.come_back(id, job, *delay, ScheduledKind::Retry);
            }
            Verdict::Snooze { job, delay } => self.come_back(id, job, *delay, ScheduledKind::Snoozed),
            Verdict::Bury { job, reason } => {
                self.totals.failed += 1;
                self.replace(id, job);
                self.die(id, reason, false);
            }
            _ => self.put_back(id),
        }
    }

    fn come_back(&mut self, id: JobId, job: &Job, delay: Duration, kind: ScheduledKind) {
        if !self.is(Defect::ForgetsFailures) {
            self.replace(id, job);
        }
        if delay.is_zero() { self.put_back(id) } else { self.schedule(id, now().saturating_add(delay), kind) }
    }

    fn replace(&mut self, id: JobId, job: &Job) {
        let ignore_retry_queue = self.is(Defect::IgnoresRetryQueues);
        if let Some(record) = self.jobs.get_mut(&id) {
            record.queue = if ignore_retry_queue { job.queue.clone() } else { job.ready_queue().clone() };
            record.content = DeadContent::Job(Box::new(job.clone()));
        }
    }
}
