//! What the entries of the control log amount to, and how that is written into snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use goose_core::{JobId, QueueName, Timestamp};
use serde::{Deserialize, Serialize};

use super::packed;
use super::said::{Counts, Said, SessionSaid, Text, Whereabouts};

/// How many things one part of a snapshot holds: far below the largest message a server takes.
const PART: usize = 2_000;

/// The facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Content {
    pub(super) paused: BTreeSet<QueueName>,
    /// Deleted jobs.
    pub(super) deleted: HashMap<JobId, Deletion>,
    /// Messages that were replaced by others, each with the time until which that is remembered.
    pub(super) replaced: HashMap<i64, Timestamp>,
    /// Where those of them wait that nobody has met yet.
    pub(super) unmet: HashMap<Unmet, Whereabouts>,
    pub(super) queues: BTreeSet<QueueName>,
    pub(super) counts: Counts,
    /// How much had come into the journal when somebody last began to say again what waits there.
    pub(super) kept: u64,
    /// Open sessions, each with the place where it was last heard of.
    pub(super) sessions: BTreeMap<JobId, (u64, SessionSaid)>,
}

/// A message that will not be run, and that the server still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Unmet {
    Job(JobId),
    Copy(i64),
}

/// That a job was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deletion {
    /// When, by the clock of whoever did it. What is enqueued under the same id later than that is another job.
    pub(super) at: Timestamp,
    /// Until then it is remembered.
    pub(super) until: Timestamp,
}

/// A part of a snapshot. A part may hold some of everything; all parts together are the whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Piece {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paused: Vec<Text<QueueName>>,
    /// See [`packed`].
    #[serde(skip_serializing_if = "String::is_empty")]
    deletions: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<(i64, i64)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmet_jobs: Vec<(Text<JobId>, Whereabouts)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmet_copies: Vec<(i64, Whereabouts)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    queues: Vec<Text<QueueName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sessions: Vec<(u64, SessionSaid)>,
}

impl Content {
    /// Takes in what an entry says, and answers how much that changes.
    pub(super) fn apply(&mut self, offset: u64, said: &Said) -> u64 {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        match said {
            Said::Pause { queue } => u64::from(self.paused.insert(queue.0.clone())),
            Said::Resume { queue } => u64::from(self.paused.remove(&queue.0)),
            Said::Delete { ids, at, until, from } => {
                let (at, until) = (Timestamp::from_millis(*at), Timestamp::from_millis(*until));
                let known = self.deleted.len();
                for id in ids {
                    let deletion = self.deleted.entry(id.0).or_insert(Deletion { at, until });
                    (deletion.at, deletion.until) = (at.max(deletion.at), until.max(deletion.until));
                    self.unmet.extend(from.clone().map(|from| (Unmet::Job(id.0), from)));
                }
                count(self.deleted.len() - known)
            }
            Said::Replace { copy, until, from } => {
                self.unmet.insert(Unmet::Copy(*copy), from.clone());
                u64::from(self.replaced.insert(*copy, Timestamp::from_millis(*until)).is_none())
            }
            Said::Removed { ids, copies, until } => {
                let until = Timestamp::from_millis(*until);
                for id in ids {
                    self.deleted.entry(id.0).and_modify(|deletion| deletion.until = until.min(deletion.until));
                    self.unmet.remove(&Unmet::Job(id.0));
                }
                for copy in copies {
                    self.replaced.entry(*copy).and_modify(|end| *end = until.min(*end));
                    self.unmet.remove(&Unmet::Copy(*copy));
                }
                0
            }
            Said::Purged { queue, at } => {
                self.unmet.retain(|_, from| match queue {
                    Some(queue) => from.queue != *queue || from.due > *at,
                    None => from.due <= *at,
                });
                0
            }
            Said::Restore { ids } => {
                ids.iter().for_each(|id| drop(self.unmet.remove(&Unmet::Job(id.0))));
                count(ids.iter().filter(|id| self.deleted.remove(&id.0).is_some()).count())
            }
            Said::Used { queues } => count(queues.iter().filter(|queue| self.queues.insert(queue.0.clone())).count()),
            Said::Count(more) => {
                self.counts.add(*more);
                0
            }
            Said::Present { sessions } => {
                self.sessions.extend(sessions.iter().map(|session| (session.id.0, (offset, session.clone()))));
                0
            }
            Said::Left { sessions } => {
                count(sessions.iter().filter(|id| self.sessions.remove(&id.0).is_some()).count())
            }
            // Whoever asks wants to know which answers come after the question.
            Said::Census => offset,
            Said::Keep { journaled, before } => {
                let is_first = *before == self.kept;
                if is_first {
                    self.kept = *journaled;
                }
                u64::from(is_first)
            }
            Said::Begin | Said::Snapshot { .. } | Said::Unknown | Said::Broken => 0,
        }
    }

