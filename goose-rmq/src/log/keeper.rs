//! What a process says in the log by itself: what it counted, which queues it uses, which sessions it has open; and the
//! snapshots.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use goose_core::{Clock, JobId, QueueName, SystemClock};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::content::Unmet;
use super::presence::Presence;
use super::said::{Counts, Said, Text};
use super::{Count, REMOVED, State};
use crate::journal::{Notes, STEP};
use crate::publisher::PublishError;
use crate::stream::{NewEntry, Stream, Wires};

/// How long counts are collected before they are said.
const COLLECT: Duration = Duration::from_secs(1);

/// The pause after the server would not take what was to be said.
const PAUSE: Duration = Duration::from_secs(3);

/// How long an opening session waits until it is known, and a closing broker for the last counts.
const PATIENCE: Duration = Duration::from_secs(1);

/// The ids of one entry.
const IDS: usize = 1_000;

/// The side of the log that speaks. All it has to say waits in memory until its task says it.
#[derive(Debug)]
pub(super) struct Keeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    wires: Wires,
    stream: Arc<Stream<State>>,
    /// What is to be said in the journal, before what follows from it is said here.
    notes: Arc<Notes>,
    /// By [`Count`].
    counts: [AtomicU64; 6],
    /// There is something to say that can wait a second.
    is_dirty: AtomicBool,
    known: RwLock<HashSet<QueueName>>,
    outbox: Mutex<Outbox>,
    sessions: Mutex<Vec<Weak<Presence>>>,
    wake: Notify,
    flushes: mpsc::UnboundedSender<oneshot::Sender<()>>,
    /// Taken by the task.
    task: Mutex<Option<mpsc::UnboundedReceiver<oneshot::Sender<()>>>>,
}

/// What is to be said at once.
#[derive(Debug, Default)]
struct Outbox {
    used: Vec<QueueName>,
    removed: Vec<Unmet>,
    arrived: Vec<Arc<Presence>>,
    left: Vec<JobId>,
    /// What the server has not taken, or not for sure. It goes out again unchanged, so that it counts once.
    stuck: Vec<NewEntry>,
}

impl Keeper {
    pub(super) fn new(wires: Wires, stream: Arc<Stream<State>>, notes: Arc<Notes>) -> Self {
        let (flushes, task) = mpsc::unbounded_channel();
        Self(Arc::new(Shared {
            wires,
            stream,
            notes,
            counts: Default::default(),
            is_dirty: AtomicBool::new(false),
            known: RwLock::default(),
            outbox: Mutex::default(),
            sessions: Mutex::default(),
            wake: Notify::new(),
            flushes,
            task: Mutex::new(Some(task)),
        }))
    }

    /// Begins to read the log, and to answer what others ask there.
    pub(super) fn start_reading(&self) {
        self.0.stream.start();
        self.start();
    }

    fn start(&self) {
        if let Some(flushes) = self.0.task.lock().take() {
            self.0.wires.runtime.spawn(run(Arc::clone(&self.0), flushes));
        }
    }

    pub(super) fn count(&self, what: Count, n: u64) {
        let index = COUNTS.iter().position(|count| *count == what).unwrap_or_default();
        self.0.counts[index].fetch_add(n, Ordering::Relaxed);
        if n > 0 && !self.0.is_dirty.swap(true, Ordering::AcqRel) {
            self.start();
            self.0.wake.notify_one();
        }
    }

    pub(super) fn used(&self, queue: &QueueName) {
        if self.0.known.read().contains(queue) || !self.0.known.write().insert(queue.clone()) {
            return;
        }
        self.0.outbox.lock().used.push(queue.clone());
        self.start();
        self.0.wake.notify_one();
    }

    pub(super) fn removed(&self, what: Unmet) {
        self.0.outbox.lock().removed.push(what);
        if !self.0.is_dirty.swap(true, Ordering::AcqRel) {
            self.start();
            self.0.wake.notify_one();
        }
    }

    pub(super) async fn arrive(&self, presence: Presence) -> Arc<Presence> {
        let presence = Arc::new(presence);
        self.0.sessions.lock().push(Arc::downgrade(&presence));
        self.0.outbox.lock().arrived.push(Arc::clone(&presence));
        self.flush().await;
        presence
    }

