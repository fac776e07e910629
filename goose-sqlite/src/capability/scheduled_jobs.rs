//! Jobs that wait for their time.

use goose_core::broker::capability::{JobFilter, Page, Paged, ScheduledJob, ScheduledJobs};
use goose_core::{BoxFuture, JobId, Result};
use rusqlite::{OptionalExtension, params};

use super::{STEP, count, cursor, in_steps, job, limit};
use crate::SqliteBroker;
use crate::encoding::{Row, scheduled_kind};
use crate::error::SqlResult;
use crate::places::Target;
use crate::sql;
use crate::tx::Tx;

fn find_scheduled(tx: &Tx<'_>, id: JobId) -> SqlResult<Option<Row>> {
    tx.conn.prepare_cached(sql::SCHEDULED_BY_ID)?.query_row([id.as_bytes()], Row::read).optional()
}

fn read_page(tx: &Tx<'_>, (at, seq): (i64, i64), limit: i64) -> SqlResult<Vec<Row>> {
    tx.conn.prepare_cached(sql::SCHEDULED_PAGE)?.query_map(params![at, seq, limit], Row::read)?.collect()
}

fn scheduled(row: &Row) -> Result<ScheduledJob> {
    Ok(ScheduledJob::new(job(row)?, row.at, scheduled_kind(row.kind)))
}

impl ScheduledJobs for SqliteBroker {
    fn size(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.engine.read(|tx| tx.conn.prepare_cached(sql::SUM_SCHEDULED)?.query_row([], |row| count(row, 0))))
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<ScheduledJob>>> {
        Box::pin(async move {
            let row = self.engine.read(move |tx| find_scheduled(tx, id)).await?;
            row.as_ref().map(scheduled).transpose()
        })
    }

    fn find<'a>(&'a self, filter: &'a JobFilter, page: Page) -> BoxFuture<'a, Result<Paged<ScheduledJob>>> {
        Box::pin(async move {
            let (limit, after) = (limit(&page), cursor::read(&page)?);
            let rows = self.engine.read(move |tx| read_page(tx, after, limit)).await?;
            let is_full = i64::try_from(rows.len()).is_ok_and(|n| n == limit);
            let next = rows.last().filter(|_| is_full).map(|row| cursor::write(row.at.as_millis(), row.seq));
            let jobs = rows.iter().filter_map(|row| scheduled(row).ok());
            Ok(Paged { items: jobs.filter(|found| filter.matches(&found.job)).collect(), next })
        })
    }

    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.engine.call(move |tx| {
            let Some(row) = find_scheduled(tx, id)? else { return Ok(false) };
            let rank = tx.front(1)?;
            tx.leave_scheduled(&row)?;
            tx.move_to(row.seq, row.queue, row.recoveries, Target::Ready { rank, since: tx.now })?;
            Ok(true)
        }))
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.engine.call(move |tx| {
            let Some(row) = find_scheduled(tx, id)? else { return Ok(false) };
            tx.leave_scheduled(&row)?;
            tx.remove(row.seq)?;
            Ok(true)
        }))
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(in_steps(&self.engine, |tx| {
            let mut removed = 0;
            for row in read_page(tx, (i64::MIN, i64::MIN), STEP.into())? {
                tx.leave_scheduled(&row)?;
                tx.remove(row.seq)?;
                removed += 1;
            }
            Ok(removed)
        }))
    }
}
