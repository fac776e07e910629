//! Taking jobs in.

use goose_core::broker::EnqueueVerdict;
use goose_core::{Job, JobId, Priority, QueueName, Result, Schedule, Timestamp, codec};
use rusqlite::params;
use tokio::sync::oneshot;

use crate::encoding::kind;
use crate::error::SqlResult;
use crate::places::Target;
use crate::sql;
use crate::tx::Tx;
use crate::work::Work;

/// The most jobs of one piece of work: a longer call becomes several, so that the jobs of one caller do not
/// hold up the heartbeat or other callers.
pub(crate) const CHUNK: usize = 1000;

/// Jobs on their way in, encoded by the caller's task so that the engine's thread need not.
pub(crate) struct Enqueue {
    jobs: Vec<NewJob>,
    reply: oneshot::Sender<Result<()>>,
}

struct NewJob {
    id: JobId,
    queue: QueueName,
    schedule: Schedule,
    priority: Priority,
    envelope: Vec<u8>,
}

impl Enqueue {
    /// The work, and where its outcome will arrive.
    pub(crate) fn work(jobs: &[Job]) -> (Box<dyn Work>, oneshot::Receiver<Result<()>>) {
        let jobs = jobs.iter().map(|job| NewJob {
            id: job.id,
            queue: job.ready_queue().clone(),
            schedule: job.schedule,
            priority: job.priority,
            envelope: codec::encode(job),
        });
        Self::of(jobs.collect())
    }

    /// Bytes that need not be an envelope.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn raw(id: JobId, queue: QueueName, bytes: Vec<u8>) -> (Box<dyn Work>, oneshot::Receiver<Result<()>>) {
        Self::of(vec![NewJob { id, queue, schedule: Schedule::Now, priority: Priority::Normal, envelope: bytes }])
    }

    fn of(jobs: Vec<NewJob>) -> (Box<dyn Work>, oneshot::Receiver<Result<()>>) {
        let (reply, outcome) = oneshot::channel();
        (Box::new(Self { jobs, reply }), outcome)
    }
}

impl Work for Enqueue {
    fn rows(&self) -> usize {
        self.jobs.len()
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> SqlResult<()> {
        tx.check_room()?;
        let places: Vec<Place> = self.jobs.iter().map(|job| job.place(tx)).collect();
        let front = places.iter().filter(|place| matches!(place, Place::Front)).count();
        let mut front_rank = if front > 0 { tx.front(front)? } else { 0 };
        for (job, place) in self.jobs.iter().zip(places) {
            let queue = tx.names.id(tx.conn, &job.queue)?;
            let target = match place {
                Place::End => Target::Ready { rank: 0, since: tx.now },
                Place::Front => {
                    front_rank += 1;
                    Target::Ready { rank: front_rank - 1, since: tx.now }
                }
                Place::Later(at) => Target::Scheduled { at, kind: kind::SCHEDULED },
            };
            let (rank, at, _) = target.columns();
            let row = params![job.id.as_bytes(), queue, rank, at, job.envelope];
            // An id that is already there is left as it is: enqueuing again after an unknown outcome is safe.
            if tx.conn.prepare_cached(sql::JOB_ADD)?.execute(row)? == 1 {
                tx.enter(tx.conn.last_insert_rowid(), queue, target)?;
                tx.counts.queue(queue).enqueued += 1;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let _ = self.reply.send(outcome);
    }
}

/// Where a new job goes.
enum Place {
    End,
    Front,
    Later(Timestamp),
}

impl NewJob {
    fn place(&self, tx: &Tx<'_>) -> Place {
        let due = match self.schedule {
            Schedule::At(time) => time,
            Schedule::In(delay) => tx.after(delay),
            _ if self.priority == Priority::Front => return Place::Front,
            // `Now`, and whatever a later core may add before this broker learns of it.
            _ => return Place::End,
        };
        if due <= tx.now { Place::Front } else { Place::Later(due) }
    }
}

/// The verdicts of a call, from the outcomes of its pieces.
pub(crate) fn verdicts(pieces: Vec<(Vec<JobId>, Result<()>)>) -> Result<Vec<EnqueueVerdict>> {
    let all_failed = pieces.iter().all(|(_, outcome)| outcome.is_err());
    let mut verdicts = Vec::new();
    for (ids, outcome) in pieces {
        match outcome {
            Ok(()) => verdicts.extend(ids.into_iter().map(EnqueueVerdict::Enqueued)),
            // Nothing of the whole call was written: the call failed, not its parts.
            Err(error) if all_failed => return Err(error),
            Err(error) => verdicts.extend(
                ids.into_iter()
                    .map(|_| EnqueueVerdict::Failed(goose_core::Error::new(error.kind(), error.message().to_owned()))),
            ),
        }
    }
    Ok(verdicts)
}
