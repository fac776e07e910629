//! One dead job, as an entry of the stream.
//!
//! | header | type | what | left out when |
//! |---|---|---|---|
//! | `goose-kind` | text | `death` | a queue of the server sent it |
//! | `goose-id` | text | the job's id | likewise |
//! | `goose-queue` | text | the queue it was in last | likewise |
//! | `goose-died-at` | int | when, ms since the epoch on the clock of who buried it | likewise |
//! | `goose-cause`, `goose-detail` | text | why | likewise |
//! | `goose-raw` | bool | the body is no job | it is one |
//!
//! The body is the envelope, or what was found in its place.

use goose_core::broker::capability::{DeadContent, DeadJob};
use goose_core::broker::{DeathCause, DeathReason};
use goose_core::{JobId, QueueName, Timestamp, codec};

use crate::amqp::{Table, Value};
use crate::stream::{Entry, KIND};

/// What [`KIND`] says of a death.
const DEATH: &str = "death";
const ID: &str = "goose-id";
const QUEUE: &str = "goose-queue";
const DIED_AT: &str = "goose-died-at";
const CAUSE: &str = "goose-cause";
const DETAIL: &str = "goose-detail";
const RAW: &str = "goose-raw";

/// Set by the server when a queue gives a message up: the name of the queue.
const FIRST_QUEUE: &str = "x-first-death-queue";

/// What is known of a death without its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) id: JobId,
    pub(super) queue: QueueName,
    /// `None` where the server does not tell.
    pub(super) died_at: Option<Timestamp>,
    pub(super) reason: DeathReason,
    pub(super) is_job: bool,
}

impl Death {
    pub(super) fn headers(&self) -> Table {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut headers = Table::from([
            (KIND.to_owned(), text(DEATH)),
            (ID.to_owned(), text(&self.id.to_string())),
            (QUEUE.to_owned(), text(self.queue.as_str())),
            (CAUSE.to_owned(), text(&self.reason.cause.to_string())),
            (DETAIL.to_owned(), text(&self.reason.detail)),
        ]);
        if let Some(died_at) = self.died_at {
            headers.insert(DIED_AT.to_owned(), Value::Int(died_at.as_millis()));
        }
        if !self.is_job {
            headers.insert(RAW.to_owned(), Value::Bool(true));
        }
        headers
    }

    /// What an entry that is no note says.
    pub(super) fn of(entry: &Entry) -> Self {
        if entry.text(KIND) == Some(DEATH)
            && let Some(id) = entry.text(ID).and_then(|id| id.parse().ok())
            && let Some(queue) = entry.text(QUEUE).and_then(|queue| QueueName::new(queue).ok())
        {
            // A cause that a newer version wrote is shown as the most general one.
            let cause = entry.text(CAUSE).and_then(|cause| cause.parse().ok()).unwrap_or(DeathCause::Buried);
            let reason = DeathReason::new(cause, entry.text(DETAIL).unwrap_or_default());
            let died_at = entry.int(DIED_AT).map(Timestamp::from_millis);
            let is_job = !matches!(entry.headers.get(RAW), Some(Value::Bool(true)));
            return Self { id, queue, died_at, reason, is_job };
        }
        Self::given_up(entry)
    }

    /// Of a message that a queue of the server gave up because it came back too often.
    fn given_up(entry: &Entry) -> Self {
        let job = codec::decode(&entry.body).ok();
        let named = entry.id.as_deref().and_then(|id| id.parse().ok());
        let id = job.as_ref().map(|job| job.id).or(named);
        let queue = entry.text(FIRST_QUEUE).and_then(|queue| queue.rsplit_once("/queue/"));
        let queue = queue.and_then(|(_, queue)| QueueName::new(queue).ok());
        let queue = queue.or_else(|| job.as_ref().map(|job| job.ready_queue().clone()));
        let reason = if job.is_some() {
            DeathReason::new(DeathCause::Poison, "the server gave it up: it came back from too many workers")
        } else {
            DeathReason::new(DeathCause::Undecodable, "the server gave it up, and it is not a job")
        };
        Self {
            id: id.unwrap_or_else(|| of_place(entry.offset)),
            queue: queue.unwrap_or_default(),
            died_at: None,
            reason,
            is_job: job.is_some(),
        }
    }

    /// With its job, or what is left of it.
    pub(super) fn dead_job(self, died_at: Timestamp, body: Vec<u8>) -> DeadJob {
        let content = match codec::decode(&body) {
            Ok(job) => DeadContent::Job(Box::new(job)),
            Err(_) => DeadContent::Undecodable(body),
        };
        DeadJob::new(self.id, self.queue, content, died_at, self.reason)
    }
}

/// An id that all processes agree on, for what has none.
fn of_place(offset: u64) -> JobId {
    let [a, b, c, d, e, f, g, h] = offset.to_be_bytes();
    JobId::from_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use goose_core::{Job, JobName, Payload};

    use super::*;

    fn job(queue: &str) -> Job {
        Job::new(JobName::new("a").unwrap(), QueueName::new(queue).unwrap(), Payload::message_pack(vec![1]))
    }

    fn entry(headers: Table, id: &str, body: Vec<u8>) -> Entry {
        Entry { offset: 7, id: Some(id.to_owned()), headers, body }
    }

    #[test]
    fn deaths_read_back() {
        let job = job("mail");
        for (cause, detail, is_job) in [(DeathCause::Buried, "näh: \"no\"", true), (DeathCause::Undecodable, "", false)]
        {
            let reason = DeathReason::new(cause, detail);
            let queue = QueueName::new("slow").unwrap();
            let died_at = Timestamp::from_millis(5);
            let death = Death { id: job.id, queue, died_at: Some(died_at), reason, is_job };
            let body = if is_job { codec::encode(&job) } else { b"junk".to_vec() };
            let entry = entry(death.headers(), "entry-1", body);
            assert_eq!(Death::of(&entry), death);
            let dead = death.clone().dead_job(died_at, entry.body);
            assert_eq!((dead.id, &dead.queue, &dead.reason), (job.id, &death.queue, &death.reason));
            assert_eq!(dead.job(), is_job.then_some(&job));
        }
    }

    #[test]
    fn what_a_queue_gave_up_is_told_from_its_message() {
        let job = job("mail");
        let by = |headers: &[(&str, &str)], id: &str, body: &[u8]| {
            let headers = headers.iter().map(|(name, text)| ((*name).to_owned(), Value::Text((*text).to_owned())));
            Death::of(&entry(headers.collect(), id, body.to_vec()))
        };
        let from = [(FIRST_QUEUE, "goose/v1/queue/slow"), ("goose-rank", "due")];
        let whole = by(&from, &job.id.to_string(), &codec::encode(&job));
        assert_eq!((whole.id, whole.queue.as_str(), whole.is_job), (job.id, "slow", true));
        assert_eq!((whole.reason.cause, whole.died_at), (DeathCause::Poison, None));
        let bare = by(&[], "", &codec::encode(&job));
        assert_eq!((bare.id, bare.queue.as_str()), (job.id, "mail"));
        let junk = by(&from[..1], &job.id.to_string(), b"junk");
        assert_eq!((junk.id, junk.reason.cause, junk.is_job), (job.id, DeathCause::Undecodable, false));
        let nothing = by(&[], "", b"");
        assert_eq!((nothing.id, nothing.queue.as_str()), (of_place(7), "default"));
    }
}
