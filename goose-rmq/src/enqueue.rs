//! Taking jobs in: each becomes a message on its way to its queue, and each gets the server's word.
//!
//! What is sent at the same time by many callers goes out together: the publisher keeps hundreds of messages on their way
//! and waits for none of them before the next.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use goose_core::broker::EnqueueVerdict;
use goose_core::{Clock, Error, ErrorKind, Job, JobId, Priority, QueueName, Result, Schedule, SystemClock, Timestamp};
use tokio::task::JoinSet;

use crate::again::again;
use crate::broker::Inner;
use crate::delay::{self, Path, Precision};
use crate::error::closed;
use crate::log::Count;
use crate::message::{self, Rank, Ticket};
use crate::options::QueueType;
use crate::outbox;

/// Hands in jobs and waits for all verdicts.
pub(crate) async fn enqueue(inner: &Arc<Inner>, jobs: Vec<Job>) -> Result<Vec<EnqueueVerdict>> {
    let now = SystemClock.now();
    let ways: Vec<Way> = jobs.iter().map(|job| Way::of(job, now, inner.options.queue_type)).collect();
    let unready = Unready::prepare(inner, &jobs, &ways).await;
    jobs.iter().for_each(|job| inner.log.used(job.ready_queue()));
    let (mut seen, mut refused) = (HashSet::with_capacity(jobs.len()), HashMap::new());
    let (mut ids, mut messages) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(jobs.len()));
    for (job, way) in jobs.iter().zip(&ways) {
        // The same job twice in one call is one job.
        if !seen.insert(job.id) {
            continue;
        }
        match unready.why(job.ready_queue(), way) {
            Some(error) => {
                refused.insert(job.id, again(error));
            }
            None => {
                let (exchange, key) = inner.topology.names.address(job.ready_queue(), way.path);
                ids.push(job.id);
                messages.push(message::outgoing(job, &way.ticket, exchange, key));
            }
        }
    }
    let sent = messages.len();
    let answers = outbox::publish_all(inner, messages).await;
    let unsent = refused.len();
    for (id, answer) in ids.into_iter().zip(answers) {
        if let Err(error) = answer {
            refused.insert(id, error);
        }
    }
    let taken = sent.saturating_sub(refused.len() - unsent);
    inner.log.count(Count::Enqueued, u64::try_from(taken).unwrap_or(0));
    verdicts(&jobs, &refused)
}

/// When a job is to run, and which way it takes there.
struct Way {
    path: Path,
    ticket: Ticket,
}

impl Way {
    fn of(job: &Job, now: Timestamp, queue_type: QueueType) -> Self {
        let (delay, due) = match job.schedule {
            // By our own clock: AMQP has no way to ask the server for the time.
            // A past time is kept: jobs that are due go in the order of their times.
            Schedule::At(time) => (time.since(now), time),
            Schedule::In(delay) => (delay, now.saturating_add(delay)),
            _ => {
                let rank = if job.priority == Priority::Front { Rank::Front } else { Rank::Normal };
                return Self { path: Path::NOW, ticket: Ticket::fresh(rank, job, now) };
            }
        };
        let path = delay::path(delay, Precision::Exact, delay::hop(queue_type));
        Self { path, ticket: Ticket::due(due, path) }
    }

    fn takes_the_cascade(&self) -> bool {
        matches!(self.path, Path::Levels { .. })
    }
}

/// What could not be declared, and why.
#[derive(Default)]
struct Unready {
    queues: HashMap<QueueName, Error>,
    cascade: Option<Error>,
}

impl Unready {
    /// Sees to it that the queues of some jobs are there, and the cascade if one of them needs it.
    async fn prepare(inner: &Arc<Inner>, jobs: &[Job], ways: &[Way]) -> Self {
        let topology = &inner.topology;
        let queues: HashSet<&QueueName> = jobs.iter().map(Job::ready_queue).collect();
        let unknown: Vec<QueueName> =
            queues.into_iter().filter(|queue| !topology.knows_queue(queue)).cloned().collect();
        let cascade = !topology.knows_cascade() && ways.iter().any(Way::takes_the_cascade);
        if unknown.is_empty() && !cascade {
            return Self::default();
        }
        let topology = Arc::clone(topology);
        // On our own runtime: sessions may wait for the same, and the caller's may be blocked.
        let declared = inner.runtime.spawn(async move {
            let mut declaring = JoinSet::new();
            for queue in &unknown {
                let (topology, queue) = (Arc::clone(&topology), queue.clone());
                declaring.spawn(async move { topology.ensure_queue(&queue).await.err().map(|error| (queue, error)) });
            }
            let cascade = if cascade { topology.ensure_cascade().await.err() } else { None };
            let queues = declaring.join_all().await.into_iter().flatten();
            Self { queues: queues.map(|(queue, error)| (queue, unsent(error))).collect(), cascade: cascade.map(unsent) }
        });
        // Our runtime ends when the broker is closed.
        declared.await.unwrap_or_else(|_| Self { cascade: Some(closed()), ..Self::default() })
    }

