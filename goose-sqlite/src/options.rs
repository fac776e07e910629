//! How to open the embedded broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use goose_core::{Clock, Error, ErrorKind, Result, SystemClock};

use crate::SqliteBroker;
use crate::path::check_words;

/// How to open the embedded broker. Every setting has a default that is safe.
///
/// ```
/// # async fn f() -> goose_core::Result<()> {
/// use goose_sqlite::SqliteOptions;
///
/// let broker = SqliteOptions::new("jobs.db").max_recoveries(1).open().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until `open` is called"]
pub struct SqliteOptions {
    pub(crate) place: Place,
    pub(crate) synchronous: Synchronous,
    pub(crate) lease: Duration,
    pub(crate) max_recoveries: u32,
    pub(crate) busy_timeout: Duration,
    pub(crate) max_file_size: Option<u64>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Where the data lives.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    File(PathBuf),
    Memory,
}

/// When a write counts as durable; SQLite's `PRAGMA synchronous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// When the disk says so: nothing acknowledged is lost, even when the power fails. The default.
    #[default]
    Full,
    /// When the operating system has it: nothing is lost when processes are killed; the last moments before a
    /// power failure or a kernel crash may be. The file is never damaged.
    Normal,
}

impl SqliteOptions {
    /// A file, created if it is not there. Its folder must exist, on a local disk: SQLite's locks do not work
    /// on network file systems. A path and nothing else: URIs and SQLite's `:memory:` are refused.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::at(Place::File(path.as_ref().to_owned()))
    }

    /// A database in memory, private to this broker handle and its clones, gone when the last one is dropped.
    pub fn in_memory() -> Self {
        Self::at(Place::Memory)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            synchronous: Synchronous::Full,
            lease: Duration::from_secs(6),
            max_recoveries: 3,
            busy_timeout: Duration::from_secs(5),
            max_file_size: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// When a write counts as durable; [`Synchronous::Full`] by default. Each process sets its own.
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long a silent worker keeps its jobs; 6 s by default, 100 ms to 1 h. It is renewed six times in that span,
    /// and found dead at most a third of the span after its end: with the default within 8 s of a kill.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How often a job may be taken from dead workers before it counts as what kills them and is buried;
    /// 3 by default: the fourth crash buries it.
    pub fn max_recoveries(mut self, max_recoveries: u32) -> Self {
        self.max_recoveries = max_recoveries;
        self
    }

    /// How long to wait for another process that is writing before giving up with
    /// [`ErrorKind::Unavailable`]; 5 s by default.
    pub fn busy_timeout(mut self, busy_timeout: Duration) -> Self {
        self.busy_timeout = busy_timeout;
        self
    }

    /// How many bytes of the database file jobs may take; unlimited by default. Beyond that, enqueues fail with
    /// [`ErrorKind::Full`] until jobs have been worked off. Workers are not held up: what they store (retries, dead
    /// jobs) may go beyond it.
    pub fn max_file_size(mut self, bytes: u64) -> Self {
        self.max_file_size = Some(bytes);
        self
    }

    /// The clock that decides what is due; the system's by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the broker, creating or upgrading the file where needed.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`]: a setting cannot work, the folder of the file does not exist, or the path is none:
    ///   a URI, `:memory:`, a folder, a device, the address of a server.
    /// - [`ErrorKind::PermissionDenied`]: the file or its folder cannot be written.
    /// - [`ErrorKind::Corrupt`]: the file is damaged, or no SQLite database.
    /// - [`ErrorKind::Misconfigured`]: it is the database of another program.
    /// - [`ErrorKind::TooNew`]: a newer Goose wrote it.
    /// - [`ErrorKind::Full`], [`ErrorKind::Unavailable`]: no room, or locked by someone else for too long.
    pub async fn open(self) -> Result<SqliteBroker> {
        self.validate()?;
        SqliteBroker::start(self).await
    }

    fn validate(&self) -> Result<()> {
        if let Place::File(path) = &self.place {
            check_words(path)?;
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&self.lease) {
            let message = format!("the lease is {:?}, use 100ms to 1h", self.lease);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(())
    }
}
