//! A job as a message: the envelope is the body, everything the broker needs without decoding it is a header.
//!
//! Headers of a message that was received are never sent on: a new message is built each time. So `x-death` and its
//! relatives cannot make the server see a cycle where there is none.
//!
//! | header | type | what | left out when |
//! |---|---|---|---|
//! | `goose-rank` | text | `again`, `front`, `due`, `returned` | normal |
//! | `goose-ready-at` | int | when it entered its queue or is due, ms since the epoch on the sender's clock | it is when the job was enqueued |
//! | `goose-hold` | int | how early it can arrive, ms | 0 |
//! | `goose-recoveries` | int | how often it was taken from a session that died | 0 |
//! | `goose-goes-on` | bool | to be sent on its way again | false |
//! | `goose-lease` | text | the lease queue this copy comes from | none |
//! | `goose-copy` | int | names this message, where there is a journal | there is none |
//! | `goose-waits` of a delayed message | text | `retry`, `snoozed` | scheduled, or no journal |
//!
//! So most messages have no headers at all, which saves the server a seventh of its work (measured on 3.10.8, classic
//! and quorum queues).

use std::sync::Arc;
use std::time::Duration;

use goose_core::{Error, Job, JobId, QueueName, Result, Timestamp, codec};

use crate::amqp::{Delivered, Outgoing, Table, Value};
pub(crate) use crate::copy_id::CopyId;
use crate::delay::Path;
use crate::topology::{HIGH, NORMAL};

/// What stands in front of the normal jobs of its queue, and in which order. What a session has received is sorted by this; on
/// the server only the priority counts, and among equals the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Came back (released, recovered, replayed, retried without a pause): first, in the order in which they came.
    Again,
    /// Enqueued at the front: the newest first.
    Front,
    /// Its time has come: by that time.
    Due,
    /// Was sent to a session that had not asked for it, and came back: in order, before the normal ones that stayed.
    Returned,
    /// Normal: first in, first out.
    Normal,
}

impl Rank {
    /// `None` for the normal one, which needs no words.
    fn header(self) -> Option<&'static str> {
        match self {
            Self::Again => Some("again"),
            Self::Front => Some("front"),
            Self::Due => Some("due"),
            Self::Returned => Some("returned"),
            Self::Normal => None,
        }
    }

    /// A rank of a later version is taken for one that came back: before the normal ones, in order.
    fn of_header(text: Option<&str>) -> Self {
        match text {
            None => Self::Normal,
            Some("front") => Self::Front,
            Some("due") => Self::Due,
            Some("returned") => Self::Returned,
            Some(_) => Self::Again,
        }
    }

    /// The priority on the server.
    pub(crate) fn priority(self) -> u8 {
        if self == Self::Normal { NORMAL } else { HIGH }
    }
}

/// Why a job waits for its time, where that is more than that somebody has scheduled it. Said where there is a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    ForRetry,
    Snoozed,
}

impl Waits {
    pub(crate) fn mark(self, message: &mut Outgoing) {
        let text = match self {
            Self::ForRetry => "retry",
            Self::Snoozed => "snoozed",
        };
        message.headers.insert(header::KIND.to_owned(), Value::Text(text.to_owned()));
    }

    pub(crate) fn of(headers: &Table) -> Option<Self> {
        match headers.get(header::KIND) {
            Some(Value::Text(text)) if text == "retry" => Some(Self::ForRetry),
            Some(Value::Text(text)) if text == "snoozed" => Some(Self::Snoozed),
            _ => None,
        }
    }
}