    fn why(&self, queue: &QueueName, way: &Way) -> Option<&Error> {
        self.queues.get(queue).or_else(|| self.cascade.as_ref().filter(|_| way.takes_the_cascade()))
    }
}

/// The outcome of a declaration may be unknown; that of the job behind it is not.
fn unsent(error: Error) -> Error {
    if error.kind() != ErrorKind::OutcomeUnknown {
        return error;
    }
    Error::new(ErrorKind::Unavailable, "cannot declare the queue; no job was sent").with_source(error)
}

/// One error when all failed in the same way; otherwise each job gets its own.
fn verdicts(jobs: &[Job], refused: &HashMap<JobId, Error>) -> Result<Vec<EnqueueVerdict>> {
    let mut kinds = jobs.iter().map(|job| refused.get(&job.id).map(Error::kind));
    if let (Some(Some(first)), Some(job)) = (kinds.next(), jobs.first())
        && kinds.all(|kind| kind == Some(first))
        && let Some(error) = refused.get(&job.id)
    {
        return Err(again(error));
    }
    let verdict = |job: &Job| match refused.get(&job.id) {
        Some(error) => EnqueueVerdict::Failed(again(error)),
        None => EnqueueVerdict::Enqueued(job.id),
    };
    Ok(jobs.iter().map(verdict).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use goose_core::{JobName, Payload};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    fn job(schedule: Schedule) -> Job {
        let mut job = Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![1]));
        job.schedule = schedule;
        job
    }

    fn way(schedule: Schedule) -> Way {
        Way::of(&job(schedule), NOW, QueueType::Classic)
    }

    #[test]
    fn a_past_time_and_no_delay_mean_now_and_before_the_normal_ones() {
        let past = Timestamp::from_millis(1);
        for (schedule, ready_at) in
            [(Schedule::At(past), past), (Schedule::At(NOW), NOW), (Schedule::In(Duration::ZERO), NOW)]
        {
            let way = way(schedule);
            assert_eq!((way.path, &way.ticket), (Path::NOW, &Ticket::now(Rank::Due, ready_at)), "{schedule:?}");
        }
    }

    #[test]
    fn a_job_for_later_is_ready_at_its_time_and_a_delay_is_added_to_now() {
        let at = NOW.saturating_add(Duration::from_secs(90));
        for schedule in [Schedule::At(at), Schedule::In(Duration::from_secs(90))] {
            let way = way(schedule);
            assert!(way.takes_the_cascade());
            assert_eq!((way.ticket.ready_at, way.ticket.rank, way.ticket.hold), (at, Rank::Due, way.path.hold()));
        }
        let never = way(Schedule::At(Timestamp::MAX));
        assert!(never.ticket.goes_on && never.ticket.ready_at == Timestamp::MAX);
    }

    #[test]
    fn a_front_job_that_is_delayed_is_due_like_others() {
        let mut front = job(Schedule::Now);
        front.priority = Priority::Front;
        assert_eq!(Way::of(&front, NOW, QueueType::Classic).ticket.rank, Rank::Front);
        front.schedule = Schedule::In(Duration::from_secs(1));
        assert_eq!(Way::of(&front, NOW, QueueType::Classic).ticket.rank, Rank::Due);
    }

    #[test]
    fn jobs_that_fail_alike_are_one_error_and_others_have_each_their_own() {
        let jobs = [job(Schedule::Now), job(Schedule::Now)];
        let refused = |kinds: &[ErrorKind]| -> HashMap<JobId, Error> {
            jobs.iter().zip(kinds).map(|(job, kind)| (job.id, Error::new(*kind, "no"))).collect()
        };
        let all = verdicts(&jobs, &refused(&[ErrorKind::Blocked, ErrorKind::Blocked])).unwrap_err();
        assert_eq!(all.kind(), ErrorKind::Blocked);
        for kinds in [&[ErrorKind::Blocked, ErrorKind::TooLarge][..], &[ErrorKind::Blocked]] {
            let verdicts = verdicts(&jobs, &refused(kinds)).unwrap();
            assert!(matches!(&verdicts[0], EnqueueVerdict::Failed(error) if error.kind() == ErrorKind::Blocked));
            assert_eq!(matches!(verdicts[1], EnqueueVerdict::Enqueued(_)), kinds.len() == 1);
        }
        assert!(verdicts(&[], &HashMap::new()).unwrap().is_empty());
    }
}
