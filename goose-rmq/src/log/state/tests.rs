//! Logs as a server keeps them, and what comes of reading them.

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
        let said = Said::Delete { ids: vec![Text(JobId::new())], at: 0, until, from: None };
        state.read(n as u64, None, said, 100, Timestamp::from_millis(20));
    }
    let left = state.content.deleted.len();
    assert!(left < 2 * SWEEP + SWEEP / 2, "{left} of {} are remembered", 3 * SWEEP);
}

#[test]
fn a_log_without_beginning_and_snapshot_goes_on_with_what_is_left() {
    let mut log = Kept::default();
    log.say(Said::Pause { queue: queue("a") });
    log.say(Said::Pause { queue: queue("b") });
    let mut state = log.read_from(1);
    assert!(!state.is_whole);
    state.completed("log", Some(1));
    assert!(state.is_whole, "or nobody would write a snapshot ever again");
    // A snapshot that has been begun is waited for.
    let snapshot = log.begin();
    let mut state = log.read_from(1);
    state.completed("log", Some(1));
    assert!(!state.is_whole);
    let from = log.0.len();
    log.end(snapshot);
    log.read(&mut state, from);
    assert!(state.is_whole && state.content.paused.len() == 2);
    // Our own entries that say nothing may be all there is at the beginning.
    let mut state = State::empty();
    state.completed("log", Some(0));
    assert!(state.is_whole);
}

#[test]
fn large_snapshots_follow_each_other_while_the_last_one_is_still_there() {
    let (stream, segment) = (128 << 20, 8 << 20);
    for millions in [0_u64, 1, 3] {
        let mut state = State::empty();
        state.is_whole = true;
        state.growth.snapshot = millions * 10 * (1 << 20) + 32 * millions * (1 << 20) / 3;
        state.growth.bytes = state.growth.snapshot;
        assert!(!state.wants_snapshot(), "{millions}: it has just been written");
        state.growth.bytes += MOST_GROWTH;
        assert!(state.wants_snapshot());
        let in_between = state.growth.bytes + state.growth.snapshot;
        assert!(millions > 1 || in_between < stream - segment, "{millions}: {in_between}");
    }
}

#[test]
fn what_is_broken_keeps_nobody_from_writing_snapshots() {
    let mut state = State::empty();
    state.is_whole = true;
    state.growth.bytes = 2 * GROWTH;
    state.read(9, None, Said::Broken, 10, Timestamp::EPOCH);
    assert!(state.wants_snapshot());
    state.read(10, None, Said::Unknown, 10, Timestamp::EPOCH);
    assert!(!state.wants_snapshot());
}
