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

/// A large snapshot is followed by the next one after no more than this, so that both are in the stream at the same time.
const MOST_GROWTH: u64 = 24 << 20;

/// So much of the log without a snapshot, and its beginning is about to be cut off.
const ALARM: u64 = 64 << 20;

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
    /// That was told a second time, when it was about to matter.
    is_alarmed: bool,
    /// Everything is read that was there, see [`Fold::completed`].
    is_live: bool,
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
            is_alarmed: false,
            is_live: false,
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

    fn completed(&mut self, stream: &str, first: Option<u64>) {
        self.is_live = true;
        self.is_whole |= first.is_none_or(|first| first == 0);
        if !self.is_whole {
            tracing::error!(
                stream,
                "the beginning of the control log was cut off and there is no complete snapshot of it: queues that were \
                 paused and jobs that were deleted before are not known any more; look at the paused queues, and delete again \
                 what must not run"
            );
        }
        self.go_on_with_what_is_left();
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
            Said::Unknown => self.is_incomplete(offset),
            Said::Broken => tracing::warn!(offset, "an entry of the control log cannot be read, and is passed over"),
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
        self.go_on_with_what_is_left();
        if self.is_incomplete && !self.is_alarmed && self.growth.bytes > ALARM {
            self.is_alarmed = true;
            tracing::error!(
                "no process writes snapshots of the control log, because a newer version has written into it: pauses and \
                 deletions will soon be lost with its beginning; run the newer version in a process that consumes"
            );
        }
        answer
    }

    /// A log that is not whole will not become so by itself: what is left of it counts from now on, so that there will be snapshots
    /// again. While one is being read, that is waited for.
    fn go_on_with_what_is_left(&mut self) {
        self.is_whole |= self.is_live && self.rebuild.is_none();
    }

    fn is_incomplete(&mut self, offset: u64) {
        if !self.is_incomplete {
            self.is_incomplete = true;
            tracing::warn!(
                offset,
                "the control log says something that only a newer version knows; this process passes over it, and leaves it to \
                 newer ones to write snapshots"
            );
        }
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
        let snapshot = self.growth.snapshot;
        let enough = GROWTH.max(snapshot.saturating_add(snapshot.min(MOST_GROWTH))) * if self.is_whole { 1 } else { 4 };
        let is_begun = self.growth.begun.is_some_and(|(_, bytes, _)| bytes < GROWTH);
        self.growth.bytes >= enough && !is_begun && !self.is_incomplete && self.demands.begun.is_none()
    }
}

#[cfg(test)]
mod tests;
