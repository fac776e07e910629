//! Starting the thread, keeping it alive, and telling how it does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::Thread;
use std::time::{Duration, Instant};

use goose_core::broker::LoopHealth;
use goose_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Engine, Message};
use crate::connection::{self, busy};
use crate::error::closed;
use crate::options::SqliteOptions;

/// When the thread last went round, for anyone who asks from another one.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Beat>);

#[derive(Debug)]
struct Beat {
    last: Instant,
    restarts: u64,
    last_error: Option<String>,
}

impl Pulse {
    /// Longer than any single transaction should take, a full `busy_timeout` included.
    pub(crate) const STALLS_AFTER: Duration = Duration::from_secs(15);

    fn new() -> Self {
        Self(Mutex::new(Beat { last: Instant::now(), restarts: 0, last_error: None }))
    }

    pub(super) fn beat(&self) {
        self.0.lock().last = Instant::now();
    }

    pub(super) fn note_error(&self, error: &Error) {
        self.0.lock().last_error = Some(format!("{error:#}"));
    }

    fn note_restart(&self, panic: &str) {
        let mut beat = self.0.lock();
        beat.restarts += 1;
        beat.last_error = Some(panic.to_owned());
    }

    pub(crate) fn health(&self) -> LoopHealth {
        let beat = self.0.lock();
        let mut health = LoopHealth::new("sqlite engine", beat.last.elapsed(), Self::STALLS_AFTER);
        health.restarts = beat.restarts;
        health.last_error.clone_from(&beat.last_error);
        health
    }
}

/// Starts the thread. Returns once the file is open, or the reason why it is not.
pub(crate) async fn spawn(options: SqliteOptions) -> Result<(Sender<Message>, Thread, Arc<Pulse>)> {
    let (sender, inbox) = channel();
    let (opened, outcome) = oneshot::channel();
    let pulse = Arc::new(Pulse::new());
    let thread_pulse = Arc::clone(&pulse);
    let body = move || {
        let conn = match connection::open(&options) {
            Ok(conn) => conn,
            Err(error) => {
                let _ = opened.send(Err(error));
                return;
            }
        };
        let _ = opened.send(Ok(()));
        let mut engine = Engine::new(options, conn, thread_pulse);
        // A panic is a bug of ours or of an observer. It must not end the heartbeat of every job in this
        // process: whoever waited for the interrupted work gets an error, the rest goes on.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| engine.run(&inbox))) {
            engine.after_panic(&message_of(panic.as_ref()));
        }
        // What came in too late to be done has not been done.
        while let Ok(message) = inbox.try_recv() {
            if let Message::Work(work) = message {
                work.finish(Err(closed()));
            }
        }
        drop(inbox);
        if let Some(reply) = engine.closing.take() {
            let _ = reply.send(());
        }
    };
    let thread = std::thread::Builder::new()
        .name("goose-sqlite".to_owned())
        .spawn(body)
        .map_err(|error| Error::new(ErrorKind::Unavailable, "cannot start the broker's thread").with_source(error))?;
    outcome.await.map_err(|_| Error::new(ErrorKind::Internal, "the broker's thread ended at once"))??;
    Ok((sender, thread.thread().clone(), pulse))
}

impl Engine {
    /// Puts things in order, and slows down when it happens again and again; never for so long that a beat is missed.
    fn after_panic(&mut self, panic: &str) {
        tracing::error!(panic, "the sqlite engine panicked; it goes on");
        self.pulse.note_restart(panic);
        if !self.conn.is_autocommit() {
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        self.names.forget();
        let error = || Error::new(ErrorKind::Unavailable, format!("the broker panicked: {panic}"));
        self.sessions.iter().filter(|session| session.wanted() > 0).for_each(|session| session.fail(error()));
        let is_calm = self.last_panic.is_none_or(|last| last.elapsed() > Duration::from_secs(60));
        self.panics = if is_calm { 1 } else { self.panics.saturating_add(1) };
        self.last_panic = Some(Instant::now());
        if self.panics > 1 {
            let pause = Duration::from_millis(10) * self.panics.min(100);
            busy::pause(pause.min(self.options.lease / 12));
        }
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic without a message".to_owned())
}
