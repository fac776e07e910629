//! What is folded from the control log, also when its beginning has been cut off.
//!
//! The stream is cut by size, so everything must be said again from time to time. A process appends `begin`, takes a
//! snapshot when it reads that entry back, and appends the snapshot. Who reads from the first entry that is left waits for a snapshot
//! and applies what came between its begin and its end on top of it; who has read everything anyway passes over snapshots.

use goose_core::{Clock, JobId, SystemClock, Timestamp};
use tokio::sync::watch;

use super::content::{Content, Piece};
use super::said::Said;
use crate::stream::{Entry, Fold};

/// How much is appended between two snapshots, in bytes, at least.
pub(super) const GROWTH: u64 = 4 << 20;

/// What the server adds to an entry, about.
const OVERHEAD: u64 = 150;

/// How many entries may come between the begin and the end of a snapshot; more means that its writer is gone.
const BETWEEN: usize = 20_000;

/// More parts than any snapshot has.
const MOST_PARTS: usize = 100_000;

/// Deletions are looked through for ended ones whenever so many have come.
const SWEEP: usize = 10_000;

/// The state of the control log.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) content: Content,
    /// Nothing from before what was read is missing.
    is_whole: bool,
    /// The snapshot that a reader waits for who has not read everything.
    rebuild: Option<Rebuild>,
    /// Changes with the set of paused queues.
    pub(super) changes: watch::Sender<u64>,
    /// Something was said that this version does not know; a snapshot of it would leave that out.
    is_incomplete: bool,
    growth: Growth,
    sweep_at: usize,
    pub(super) demands: Demands,
    #[cfg(test)]
    first_read: Option<u64>,
}

/// What was read calls for an answer of this process.
#[derive(Debug, Default)]
pub(super) struct Demands {
    /// Somebody asks who is there.
    pub(super) census: bool,
    /// Somebody says that these sessions have ended.
    pub(super) left: Vec<JobId>,
    /// A begin of this process has been read back: the place, and everything before it.
    pub(super) snapshot: Option<(u64, Content)>,
    /// The id of the begin that this process has appended.
    pub(super) begun: Option<String>,
}

impl Demands {
    pub(super) fn is_empty(&self) -> bool {
        !self.census && self.left.is_empty() && self.snapshot.is_none()
    }

    /// Whether somebody asks who is there, who is said to have left, and the snapshot to write.
    pub(super) fn take(&mut self) -> (bool, Vec<JobId>, Option<(u64, Content)>) {
        (std::mem::take(&mut self.census), std::mem::take(&mut self.left), self.snapshot.take())
    }
}

/// How much was appended.
#[derive(Debug, Default)]
struct Growth {
    /// Since the last snapshot that is complete was begun.
    bytes: u64,
    /// A snapshot that has been begun: its place, the bytes since then, the parts that are there.
    begun: Option<(u64, u64, usize)>,
    /// The size of the last snapshot.
    snapshot: u64,
}

#[derive(Debug)]
struct Rebuild {
    begin: u64,
    pieces: Vec<Option<Piece>>,
    since: Vec<(u64, Said)>,
}

impl Fold for State {
    fn empty() -> Self {
        Self {
            content: Content::default(),
            is_whole: false,
            rebuild: None,
            changes: watch::Sender::new(0),
            is_incomplete: false,
            growth: Growth::default(),
            sweep_at: SWEEP,
            demands: Demands::default(),
            #[cfg(test)]
            first_read: None,
        }
    }

    fn fold(&mut self, entry: &Entry) -> u64 {
        self.read(entry.offset, entry.id.as_deref(), Said::read(&entry.body), entry.body.len(), SystemClock.now())
    }

    fn succeed(&mut self, before: Self) {
        self.changes = before.changes;
        // The log may have been deleted, and our sessions are to stand in the new one.
        (self.demands.begun, self.demands.census) = (None, true);
        self.changes.send_modify(|version| *version += 1);
    }
}

impl State {
    fn read(&mut self, offset: u64, id: Option<&str>, said: Said, size: usize, now: Timestamp) -> u64 {
        self.is_whole |= offset == 0;
        #[cfg(test)]
        self.first_read.get_or_insert(offset);
        self.growth.bytes += u64::try_from(size).unwrap_or(0) + OVERHEAD;
        if let Some((_, bytes, _)) = &mut self.growth.begun {
            *bytes += u64::try_from(size).unwrap_or(0) + OVERHEAD;
        }
        match &said {
            Said::Census => self.demands.census = true,
            Said::Left { sessions } => self.demands.left.extend(sessions.iter().map(|id| id.0)),
            Said::Unknown => self.is_incomplete = true,
            Said::Begin => self.begin(offset, id),
            Said::Snapshot { begin, parts, part, piece } => self.part(*begin, *part, *parts, piece),
            _ => {}
        }
        let paused = matches!(said, Said::Pause { .. } | Said::Resume { .. });
        let answer = self.content.apply(offset, &said);
        if paused && answer > 0 {
            self.changes.send_modify(|version| *version += 1);
        }
        if self.content.remembered() >= self.sweep_at {
            self.content.forget_until(now);
            self.sweep_at = self.content.remembered() + SWEEP;
        }
        match &mut self.rebuild {
            Some(rebuild) if rebuild.since.len() >= BETWEEN => self.rebuild = None,
            Some(rebuild) => rebuild.since.push((offset, said)),
            None => {}
        }
        answer
    }