    /// Forgets deletions whose time is over.
    pub(super) fn forget_until(&mut self, now: Timestamp) {
        self.deleted.retain(|_, deletion| deletion.until > now);
        self.replaced.retain(|_, until| *until > now);
        let Self { deleted, replaced, unmet, .. } = self;
        unmet.retain(|unmet, _| match unmet {
            Unmet::Job(id) => deleted.contains_key(id),
            Unmet::Copy(copy) => replaced.contains_key(copy),
        });
    }

    /// How many things are remembered for a time.
    pub(super) fn remembered(&self) -> usize {
        self.deleted.len() + self.replaced.len()
    }

    /// How many messages are counted by the server that will not be run: of a queue, or of all that wait for their time.
    pub(super) fn unmet(&self, queue: Option<&QueueName>, now: Timestamp) -> u64 {
        let is_there = |from: &&Whereabouts| match queue {
            Some(queue) => from.queue.0 == *queue && from.due <= now.as_millis(),
            None => from.due > now.as_millis(),
        };
        u64::try_from(self.unmet.values().filter(is_there).count()).unwrap_or(u64::MAX)
    }

    /// The parts of a snapshot, at least one.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        let names = |names: &BTreeSet<QueueName>| names.iter().cloned().map(Text).collect::<Vec<_>>();
        let mut pieces =
            vec![Piece { counts: Some(self.counts), kept: (self.kept > 0).then_some(self.kept), ..Piece::default() }];
        pieces.extend(names(&self.paused).chunks(PART).map(|part| Piece { paused: part.to_vec(), ..Piece::default() }));
        pieces.extend(names(&self.queues).chunks(PART).map(|part| Piece { queues: part.to_vec(), ..Piece::default() }));
        let mut deleted = self.deleted.iter().peekable();
        while deleted.peek().is_some() {
            let deletions = packed::pack(deleted.by_ref().take(PART));
            pieces.push(Piece { deletions, ..Piece::default() });
        }
        let replaced: Vec<_> = self.replaced.iter().map(|(copy, until)| (*copy, until.as_millis())).collect();
        pieces.extend(replaced.chunks(PART).map(|part| Piece { replaced: part.to_vec(), ..Piece::default() }));
        let unmet: Vec<_> = self.unmet.iter().collect();
        pieces.extend(unmet.chunks(PART).map(|part| {
            let mut piece = Piece::default();
            for (unmet, from) in part.iter().copied() {
                match unmet {
                    Unmet::Job(id) => piece.unmet_jobs.push((Text(*id), from.clone())),
                    Unmet::Copy(copy) => piece.unmet_copies.push((*copy, from.clone())),
                }
            }
            piece
        }));
        let sessions: Vec<_> = self.sessions.values().cloned().collect();
        pieces.extend(sessions.chunks(PART).map(|part| Piece { sessions: part.to_vec(), ..Piece::default() }));
        pieces
    }

    /// The whole of a snapshot.
    pub(super) fn of_pieces(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut content = Self::default();
        for piece in pieces {
            content.paused.extend(piece.paused.into_iter().map(|queue| queue.0));
            content.queues.extend(piece.queues.into_iter().map(|queue| queue.0));
            packed::unpack(&piece.deletions, &mut content.deleted);
            let replaced = piece.replaced.into_iter().map(|(copy, until)| (copy, Timestamp::from_millis(until)));
            content.replaced.extend(replaced);
            content.unmet.extend(piece.unmet_jobs.into_iter().map(|(id, from)| (Unmet::Job(id.0), from)));
            content.unmet.extend(piece.unmet_copies.into_iter().map(|(copy, from)| (Unmet::Copy(copy), from)));
            content.counts.add(piece.counts.unwrap_or_default());
            content.kept = content.kept.max(piece.kept.unwrap_or(0));
            content.sessions.extend(piece.sessions.into_iter().map(|(seen, session)| (session.id.0, (seen, session))));
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::super::said::HoldingSaid;
    use super::*;

    fn queue(name: &str) -> Text<QueueName> {
        Text(QueueName::new(name).unwrap())
    }

    #[test]
    fn pauses_and_their_ends() {
        let mut content = Content::default();
        let (pause, resume) = (Said::Pause { queue: queue("a") }, Said::Resume { queue: queue("a") });
        let answers: Vec<u64> =
            [&pause, &pause, &resume, &resume, &pause].map(|said| content.apply(0, said)).into_iter().collect();
        assert_eq!(answers, [1, 0, 1, 0, 1], "only what changes something counts");
        assert_eq!(content.paused, BTreeSet::from([queue("a").0]));
    }

    #[test]
    fn deletions_end_with_their_time_and_sooner_once_the_message_is_gone() {
        let mut content = Content::default();
        let ids: Vec<JobId> = (0..3).map(|_| JobId::new()).collect();
        let text = |ids: &[JobId]| ids.iter().copied().map(Text).collect::<Vec<_>>();
        assert_eq!(content.apply(0, &Said::Delete { ids: text(&ids[..2]), at: 5, until: 100, from: None }), 2);
        assert_eq!(content.apply(1, &Said::Delete { ids: text(&ids), at: 7, until: 90, from: None }), 1);
        let deletions = [&ids[0], &ids[2]].map(|id| content.deleted[id]).map(|Deletion { at, until }| (at, until));
        let time = Timestamp::from_millis;
        assert_eq!(deletions, [(time(7), time(100)), (time(7), time(90))], "the later of each");
        content.apply(2, &Said::Removed { ids: text(&ids[..1]), copies: vec![], until: 50 });
        content.apply(2, &Said::Removed { ids: text(&[JobId::new()]), copies: vec![], until: 50 });
        assert_eq!(content.deleted.len(), 3, "a message that was not deleted is not deleted by its removal");
        assert_eq!(content.apply(3, &Said::Restore { ids: text(&ids[1..2]) }), 1);
        content.forget_until(Timestamp::from_millis(50));
        assert_eq!(content.deleted.keys().collect::<Vec<_>>(), [&ids[2]]);
        content.forget_until(Timestamp::from_millis(100));
        assert!(content.deleted.is_empty());
    }

    #[test]
    fn what_is_deleted_or_replaced_is_not_counted_where_it_waits_until_it_is_met_or_purged() {
        let mut content = Content::default();
        let at = Timestamp::from_millis;
        let from = |name: &str, due| Whereabouts { queue: queue(name), due };
        let ids: Vec<Text<JobId>> = (0..3).map(|_| Text(JobId::new())).collect();
        let delete =
            |n: usize, from| Said::Delete { ids: vec![ids[n].clone()], at: 1, until: 86_400_000, from: Some(from) };
        content.apply(0, &delete(0, from("a", 0)));
        content.apply(1, &delete(1, from("a", 20)));
        content.apply(2, &delete(2, from("b", 30)));
        assert_eq!(content.apply(3, &Said::Replace { copy: 7, until: 90, from: from("a", 0) }), 1);
        let counts = |content: &Content, now| {
            let [a, b] = ["a", "b"].map(|name| content.unmet(Some(&queue(name).0), at(now)));
            [a, b, content.unmet(None, at(now))]
        };
        assert_eq!(counts(&content, 10), [2, 0, 2]);
        assert_eq!(counts(&content, 20), [3, 0, 1], "its time has come");
        let mut later = Content::of_pieces(content.pieces());
        assert_eq!(later, content);
        content.apply(4, &Said::Removed { ids: vec![ids[0].clone()], copies: vec![7], until: 60 });
        assert_eq!(counts(&content, 10), [0, 0, 2]);
        content.apply(5, &Said::Restore { ids: vec![ids[2].clone()] });
        assert_eq!(counts(&content, 10), [0, 0, 1]);
        assert!(content.replaced.contains_key(&7), "a second delivery of it may be on its way");
        later.apply(4, &Said::Purged { queue: Some(queue("a")), at: 10 });
        assert_eq!(counts(&later, 40), [1, 1, 0], "what was not due was not in the queue");
        later.apply(5, &Said::Purged { queue: None, at: 25 });
        assert_eq!(counts(&later, 40), [1, 0, 0]);
        later.forget_until(at(86_400_000));
        assert!(later.unmet.is_empty() && later.replaced.is_empty());
    }

    #[test]
    fn a_snapshot_is_the_whole_in_parts() {
        let mut content = Content::default();
        let ids: Vec<Text<JobId>> = (0..5_000).map(|_| Text(JobId::new())).collect();
        content.apply(0, &Said::Delete { ids, at: 7, until: 9 * 86_400_000, from: None });
        content.apply(1, &Said::Pause { queue: queue("a") });
        content.apply(2, &Said::Used { queues: vec![queue("a"), queue("b")] });
        content.apply(3, &Said::Count(Counts { enqueued: 3, journaled: 4, ..Counts::default() }));
        assert_eq!(content.apply(3, &Said::Keep { journaled: 4, before: 0 }), 1);
        assert_eq!(content.apply(3, &Said::Keep { journaled: 5, before: 0 }), 0, "somebody else was first");
        let session = SessionSaid {
            id: Text(JobId::new()),
            worker: Text(JobId::new()),
            host: "host".into(),
            pid: 1,
            started_at: 2,
            queues: vec![HoldingSaid { queue: queue("a"), running: 3, held: 0, moving: 1 }],
        };
        content.apply(4, &Said::Present { sessions: vec![session] });
        let pieces = content.pieces();
        assert_eq!(pieces.len(), 1 + 1 + 1 + 3 + 1);
        let json: Vec<String> = pieces.iter().map(|piece| serde_json::to_string(piece).unwrap()).collect();
        assert!(json.iter().all(|json| json.len() < 500_000));
        let read = json.iter().map(|json| serde_json::from_str(json).unwrap());
        assert_eq!(Content::of_pieces(read), content);
        assert_eq!(Content::of_pieces(Content::default().pieces()), Content::default());
    }
}