/// Everything that travels beside a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ticket {
    pub(crate) rank: Rank,
    /// How often it was taken from a session that died. What the server counted (`x-delivery-count` of quorum queues) is
    /// added when it is read.
    pub(crate) recoveries: u32,
    /// When it entered its queue, or is due.
    pub(crate) ready_at: Timestamp,
    /// How long before `ready_at` it may arrive, at most, by the arithmetic of the cascade. A session never holds a job
    /// for longer than this, so that a wrong clock cannot hold it up. Zero for what is not delayed. Of what goes on it is
    /// the delay that is left.
    pub(crate) hold: Duration,
    /// The job's end was agreed on while it waited longer than the cascade reaches: send it on its way again instead of
    /// running it.
    pub(crate) goes_on: bool,
    /// The name of the lease queue this copy comes from, see `session::long`.
    pub(crate) lease: Option<String>,
    /// What its message is called in the journal. A message that is sent there gets a new one, see [`Names::stamp`](crate::topology::Names::stamp).
    pub(crate) copy: Option<CopyId>,
}

/// A job that came out of a queue.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) job: Job,
    pub(crate) ticket: Ticket,
    /// Its envelope, to send it on unchanged.
    pub(crate) envelope: Arc<[u8]>,
}

/// How long it takes at most to hand in a job that has just got its time.
const FRESH: Duration = Duration::from_millis(20);

mod header {
    pub(super) const RANK: &str = "goose-rank";
    pub(super) const READY_AT: &str = "goose-ready-at";
    pub(super) const HOLD: &str = "goose-hold";
    pub(super) const RECOVERIES: &str = "goose-recoveries";
    pub(super) const GOES_ON: &str = "goose-goes-on";
    pub(super) const LEASE: &str = "goose-lease";
    pub(super) const KIND: &str = "goose-waits";
    /// Set by quorum queues.
    pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";
}

impl Ticket {
    /// Of a job that enters its queue now.
    pub(crate) fn now(rank: Rank, now: Timestamp) -> Self {
        Self { rank, recoveries: 0, ready_at: now, hold: Duration::ZERO, goes_on: false, lease: None, copy: None }
    }

    /// Of a job that was enqueued just now. The time in its envelope does for this one, too, if it is hardly older.
    pub(crate) fn fresh(rank: Rank, job: &Job, now: Timestamp) -> Self {
        let age = now.since(job.enqueued_at);
        let is_fresh = job.enqueued_at <= now && age <= FRESH;
        Self::now(rank, if is_fresh { job.enqueued_at } else { now })
    }

    /// Of a job that takes this path to its time.
    pub(crate) fn due(ready_at: Timestamp, path: Path) -> Self {
        Self { hold: path.hold(), goes_on: path.goes_on(), ..Self::now(Rank::Due, ready_at) }
    }

    /// Of the same job when it goes back to the front of its queue.
    pub(crate) fn back(self, now: Timestamp) -> Self {
        // One that is not due yet keeps its time.
        Self { rank: Rank::Again, ready_at: self.ready_at.max(now), lease: None, ..self }
    }

    pub(crate) fn headers(&self) -> Table {
        let mut headers = Table::new();
        let mut set = |name: &str, value| {
            headers.insert(name.to_owned(), value);
        };
        set(header::READY_AT, Value::Int(self.ready_at.as_millis()));
        if let Some(rank) = self.rank.header() {
            set(header::RANK, Value::Text(rank.to_owned()));
        }
        if !self.hold.is_zero() {
            set(header::HOLD, Value::Int(i64::try_from(self.hold.as_millis()).unwrap_or(i64::MAX)));
        }
        if self.recoveries > 0 {
            set(header::RECOVERIES, Value::Int(self.recoveries.into()));
        }
        if self.goes_on {
            set(header::GOES_ON, Value::Bool(true));
        }
        if let Some(lease) = &self.lease {
            set(header::LEASE, Value::Text(lease.clone()));
        }
        if let Some(copy) = self.copy {
            set(CopyId::HEADER, Value::Int(copy.0));
        }
        headers
    }