    fn begin(&mut self, offset: u64, id: Option<&str>) {
        self.growth.begun = Some((offset, 0, 0));
        if !self.is_whole {
            self.rebuild = Some(Rebuild { begin: offset, pieces: Vec::new(), since: Vec::new() });
        }
        if id.is_some() && self.demands.begun.as_deref() == id {
            self.demands.begun = None;
            self.demands.snapshot = Some((offset, self.content.clone()));
        }
    }

    fn part(&mut self, begin: u64, part: usize, parts: usize, piece: &Piece) {
        if let Some((begun, bytes, there)) = &mut self.growth.begun
            && *begun == begin
        {
            *there += 1;
            if *there == parts {
                (self.growth.snapshot, self.growth.bytes) = (*bytes, *bytes);
                self.growth.begun = None;
            }
        }
        let Some(rebuild) = self.rebuild.as_mut().filter(|rebuild| rebuild.begin == begin) else { return };
        if parts > MOST_PARTS {
            return;
        }
        rebuild.pieces.resize(parts, None);
        let Some(place) = rebuild.pieces.get_mut(part) else { return };
        *place = Some(piece.clone());
        if rebuild.pieces.iter().any(Option::is_none) {
            return;
        }
        let Some(Rebuild { pieces, since, .. }) = self.rebuild.take() else { return };
        self.content = Content::of_pieces(pieces.into_iter().flatten());
        for (offset, said) in since {
            self.content.apply(offset, &said);
        }
        self.is_whole = true;
        self.changes.send_modify(|version| *version += 1);
    }

    #[cfg(test)]
    pub(super) fn was_compacted(&self) -> bool {
        self.growth.snapshot > 0
    }

    /// The place of the first entry that was read.
    #[cfg(test)]
    pub(super) fn first_read(&self) -> Option<u64> {
        self.first_read
    }

    /// Whether it is time for a snapshot and nobody seems to be writing one.
    pub(super) fn wants_snapshot(&self) -> bool {
        // Who has not read everything waits longer, so that somebody who has comes first.
        let enough = GROWTH.max(self.growth.snapshot.saturating_mul(2)) * if self.is_whole { 1 } else { 4 };
        let is_begun = self.growth.begun.is_some_and(|(_, bytes, _)| bytes < GROWTH);
        self.growth.bytes >= enough && !is_begun && !self.is_incomplete && self.demands.begun.is_none()
    }
}

#[cfg(test)]
mod tests {
    use goose_core::{JobId, QueueName};

    use super::super::said::{Counts, Text};
    use super::*;

    /// A log as the server keeps it.
    #[derive(Default)]
    struct Kept(Vec<(String, Said)>);

    impl Kept {
        fn say(&mut self, said: Said) -> usize {
            self.0.push((format!("entry-{}", self.0.len()), said));
            self.0.len() - 1
        }

        fn read(&self, state: &mut State, from: usize) {
            for (offset, (id, said)) in self.0.iter().enumerate().skip(from) {
                state.read(offset as u64, Some(id), said.clone(), 100, Timestamp::EPOCH);
            }
        }

        fn read_from(&self, from: usize) -> State {
            let mut state = State::empty();
            self.read(&mut state, from);
            state
        }

        /// As the keeper does it, by a process that has read everything.
        fn begin(&mut self) -> (u64, Vec<Piece>) {
            let mut writer = self.read_from(0);
            let begin = self.say(Said::Begin);
            writer.demands.begun = Some(format!("entry-{begin}"));
            self.read(&mut writer, begin);
            let (at, content) = writer.demands.snapshot.take().unwrap();
            assert_eq!(at, begin as u64);
            (at, content.pieces())
        }

        fn end(&mut self, (begin, pieces): (u64, Vec<Piece>)) {
            let parts = pieces.len();
            for (part, piece) in pieces.into_iter().enumerate() {
                self.say(Said::Snapshot { begin, part, parts, piece: Box::new(piece) });
            }
        }
    }

    fn queue(name: &str) -> Text<QueueName> {
        Text(QueueName::new(name).unwrap())
    }