    pub(super) fn leave(&self, presence: &Presence) {
        self.0.sessions.lock().retain(|other| other.upgrade().is_some_and(|other| other.id() != presence.id()));
        self.0.outbox.lock().left.push(presence.id());
        self.start();
        self.0.wake.notify_one();
    }

    /// Says everything now, as far as the server takes it in soon.
    pub(super) async fn flush(&self) {
        self.start();
        let (said, hears) = oneshot::channel();
        if self.0.flushes.send(said).is_ok() {
            let _ = tokio::time::timeout(PATIENCE, hears).await;
        }
    }

    pub(super) async fn close(&self) {
        // What was never started has nothing to say.
        if self.0.task.lock().is_none() {
            self.flush().await;
        }
    }
}

/// The order of the counters.
const COUNTS: [Count; 6] =
    [Count::Enqueued, Count::Succeeded, Count::Failed, Count::Died, Count::Discarded, Count::Recovered];

/// Says things when it is their time, for as long as the broker lives.
async fn run(shared: Arc<Shared>, mut flushes: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    let mut progress = shared.stream.progress();
    let (mut flush_at, mut snapshot_at, mut keep_at) = (None, None, None);
    loop {
        let time = |at: Option<Instant>| at.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            asked = flushes.recv() => {
                flush_at = shared.flush().await;
                if let Some(asked) = asked {
                    let _ = asked.send(());
                }
            }
            () = shared.wake.notified() => {
                if shared.outbox.lock().is_urgent() {
                    flush_at = shared.flush().await;
                } else {
                    flush_at = flush_at.or_else(|| Some(Instant::now() + COLLECT));
                }
            }
            () = tokio::time::sleep_until(time(flush_at)), if flush_at.is_some() => flush_at = shared.flush().await,
            () = tokio::time::sleep_until(time(snapshot_at)), if snapshot_at.is_some() => {
                snapshot_at = None;
                shared.begin_snapshot().await;
            }
            () = tokio::time::sleep_until(time(keep_at)), if keep_at.is_some() => {
                keep_at = None;
                shared.begin_to_keep().await;
            }
            changed = progress.changed() => {
                if changed.is_err() {
                    return;
                }
                if !progress.borrow_and_update().is_live {
                    continue;
                }
                shared.answer().await;
                if snapshot_at.is_none() && shared.stream.state().wants_snapshot() {
                    snapshot_at = Some(in_a_moment());
                }
                if keep_at.is_none() && shared.to_keep().is_some() {
                    keep_at = Some(in_a_moment());
                }
            }
        }
    }
}

/// Not all processes at the same time: who comes later sees that one has begun.
fn in_a_moment() -> Instant {
    Instant::now() + Duration::from_millis(8) * u32::from(JobId::new().as_bytes()[15])
}

impl Outbox {
    fn is_urgent(&self) -> bool {
        !(self.used.is_empty() && self.arrived.is_empty() && self.left.is_empty())
    }

    /// What there is to say, in order.
    fn take(&mut self, counts: Counts) -> Vec<NewEntry> {
        let mut said = Vec::new();
        if !self.used.is_empty() {
            said.push(Said::Used { queues: self.used.drain(..).map(Text).collect() });
        }
        if !self.arrived.is_empty() {
            said.push(Said::Present { sessions: self.arrived.drain(..).map(|session| session.said()).collect() });
        }
        if !self.left.is_empty() {
            said.push(Said::Left { sessions: self.left.drain(..).map(Text).collect() });
        }
        let until = SystemClock.now().saturating_add(REMOVED).as_millis();
        for removed in self.removed.chunks(IDS) {
            let (mut ids, mut copies) = (Vec::new(), Vec::new());
            for removed in removed {
                match removed {
                    Unmet::Job(id) => ids.push(Text(*id)),
                    Unmet::Copy(copy) => copies.push(*copy),
                }
            }
            said.push(Said::Removed { ids, copies, until });
        }
        self.removed.clear();
        if counts != Counts::default() {
            said.push(Said::Count(counts));
        }
        said.iter().map(Said::entry).collect()
    }
}