    /// What the headers say. Whatever is missing or makes no sense has the value of a job that entered its queue normally:
    /// an envelope alone, put into a queue by hand, is a job.
    pub(crate) fn of_headers(headers: &Table, otherwise_ready_at: Timestamp) -> Self {
        let int = |name| match headers.get(name) {
            Some(Value::Int(value)) => Some(*value),
            _ => None,
        };
        let text = |name| match headers.get(name) {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let count = |name| u32::try_from(int(name).unwrap_or(0).max(0)).unwrap_or(u32::MAX);
        Self {
            rank: Rank::of_header(text(header::RANK)),
            recoveries: count(header::RECOVERIES).saturating_add(count(header::DELIVERY_COUNT)),
            ready_at: int(header::READY_AT).map_or(otherwise_ready_at, Timestamp::from_millis),
            hold: Duration::from_millis(u64::try_from(int(header::HOLD).unwrap_or(0)).unwrap_or(0)),
            goes_on: matches!(headers.get(header::GOES_ON), Some(Value::Bool(true))),
            lease: text(header::LEASE).map(str::to_owned),
            copy: int(CopyId::HEADER).map(CopyId),
        }
    }
}

/// A message for a ready queue or, with an exchange and key of the cascade, for later:
/// [`Names::address`](crate::topology::Names::address) has both for a path.
pub(crate) fn outgoing(job: &Job, ticket: &Ticket, exchange: Arc<str>, routing_key: String) -> Outgoing {
    let mut message = sealed(job.id, codec::encode(job).into(), ticket, exchange, routing_key);
    if ticket.ready_at == job.enqueued_at {
        message.headers.remove(header::READY_AT);
    }
    message
}

/// The same for an envelope that is there already, or for bytes that are none.
pub(crate) fn sealed(
    id: JobId,
    envelope: Arc<[u8]>,
    ticket: &Ticket,
    exchange: Arc<str>,
    routing_key: String,
) -> Outgoing {
    let (message_id, priority, headers) = (id.to_string(), ticket.rank.priority(), ticket.headers());
    Outgoing { exchange, routing_key, message_id, priority, headers, body: envelope }
}

/// Leaves out what the server has counted, where deliveries mean nothing.
pub(crate) fn forget_deliveries(headers: &mut Table) {
    headers.remove(header::DELIVERY_COUNT);
}

/// Reads a delivered message. An error means that it is no job: it goes to the dead, as the bytes it is.
pub(crate) fn read(delivered: Delivered, queue: &QueueName) -> Result<Message> {
    let (job, ticket) = look(&delivered, queue)?;
    Ok(Message { job, ticket, envelope: delivered.body.into() })
}

/// The same for somebody who needs the bytes if they are no job.
pub(crate) fn look(delivered: &Delivered, queue: &QueueName) -> Result<(Job, Ticket)> {
    let job = codec::decode(&delivered.body).map_err(|error| {
        Error::new(error.kind(), format!("a message of queue {queue} cannot be read as a job")).with_source(error)
    })?;
    let ticket = Ticket::of_headers(&delivered.headers, job.enqueued_at);
    Ok((job, ticket))
}

#[cfg(test)]
mod tests {
    use goose_core::{ErrorKind, JobName, Payload};
    use proptest::prelude::*;

    use super::*;

