//! Names of messages, where there is a journal.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use goose_core::JobId;

use crate::amqp::{Outgoing, Value};

/// Names one message. A job that is retried, handed back or moved has another message each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CopyId(pub(crate) i64);

impl CopyId {
    pub(crate) const HEADER: &'static str = "goose-copy";

    /// One that nobody has used: processes count on from places at random in a large room.
    pub(crate) fn new() -> Self {
        static NEXT: LazyLock<AtomicI64> = LazyLock::new(|| AtomicI64::new(random()));
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives a message a new name.
    pub(crate) fn stamp(message: &mut Outgoing) {
        message.headers.insert(Self::HEADER.to_owned(), Value::Int(Self::new().0));
    }

    /// The name of a message.
    pub(crate) fn of(message: &Outgoing) -> Option<Self> {
        match message.headers.get(Self::HEADER) {
            Some(Value::Int(copy)) => Some(Self(*copy)),
            _ => None,
        }
    }
}

fn random() -> i64 {
    i64::from_le_bytes(RandomState::new().hash_one(JobId::new()).to_le_bytes())
}
