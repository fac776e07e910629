//! What a piece of work sees while it runs: the transaction, its time, and what is to follow from it.

use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{DeathReason, Delivery};
use goose_core::{Job, JobId, QueueName, Timestamp};
use rusqlite::{Connection, ffi};

use crate::counts::Counts;
use crate::error::SqlResult;
use crate::names::Names;
use crate::options::SqliteOptions;
use crate::session::Session;
use crate::sql;

/// A write transaction in progress.
pub(crate) struct Tx<'a> {
    pub(crate) conn: &'a Connection,
    /// The broker's time, the same for all that happens in one transaction.
    pub(crate) now: Timestamp,
    pub(crate) counts: Counts,
    pub(crate) names: &'a mut Names,
    pub(crate) effects: Effects,
    /// How many bytes jobs may take, for those that come in.
    pub(crate) max_file_size: Option<u64>,
}

/// What happens once a transaction is committed, and not before.
#[derive(Default)]
pub(crate) struct Effects {
    /// Jobs may have become claimable, now or at an earlier time than was known.
    pub(crate) jobs_moved: bool,
    /// Claimed jobs for the sessions that asked.
    pub(crate) deliveries: Vec<(Arc<Session>, Vec<Delivery>)>,
    /// Sessions that turned out to have lost their lease.
    pub(crate) lost: Vec<Arc<Session>>,
    /// News for observers.
    pub(crate) news: Vec<News>,
}

/// An event that the broker itself causes.
pub(crate) enum News {
    Recovered { id: JobId, queue: QueueName, recoveries: u32 },
    Died { id: JobId, queue: QueueName, job: Option<Box<Job>>, reason: DeathReason },
}

impl<'a> Tx<'a> {
    pub(crate) fn new(conn: &'a Connection, options: &SqliteOptions, names: &'a mut Names) -> Self {
        Self {
            conn,
            now: options.clock.now(),
            counts: Counts::default(),
            names,
            effects: Effects::default(),
            max_file_size: options.max_file_size,
        }
    }

    /// Refuses, as SQLite refuses a full disk, when jobs take more room than they may. Asked by those that come in; what
    /// workers store is not refused, for it is what makes room again.
    pub(crate) fn check_room(&self) -> SqlResult<()> {
        let Some(limit) = self.max_file_size else { return Ok(()) };
        let number = |pragma| self.conn.prepare_cached(pragma)?.query_row([], |row| row.get::<_, i64>(0));
        let used = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
        if u64::try_from(used).unwrap_or(0).saturating_mul(4096) < limit {
            return Ok(());
        }
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None))
    }

    /// The first millisecond that is surely not before `delay` from now: the clock's milliseconds are whole ones, and
    /// this one may be as good as over.
    pub(crate) fn after(&self, delay: Duration) -> Timestamp {
        let part_of_now = Duration::from_millis(u64::from(!delay.is_zero()));
        self.now.saturating_add(delay).saturating_add(part_of_now)
    }

    /// Ranks for `n` jobs that go to the front together: the first of them gets the returned rank, the next
    /// ones those that follow it.
    pub(crate) fn front(&self, n: usize) -> SqlResult<i64> {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        self.conn.prepare_cached(sql::FRONT_TAKE)?.query_row([n], |row| row.get(0))
    }

    /// The place of a death behind all earlier ones of the same millisecond.
    pub(crate) fn death_rank(&self) -> SqlResult<i64> {
        Ok(-self.front(1)?)
    }
}
