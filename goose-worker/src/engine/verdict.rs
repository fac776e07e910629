//! From how an attempt ended to what the broker is told: the rules of failing, in one place, without I/O.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{DeathCause, DeathReason, Verdict};
use goose_core::{Event, Job, Observer, Outcome, Timestamp};

use super::ended::Report;

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    /// It worked.
    Done,
    /// The job is no longer worth doing, for this reason.
    Discarded(String),
    /// Not yet; again after this long.
    Snoozed(Duration),
    /// It failed with this error, and may name the pause before the next attempt.
    Failed { error: String, pause: Option<Duration> },
    /// It is hopeless, for this reason.
    Buried(String),
    /// It panicked, with this message.
    Panicked(String),
    /// It took longer than this.
    TimedOut(Duration),
    /// The job's deadline passed while it ran.
    DeadlinePassed,
}

impl AttemptEnd {
    /// What the handler, or middleware, said. Asks the application's error for its text, so it may panic.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Discard(reason) => Self::Discarded(reason.clone()),
            Outcome::Snooze(delay) => Self::Snoozed(*delay),
            Outcome::Retry(error) => Self::Failed { error: chain(&**error), pause: None },
            Outcome::RetryIn(pause, error) => Self::Failed { error: chain(&**error), pause: Some(*pause) },
            Outcome::Bury(reason) => Self::Buried(reason.clone()),
            other => Self::Failed { error: format!("outcome {other} is not known to this worker"), pause: None },
        }
    }
}

/// What follows a failure.
enum Next {
    /// Another attempt, as far as the policy leaves retries: after its backoff, or after this pause.
    Retry(Option<Duration>),
    /// Death, whatever retries are left.
    Bury(DeathCause),
}

/// What becomes of a job after an attempt. A failure is reported to `observer` at once; everything else is
/// reported by the settler when the broker has stored it.
///
/// `retry_count` goes up when a retry is *scheduled*, because from then on the job belongs into its retry
/// queue. (`last_retried_at` is set when the retry *starts*; see the executor.)
pub(crate) fn conclude(
    job: Arc<Job>,
    end: AttemptEnd,
    at: Timestamp,
    ran: Duration,
    observer: &dyn Observer,
) -> (Verdict, Report) {
    let (error, next) = match end {
        AttemptEnd::Done => return (Verdict::Done, Report::Succeeded { job, ran }),
        AttemptEnd::Discarded(reason) => return (Verdict::Discard, Report::Discarded { job, reason }),
        AttemptEnd::Snoozed(delay) => {
            return (Verdict::Snooze { job: Box::new(Arc::unwrap_or_clone(job)), delay }, Report::Snoozed);
        }
        AttemptEnd::Failed { error, pause } => (error, Next::Retry(pause)),
        AttemptEnd::Buried(reason) => (reason, Next::Bury(DeathCause::Buried)),
        AttemptEnd::Panicked(message) => (message, Next::Retry(None)),
        AttemptEnd::TimedOut(limit) => (format!("timed out after {limit:?}"), Next::Retry(None)),
        AttemptEnd::DeadlinePassed => {
            ("cut at the job's deadline".to_owned(), Next::Bury(DeathCause::DeadlineExceeded))
        }
    };
    let mut job = Box::new(Arc::unwrap_or_clone(job));
    job.attempts.record_failure(at, error.as_str());
    observer.observe(&Event::Failed { job: &job, error: &error, ran });
    match next {
        Next::Bury(cause) => bury(job, cause, error),
        Next::Retry(_) if job.attempts.retry_count >= job.retry.max_retries => {
            let forget = job.retry.skip_dead_queue;
            let reason = DeathReason::new(DeathCause::RetriesExhausted, error);
            if forget { (Verdict::Discard, Report::Forgotten { job, reason }) } else { dead(job, reason) }
        }
        Next::Retry(pause) => {
            let delay = pause.unwrap_or_else(|| job.retry.backoff.delay(job.attempts.retry_count));
            job.attempts.retry_count += 1;
            (Verdict::Retry { job, delay }, Report::Retried)
        }
    }
}

/// The end of a job whose deadline passed while it waited: no attempt was made, so none has failed.
pub(crate) fn too_late(job: Job, deadline: Timestamp) -> (Verdict, Report) {
    bury(Box::new(job), DeathCause::DeadlineExceeded, format!("its deadline {deadline} passed before it was started"))
}

