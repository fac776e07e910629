//! Opening the file: settings, checks, and waiting for other processes.

use std::cell::Cell;
use std::time::{Duration, Instant};

use goose_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags};

use crate::error::{SqlResult, translate_one};
use crate::migrations::migrate;
use crate::options::{Place, SqliteOptions, Synchronous};

/// Opens the place the options name and makes it ready for use.
pub(crate) fn open(options: &SqliteOptions) -> Result<Connection> {
    let mut conn = match &options.place {
        Place::Memory => Connection::open_in_memory().map_err(translate_one)?,
        Place::File(path) => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("the folder {} does not exist, create it first", folder.display()),
                ));
            }
            // No shared cache and no URI names: the path is a path.
            let flags =
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let opened = Connection::open_with_flags(path, flags);
            let named = |error| translate_one(error).with_path(path.display());
            return opened.map_err(named).and_then(|mut conn| {
                configure(&conn, options).map_err(named)?;
                migrate(&mut conn).map_err(|error| error.with_path(path.display()))?;
                Ok(conn)
            });
        }
    };
    configure(&conn, options).map_err(translate_one)?;
    migrate(&mut conn)?;
    Ok(conn)
}

/// Names the file in an error, once.
trait WithPath {
    fn with_path(self, path: impl std::fmt::Display) -> Self;
}

impl WithPath for Error {
    fn with_path(self, path: impl std::fmt::Display) -> Self {
        Self::new(self.kind(), format!("cannot open {path}")).with_source(self)
    }
}

fn configure(conn: &Connection, options: &SqliteOptions) -> SqlResult<()> {
    busy::allow(options.busy_timeout);
    conn.busy_handler(Some(busy::wait))?;
    // The default of 16 would evict statements of the hot path.
    conn.set_prepared_statement_cache_capacity(100);
    // Must come before anything writes; a file that has pages keeps its size.
    conn.pragma_update(None, "page_size", 4096)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    debug_assert!(mode == "wal" || mode == "memory", "journal mode {mode}");
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    conn.pragma_update(None, "synchronous", synchronous)?;
    // A checkpoint each 16 MiB of log instead of each 4: fewer, and never a long one.
    pragma(conn, "wal_autocheckpoint", 4000)?;
    pragma(conn, "journal_size_limit", 64 << 20)?;
    conn.pragma_update(None, "cache_size", -16_384)?;
    if let Some(bytes) = options.max_file_size {
        let pages = i64::try_from(bytes / 4096).unwrap_or(i64::MAX).max(1);
        pragma(conn, "max_page_count", pages)?;
    }
    Ok(())
}

/// Sets a pragma that answers with a row.
fn pragma(conn: &Connection, name: &str, value: i64) -> SqlResult<()> {
    conn.pragma_update_and_check(None, name, value, |row| row.get::<_, i64>(0)).map(drop)
}

/// Waiting for another process that is writing.
///
/// SQLite's own waiting backs off to 100 ms and lets a busy neighbour starve a small writer for seconds. Short
/// waits with jitter, and a pause after each commit while somebody else is around (see [`busy::was_contended`]),
/// bring the worst wait down to a few milliseconds (measured; `decisions/0012-sqlite-one-writer-thread.md`).
pub(crate) mod busy {
    use super::{Cell, Duration, Instant};

    thread_local! {
        // SQLite calls back without a place for data of ours; each connection lives on one thread.
        static ALLOWED: Cell<Duration> = const { Cell::new(Duration::from_secs(5)) };
        static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    /// How long this thread may wait for one lock.
    pub(crate) fn allow(time: Duration) {
        ALLOWED.set(time);
    }

    /// Called by SQLite each time it finds the file locked; `false` gives up.
    pub(crate) fn wait(attempt: i32) -> bool {
        let now = Instant::now();
        LAST.set(Some(now));
        if attempt == 0 {
            SINCE.set(Some(now));
        }
        let waited = SINCE.get().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if waited >= ALLOWED.get() {
            return false;
        }
        let jitter = u64::from(now.elapsed().subsec_nanos() ^ std::process::id()) % 100;
        std::thread::park_timeout(Duration::from_micros(50 + jitter));
        true
    }

    /// Whether this thread had to wait for another process within the last 100 ms.
    pub(crate) fn was_contended() -> bool {
        LAST.get().is_some_and(|last| last.elapsed() < Duration::from_millis(100))
    }
}
