//! What a caller hands in to be enqueued, and how it learns what became of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fred::bytes::Bytes;
use goose_core::{Error, ErrorKind, Job, JobId, Priority, QueueName, Result, Schedule, Timestamp};
use tokio::sync::oneshot;

use crate::error::closed;

/// Jobs of one caller for one queue, encoded.
pub(crate) struct Request {
    pub(crate) queue: QueueName,
    pub(crate) jobs: Vec<NewJob>,
    pub(crate) bytes: usize,
    pub(crate) since: Instant,
    /// Set when it may be on its way to the server.
    pub(crate) sent: Arc<AtomicBool>,
    pub(crate) reply: oneshot::Sender<Result<()>>,
}

/// The outcome of a request, for whoever made it.
pub(crate) struct Ticket {
    pub(crate) sent: Arc<AtomicBool>,
    outcome: oneshot::Receiver<Result<()>>,
}

impl Request {
    pub(crate) fn new(queue: QueueName, jobs: Vec<NewJob>) -> (Self, Ticket) {
        let bytes = jobs.iter().map(|job| job.value.len()).sum();
        let (sent, (reply, outcome)) = (Arc::new(AtomicBool::new(false)), oneshot::channel());
        let ticket = Ticket { sent: Arc::clone(&sent), outcome };
        (Self { queue, jobs, bytes, since: Instant::now(), sent, reply }, ticket)
    }
}

impl Ticket {
    pub(crate) async fn outcome(self) -> Result<()> {
        match self.outcome.await {
            Ok(outcome) => outcome,
            // The broker was closed under it.
            Err(_) if self.sent.load(Ordering::Acquire) => {
                let message = "the broker was closed while jobs were on their way to it; they may be stored or not";
                Err(Error::new(ErrorKind::OutcomeUnknown, message))
            }
            Err(_) => Err(closed()),
        }
    }
}

pub(crate) enum Message {
    Request(Request),
    /// Asks to be told when nothing waits and nothing is under way.
    Flush(oneshot::Sender<()>),
}

pub(crate) struct NewJob {
    pub(crate) id: JobId,
    pub(crate) value: Bytes,
    pub(crate) place: Place,
}

pub(crate) enum Place {
    End,
    Front,
    At(Timestamp),
    /// Milliseconds, rounded up.
    In(i64),
}

impl Place {
    pub(crate) fn of(job: &Job) -> Self {
        match job.schedule {
            Schedule::At(time) => Self::At(time),
            Schedule::In(delay) => Self::In(Timestamp::EPOCH.saturating_add(delay).as_millis()),
            _ if job.priority == Priority::Front => Self::Front,
            _ => Self::End,
        }
    }

    /// As the script wants it; the end needs no words.
    pub(crate) fn argument(&self) -> Option<Bytes> {
        Some(match self {
            Self::End => return None,
            Self::Front => Bytes::from_static(b"f"),
            Self::At(time) => format!("a{}", time.as_millis()).into(),
            Self::In(millis) => format!("d{millis}").into(),
        })
    }
}
