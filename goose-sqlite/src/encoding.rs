//! Rows of the job table, and the envelope within.

use goose_core::broker::Receipt;
use goose_core::broker::capability::ScheduledKind;
use goose_core::{Job, JobId, Result, Timestamp, codec};

use crate::error::SqlResult;

/// A row as the statements of `sql` select it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    pub(crate) id: JobId,
    pub(crate) queue: i64,
    pub(crate) envelope: Vec<u8>,
    pub(crate) at: Timestamp,
    pub(crate) recoveries: u32,
    pub(crate) kind: i64,
    pub(crate) rank: i64,
}

impl Row {
    /// How many columns a row has.
    pub(crate) const WIDTH: usize = 8;

    pub(crate) fn read(row: &rusqlite::Row<'_>) -> SqlResult<Self> {
        Self::read_from(row, 0)
    }

    /// A row whose columns begin at `first`.
    pub(crate) fn read_from(row: &rusqlite::Row<'_>, first: usize) -> SqlResult<Self> {
        Ok(Self {
            seq: row.get(first)?,
            id: JobId::from_bytes(row.get(first + 1)?),
            queue: row.get(first + 2)?,
            envelope: row.get(first + 3)?,
            at: Timestamp::from_millis(row.get(first + 4)?),
            recoveries: row.get(first + 5)?,
            kind: row.get(first + 6)?,
            rank: row.get(first + 7)?,
        })
    }

    pub(crate) fn job(&self) -> Result<Job> {
        codec::decode(&self.envelope)
    }
}

/// Why a scheduled job waits, as the column holds it.
pub(crate) mod kind {
    pub(crate) const SCHEDULED: i64 = 0;
    pub(crate) const RETRY: i64 = 1;
    pub(crate) const SNOOZED: i64 = 2;
    pub(crate) const RECOVERED: i64 = 3;
}

pub(crate) fn scheduled_kind(kind: i64) -> ScheduledKind {
    match kind {
        kind::RETRY => ScheduledKind::Retry,
        kind::SNOOZED => ScheduledKind::Snoozed,
        kind::RECOVERED => ScheduledKind::Recovered,
        _ => ScheduledKind::Scheduled,
    }
}

/// What a receipt of this broker says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    /// Which row.
    pub(crate) seq: i64,
    /// Which claim: the lease in the upper half, a number within the lease in the lower.
    pub(crate) number: i64,
    /// The queue the job was claimed from, so that settling need not look it up.
    pub(crate) queue: i64,
}

impl Claim {
    pub(crate) fn receipt(self) -> Receipt {
        Receipt::new([self.seq.cast_unsigned(), self.number.cast_unsigned(), self.queue.cast_unsigned(), 0])
    }

    pub(crate) fn of(receipt: &Receipt) -> Self {
        let [seq, number, queue, _] = receipt.words();
        Self { seq: seq.cast_signed(), number: number.cast_signed(), queue: queue.cast_signed() }
    }
}
