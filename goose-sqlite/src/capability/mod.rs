//! The optional powers, one file each, all through the engine's thread in bounded steps.

mod cursor;
mod dead_jobs;
mod enqueued_jobs;
mod paused_queues;
mod scheduled_jobs;
mod statistics;

use goose_core::broker::capability::Page;
use goose_core::{Job, Result};

use crate::broker::EngineHandle;
use crate::encoding::Row;
use crate::error::SqlResult;
use crate::tx::Tx;

/// How many jobs one transaction of a call that removes everything touches.
const STEP: u32 = 1000;

/// A limit as SQLite wants it. Pages are cut to their maximum wherever they came from.
fn limit(page: &Page) -> i64 {
    page.limit.clamp(1, Page::MAX).into()
}

/// The job of a row that was stored by this broker. Jobs are checked when they are claimed, so damage is rare here.
fn job(row: &Row) -> Result<Job> {
    row.job()
}

/// Repeats a step, each in a transaction of its own, until it finds nothing more; returns the sum.
async fn in_steps<F>(engine: &EngineHandle, step: F) -> Result<u64>
where
    F: FnMut(&mut Tx<'_>) -> SqlResult<u32> + Clone + Send + 'static,
{
    let mut sum = 0;
    loop {
        let done = engine.call(step.clone()).await?;
        sum += u64::from(done);
        if done < STEP {
            return Ok(sum);
        }
    }
}

/// A counter, which is never negative.
fn count(row: &rusqlite::Row<'_>, column: usize) -> SqlResult<u64> {
    row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0))
}
