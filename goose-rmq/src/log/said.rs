//! What an entry of the control log says, as JSON.
//!
//! Readers pass over what they do not know, so that newer versions can say more.

use std::fmt::Display;
use std::str::FromStr;

use goose_core::broker::{WorkerId, WorkerIdentity, capability::Totals};
use goose_core::{JobId, QueueName, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::content::Piece;
use crate::amqp::Table;
use crate::stream::NewEntry;

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(super) enum Said {
    /// Jobs of this queue are not handed out until it is resumed.
    Pause {
        queue: Text<QueueName>,
    },
    Resume {
        queue: Text<QueueName>,
    },
    /// These jobs are not to be run, if they were enqueued until then (`at`). Remembered `until` then, both in milliseconds
    /// since the epoch.
    Delete {
        ids: Vec<Text<JobId>>,
        at: i64,
        until: i64,
        /// Where their messages wait, if that is known: they are no more part of what waits there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Whereabouts>,
    },
    /// This message is not to be run: another one of the same job was sent, to the front. Remembered until then.
    Replace {
        copy: i64,
        until: i64,
        from: Whereabouts,
    },
    /// A worker has met these deleted jobs and removed their messages, or messages that were replaced.
    Removed {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ids: Vec<Text<JobId>>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        copies: Vec<i64>,
        until: i64,
    },
    /// This queue was emptied, or without a name everything that waits for its time.
    Purged {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<Text<QueueName>>,
        /// At that time, in milliseconds: what was not due then was not in the queue.
        at: i64,
    },
    /// These jobs may run after all: somebody replays them.
    Restore {
        ids: Vec<Text<JobId>>,
    },
    /// These queues have been used.
    Used {
        queues: Vec<Text<QueueName>>,
    },
    /// So much has happened since what was said last.
    Count(Counts),
    /// These sessions are open and hold so many jobs.
    Present {
        sessions: Vec<SessionSaid>,
    },
    /// These sessions have ended, or did not answer.
    Left {
        sessions: Vec<Text<JobId>>,
    },
    /// Everybody with open sessions is asked to say so.
    Census,
    /// Somebody says again what waits in the journal, now that so many bytes have come into it.
    Keep {
        journaled: u64,
        /// That was so when somebody last did it.
        before: u64,
    },
    /// A snapshot of everything before this entry follows.
    Begin,
    /// A part of the snapshot that was begun at that place.
    Snapshot {
        begin: u64,
        part: usize,
        parts: usize,
        piece: Box<Piece>,
    },
    /// Nothing that any version has written.
    #[serde(skip)]
    Broken,
    /// Something of a newer version.
    #[serde(other)]
    Unknown,
}

impl Said {
    pub(super) fn entry(&self) -> NewEntry {
        // Text with strings and numbers in it cannot fail to become JSON; an empty entry says nothing.
        NewEntry::new(Table::new(), serde_json::to_vec(self).unwrap_or_default())
    }

    pub(super) fn read(body: &[u8]) -> Self {
        /// What all versions have in common.
        #[derive(Deserialize)]
        struct Any {
            #[serde(rename = "is")]
            _is: String,
        }
        serde_json::from_slice(body).unwrap_or_else(|_| {
            // A newer version may know more of a kind that we know, too.
            let is_one = serde_json::from_slice::<Any>(body).is_ok();
            if is_one { Self::Unknown } else { Self::Broken }
        })
    }
}

/// Where a message waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Whereabouts {
    pub(crate) queue: Text<QueueName>,
    /// From when on it is in that queue, in milliseconds; until then it waits for its time. Zero if it never did.
    #[serde(default)]
    pub(crate) due: i64,
}

/// An open session of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionSaid {
    pub(super) id: Text<JobId>,
    pub(super) worker: Text<JobId>,
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) started_at: i64,
    /// The queues it serves.
    pub(super) queues: Vec<HoldingSaid>,
}

/// What a session has of one queue, see [`Presence::show`](super::Presence::show).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HoldingSaid {
    pub(super) queue: Text<QueueName>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) running: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) held: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) moving: u64,
}

impl SessionSaid {
    pub(super) fn worker(&self) -> WorkerIdentity {
        WorkerIdentity::new(WorkerId::from_bytes(*self.worker.0.as_bytes()), &*self.host, self.pid)
    }

    pub(super) fn started_at(&self) -> Timestamp {
        Timestamp::from_millis(self.started_at)
    }
}

/// Numbers of jobs; those that are zero are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) enqueued: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) succeeded: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) failed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) died: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) discarded: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) recovered: u64,
    /// How much has come into the journal, in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) journaled: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Counts {
    pub(super) fn add(&mut self, more: Self) {
        let pairs = [
            (&mut self.enqueued, more.enqueued),
            (&mut self.succeeded, more.succeeded),
            (&mut self.failed, more.failed),
            (&mut self.died, more.died),
            (&mut self.discarded, more.discarded),
            (&mut self.recovered, more.recovered),
            (&mut self.journaled, more.journaled),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    pub(super) fn totals(self) -> Totals {
        let mut totals = Totals::default();
        (totals.enqueued, totals.succeeded, totals.failed) = (self.enqueued, self.succeeded, self.failed);
        (totals.died, totals.discarded, totals.recovered) = (self.died, self.discarded, self.recovered);
        totals
    }
}

/// A value that is written as the text it is displayed by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Text<T>(pub(crate) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_json_that_reads_back() {
        let id = Text("0190163d-8694-739b-aea5-966c26f8ad90".parse::<JobId>().unwrap());
        let queue = Text(QueueName::new("mail").unwrap());
        for (said, json) in [
            (Said::Pause { queue: queue.clone() }, r#"{"is":"pause","queue":"mail"}"#),
            (
                Said::Delete { ids: vec![id.clone()], at: 5, until: 7, from: None },
                r#"{"is":"delete","ids":["0190163d-8694-739b-aea5-966c26f8ad90"],"at":5,"until":7}"#,
            ),
            (Said::Count(Counts { died: 2, ..Counts::default() }), r#"{"is":"count","died":2}"#),
            (Said::Census, r#"{"is":"census"}"#),
            (
                Said::Present {
                    sessions: vec![SessionSaid {
                        id: id.clone(),
                        worker: id.clone(),
                        host: "h".into(),
                        pid: 3,
                        started_at: 5,
                        queues: vec![HoldingSaid { queue, running: 4, held: 1, moving: 0 }],
                    }],
                },
                r#"{"is":"present","sessions":[{"id":"0190163d-8694-739b-aea5-966c26f8ad90","worker":"0190163d-8694-739b-aea5-966c26f8ad90","host":"h","pid":3,"started_at":5,"queues":[{"queue":"mail","running":4,"held":1}]}]}"#,
            ),
        ] {
            let entry = said.entry();
            assert_eq!(std::str::from_utf8(&entry.body).unwrap(), json);
            assert_eq!(Said::read(&entry.body), said);
        }
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        for body in [&br#"{"is":"cron-put","entry":[1]}"#[..], br#"{"is":"pause","queue":"no spaces"}"#] {
            assert_eq!(Said::read(body), Said::Unknown);
        }
        for body in [&b"junk"[..], b"", b"{}", b"[1]", br#"{"is":7}"#] {
            assert_eq!(Said::read(body), Said::Broken);
        }
        // More than is known of a known kind does not matter.
        assert_eq!(Said::read(br#"{"is":"census","why":"dashboard"}"#), Said::Census);
    }
}
