//! One entry of a stream, to be appended and as it is read.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use goose_core::{Error, ErrorKind, JobId, Result};

use super::OFFSET;
use crate::amqp::{Delivered, Outgoing, Table, Value};
use crate::topology::NORMAL;

/// What the ids of our entries begin with. Messages that a queue sends here have the id of their job.
const OURS: &str = "entry-";

/// What an entry is about.
pub(crate) const KIND: &str = "goose-kind";

/// How many ids are remembered to tell an entry that was appended twice. What a process could not say for sure goes out again when
/// the server is there for it again, and hundreds of others may have said something meanwhile. They take some 4 MB.
const REMEMBERED: usize = 1 << 16;

/// What the server and headers add to a body, about, in bytes.
const OVERHEAD: u64 = 150;

/// How much a body takes up in a stream, about.
pub(crate) fn size(body: usize) -> u64 {
    u64::try_from(body).unwrap_or(u64::MAX).saturating_add(OVERHEAD)
}

/// An entry to append.
#[derive(Debug, Clone)]
pub(crate) struct NewEntry {
    pub(crate) id: String,
    pub(crate) headers: Table,
    pub(crate) body: Arc<[u8]>,
}

impl NewEntry {
    /// With a new id.
    pub(crate) fn new(headers: Table, body: impl Into<Arc<[u8]>>) -> Self {
        Self { id: format!("{OURS}{}", JobId::new()), headers, body: body.into() }
    }

    /// How much it takes up, about.
    pub(crate) fn size(&self) -> u64 {
        size(self.body.len())
    }

    /// Says nothing, but where in the order it stands.
    pub(super) fn mark() -> Self {
        Self::new(Table::new(), *b"")
    }

    /// For the default exchange, which routes to the stream by its name.
    pub(super) fn addressed(&self, stream: &str) -> Outgoing {
        Outgoing {
            exchange: "".into(),
            routing_key: stream.to_owned(),
            message_id: self.id.clone(),
            priority: NORMAL,
            headers: self.headers.clone(),
            body: Arc::clone(&self.body),
        }
    }
}

/// An entry that was read.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its place. Numbers only grow; they may have gaps.
    pub(crate) offset: u64,
    /// Its own id, or that of a job where a queue sent it.
    pub(crate) id: Option<String>,
    pub(crate) headers: Table,
    pub(crate) body: Vec<u8>,
}

impl Entry {
    /// With the tag to acknowledge it by.
    pub(super) fn of(delivered: Delivered, stream: &str) -> Result<(u64, Self)> {
        let Some(Value::Int(offset)) = delivered.headers.get(OFFSET) else {
            return Err(no_stream(stream));
        };
        let offset = u64::try_from(*offset).unwrap_or(0);
        let Delivered { tag, message_id, headers, body, .. } = delivered;
        Ok((tag, Self { offset, id: message_id, headers, body }))
    }

    /// How much it takes up, about.
    pub(crate) fn size(&self) -> u64 {
        size(self.body.len())
    }

    /// Whether a process of ours appended it, as opposed to a queue of the server.
    pub(crate) fn is_ours(&self) -> bool {
        self.own_id().is_some()
    }

    pub(super) fn is_mark(&self) -> bool {
        self.is_ours() && self.body.is_empty() && self.text(KIND).is_none()
    }

    pub(super) fn own_id(&self) -> Option<&str> {
        self.id.as_deref().filter(|id| id.starts_with(OURS))
    }

    pub(crate) fn text(&self, header: &str) -> Option<&str> {
        match self.headers.get(header) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn int(&self, header: &str) -> Option<i64> {
        match self.headers.get(header) {
            Some(Value::Int(value)) => Some(*value),
            _ => None,
        }
    }
}

/// A queue of another type has the name of a stream.
pub(super) fn no_stream(name: &str) -> Error {
    let message = format!("the queue {name} is no stream, delete it so that it can be declared as one");
    Error::new(ErrorKind::Misconfigured, message)
}

/// The ids of the last entries.
#[derive(Debug, Default)]
pub(super) struct LastIds {
    set: HashSet<JobId>,
    order: VecDeque<JobId>,
}

impl LastIds {
    /// Whether an entry is a second copy. What is not ours never is: the same job may die several times.
    pub(super) fn is_repeated(&mut self, entry: &Entry) -> bool {
        let id = entry.own_id().and_then(|id| id.strip_prefix(OURS)?.parse().ok());
        let Some(id) = id else { return false };
        if !self.set.insert(id) {
            return true;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED {
            self.order.pop_front().map(|oldest| self.set.remove(&oldest));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry { offset: 0, id: Some(id.to_owned()), headers: Table::new(), body: Vec::new() }
    }

    #[test]
    fn a_second_copy_is_told_and_jobs_may_come_twice() {
        let mut last = LastIds::default();
        let (a, b) = (NewEntry::new(Table::new(), *b""), NewEntry::new(Table::new(), *b""));
        let seen: Vec<bool> = [&a, &b, &a, &a].iter().map(|new| last.is_repeated(&entry(&new.id))).collect();
        assert_eq!(seen, [false, false, true, true]);
        let job = JobId::new().to_string();
        assert!(!last.is_repeated(&entry(&job)) && !last.is_repeated(&entry(&job)));
        for _ in 0..REMEMBERED {
            assert!(!last.is_repeated(&entry(&NewEntry::mark().id)));
        }
        assert_eq!((last.set.len(), last.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!last.is_repeated(&entry(&a.id)), "forgotten, and not kept for ever");
    }

    #[test]
    fn what_has_no_offset_is_no_stream() {
        let delivered = |headers| Delivered { tag: 7, redelivered: false, message_id: None, headers, body: vec![1] };
        let error = Entry::of(delivered(Table::new()), "goose/v1/log").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().starts_with("the queue goose/v1/log is no stream, delete it"));
        let headers = Table::from([(OFFSET.to_owned(), Value::Int(9))]);
        let (tag, entry) = Entry::of(delivered(headers), "s").unwrap();
        assert_eq!((tag, entry.offset, entry.is_ours()), (7, 9, false));
    }
}