impl Shared {
    /// Says what there is to say. Answers when to try again, if the server would not take all.
    async fn flush(&self) -> Option<Instant> {
        // A session that has ended has said first what became of its jobs.
        self.notes.flush().await;
        // Before looking, so that the task is woken by what comes from now on.
        self.is_dirty.store(false, Ordering::Release);
        let stuck = std::mem::take(&mut self.outbox.lock().stuck);
        if !self.append(stuck).await {
            return Some(Instant::now() + PAUSE);
        }
        let [enqueued, succeeded, failed, died, discarded, recovered] =
            self.counts.each_ref().map(|count| count.swap(0, Ordering::Relaxed));
        let journaled = self.notes.take_bytes();
        let counts = Counts { enqueued, succeeded, failed, died, discarded, recovered, journaled };
        let entries = self.outbox.lock().take(counts);
        if self.append(entries).await { None } else { Some(Instant::now() + PAUSE) }
    }

    /// Whether the server has taken all. What it has not waits for the next time.
    async fn append(&self, entries: Vec<NewEntry>) -> bool {
        if entries.is_empty() {
            return true;
        }
        let words = self.stream.append(&entries).await;
        let mut stuck = Vec::new();
        for (entry, word) in entries.into_iter().zip(words) {
            if let Err(error) = word {
                tracing::debug!(error = ?error, "the control log does not take an entry, it will be sent again");
                if !matches!(&error, PublishError::NotSent(error) if !error.is_retryable()) {
                    stuck.push(entry);
                }
            }
        }
        let all = stuck.is_empty();
        self.outbox.lock().stuck.extend(stuck);
        all
    }

    /// Does what was read calls for.
    async fn answer(&self) {
        if self.stream.state().demands.is_empty() {
            return;
        }
        let (census, left, snapshot) = self.stream.state_mut().demands.take();
        let open: Vec<Arc<Presence>> = self.sessions.lock().iter().filter_map(Weak::upgrade).collect();
        // Somebody took us for dead, or wants to know.
        if census && !open.is_empty() || open.iter().any(|session| left.contains(&session.id())) {
            // Whoever asks believes that he has heard everything when he has heard this.
            self.notes.flush().await;
            let sessions = open.iter().map(|session| session.said()).collect();
            self.append(vec![Said::Present { sessions }.entry()]).await;
        }
        let Some((begin, mut content)) = snapshot else { return };
        content.forget_until(SystemClock.now());
        let pieces = content.pieces();
        let parts = pieces.len();
        for (part, piece) in pieces.into_iter().enumerate() {
            let entry = Said::Snapshot { begin, part, parts, piece: Box::new(piece) }.entry();
            if !matches!(self.stream.append(&[entry]).await[..], [Ok(())]) {
                // Somebody will begin another one.
                return;
            }
        }
        tracing::debug!(parts, "a snapshot of the control log was written");
    }

    /// Whether so much has come into the journal that what waits there has to be said again: how much there is now,
    /// and was the last time.
    fn to_keep(&self) -> Option<(u64, u64)> {
        let state = self.stream.state();
        let (journaled, kept) = (state.content.counts.journaled, state.content.kept);
        (journaled >= kept.saturating_add(STEP)).then_some((journaled, kept))
    }

    /// Says it again, unless somebody else does.
    async fn begin_to_keep(&self) {
        let Some((journaled, before)) = self.to_keep() else { return };
        if !matches!(self.stream.append_and_read_back(Said::Keep { journaled, before }.entry()).await, Ok(1)) {
            return;
        }
        let notes = Arc::clone(&self.notes);
        self.wires.runtime.spawn(async move {
            if let Err(error) = notes.keep().await {
                let error = format!("{error:#}");
                tracing::warn!(error, "cannot say again what waits in the journal; another process will");
            }
        });
    }

    async fn begin_snapshot(&self) {
        let begin = Said::Begin.entry();
        {
            let mut state = self.stream.state_mut();
            if !state.wants_snapshot() {
                return;
            }
            state.demands.begun = Some(begin.id.clone());
        }
        if !matches!(self.stream.append(&[begin]).await[..], [Ok(())]) {
            self.stream.state_mut().demands.begun = None;
        }
    }
}
