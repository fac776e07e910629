//! A stream of the server: an append-only list of entries, which everybody reads in the same order.
//!
//! [`Stream`] appends, and folds what is there into a state in memory ([`Fold`]). It begins to read when somebody asks for
//! the first time: a process that only appends reads nothing.
//!
//! Every entry of ours has an id of its own. So one that was appended twice, because the server's word on the first did not
//! come, counts once; and whoever appended it learns what it amounted to where it stands in the order. "The first entry of its kind
//! wins" is all it takes to decide between processes.

mod append;
mod declare;
mod end;
mod entry;
#[cfg(test)]
mod on_a_server;
mod pick;
mod tail;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use goose_core::{Error, ErrorKind, Result};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

pub(crate) use self::declare::declare;
pub(crate) use self::entry::{Entry, KIND, NewEntry, size};
use crate::amqp::link::Link;
use crate::amqp::{Table, Value};
use crate::error::closed;
use crate::publisher::Publisher;

/// While nothing at all arrives for this long, whoever waits for entries is told so.
const PATIENCE: Duration = Duration::from_secs(15);

/// The place of an entry, as the server says it; and where a consumer begins.
const OFFSET: &str = "x-stream-offset";

/// What streams and the powers built upon them need of a broker.
#[derive(Debug, Clone)]
pub(crate) struct Wires {
    /// Where all of it runs.
    pub(crate) runtime: Handle,
    pub(crate) control: Arc<Link>,
    pub(crate) publisher: Arc<Publisher>,
    /// Whether there are several servers: what one of them has stored may reach another a moment later.
    pub(crate) is_cluster: bool,
}

/// What the entries of a stream amount to.
pub(crate) trait Fold: fmt::Debug + Send + Sync + 'static {
    /// The state before the first entry.
    fn empty() -> Self;

    /// Takes in the next entry, and answers a number that means something to whoever appended it. Must depend on nothing but the
    /// entries, so that all processes agree.
    fn fold(&mut self, entry: &Entry) -> u64;

    /// All that the stream had is folded. `first` is the place of the first entry, also of one that says nothing.
    fn completed(&mut self, _stream: &str, _first: Option<u64>) {}

    /// Takes the place of a state that was folded from the same stream, or from one that is gone.
    fn succeed(&mut self, _before: Self)
    where
        Self: Sized,
    {
    }
}

/// A stream, and what its entries amount to.
pub(crate) struct Stream<F> {
    name: String,
    arguments: Table,
    wires: Wires,
    fold: RwLock<F>,
    /// The connection on which the stream was declared last.
    declared: AtomicU64,
    epoch: watch::Receiver<u64>,
    /// Entries of this process that have not been read back yet, by their ids.
    own: Mutex<HashMap<String, Own>>,
    progress: watch::Sender<Progress>,
    is_read: AtomicBool,
    barriers: mpsc::UnboundedSender<oneshot::Sender<()>>,
    /// Taken by the task that reads.
    reader: Mutex<Option<mpsc::UnboundedReceiver<oneshot::Sender<()>>>>,
    task: Mutex<Option<AbortHandle>>,
}

/// An entry of this process that has not been read back.
#[derive(Debug)]
struct Own {
    is_confirmed: bool,
    answer: Option<oneshot::Sender<u64>>,
}

/// How far the reading is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Entries read so far; only that it changes matters.
    pub(crate) entries: u64,
    /// Everything is read that was there when the reading began on this connection.
    pub(crate) is_live: bool,
    /// Why reading does not work, while it does not.
    failure: Option<(ErrorKind, Arc<str>)>,
    /// The broker is closed.
    is_over: bool,
}

impl Progress {
    /// Nothing will come until somebody changes something.
    fn is_hopeless(&self) -> bool {
        self.failure.as_ref().is_some_and(|(kind, _)| !kind.is_retryable())
    }

    fn check(&self) -> Result<()> {
        match &self.failure {
            _ if self.is_over => Err(closed()),
            Some((kind, cause)) if self.is_hopeless() => Err(Error::new(*kind, cause.to_string())),
            _ => Ok(()),
        }
    }
}

/// The arguments of a stream. Once the closed segments hold more than `bytes`, the oldest of them go.
pub(crate) fn arguments(bytes: i64, segment: i64) -> Table {
    Table::from([
        ("x-queue-type".to_owned(), Value::Text("stream".to_owned())),
        ("x-max-length-bytes".to_owned(), Value::Int(bytes)),
        ("x-stream-max-segment-size-bytes".to_owned(), Value::Int(segment)),
    ])
}

