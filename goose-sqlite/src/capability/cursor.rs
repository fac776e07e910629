//! Places in a list: the two numbers a list is ordered by.

use goose_core::broker::capability::{Cursor, Page};
use goose_core::{Error, ErrorKind, Result};

/// Before everything.
const START: (i64, i64) = (i64::MIN, i64::MIN);

/// The place after which a page begins.
pub(super) fn read(page: &Page) -> Result<(i64, i64)> {
    let Some(cursor) = &page.after else { return Ok(START) };
    let parse = |text: &str| -> Option<(i64, i64)> {
        let (first, second) = text.split_once('.')?;
        Some((first.parse().ok()?, second.parse().ok()?))
    };
    parse(cursor.as_str()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "the page cursor is not one of this broker, start from the first page")
    })
}

/// The cursor after a place.
pub(super) fn write(first: i64, second: i64) -> Cursor {
    Cursor::new(format!("{first}.{second}"))
}
