//! The one thread that owns the database connection.
//!
//! Everything the broker does to the file happens here, in turn: SQLite has one writer anyhow, and a thread of
//! our own cannot be held up by handlers that block the async runtime. That is why heartbeats are safe here.
//!
//! ```text
//!  clients, consumers ──Message──▶ inbox ──▶ gather ──▶ one transaction ──▶ answers, deliveries, news
//!                                              ▲              │
//!                                   duties ────┘   commit groups many callers
//!                       (beat, recover, due jobs, other processes' writes)
//! ```
//!
//! While a transaction is being written to disk, more work gathers in the inbox and shares the next one: the
//! busier it gets, the cheaper each job becomes, and an idle broker answers at once.

mod duties;
mod file_watch;
mod log_watch;
mod others;
mod pauses;
mod supervisor;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use goose_core::broker::ConsumerOptions;
use goose_core::{QueueName, Result, Timestamp};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::connection::busy;
use crate::error::translate_one;
use crate::fetch::{Peek, peek};
use crate::lease::Watch;
use crate::names::Names;
use crate::options::{Place, SqliteOptions, Synchronous};
use crate::session::Session;
use crate::work::Work;

use file_watch::FileWatch;
use others::Others;
pub(crate) use supervisor::{Pulse, spawn};

/// What the thread is told.
pub(crate) enum Message {
    Work(Box<dyn Work>),
    /// Someone may be able to claim something: a fetch began to wait, or the clock was moved.
    Look,
    Open(Box<ConsumerOptions>, oneshot::Sender<Result<Arc<Session>>>),
    Stop(Arc<Session>, oneshot::Sender<Result<()>>),
    /// Whether a queue is to be paused; answers whether it was not like that before.
    Pause(QueueName, bool, oneshot::Sender<Result<bool>>),
    ListPaused(oneshot::Sender<Result<Vec<QueueName>>>),
    Close(oneshot::Sender<()>),
    #[cfg(feature = "fault-injection")]
    Abandon(oneshot::Sender<()>),
    #[cfg(test)]
    ExhaustClaimNumbers(oneshot::Sender<()>),
}

/// How many rows share one transaction, about. Bounds how long the next caller waits.
const ROWS: usize = 1000;

pub(crate) struct Engine {
    options: SqliteOptions,
    conn: Connection,
    names: Names,
    sessions: Vec<Arc<Session>>,
    watch: Watch,
    pulse: Arc<Pulse>,
    /// When the next heartbeat is due; `None` while there is no session.
    next_beat: Option<Instant>,
    /// When the next scheduled job that somebody waits for is due, as far as is known.
    next_due: Option<Timestamp>,
    /// Whether something may have become claimable since the last look.
    look: bool,
    others: Others,
    file: FileWatch,
    /// Condemned leases with more jobs than one transaction takes.
    unfinished_recovery: bool,
    /// Who waits for the end, told when no message can come in any more.
    closing: Option<oneshot::Sender<()>>,
    /// How many callers shared the last transaction.
    last_works: usize,
    /// Behave as if the process had been killed.
    abandoned: bool,
    /// How often the thread panicked within the last while.
    panics: u32,
    last_panic: Option<Instant>,
}

/// Waiting a moment for the callers of the last transaction, who have just been answered and often come right back
/// (the idea of PostgreSQL's `commit_delay`). Without it they would settle into two groups that take turns, each
/// paying for a commit of its own. A single caller is never held up.
struct Gathering {
    expected: usize,
    began: Instant,
}

impl Gathering {
    /// Far less than the commit that is saved.
    const PATIENCE: Duration = Duration::from_micros(60);

    /// Pays only where a commit is dear: with it, 25 callers enqueue a fifth faster when each commit goes to the
    /// disk, and a quarter slower when none does.
    fn until(expected: usize, options: &SqliteOptions) -> Self {
        let dear = matches!(options.place, Place::File(_)) && options.synchronous == Synchronous::Full;
        Self { expected: if dear { expected } else { 0 }, began: Instant::now() }
    }

    fn next(&self, inbox: &Receiver<Message>, gathered: usize) -> Option<Message> {
        loop {
            if let Ok(message) = inbox.try_recv() {
                return Some(message);
            }
            if gathered == 0 || gathered >= self.expected || self.began.elapsed() > Self::PATIENCE {
                return None;
            }
            std::thread::yield_now();
        }
    }
}

/// Whether the thread goes on.
enum Next {
    Continue,
    Stop,
}

impl Engine {
    fn new(options: SqliteOptions, conn: Connection, pulse: Arc<Pulse>) -> Self {
        let others = Others::watch(&options.place);
        let file = FileWatch::start(&options.place);
        Self {
            options,
            conn,
            names: Names::default(),
            sessions: Vec::new(),
            watch: Watch::default(),
            pulse,
            next_beat: None,
            next_due: None,
            look: false,
            others,
            file,
            unfinished_recovery: false,
            closing: None,
            last_works: 0,
            abandoned: false,
            panics: 0,
            last_panic: None,
        }
    }

