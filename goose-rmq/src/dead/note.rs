//! Notes about dead jobs, which change what the jobs in the stream amount to.

use goose_core::JobId;
use serde::{Deserialize, Serialize};

use crate::amqp::{Table, Value};
use crate::log::Text;
use crate::stream::{Entry, KIND, NewEntry};

/// What [`KIND`] says of a note.
const NOTE: &str = "note";

/// A dead job as the author of a note knows it: its place in the stream, and who had it to himself. The note has no effect on one of
/// which that is not true any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known(pub(super) u64, pub(super) Option<Text<JobId>>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(super) enum Note {
    /// `by` takes these to itself, to replay them. At that time on its clock, in milliseconds.
    Claim { deaths: Vec<Known>, by: Text<JobId>, at: i64 },
    /// `by` has replayed these.
    Replayed { deaths: Vec<u64>, by: Text<JobId> },
    /// `by` has not replayed these.
    Unclaim { deaths: Vec<u64>, by: Text<JobId> },
    /// These are gone.
    Remove { deaths: Vec<Known> },
    /// All up to this place are gone, or those of them that died before a time in milliseconds. Those that somebody is replaying
    /// stay, apart from the ones that are listed: whoever had them has given up.
    RemoveAll { up_to: u64, before: Option<i64>, lapsed: Vec<Known> },
    /// Something of a newer version.
    #[serde(other)]
    Unknown,
}

impl Note {
    pub(super) fn entry(&self) -> NewEntry {
        let headers = Table::from([(KIND.to_owned(), Value::Text(NOTE.to_owned()))]);
        // Numbers and strings cannot fail to become JSON; an empty note says nothing.
        NewEntry::new(headers, serde_json::to_vec(self).unwrap_or_default())
    }

    /// The note in an entry, if it is one.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        let is_note = entry.is_ours() && entry.text(KIND) == Some(NOTE);
        is_note.then(|| serde_json::from_slice(&entry.body).unwrap_or(Self::Unknown))
    }
}