/// A job whose name has no handler here: it waits a while for a worker that has one, and dies when it has
/// waited for longer than `patience`.
pub(crate) fn unhandled(mut job: Job, at: Timestamp, delay: Duration, patience: Duration) -> (Verdict, Report) {
    job.attempts.record_parking(at);
    let waited = job.attempts.parked.map_or(Duration::ZERO, |parked| at.since(parked.since));
    if waited < patience {
        return (Verdict::Snooze { job: Box::new(job), delay }, Report::Parked);
    }
    let detail = format!("no worker handled {} jobs for {waited:?}", job.name);
    bury(Box::new(job), DeathCause::Unhandled, detail)
}

fn bury(job: Box<Job>, cause: DeathCause, detail: String) -> (Verdict, Report) {
    dead(job, DeathReason::new(cause, detail))
}

fn dead(job: Box<Job>, reason: DeathReason) -> (Verdict, Report) {
    (Verdict::Bury { job, reason }, Report::Died)
}

/// How many causes of an error are told: a chain that leads back to itself would have no end.
const MOST_CAUSES: usize = 32;

/// An error with its causes on one line. Leaves out a cause that the text before already ends with, because
/// many libraries print it themselves.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..MOST_CAUSES {
        let Some(error) = cause else { return text };
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    if cause.is_some() {
        text.push_str(": …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::{Backoff, Error, ErrorKind, JobName, Payload, QueueName};
    use std::sync::Mutex;

    const SECOND: Duration = Duration::from_secs(1);
    const AT: Timestamp = Timestamp::from_millis(1000);

    #[derive(Debug, Default)]
    struct Failures(Mutex<Vec<(u32, String)>>);
    impl Observer for Failures {
        fn observe(&self, event: &Event<'_>) {
            if let Event::Failed { job, error, .. } = event {
                self.0.lock().unwrap().push((job.attempts.next_attempt(), (*error).to_owned()));
            }
        }
    }

    fn sample() -> Job {
        let mut job = Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![]));
        job.retry.max_retries = 2;
        job.retry.backoff = Backoff::fixed(SECOND);
        job
    }

    fn end(job: Job, outcome: &Outcome) -> (Verdict, Report) {
        conclude(Arc::new(job), AttemptEnd::of(outcome), AT, SECOND, &())
    }

    #[test]
    fn done_snooze_and_discard_use_no_retry() {
        assert!(matches!(end(sample(), &Outcome::Done), (Verdict::Done, Report::Succeeded { ran: SECOND, .. })));
        let (verdict, report) = end(sample(), &Outcome::Snooze(SECOND * 9));
        assert!(matches!(report, Report::Snoozed));
        assert!(matches!(verdict, Verdict::Snooze { job, delay } if job.attempts.retry_count == 0
            && job.attempts.failures.is_empty() && delay == SECOND * 9));
        let (verdict, report) = end(sample(), &Outcome::Discard("stale".into()));
        assert!(matches!(verdict, Verdict::Discard));
        assert!(matches!(report, Report::Discarded { reason, .. } if reason == "stale"));
    }

    #[test]
    fn failures_are_retried_until_none_is_left_then_buried() {
        let observer = Failures::default();
        let mut job = sample();
        for retry in 1..=2 {
            let failed = AttemptEnd::of(&Outcome::retry(format!("no {retry}")));
            let (verdict, report) = conclude(Arc::new(job), failed, AT, SECOND, &observer);
            assert!(matches!(report, Report::Retried));
            let Verdict::Retry { job: next, delay } = verdict else { panic!("{verdict:?}") };
            assert_eq!((next.attempts.retry_count, delay), (retry, SECOND));
            job = *next;
        }
        let (verdict, report) =
            conclude(Arc::new(job), AttemptEnd::Panicked("panicked: at last".into()), AT, SECOND, &observer);
        assert!(matches!(report, Report::Died));
        let Verdict::Bury { job, reason } = verdict else { panic!("{verdict:?}") };
        assert_eq!(reason, DeathReason::new(DeathCause::RetriesExhausted, "panicked: at last"));
        assert_eq!((job.attempts.retry_count, job.attempts.first_failed_at), (2, Some(AT)));
        let history: Vec<_> = job.attempts.failures.iter().map(|f| (f.attempt, f.error.as_str())).collect();
        assert_eq!(history, [(1, "no 1"), (2, "no 2"), (3, "panicked: at last")]);
        let heard = observer.0.into_inner().unwrap();
        assert_eq!(heard, [(1, "no 1".into()), (2, "no 2".into()), (3, "panicked: at last".into())]);
    }

    #[test]
    fn no_retries_means_dead_at_the_first_failure_or_forgotten() {
        let mut job = sample();
        job.retry.max_retries = 0;
        assert!(matches!(end(job.clone(), &Outcome::retry("no")), (Verdict::Bury { .. }, Report::Died)));
        job.retry.skip_dead_queue = true;
        let (verdict, report) = end(job.clone(), &Outcome::retry("no"));
        assert!(matches!(verdict, Verdict::Discard));
        assert!(matches!(report, Report::Forgotten { reason, .. } if reason.cause == DeathCause::RetriesExhausted));
        // A handler that asks for a human gets one.
        assert!(matches!(end(job, &Outcome::Bury("look".into())), (Verdict::Bury { .. }, Report::Died)));
    }

    #[test]
    fn a_failure_may_name_its_own_pause() {
        let (verdict, _) = end(sample(), &Outcome::retry_in(SECOND * 7, "later"));
        assert!(matches!(verdict, Verdict::Retry { delay, .. } if delay == SECOND * 7));
        let mut job = sample();
        job.attempts.retry_count = 2;
        assert!(matches!(end(job, &Outcome::retry_in(SECOND, "later")).0, Verdict::Bury { .. }));
    }

    #[test]
    fn bury_and_deadline_leave_no_retry() {
        let (verdict, _) = end(sample(), &Outcome::Bury("hopeless".into()));
        let Verdict::Bury { job, reason } = verdict else { panic!("{verdict:?}") };
        assert_eq!(reason, DeathReason::new(DeathCause::Buried, "hopeless"));
        assert_eq!(job.attempts.last_failure().unwrap().error, "hopeless");
        let (verdict, _) = conclude(Arc::new(sample()), AttemptEnd::DeadlinePassed, AT, SECOND, &());
        assert!(matches!(verdict, Verdict::Bury { reason, .. } if reason.cause == DeathCause::DeadlineExceeded));
        let (verdict, _) = too_late(sample(), AT);
        assert!(matches!(verdict, Verdict::Bury { job, reason } if job.attempts.failures.is_empty()
            && reason.detail == "its deadline 1970-01-01T00:00:01.000Z passed before it was started"));
    }

    #[test]
    fn a_timeout_is_a_failure_like_any_other() {
        let (verdict, _) = conclude(Arc::new(sample()), AttemptEnd::TimedOut(SECOND * 5), AT, SECOND, &());
        let Verdict::Retry { job, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!(job.attempts.last_failure().unwrap().error, "timed out after 5s");
    }

    #[test]
    fn unknown_jobs_wait_and_die_when_patience_ends() {
        let minute = SECOND * 60;
        let (verdict, report) = unhandled(sample(), AT, SECOND, minute);
        assert!(matches!(report, Report::Parked));
        let Verdict::Snooze { job, delay } = verdict else { panic!("{verdict:?}") };
        assert_eq!((job.attempts.parked.unwrap().times, delay), (1, SECOND));
        let (verdict, _) = unhandled(*job, AT.saturating_add(minute - SECOND), SECOND, minute);
        let Verdict::Snooze { job, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!(job.attempts.parked.unwrap().times, 2);
        let (verdict, report) = unhandled(*job, AT.saturating_add(minute), SECOND, minute);
        assert!(matches!(report, Report::Died));
        assert!(matches!(verdict, Verdict::Bury { reason, .. }
            if reason == DeathReason::new(DeathCause::Unhandled, "no worker handled a jobs for 60s")));
    }

    #[test]
    fn causes_are_told_once() {
        let io = std::io::Error::other("connection refused");
        let error = Error::new(ErrorKind::Unavailable, "cannot reach the server").with_source(io);
        assert_eq!(chain(&error), "cannot reach the server: connection refused");
        let repeating = Error::new(ErrorKind::Unavailable, "cannot reach it: connection refused")
            .with_source(std::io::Error::other("connection refused"));
        assert_eq!(chain(&repeating), "cannot reach it: connection refused");
    }

    /// Two errors that name each other as their cause.
    #[derive(Debug)]
    struct Hen;
    #[derive(Debug)]
    struct Egg;
    impl std::fmt::Display for Hen {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("hen")
        }
    }
    impl std::fmt::Display for Egg {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("egg")
        }
    }
    impl StdError for Hen {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&Egg)
        }
    }
    impl StdError for Egg {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&Hen)
        }
    }

    #[test]
    fn a_chain_of_causes_that_has_no_end_is_cut() {
        let text = chain(&Hen);
        assert!(text.starts_with("hen: egg: hen: ") && text.ends_with("hen: …"), "{text}");
        assert_eq!(text.matches("egg").count() + text.matches("hen").count(), 1 + MOST_CAUSES);
    }
}