    fn enqueued(n: u64) -> Said {
        Said::Count(Counts { enqueued: n, ..Counts::default() })
    }

    #[test]
    fn who_reads_from_the_middle_knows_as_much_as_who_has_read_everything() {
        let mut log = Kept::default();
        log.say(Said::Pause { queue: queue("a") });
        log.say(Said::Pause { queue: queue("b") });
        log.say(enqueued(5));
        let cut = log.say(enqueued(6));
        // One that never comes to its end, and another in whose midst things are said.
        log.begin();
        let snapshot = log.begin();
        log.say(enqueued(7));
        log.say(Said::Resume { queue: queue("a") });
        log.end(snapshot);
        log.say(enqueued(8));
        let whole = log.read_from(0);
        for from in 1..=cut + 2 {
            let state = log.read_from(from);
            assert_eq!(state.content, whole.content, "from entry {from}");
            assert!(state.is_whole);
        }
        assert_eq!(whole.content.counts.enqueued, 26);
        assert_eq!(whole.content.paused, [queue("b").0].into());
        // Its begin is cut off: what is left does not make a whole.
        assert!(!log.read_from(cut + 3).is_whole);
    }

    /// Two processes find at the same moment that it is time, and things are said all the while.
    #[test]
    fn snapshots_that_are_written_at_the_same_time_do_no_harm() {
        let mut log = Kept::default();
        log.say(Said::Pause { queue: queue("a") });
        log.say(enqueued(5));
        let (begin, first) = log.begin();
        log.say(enqueued(6));
        let cut = log.0.len() - 1;
        let (second_begin, second) = log.begin();
        log.say(Said::Resume { queue: queue("a") });
        log.end((begin, first));
        log.say(enqueued(7));
        log.end((second_begin, second));
        log.say(enqueued(8));
        let whole = log.read_from(0);
        assert_eq!((whole.content.counts.enqueued, whole.content.paused.len()), (26, 0));
        for from in 1..=cut + 1 {
            let state = log.read_from(from);
            assert!(state.is_whole, "from entry {from}");
            assert_eq!(state.content, whole.content, "from entry {from}");
        }
    }

    #[test]
    fn a_snapshot_is_due_after_enough_and_only_one_at_a_time() {
        let mut log = Kept::default();
        let mut state = State::empty();
        let grow = |state: &mut State, log: &mut Kept| {
            let from = log.0.len();
            for _ in 0..GROWTH / (100 + OVERHEAD) + 1 {
                log.say(enqueued(1));
            }
            log.read(state, from);
        };
        assert!(!state.wants_snapshot());
        grow(&mut state, &mut log);
        assert!(state.wants_snapshot());
        let snapshot = log.begin();
        log.read(&mut state, log.0.len() - 1);
        assert!(!state.wants_snapshot(), "somebody has begun one");
        let from = log.0.len();
        log.end(snapshot);
        log.read(&mut state, from);
        assert!(!state.wants_snapshot(), "it is there");
        grow(&mut state, &mut log);
        assert!(state.wants_snapshot(), "enough has come since");
        log.begin();
        log.read(&mut state, log.0.len() - 1);
        assert!(!state.wants_snapshot());
        grow(&mut state, &mut log);
        assert!(state.wants_snapshot(), "its writer is gone");
        log.say(Said::Unknown);
        log.read(&mut state, log.0.len() - 1);
        assert!(!state.wants_snapshot(), "a snapshot without what a newer version says would lose it");
    }

    #[test]
    fn changes_are_told_when_a_pause_begins_or_ends() {
        let mut log = Kept::default();
        let mut state = State::empty();
        let seen = state.changes.subscribe();
        for (said, version) in [
            (Said::Used { queues: vec![queue("a")] }, 0),
            (Said::Pause { queue: queue("a") }, 1),
            (Said::Pause { queue: queue("a") }, 1),
            (Said::Resume { queue: queue("b") }, 1),
            (Said::Resume { queue: queue("a") }, 2),
        ] {
            let at = log.say(said);
            log.read(&mut state, at);
            assert_eq!(*seen.borrow(), version);
        }
        let mut another = State::empty();
        another.succeed(state);
        assert_eq!(*seen.borrow(), 3, "the set may be another one after reading everything again");
    }

    #[test]
    fn deletions_do_not_pile_up() {
        let mut state = State::empty();
        for n in 0..3 * SWEEP {
            let until = if n % 2 == 0 { 10 } else { 30 };
            let said = Said::Delete { ids: vec![Text(JobId::new())], until, from: None };
            state.read(n as u64, None, said, 100, Timestamp::from_millis(20));
        }
        let left = state.content.deleted.len();
        assert!(left < 2 * SWEEP + SWEEP / 2, "{left} of {} are remembered", 3 * SWEEP);
    }
}
