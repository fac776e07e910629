//! What this process has to say about messages in the journal.
//!
//! A session notes here what it runs and what is over. Of each message only the last word counts, and it is said a moment later, so that
//! of short jobs only their end is said, hundreds of them in one entry.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use goose_core::JobId;
use parking_lot::Mutex;

use super::index::Index;
use super::note::Note;
use crate::message::CopyId;
use crate::publisher::PublishError;
use crate::stream::{NewEntry, Stream, Wires};
use crate::topology::Names;

/// How long words are collected.
const COLLECT: Duration = Duration::from_millis(100);

/// The pause after the server would not take what was to be said.
const PAUSE: Duration = Duration::from_secs(3);

/// The messages of one entry.
const COPIES: usize = 1_000;

/// What there is to say. It costs nothing where messages have no names.
pub(crate) struct Notes {
    wires: Wires,
    name: String,
    stream: Arc<Stream<Index>>,
    bytes: AtomicU64,
    pending: Mutex<HashMap<CopyId, Word>>,
    /// Somebody will say what is pending.
    is_awaited: AtomicBool,
    /// What the server has not taken, or not for sure; whoever holds this speaks.
    stuck: tokio::sync::Mutex<Vec<NewEntry>>,
}

/// The last word on a message.
#[derive(Debug, Clone, Copy)]
enum Word {
    Began(JobId),
    Ended,
    Back,
}

impl Notes {
    pub(crate) fn new(wires: Wires, names: &Names) -> Arc<Self> {
        let name = names.journal().to_owned();
        let stream = Stream::new(wires.clone(), name.clone(), super::stream_arguments());
        let (bytes, pending, is_awaited, stuck) = Default::default();
        Arc::new(Self { wires, name, stream, bytes, pending, is_awaited, stuck })
    }

    /// One that can be read for a while and then be given up.
    pub(super) fn another_reader(&self) -> Arc<Stream<Index>> {
        Stream::new(self.wires.clone(), self.name.clone(), super::stream_arguments())
    }

    /// How much has come into the journal from here since the last call, in bytes.
    pub(crate) fn take_bytes(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }

    /// Counts messages that go into the journal.
    pub(crate) fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count(&self, entries: &[NewEntry]) {
        self.count_bytes(entries.iter().map(NewEntry::size).sum());
    }

    pub(super) fn stream(&self) -> &Arc<Stream<Index>> {
        &self.stream
    }

    /// A session runs a message.
    pub(crate) fn began(self: &Arc<Self>, copy: CopyId, by: JobId) {
        self.note(copy, Word::Began(by));
    }

    /// A message is over.
    pub(crate) fn ended(self: &Arc<Self>, copy: CopyId) {
        self.note(copy, Word::Ended);
    }

    /// The server gives a message to others.
    pub(crate) fn back(self: &Arc<Self>, copy: CopyId) {
        self.note(copy, Word::Back);
    }

    fn note(self: &Arc<Self>, copy: CopyId, word: Word) {
        self.pending.lock().insert(copy, word);
        self.say_soon(COLLECT);
    }

    fn say_soon(self: &Arc<Self>, pause: Duration) {
        if !self.is_awaited.swap(true, Ordering::AcqRel) {
            let notes = Arc::clone(self);
            self.wires.runtime.spawn(async move {
                tokio::time::sleep(pause).await;
                notes.is_awaited.store(false, Ordering::Release);
                notes.flush().await;
            });
        }
    }

    /// Says everything that was noted before this call, as far as the server takes it.
    ///
    /// To be called on the broker's runtime.
    pub(crate) async fn flush(self: &Arc<Self>) {
        let mut stuck = self.stuck.lock().await;
        let pending = std::mem::take(&mut *self.pending.lock());
        stuck.extend(entries(pending));
        if stuck.is_empty() {
            return;
        }
        let all = std::mem::take(&mut *stuck);
        self.count(&all);
        let words = self.stream.append(&all).await;
        for (entry, word) in all.into_iter().zip(words) {
            if let Err(error) = word {
                tracing::debug!(error = ?error, "the journal does not take an entry, it will be sent again");
                if !matches!(&error, PublishError::NotSent(error) if !error.is_retryable()) {
                    stuck.push(entry);
                }
            }
        }
        if !stuck.is_empty() {
            self.say_soon(PAUSE);
        }
    }
}

/// The entries that say all of it.
fn entries(pending: HashMap<CopyId, Word>) -> Vec<NewEntry> {
    let (mut began, mut ended, mut back) = (BTreeMap::<JobId, Vec<CopyId>>::new(), Vec::new(), Vec::new());
    for (copy, word) in pending {
        match word {
            Word::Began(by) => began.entry(by).or_default().push(copy),
            Word::Ended => ended.push(copy),
            Word::Back => back.push(copy),
        }
    }
    let mut entries = Vec::new();
    for (by, copies) in began {
        entries.extend(copies.chunks(COPIES).map(|copies| Note::Began { by, copies: copies.to_vec() }.entry()));
    }
    entries.extend(ended.chunks(COPIES).map(|copies| Note::Ended { copies: copies.to_vec() }.entry()));
    entries.extend(back.chunks(COPIES).map(|copies| Note::Back { copies: copies.to_vec() }.entry()));
    entries
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").field("pending", &self.pending.lock().len()).finish_non_exhaustive()
    }
}
