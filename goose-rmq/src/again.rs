//! One error for several callers.

use std::error::Error as _;

use goose_core::Error;

/// The same error once more, for one of several callers of a call that failed.
pub(crate) fn again(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.message().to_owned());
    match error.source() {
        Some(source) => copy.with_source(source.to_string()),
        None => copy,
    }
}
