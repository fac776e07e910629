//! Jobs that wait in queues.

use goose_core::broker::capability::{EnqueuedJobs, JobFilter, Page, Paged};
use goose_core::{BoxFuture, Job, JobId, QueueName, Result};
use rusqlite::{OptionalExtension, params};

use super::{STEP, count, cursor, in_steps, job, limit};
use crate::SqliteBroker;
use crate::encoding::Row;
use crate::error::SqlResult;
use crate::places::Target;
use crate::sql;
use crate::tx::Tx;

fn find_ready(tx: &Tx<'_>, id: JobId) -> SqlResult<Option<Row>> {
    tx.conn.prepare_cached(sql::READY_BY_ID)?.query_row([id.as_bytes()], Row::read).optional()
}

impl EnqueuedJobs for SqliteBroker {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueName>>> {
        Box::pin(async move {
            let names: Vec<String> = self
                .engine
                .read(|tx| tx.conn.prepare_cached(sql::QUEUES)?.query_map([], |row| row.get(0))?.collect())
                .await?;
            names.into_iter().map(QueueName::new).collect()
        })
    }

    fn size<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        let queue = queue.clone();
        Box::pin(self.engine.read(move |tx| {
            let size = tx
                .conn
                .prepare_cached(sql::QUEUE_READY)?
                .query_row([queue.as_str()], |row| count(row, 0))
                .optional()?;
            Ok(size.unwrap_or(0))
        }))
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<Job>>> {
        Box::pin(async move {
            let row = self.engine.read(move |tx| find_ready(tx, id)).await?;
            row.as_ref().map(job).transpose()
        })
    }

    fn find<'a>(
        &'a self,
        queue: &'a QueueName,
        filter: &'a JobFilter,
        page: Page,
    ) -> BoxFuture<'a, Result<Paged<Job>>> {
        Box::pin(async move {
            let (limit, (rank, seq), queue) = (limit(&page), cursor::read(&page)?, queue.clone());
            let rows: Vec<Row> = self
                .engine
                .read(move |tx| {
                    let Some(queue) = tx.names.known_id(tx.conn, &queue)? else { return Ok(Vec::new()) };
                    let mut statement = tx.conn.prepare_cached(sql::READY_PAGE)?;
                    statement.query_map(params![queue, rank, seq, limit], Row::read)?.collect()
                })
                .await?;
            let is_full = i64::try_from(rows.len()).is_ok_and(|n| n == limit);
            let next = rows.last().filter(|_| is_full).map(|row| cursor::write(row.rank, row.seq));
            // Bytes that are no job stay invisible here; a worker that meets them buries them.
            let jobs = rows.iter().filter_map(|row| job(row).ok());
            Ok(Paged { items: jobs.filter(|job| filter.matches(job)).collect(), next })
        })
    }

    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.engine.call(move |tx| {
            let Some(row) = find_ready(tx, id)? else { return Ok(false) };
            let rank = tx.front(1)?;
            tx.leave_ready(&row)?;
            tx.move_to(row.seq, row.queue, row.recoveries, Target::Ready { rank, since: row.at })?;
            Ok(true)
        }))
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.engine.call(move |tx| {
            let Some(row) = find_ready(tx, id)? else { return Ok(false) };
            tx.leave_ready(&row)?;
            tx.remove(row.seq)?;
            Ok(true)
        }))
    }

    fn purge<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        let queue = queue.clone();
        Box::pin(in_steps(&self.engine, move |tx| {
            let Some(queue) = tx.names.known_id(tx.conn, &queue)? else { return Ok(0) };
            let rows: Vec<Row> = tx
                .conn
                .prepare_cached(sql::READY)?
                .query_map(params![queue, STEP], Row::read)?
                .collect::<SqlResult<_>>()?;
            let mut removed = 0;
            for row in rows {
                tx.leave_ready(&row)?;
                tx.remove(row.seq)?;
                removed += 1;
            }
            Ok(removed)
        }))
    }
}