impl<F: Fold> Stream<F> {
    /// Does nothing yet: neither declares nor reads.
    pub(crate) fn new(wires: Wires, name: String, arguments: Table) -> Arc<Self> {
        let (barriers, reader) = mpsc::unbounded_channel();
        Arc::new(Self {
            name,
            arguments,
            fold: RwLock::new(F::empty()),
            declared: AtomicU64::new(0),
            epoch: wires.control.epoch(),
            wires,
            own: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            is_read: AtomicBool::new(false),
            barriers,
            reader: Mutex::new(Some(reader)),
            task: Mutex::new(None),
        })
    }

    /// What has been folded so far. To be held for moments.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, F> {
        self.fold.read()
    }

    /// The same, to take something out that is no part of what the entries amount to.
    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, F> {
        self.fold.write()
    }

    /// Changes whenever entries have been folded.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Whether this process reads the stream.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    /// Begins to read, unless it was begun before.
    pub(crate) fn start(self: &Arc<Self>) {
        let Some(reader) = self.reader.lock().take() else { return };
        self.is_read.store(true, Ordering::Release);
        let task = self.wires.runtime.spawn(tail::run(Arc::clone(self), reader));
        *self.task.lock() = Some(task.abort_handle());
    }

    /// Ends the reading for good. Nobody may be waiting for anything.
    pub(crate) fn stop(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    /// Returns once everything is folded that this process has appended and, on the server's node, everything anybody has.
    /// Entries that were appended over another node of a cluster a moment ago may still be on their way. It costs a round
    /// trip and leaves nothing behind.
    ///
    /// To be called on the broker's runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when reading makes no progress, [`ErrorKind::Closed`] when the broker is closed.
    pub(crate) async fn catch_up(self: &Arc<Self>) -> Result<()> {
        self.start();
        let own = self.confirmed();
        let (passed, mut passes) = oneshot::channel();
        self.barriers.send(passed).map_err(|_| closed())?;
        self.while_it_goes_on(async { (&mut passes).await.map_err(|_| closed()) }).await??;
        let mut progress = self.progress.subscribe();
        let read_back = async {
            while own.iter().any(|id| self.own.lock().contains_key(id)) {
                progress.changed().await.map_err(|_| closed())?;
            }
            Ok(())
        };
        self.while_it_goes_on(read_back).await?
    }

    /// The same, also over the nodes of a cluster, at the price of an entry there. While the server takes nothing in, it is
    /// as [`catch_up`](Self::catch_up).
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn catch_up_everywhere(self: &Arc<Self>) -> Result<()> {
        if self.wires.is_cluster {
            match self.append_and_read_back(NewEntry::mark()).await {
                Err(error) if error.kind() == ErrorKind::Blocked => {}
                marked => return marked.map(drop),
            }
        }
        self.catch_up().await
    }

    /// Entries of this process that are stored and have not been read back.
    fn confirmed(&self) -> Vec<String> {
        self.own.lock().iter().filter(|(_, entry)| entry.is_confirmed).map(|(id, _)| id.clone()).collect()
    }

    /// These will not be read back any more.
    fn expect_no_more(&self, ids: &[String]) {
        let mut own = self.own.lock();
        ids.iter().for_each(|id| drop(own.remove(id)));
    }

    /// Waits for something that the reading brings, for as long as entries come in.
    async fn while_it_goes_on<T>(&self, event: impl Future<Output = T>) -> Result<T> {
        let mut progress = self.progress.subscribe();
        tokio::pin!(event);
        loop {
            let seen = progress.borrow().entries;
            let moves = async {
                let moved = progress.wait_for(|now| now.entries != seen || now.is_over || now.is_hopeless()).await;
                moved.map_or_else(|_| Err(closed()), |now| now.check())
            };
            tokio::select! {
                biased;
                value = &mut event => return Ok(value),
                goes_on = tokio::time::timeout(PATIENCE, moves) => match goes_on {
                    Ok(checked) => checked?,
                    Err(_) => return Err(self.stuck()),
                },
            }
        }
    }

    fn stuck(&self) -> Error {
        let error = Error::new(ErrorKind::Unavailable, format!("cannot read the stream {} at present", self.name));
        match &self.progress.borrow().failure {
            Some((_, cause)) => error.with_source(cause.to_string()),
            None => error,
        }
    }

    /// Declares the stream unless that was done on this connection.
    async fn ensure(&self) -> Result<()> {
        let epoch = *self.epoch.borrow();
        if epoch != 0 && self.declared.load(Ordering::Acquire) == epoch {
            return Ok(());
        }
        declare(&self.wires.control, &self.name, &self.arguments).await?;
        self.declared.store(epoch, Ordering::Release);
        Ok(())
    }
}

impl<F> fmt::Debug for Stream<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).field("progress", &self.progress.borrow()).finish()
    }
}
