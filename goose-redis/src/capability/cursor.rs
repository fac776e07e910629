//! Places in a list that is ordered by time and id.

use std::cmp::Ordering;

use fred::bytes::Bytes;
use goose_core::broker::capability::{Cursor, Page};
use goose_core::{Error, ErrorKind, JobId, Result};

/// A time as the server's sorted set holds it, and the id that tells equal times apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub(super) time: f64,
    pub(super) id: Bytes,
}

impl Place {
    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        self.time.total_cmp(&other.time).then_with(|| self.id.cmp(&other.id))
    }

    /// As `timed_page.lua` wants it.
    pub(super) fn arguments(&self) -> (Bytes, Bytes) {
        (format!("{:.0}", self.time).into(), self.id.clone())
    }

    pub(super) fn cursor(&self) -> Cursor {
        let id = self.id.as_ref().try_into().map(JobId::from_bytes).map(|id| id.to_string()).unwrap_or_default();
        Cursor::new(format!("{:.0}.{id}", self.time))
    }

    /// Where a page begins; `None` for the start.
    pub(super) fn of(page: &Page) -> Result<Option<Self>> {
        let Some(cursor) = &page.after else { return Ok(None) };
        let parse = |text: &str| -> Option<Self> {
            let (time, id) = text.split_once('.')?;
            let id: JobId = id.parse().ok()?;
            Some(Self { time: time.parse().ok()?, id: Bytes::copy_from_slice(id.as_bytes()) })
        };
        parse(cursor.as_str()).map(Some).ok_or_else(invalid)
    }
}

pub(super) fn invalid() -> Error {
    Error::new(ErrorKind::InvalidInput, "the page cursor is not one of this broker, start from the first page")
}
