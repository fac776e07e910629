//! A job as a message: the envelope is the body, everything the broker needs without decoding it is a header.
//!
//! Headers of a message that was received are never sent on: a new message is built each time. So `x-death` and its
//! relatives cannot make the server see a cycle where there is none.

use std::sync::Arc;
use std::time::Duration;

use goose_core::{Job, QueueName, Result, Timestamp};

use crate::amqp::{Delivered, Outgoing};

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
    /// Normal: first in, first out.
    Normal,
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
    /// for longer than this, so that a wrong clock cannot hold it up. Zero for what is not delayed.
    pub(crate) hold: Duration,
    /// The job's end was agreed on while it waited longer than the cascade reaches: send it on its way again instead of
    /// running it.
    pub(crate) goes_on: bool,
    /// The name of the lease queue this copy comes from, see `session::long`.
    pub(crate) lease: Option<String>,
}

/// A job that came out of a queue.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) job: Job,
    pub(crate) ticket: Ticket,
    /// Its envelope, to send it on unchanged.
    pub(crate) envelope: Arc<[u8]>,
}

impl Ticket {
    /// Of a job that enters its queue now.
    pub(crate) fn now(_rank: Rank, _now: Timestamp) -> Self {
        unimplemented!()
    }
}

/// A message for a ready queue or, with an exchange and key of the cascade, for later. `exchange`, `routing_key` are left
/// for the caller (`topology::Names`) to fill: see [`to_queue`](crate::topology::Names).
pub(crate) fn outgoing(_job: &Job, _ticket: &Ticket, _exchange: Arc<str>, _routing_key: String) -> Outgoing {
    unimplemented!()
}

/// Reads a delivered message. An error means that it is no job: it goes to the dead, as the bytes it is.
pub(crate) fn read(_delivered: Delivered, _queue: &QueueName) -> Result<Message> {
    unimplemented!()
}
