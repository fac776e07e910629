//! Counts and workers, read from rows that every transaction keeps up to date.

use goose_core::broker::capability::{LiveWorker, QueueCounts, Statistics, Totals};
use goose_core::broker::{WorkerId, WorkerIdentity};
use goose_core::{BoxFuture, QueueName, Result, Timestamp};

use super::count;
use crate::SqliteBroker;
use crate::error::SqlResult;
use crate::sql;

impl Statistics for SqliteBroker {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueCounts>>> {
        Box::pin(async move {
            let rows: Vec<(String, [u64; 4])> = self
                .engine
                .read(|tx| {
                    let read = |row: &rusqlite::Row<'_>| {
                        Ok((row.get(0)?, [count(row, 1)?, count(row, 2)?, count(row, 3)?, count(row, 4)?]))
                    };
                    tx.conn.prepare_cached(sql::QUEUES)?.query_map([], read)?.collect()
                })
                .await?;
            rows.into_iter()
                .map(|(name, [ready, scheduled, running, dead])| {
                    let mut counts = QueueCounts::empty(QueueName::new(name)?);
                    (counts.ready, counts.scheduled, counts.running, counts.dead) =
                        (ready, Some(scheduled), running, dead);
                    Ok(counts)
                })
                .collect()
        })
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(self.engine.read(|tx| {
            tx.conn.prepare_cached(sql::TOTALS)?.query_row([], |row| {
                let mut totals = Totals::default();
                totals.enqueued = count(row, 0)?;
                totals.succeeded = count(row, 1)?;
                totals.failed = count(row, 2)?;
                totals.died = count(row, 3)?;
                totals.discarded = count(row, 4)?;
                totals.recovered = count(row, 5)?;
                Ok(totals)
            })
        }))
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<LiveWorker>>> {
        Box::pin(self.engine.read(|tx| tx.conn.prepare_cached(sql::WORKERS)?.query_map([], worker)?.collect()))
    }
}

fn worker(row: &rusqlite::Row<'_>) -> SqlResult<LiveWorker> {
    let identity = WorkerIdentity::new(WorkerId::from_bytes(row.get(0)?), row.get::<_, String>(1)?, row.get(2)?);
    let queues: String = row.get(3)?;
    let queues = queues.split(' ').filter_map(|name| QueueName::new(name).ok()).collect();
    Ok(LiveWorker::new(identity, queues, Timestamp::from_millis(row.get(4)?), count(row, 5)?))
}