    /// Works until the broker is closed or all its handles are gone.
    fn run(&mut self, inbox: &Receiver<Message>) {
        loop {
            self.pulse.beat();
            let first = match inbox.try_recv() {
                Ok(message) => Some(message),
                Err(TryRecvError::Empty) => {
                    let wait = self.until_next_duty();
                    if !wait.is_zero() {
                        // Whoever sends a message wakes this thread after that, so none is overlooked.
                        std::thread::park_timeout(wait);
                    }
                    inbox.try_recv().ok()
                }
                Err(TryRecvError::Disconnected) => {
                    self.close();
                    return;
                }
            };
            if let Next::Stop = self.turn(first, inbox) {
                return;
            }
        }
    }

    /// One turn: what has gathered in the inbox, then what is due.
    fn turn(&mut self, first: Option<Message>, inbox: &Receiver<Message>) -> Next {
        // Before anything that could fail over and over again: the claims of this process hang on it.
        self.duties();
        let mut works = Vec::new();
        let mut reads = Vec::new();
        let mut rows = 0;
        let mut next = first;
        let gathering = Gathering::until(self.last_works, &self.options);
        while let Some(message) = next.take() {
            match message {
                Message::Work(work) if work.only_reads() => reads.push(work),
                Message::Work(work) => {
                    rows += work.rows();
                    works.push(work);
                }
                Message::Look => self.look = true,
                other => {
                    // Sessions come and go in the order of the inbox, so that what was asked before is done before.
                    self.transact(std::mem::take(&mut works));
                    if let Next::Stop = self.control(other) {
                        return Next::Stop;
                    }
                }
            }
            if rows < ROWS {
                next = gathering.next(inbox, works.len());
            }
        }
        self.last_works = works.len();
        self.notice_other_processes();
        self.notice_due_jobs();
        self.transact(works);
        reads.into_iter().for_each(|read| self.read(read));
        // Another process waits for the lock we would take again at once.
        if busy::was_contended() {
            busy::pause(Duration::from_micros(100));
        }
        Next::Continue
    }

    fn control(&mut self, message: Message) -> Next {
        match message {
            Message::Work(_) | Message::Look => {}
            Message::Open(options, reply) => {
                // Whoever asked may be gone: nobody would ever stop the session then.
                if let Err(Ok(session)) = reply.send(self.open_session(*options)) {
                    let _ = self.stop_session(&session);
                }
            }
            Message::Stop(session, reply) => {
                let _ = reply.send(self.stop_session(&session));
            }
            Message::Pause(queue, paused, reply) => {
                let _ = reply.send(self.set_paused(&queue, paused));
            }
            Message::ListPaused(reply) => {
                let _ = reply.send(self.list_paused());
            }
            Message::Close(reply) => {
                self.close();
                self.closing = Some(reply);
                return Next::Stop;
            }
            #[cfg(feature = "fault-injection")]
            Message::Abandon(reply) => {
                self.abandoned = true;
                let _ = reply.send(());
            }
            #[cfg(test)]
            Message::ExhaustClaimNumbers(reply) => {
                self.sessions.iter().for_each(|session| session.use_up_claim_numbers());
                let _ = reply.send(());
            }
        }
        Next::Continue
    }

    /// Sessions whose fetch waits for jobs.
    fn hungry(&self) -> impl Iterator<Item = &Arc<Session>> {
        let abandoned = self.abandoned;
        self.sessions.iter().filter(move |session| !abandoned && session.wanted() > 0)
    }

    /// Looks, for each waiting session, whether it could claim anything, and learns when it could otherwise.
    fn find_claimable(&mut self) -> Vec<Arc<Session>> {
        if !std::mem::take(&mut self.look) {
            return Vec::new();
        }
        let now = self.options.clock.now();
        let hungry: Vec<_> = self.hungry().cloned().collect();
        let mut claimable = Vec::new();
        self.next_due = None;
        for session in hungry {
            match peek(&self.conn, &mut self.names, &session, now) {
                Ok(Peek::Ready) => claimable.push(session),
                Ok(Peek::NothingBefore(due)) => {
                    self.next_due = [self.next_due, due].into_iter().flatten().min();
                }
                Err(error) => session.fail(translate_one(error)),
            }
        }
        claimable
    }

    fn notice_due_jobs(&mut self) {
        if self.next_due.is_some_and(|due| due <= self.options.clock.now()) {
            self.look = true;
        }
    }

    /// How long there is nothing to do unless a message comes.
    fn until_next_duty(&mut self) -> Duration {
        if self.abandoned {
            return Pulse::STALLS_AFTER / 3;
        }
        if self.look || self.unfinished_recovery {
            return Duration::ZERO;
        }
        // An idle thread still goes round now and then, so that its health can be told from outside.
        let mut wait = Pulse::STALLS_AFTER / 3;
        if let Some(beat) = self.next_beat {
            wait = wait.min(beat.saturating_duration_since(Instant::now()));
        }
        if self.hungry().next().is_some() {
            if let Some(due) = self.next_due {
                wait = wait.min(due.since(self.options.clock.now()));
            }
            wait = wait.min(self.until_next_poll());
        }
        wait
    }
}
