//! An attempt under way: polled to its end within the limits of its job.

use std::future::{self, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use goose_core::broker::Receipt;
use goose_core::{Job, Outcome, Timestamp};
use tokio::time::Instant;

use super::ended::Ended;
use super::executor::Bench;
use super::panics::{CatchUnwind, caught};
use super::polled::Polling;
use super::poller::at;
use super::verdict::{self, AttemptEnd};
use crate::Context;

/// An attempt that has begun.
pub(super) struct Running {
    pub(super) attempt: CatchUnwind<'static, Outcome>,
    pub(super) span: tracing::Span,
    pub(super) cx: Context,
    pub(super) job: Arc<Job>,
    pub(super) receipt: Receipt,
    /// When it started, on the broker's clock and on ours.
    pub(super) now: Timestamp,
    pub(super) started: Instant,
    pub(super) limit: Option<Limit>,
    pub(super) deadline: Option<Instant>,
    pub(super) is_blocking: bool,
}

impl Running {
    /// How the attempt ended, if it has. Whoever polls has noted that this thread is at the job, see [`Polling`].
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<AttemptEnd> {
        let _in_span = self.span.enter();
        let end = match Pin::new(&mut self.attempt).poll(cx) {
            Poll::Ready(end) => end,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(end.and_then(in_words).unwrap_or_else(AttemptEnd::Panicked))
    }

    /// What becomes of the job.
    pub(super) fn conclude(self, bench: &Bench, end: AttemptEnd) -> Ended {
        let ran = self.started.elapsed();
        Ended::new(self.receipt, verdict::conclude(self.job, end, self.now.saturating_add(ran), ran, &bench.observers))
    }

    /// Runs to the end within the job's limits. `None` where the job must be left to its lease.
    pub(super) async fn finish(mut self: Box<Self>, bench: &Bench) -> Option<Ended> {
        match self.run(bench).await {
            Run::Ended(end) => Some(self.conclude(bench, end)),
            Run::CutShort => Some(Ended::released(self.receipt, self.job)),
            Run::LeftBehind => None,
        }
    }

    async fn run(&mut self, bench: &Bench) -> Run {
        let mut timed_out = None;
        loop {
            let deadline = self.deadline.filter(|_| timed_out.is_none());
            tokio::select! {
                biased;
                end = future::poll_fn(|cx| { let _here = Polling::begin(bench, &self.job); self.poll(cx) }) => {
                    // What a blocking handler says after its time is up does not count.
                    return Run::Ended(timed_out.unwrap_or(end));
                }
                () = bench.cut.cancelled() => {
                    self.cx.cancel();
                    if !self.can_be_cut() {
                        let span = &self.span;
                        tracing::warn!(parent: span, "a blocking handler outlives the stop, its job is left to its lease");
                        return Run::LeftBehind;
                    }
                    self.cut(bench);
                    return Run::CutShort;
                }
                () = at(deadline) => {
                    self.cx.cancel();
                    let end = self.limit.as_ref().map_or(AttemptEnd::DeadlinePassed, Limit::reached);
                    if self.can_be_cut() {
                        self.cut(bench);
                        return Run::Ended(end);
                    }
                    timed_out = Some(end);
                }
            }
        }
    }

    /// A blocking handler can be cut only while it waits for a thread.
    fn can_be_cut(&self) -> bool {
        !self.is_blocking || self.cx.decide_start()
    }

    fn cut(&mut self, bench: &Bench) {
        let (_in_span, _here) = (self.span.enter(), Polling::begin(bench, &self.job));
        if let Err(message) = self.attempt.cut() {
            tracing::error!(panic = message, "a job panicked while it was being cut");
        }
    }
}

/// How running a job ended, seen from the worker.
enum Run {
    /// The attempt ended, or was cut at a limit of the job.
    Ended(AttemptEnd),
    /// It was cut because the worker stops: the job goes back as it was.
    CutShort,
    /// The worker stops and the handler cannot be cut: the job is recovered when its lease has ended.
    LeftBehind,
}

/// Puts an outcome into words. The error in it is the application's: its text, its causes and its destructor may
/// panic, each for itself, for two panics at once would abort the process.
fn in_words(outcome: Outcome) -> Result<AttemptEnd, String> {
    let end = caught(|| AttemptEnd::of(&outcome));
    let dropped = caught(move || drop(outcome));
    end.and_then(|end| dropped.map(|()| end))
}

/// How long an attempt may take, and what it means to reach that.
pub(super) struct Limit {
    pub(super) after: Duration,
    /// The limit is the job's deadline, not a timeout.
    is_deadline: bool,
}

impl Limit {
    /// The nearer of timeout and deadline.
    pub(super) fn of(job: &Job, default_timeout: Option<Duration>, now: Timestamp) -> Option<Self> {
        let timeout = job.timeout.or(default_timeout).map(|after| Self { after, is_deadline: false });
        let deadline = job.deadline.map(|deadline| Self { after: deadline.since(now), is_deadline: true });
        [timeout, deadline].into_iter().flatten().min_by_key(|limit| limit.after)
    }

    fn reached(&self) -> AttemptEnd {
        if self.is_deadline { AttemptEnd::DeadlinePassed } else { AttemptEnd::TimedOut(self.after) }
    }
}
