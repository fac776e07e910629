//! Notes in the journal: what has become of messages that were waiting.

use goose_core::{JobId, QueueName};

use crate::amqp::{Table, Value};
use crate::message::CopyId;
use crate::stream::{Entry, KIND, NewEntry};

const BY: &str = "goose-by";
const QUEUE: &str = "goose-queue";
const UP_TO: &str = "goose-up-to";
const DUE: &str = "goose-due";
const BEGIN: &str = "goose-begin";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    /// A session runs these.
    Began { by: JobId, copies: Vec<CopyId> },
    /// These are over: acknowledged, or never taken in.
    Ended { copies: Vec<CopyId> },
    /// These wait again: the session that ran them has lost them.
    Back { copies: Vec<CopyId> },
    /// Nothing waits any more of what stands up to this place: in a queue, or, without a name, in the cascade. By the time `due`
    /// in milliseconds: what is due later is not in the queue, and what was due before is not in the cascade.
    Gone { queue: Option<QueueName>, up_to: u64, due: i64 },
    /// What waits and stands far back is said again from here on, each with a [`Kept`].
    Begin,
    /// All of it is said that was to be said from that place on.
    End { begin: u64 },
}

/// A message that is said again, so that it is in the journal when the beginning of that is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Where this was begun.
    pub(super) begin: u64,
    /// Where it stood at first, which is its place in the order of its queue.
    pub(super) first: u64,
}

impl Note {
    pub(super) fn entry(&self) -> NewEntry {
        let int = |value: u64| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
        let (kind, headers, body) = match self {
            Self::Began { by, copies } => ("began", vec![(BY, Value::Text(by.to_string()))], bytes(copies)),
            Self::Ended { copies } => ("ended", Vec::new(), bytes(copies)),
            Self::Back { copies } => ("back", Vec::new(), bytes(copies)),
            Self::Gone { queue, up_to, due } => {
                let queue = queue.iter().map(|queue| (QUEUE, Value::Text(queue.to_string())));
                ("gone", [(UP_TO, int(*up_to)), (DUE, Value::Int(*due))].into_iter().chain(queue).collect(), Vec::new())
            }
            Self::Begin => ("begin", Vec::new(), Vec::new()),
            Self::End { begin } => ("end", vec![(BEGIN, int(*begin))], Vec::new()),
        };
        let mut table: Table = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        table.insert(KIND.to_owned(), Value::Text(kind.to_owned()));
        NewEntry::new(table, body)
    }

    /// The note in an entry, if it is one that is known.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let place = |header| entry.int(header).and_then(|value| u64::try_from(value).ok());
        let copies = || copies(&entry.body);
        match entry.text(KIND)? {
            "began" => Some(Self::Began { by: entry.text(BY)?.parse().ok()?, copies: copies() }),
            "ended" => Some(Self::Ended { copies: copies() }),
            "back" => Some(Self::Back { copies: copies() }),
            "gone" => {
                let queue = match entry.text(QUEUE) {
                    Some(name) => Some(QueueName::new(name).ok()?),
                    None => None,
                };
                Some(Self::Gone { queue, up_to: place(UP_TO)?, due: entry.int(DUE)? })
            }
            "begin" => Some(Self::Begin),
            "end" => Some(Self::End { begin: place(BEGIN)? }),
            _ => None,
        }
    }
}

impl Kept {
    const KIND: &'static str = "kept";
    const FIRST: &'static str = "goose-first";

    /// With the headers and the body of the message.
    pub(super) fn entry(self, mut headers: Table, body: Vec<u8>) -> NewEntry {
        let int = |value: u64| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
        // What belongs to the server is its own.
        headers.retain(|name, _| name.starts_with("goose-"));
        headers.insert(KIND.to_owned(), Value::Text(Self::KIND.to_owned()));
        headers.insert(BEGIN.to_owned(), int(self.begin));
        headers.insert(Self::FIRST.to_owned(), int(self.first));
        NewEntry::new(headers, body)
    }

    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let place = |header| entry.int(header).and_then(|value| u64::try_from(value).ok());
        (entry.is_ours() && entry.text(KIND) == Some(Self::KIND)).then_some(())?;
        Some(Self { begin: place(BEGIN)?, first: place(Self::FIRST)? })
    }
}

fn bytes(copies: &[CopyId]) -> Vec<u8> {
    copies.iter().flat_map(|copy| copy.0.to_be_bytes()).collect()
}

fn copies(bytes: &[u8]) -> Vec<CopyId> {
    let (copies, _) = bytes.as_chunks::<8>();
    copies.iter().map(|bytes| CopyId(i64::from_be_bytes(*bytes))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(new: NewEntry) -> Entry {
        Entry { offset: 0, id: Some(new.id), headers: new.headers, body: new.body.to_vec() }
    }

    #[test]
    fn notes_read_back() {
        let copies = vec![CopyId(i64::MIN), CopyId(-1), CopyId(7)];
        let queue = Some(QueueName::new("a.b").unwrap());
        for note in [
            Note::Began { by: JobId::new(), copies: copies.clone() },
            Note::Ended { copies: copies.clone() },
            Note::Back { copies },
            Note::Gone { queue, up_to: 5, due: 9 },
            Note::Gone { queue: None, up_to: 5, due: 9 },
            Note::Begin,
            Note::End { begin: 4 },
        ] {
            assert_eq!(Note::of(&read(note.entry())), Some(note));
        }
    }

    #[test]
    fn what_is_kept_says_what_it_was_and_nothing_of_the_servers() {
        let headers = [("goose-copy", Value::Int(3)), ("x-stream-offset", Value::Int(8))];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
        let kept = Kept { begin: 90, first: 8 };
        let entry = read(kept.entry(headers, b"job".to_vec()));
        assert_eq!((Kept::of(&entry), entry.int("goose-copy"), &*entry.body), (Some(kept), Some(3), &b"job"[..]));
        assert!(!entry.headers.contains_key("x-stream-offset") && Note::of(&entry).is_none());
    }
}
