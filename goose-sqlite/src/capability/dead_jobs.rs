//! Dead jobs.

use goose_core::broker::capability::{DeadContent, DeadJob, DeadJobs, JobFilter, Page, Paged};
use goose_core::broker::{DeathCause, DeathReason};
use goose_core::{BoxFuture, Job, JobId, QueueName, Result, Timestamp, codec};
use rusqlite::{OptionalExtension, params};

use super::{STEP, count, cursor, in_steps, limit};
use crate::SqliteBroker;
use crate::encoding::Row;
use crate::error::SqlResult;
use crate::places::Target;
use crate::sql;
use crate::tx::Tx;

/// A dead job as it is stored, with the name of its queue.
struct Dead {
    row: Row,
    queue: QueueName,
    reason: DeathReason,
}

impl Dead {
    fn read(row: &rusqlite::Row<'_>) -> SqlResult<(Row, DeathReason)> {
        let cause: String = row.get(Row::WIDTH)?;
        // A cause that a newer version wrote is shown as the most general one.
        let cause = cause.parse().unwrap_or(DeathCause::Buried);
        Ok((Row::read(row)?, DeathReason::new(cause, row.get::<_, String>(Row::WIDTH + 1)?)))
    }

    fn named(tx: &mut Tx<'_>, (row, reason): (Row, DeathReason)) -> SqlResult<Self> {
        Ok(Self { queue: tx.names.name(tx.conn, row.queue)?, row, reason })
    }

    fn find(tx: &mut Tx<'_>, id: JobId) -> SqlResult<Option<Self>> {
        let found = tx.conn.prepare_cached(sql::DEAD_BY_ID)?.query_row([id.as_bytes()], Self::read).optional()?;
        found.map(|found| Self::named(tx, found)).transpose()
    }

    /// Those after a place and before a time, in the order of their deaths.
    fn page(tx: &mut Tx<'_>, (at, rank): (i64, i64), before: Timestamp, limit: i64) -> SqlResult<Vec<Self>> {
        let found: Vec<_> = tx
            .conn
            .prepare_cached(sql::DEAD_PAGE)?
            .query_map(params![at, rank, before.as_millis(), limit], Self::read)?
            .collect::<SqlResult<_>>()?;
        found.into_iter().map(|found| Self::named(tx, found)).collect()
    }

    fn remove(&self, tx: &mut Tx<'_>) -> SqlResult<()> {
        tx.leave_dead(&self.row)?;
        tx.remove(self.row.seq)
    }

    /// Puts a decodable job back in line, with all its retries; `false` for others.
    fn replay(&self, tx: &mut Tx<'_>, rank: i64) -> SqlResult<bool> {
        let Ok(mut job) = self.row.job() else { return Ok(false) };
        start_over(&mut job);
        tx.leave_dead(&self.row)?;
        let target = Target::Ready { rank, since: tx.now };
        tx.replace(self.row.seq, job.ready_queue(), &codec::encode(&job), target)?;
        Ok(true)
    }

    fn into_dead_job(self) -> DeadJob {
        let content = match self.row.job() {
            Ok(job) => DeadContent::Job(Box::new(job)),
            Err(_) => DeadContent::Undecodable(self.row.envelope),
        };
        DeadJob::new(self.row.id, self.queue, content, self.row.at, self.reason)
    }
}

/// A replayed job has its retries again; its history stays.
fn start_over(job: &mut Job) {
    job.attempts.retry_count = 0;
    job.attempts.parked = None;
}

impl DeadJobs for SqliteBroker {
    fn size(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.engine.read(|tx| tx.conn.prepare_cached(sql::SUM_DEAD)?.query_row([], |row| count(row, 0))))
    }

    fn pop(&self) -> BoxFuture<'_, Result<Option<DeadJob>>> {
        Box::pin(self.engine.call(|tx| {
            let oldest = Dead::page(tx, (i64::MIN, i64::MIN), Timestamp::MAX, 1)?.pop();
            if let Some(dead) = &oldest {
                dead.remove(tx)?;
            }
            Ok(oldest.map(Dead::into_dead_job))
        }))
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<DeadJob>>> {
        Box::pin(self.engine.read(move |tx| Ok(Dead::find(tx, id)?.map(Dead::into_dead_job))))
    }

    fn find<'a>(&'a self, filter: &'a JobFilter, page: Page) -> BoxFuture<'a, Result<Paged<DeadJob>>> {
        Box::pin(async move {
            let (limit, after) = (limit(&page), cursor::read(&page)?);
            let found = self.engine.read(move |tx| Dead::page(tx, after, Timestamp::MAX, limit)).await?;
            let is_full = i64::try_from(found.len()).is_ok_and(|n| n == limit);
            let place = |dead: &Dead| cursor::write(dead.row.at.as_millis(), dead.row.rank);
            let next = found.last().filter(|_| is_full).map(place);
            let everything = *filter == JobFilter::default();
            let passes = |dead: &DeadJob| dead.job().map_or(everything, |job| filter.matches(job));
            Ok(Paged { items: found.into_iter().map(Dead::into_dead_job).filter(passes).collect(), next })
        })
    }

    fn replay(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.engine.call(move |tx| {
            let Some(dead) = Dead::find(tx, id)? else { return Ok(false) };
            let rank = tx.front(1)?;
            dead.replay(tx, rank)
        }))
    }

    fn replay_n(&self, n: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            // Room at the front for all of them at once, so that many steps keep one order.
            let size = DeadJobs::size(self).await?;
            let n = n.min(size);
            let room = usize::try_from(n).unwrap_or(usize::MAX);
            let mut rank = self.engine.call(move |tx| tx.front(room)).await?;
            let (mut replayed, mut after) = (0, (i64::MIN, i64::MIN));
            while replayed < n {
                let step = u32::try_from(n - replayed).unwrap_or(STEP).min(STEP);
                let (done, last) = self.engine.call(move |tx| replay_step(tx, after, step, rank)).await?;
                replayed += u64::from(done);
                rank += i64::from(done);
                match last {
                    Some(last) => after = last,
                    None => break,
                }
            }
            Ok(replayed)
        })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.engine.call(move |tx| {
            let Some(dead) = Dead::find(tx, id)? else { return Ok(false) };
            dead.remove(tx)?;
            Ok(true)
        }))
    }

    fn delete_older_than(&self, time: Timestamp) -> BoxFuture<'_, Result<u64>> {
        Box::pin(in_steps(&self.engine, move |tx| {
            let dead = Dead::page(tx, (i64::MIN, i64::MIN), time, STEP.into())?;
            dead.iter().try_for_each(|dead| dead.remove(tx))?;
            Ok(u32::try_from(dead.len()).unwrap_or(STEP))
        }))
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64>> {
        self.delete_older_than(Timestamp::MAX)
    }
}

/// Replays up to `n` jobs that died after a place, the first of them to `rank`; returns how many, and where to
/// go on if there may be more.
fn replay_step(tx: &mut Tx<'_>, after: (i64, i64), n: u32, mut rank: i64) -> SqlResult<(u32, Option<(i64, i64)>)> {
    let dead = Dead::page(tx, after, Timestamp::MAX, n.into())?;
    let mut replayed = 0;
    for dead in &dead {
        if dead.replay(tx, rank)? {
            rank += 1;
            replayed += 1;
        }
    }
    Ok((replayed, dead.last().map(|dead| (dead.row.at.as_millis(), dead.row.rank))))
}
