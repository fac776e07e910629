//! The handle that clients and workers hold.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::Thread;

use goose_core::broker::capability::{DeadJobs, EnqueuedJobs, PausedQueues, ScheduledJobs, Statistics};
use goose_core::broker::{Broker, Consumer, ConsumerOptions, EnqueueVerdict, LoopHealth};
use goose_core::{BoxFuture, Job, JobId, Result};
use tokio::sync::oneshot;

use crate::SqliteOptions;
use crate::consumer::SqliteConsumer;
use crate::engine::{Message, Pulse, spawn};
use crate::enqueue::{CHUNK, Enqueue, verdicts};
use crate::error::{SqlResult, closed};
use crate::tx::Tx;
use crate::work::{Call, Work, answer};

/// The embedded broker: a handle to one SQLite file, or to one database in memory.
///
/// Cloning is cheap and shares the thread that owns the file. Several handles and several processes may open the
/// same file. When the last clone and the last consumer are gone, the thread hands back what it holds and ends.
#[derive(Debug, Clone)]
pub struct SqliteBroker {
    pub(crate) engine: EngineHandle,
}

/// The way to the engine's thread, which ends when the last handle is gone.
#[derive(Debug, Clone)]
pub(crate) struct EngineHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    inbox: Sender<Message>,
    /// After the inbox, so that the thread is woken when the inbox is gone.
    thread: EngineThread,
    pulse: Arc<Pulse>,
}

/// The engine's thread, which sleeps until it is woken or something is due. Waking it by hand costs an idle process
/// less than waiting on the channel, which spins a while before it sleeps.
#[derive(Debug)]
struct EngineThread(Thread);

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

impl SqliteBroker {
    /// Opens a file with default options, creating it if it is not there; see [`SqliteOptions`] for others.
    ///
    /// # Errors
    /// See [`SqliteOptions::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        SqliteOptions::new(path).open().await
    }

    /// Opens a new database in memory, private to this handle and its clones.
    ///
    /// # Errors
    /// See [`SqliteOptions::open`].
    pub async fn in_memory() -> Result<Self> {
        SqliteOptions::in_memory().open().await
    }

    pub(crate) async fn start(options: SqliteOptions) -> Result<Self> {
        let clock = Arc::clone(&options.clock);
        let (inbox, thread, pulse) = spawn(options).await?;
        let inner = Arc::new(Inner { inbox, thread: EngineThread(thread), pulse });
        // The thread holds the clock, so the clock must not hold the thread.
        let engine = Arc::downgrade(&inner);
        clock.on_jump(Arc::new(move || {
            if let Some(engine) = engine.upgrade() {
                let _ = EngineHandle(engine).send(Message::Look);
            }
        }));
        Ok(Self { engine: EngineHandle(inner) })
    }
}

impl EngineHandle {
    pub(crate) fn send(&self, message: Message) -> Result<()> {
        self.0.inbox.send(message).map_err(|_| closed())?;
        self.0.thread.0.unpark();
        Ok(())
    }

    pub(crate) fn health(&self) -> LoopHealth {
        self.0.pulse.health()
    }

    /// Hands over a piece of work and waits for its answer.
    pub(crate) async fn ask<T>(&self, (work, receiver): (Box<dyn Work>, oneshot::Receiver<Result<T>>)) -> Result<T> {
        self.send(Message::Work(work))?;
        answer(receiver).await
    }

    #[cfg(test)]
    pub(crate) async fn exhaust_claim_numbers(&self) {
        let (reply, done) = oneshot::channel();
        if self.send(Message::ExhaustClaimNumbers(reply)).is_ok() {
            let _ = done.await;
        }
    }

    /// Runs a closure in a transaction. It may run more than once, see [`Work`].
    pub(crate) async fn call<T, F>(&self, action: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> SqlResult<T> + Send + 'static,
    {
        self.ask(Call::write(action)).await
    }

    /// Runs a closure that writes nothing, without waiting for writers.
    pub(crate) async fn read<T, F>(&self, action: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> SqlResult<T> + Send + 'static,
    {
        self.ask(Call::read(action)).await
    }
}

impl Broker for SqliteBroker {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn enqueue(&self, jobs: Vec<Job>) -> BoxFuture<'_, Result<Vec<EnqueueVerdict>>> {
        Box::pin(async move {
            // All pieces are under way before the first answer is awaited.
            let mut pieces = Vec::new();
            for chunk in jobs.chunks(CHUNK) {
                let ids: Vec<JobId> = chunk.iter().map(|job| job.id).collect();
                let (work, receiver) = Enqueue::work(chunk);
                pieces.push((ids, self.engine.send(Message::Work(work)).map(|()| receiver)));
            }
            let mut outcomes = Vec::new();
            for (ids, sent) in pieces {
                let outcome = match sent {
                    Ok(receiver) => answer(receiver).await,
                    Err(error) => Err(error),
                };
                outcomes.push((ids, outcome));
            }
            verdicts(outcomes)
        })
    }

    fn consume(&self, options: ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn Consumer>>> {
        Box::pin(async move {
            let (reply, opened) = oneshot::channel();
            self.engine.send(Message::Open(Box::new(options), reply))?;
            let session = answer(opened).await?;
            Ok(Box::new(SqliteConsumer::new(self.engine.clone(), session)) as Box<dyn Consumer>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (reply, ended) = oneshot::channel();
            // A thread that is gone has been closed before.
            if self.engine.send(Message::Close(reply)).is_ok() {
                let _ = ended.await;
            }
            Ok(())
        })
    }

    fn enqueued_jobs(&self) -> Option<&dyn EnqueuedJobs> {
        Some(self)
    }

    fn scheduled_jobs(&self) -> Option<&dyn ScheduledJobs> {
        Some(self)
    }

    fn dead_jobs(&self) -> Option<&dyn DeadJobs> {
        Some(self)
    }

    fn paused_queues(&self) -> Option<&dyn PausedQueues> {
        Some(self)
    }

    fn statistics(&self) -> Option<&dyn Statistics> {
        Some(self)
    }
}
