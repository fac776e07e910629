//! From SQLite's errors to ours, in one match.

use std::fmt;
use std::sync::Arc;

use goose_core::{Error, ErrorKind};
use rusqlite::ffi::ErrorCode;

/// A result inside the broker, before it is translated for the outside.
pub(crate) type SqlResult<T> = Result<T, rusqlite::Error>;

/// One SQLite error that answers several callers of a shared transaction.
#[derive(Clone)]
struct Shared(Arc<rusqlite::Error>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Shared {}

/// Says in our words what SQLite said in its own, which stays the source.
pub(crate) fn translate(error: &Arc<rusqlite::Error>) -> Error {
    let (kind, message) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unavailable,
            "another process holds the database file locked; try again, or find the program that keeps a transaction open",
        ),
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::Full, "no room left for the database; free disk space or raise the size limit")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => (
            ErrorKind::PermissionDenied,
            "the database cannot be written; give this user write access to the file and its folder",
        ),
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::PermissionDenied,
            "the database cannot be opened; check that its folder exists and that this user may write there",
        ),
        Some(ErrorCode::NotADatabase) => (ErrorKind::Corrupt, "the file is not a SQLite database"),
        Some(ErrorCode::DatabaseCorrupt) => {
            (ErrorKind::Corrupt, "the database file is damaged; restore it, or save what `sqlite3 FILE .recover` finds")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed) => {
            (ErrorKind::Unavailable, "the disk failed to read or write the database")
        }
        Some(ErrorCode::OutOfMemory) => (ErrorKind::Unavailable, "out of memory"),
        Some(ErrorCode::TooBig) => (ErrorKind::TooLarge, "the job is larger than SQLite can store"),
        _ => (ErrorKind::Internal, "the database refused a statement; this is a bug, please report it"),
    };
    Error::new(kind, message).with_source(Shared(Arc::clone(error)))
}

/// [`translate`] for an error that answers one caller.
pub(crate) fn translate_one(error: rusqlite::Error) -> Error {
    translate(&Arc::new(error))
}

/// What every call answers after [`Broker::close`](goose_core::broker::Broker::close).
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the broker is closed")
}