    fn job() -> Job {
        Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![1]))
    }

    fn arrived(message: Outgoing, more: &[(&str, Value)]) -> Delivered {
        let mut headers = message.headers;
        headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Delivered {
            tag: 1,
            redelivered: false,
            message_id: Some(message.message_id),
            headers,
            body: message.body.to_vec(),
        }
    }

    fn out(job: &Job, ticket: &Ticket) -> Outgoing {
        outgoing(job, ticket, "".into(), "queue".to_owned())
    }

    #[test]
    fn a_normal_job_has_no_header_and_the_low_priority() {
        let mut job = job();
        job.enqueued_at = Timestamp::from_millis(1000);
        let fresh = |now| Ticket::fresh(Rank::Normal, &job, Timestamp::from_millis(now));
        let message = out(&job, &fresh(1020));
        assert_eq!(message.headers, Table::new());
        assert_eq!(read(arrived(out(&job, &fresh(1020)), &[]), &job.queue).unwrap().ticket.ready_at, job.enqueued_at);
        for handed_in in [999, 1021] {
            let time = Table::from([("goose-ready-at".to_owned(), Value::Int(handed_in))]);
            assert_eq!(out(&job, &fresh(handed_in)).headers, time, "its time is not that in its envelope");
        }
        assert_eq!((message.priority, message.message_id), (NORMAL, job.id.to_string()));
        assert_eq!(codec::decode(&message.body).unwrap(), job);
        for rank in [Rank::Again, Rank::Front, Rank::Due, Rank::Returned] {
            assert_eq!(out(&job, &Ticket::now(rank, Timestamp::EPOCH)).priority, HIGH, "{rank:?}");
        }
    }

    #[test]
    fn deaths_and_deliveries_are_not_sent_on_but_counted() {
        let sent = Ticket { recoveries: 2, ..Ticket::now(Rank::Again, Timestamp::from_millis(7)) };
        let by_the_server = [("x-delivery-count", Value::Int(3)), ("x-first-death-queue", Value::Text("q".into()))];
        let read = read(arrived(out(&job(), &sent), &by_the_server), &QueueName::default()).unwrap();
        assert_eq!(read.ticket, Ticket { recoveries: 5, ..sent });
        let again = sealed(read.job.id, read.envelope, &read.ticket, "".into(), "queue".to_owned());
        assert!(again.headers.keys().all(|name| name.starts_with("goose-")), "{:?}", again.headers);
    }

    #[test]
    fn an_envelope_alone_is_a_job_and_nonsense_in_headers_is_passed_over() {
        let job = job();
        let nonsense = [
            ("goose-rank", Value::Int(1)),
            ("goose-hold", Value::Int(-1)),
            ("goose-recoveries", Value::Int(i64::MIN)),
            ("goose-goes-on", Value::Text("yes".into())),
            ("goose-ready-at", Value::Bool(true)),
        ];
        for more in [&[][..], &nonsense] {
            let mut bare = arrived(out(&job, &Ticket::now(Rank::Normal, Timestamp::EPOCH)), more);
            bare.headers.retain(|name, _| more.iter().any(|(other, _)| other == name));
            let read = read(bare, &QueueName::default()).unwrap();
            assert_eq!(read.ticket, Ticket::now(Rank::Normal, job.enqueued_at));
            assert_eq!(read.job, job);
        }
        let later = [("goose-rank", Value::Text("of a later version".into()))];
        let read = read(arrived(out(&job, &Ticket::now(Rank::Normal, Timestamp::EPOCH)), &later), &job.queue).unwrap();
        assert_eq!(read.ticket.rank, Rank::Again);
    }

    #[test]
    fn what_is_no_job_is_told_with_its_queue() {
        let raw = sealed(
            JobId::new(),
            (*b"junk").into(),
            &Ticket::now(Rank::Normal, Timestamp::EPOCH),
            "".into(),
            "q".into(),
        );
        let error = read(arrived(raw, &[]), &QueueName::new("mail").unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(error.to_string(), "a message of queue mail cannot be read as a job");
    }

    proptest! {
        #[test]
        fn tickets_read_back(
            rank in prop::sample::select(vec![Rank::Again, Rank::Front, Rank::Due, Rank::Returned, Rank::Normal]),
            recoveries in any::<u32>(), ready_at in any::<i64>(), hold in 0..i64::MAX as u64, goes_on in any::<bool>(),
            lease in prop::option::of("[a-z0-9/-]{1,60}"), copy in prop::option::of(any::<i64>()),
        ) {
            let ready_at = Timestamp::from_millis(ready_at);
            let copy = copy.map(CopyId);
            let ticket = Ticket { rank, recoveries, ready_at, hold: Duration::from_millis(hold), goes_on, lease, copy };
            let job = job();
            let read = read(arrived(out(&job, &ticket), &[]), &job.queue).unwrap();
            prop_assert_eq!(read.ticket, ticket);
            prop_assert_eq!(&*read.envelope, &*codec::encode(&job));
        }
    }
}
