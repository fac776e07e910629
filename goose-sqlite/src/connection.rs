//! Opening the file: settings, checks, and waiting for other processes.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use goose_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags};

use crate::error::{SqlResult, translate_one};
use crate::migrations::{check_owner, migrate};
use crate::options::{Place, SqliteOptions, Synchronous};
use crate::path::check_place;

/// Opens the place the options name and makes it ready for use.
pub(crate) fn open(options: &SqliteOptions) -> Result<Connection> {
    let Place::File(path) = &options.place else {
        return ready(Connection::open_in_memory().map_err(translate_one)?, options);
    };
    check_place(path)?;
    // SQLite was built to read URIs everywhere, so those have been refused before.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, error));
    opened
        .and_then(|conn| ready(conn, options))
        .map_err(|error| Error::new(error.kind(), format!("cannot open {}", path.display())).with_source(error))
}

/// Makes a connection ready for use.
///
/// Several processes may do this to a new file at once. SQLite does not wait for another one that is switching the file
/// to WAL mode but fails at once, so the waiting is done here.
fn ready(mut conn: Connection, options: &SqliteOptions) -> Result<Connection> {
    busy::allow(options.busy_timeout);
    conn.busy_handler(Some(busy::wait)).map_err(translate_one)?;
    let began = Instant::now();
    loop {
        match set_up(&mut conn, options) {
            Ok(()) => return Ok(conn),
            Err(error) if error.kind() == ErrorKind::Unavailable && began.elapsed() < options.busy_timeout => {
                busy::pause(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Checks whose file it is before anything is changed in it, then sets it up.
fn set_up(conn: &mut Connection, options: &SqliteOptions) -> Result<()> {
    check_owner(conn)?;
    configure(conn, options)?;
    migrate(conn)
}

/// SQLite says only that it cannot open the file; the operating system knows why.
fn cannot_open(path: &Path, error: rusqlite::Error) -> Error {
    let told = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let is_refusal = |kind| matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
    match told {
        Err(reason) if !is_refusal(reason.kind()) => {
            Error::new(ErrorKind::Unavailable, "the operating system does not open the file").with_source(reason)
        }
        _ => translate_one(error),
    }
}

fn configure(conn: &Connection, options: &SqliteOptions) -> Result<()> {
    set(conn, options).map_err(translate_one)?;
    let mode: String =
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(translate_one)?;
    if mode != "wal" && mode != "memory" {
        let unsupported = "the file system does not support SQLite's WAL mode; put the file on a local disk";
        return Err(Error::new(ErrorKind::Misconfigured, format!("{unsupported} (journal mode {mode})")));
    }
    Ok(())
}

fn set(conn: &Connection, options: &SqliteOptions) -> SqlResult<()> {
    // The default of 16 would evict statements of the hot path.
    conn.set_prepared_statement_cache_capacity(100);
    // Must come before anything writes; a file that has pages keeps its size.
    conn.pragma_update(None, "page_size", 4096)?;
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    conn.pragma_update(None, "synchronous", synchronous)?;
    // A checkpoint each 16 MiB of log instead of each 4: fewer, and never a long one.
    pragma(conn, "wal_autocheckpoint", 4000)?;
    pragma(conn, "journal_size_limit", 64 << 20)?;
    conn.pragma_update(None, "cache_size", -16_384)?;
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
        pause(Duration::from_micros(50 + jitter));
        true
    }

    #[expect(clippy::disallowed_methods, reason = "the thread must stay away from the lock, whatever it is sent")]
    pub(crate) fn pause(time: Duration) {
        std::thread::sleep(time);
    }

    /// Whether this thread had to wait for another process within the last 100 ms.
    pub(crate) fn was_contended() -> bool {
        LAST.get().is_some_and(|last| last.elapsed() < Duration::from_millis(100))
    }
}
