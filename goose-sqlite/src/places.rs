//! The four places a job can be in, and the moves between them. Every change of state in this broker is one
//! `leave` and one `enter` of the same transaction, so that a job is always in exactly one place.

use goose_core::broker::DeathReason;
use goose_core::{QueueName, Timestamp};
use rusqlite::params;

use crate::counts::State;
use crate::encoding::{Claim, Row};
use crate::error::SqlResult;
use crate::sql;
use crate::tx::Tx;

/// The `rank` of a job that waits for its time. Ready jobs never have it, so a claimed job still knows where it was.
const SCHEDULED_RANK: i64 = 1;

/// Where a job goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// In line, with this rank, since this time.
    Ready { rank: i64, since: Timestamp },
    /// Due at this time, for a reason of [`kind`](crate::encoding::kind).
    Scheduled { at: Timestamp, kind: i64 },
    /// Among the dead since this time, behind those who died before; see [`Tx::death_rank`].
    Dead { at: Timestamp, rank: i64, reason: &'a DeathReason },
}

impl Target<'_> {
    pub(crate) fn state(&self) -> State {
        match self {
            Self::Ready { .. } => State::Ready,
            Self::Scheduled { .. } => State::Scheduled,
            Self::Dead { .. } => State::Dead,
        }
    }

    /// The columns `rank`, `at` and `kind` of the job's row.
    pub(crate) fn columns(&self) -> (i64, i64, i64) {
        match *self {
            Self::Ready { rank, since } => (rank, since.as_millis(), 0),
            Self::Scheduled { at, kind } => (SCHEDULED_RANK, at.as_millis(), kind),
            Self::Dead { at, rank, .. } => (rank, at.as_millis(), 0),
        }
    }
}

impl Tx<'_> {
    /// A claim ends. `false` when it does not hold any more: nothing may follow then.
    pub(crate) fn leave_claimed(&mut self, claim: Claim) -> SqlResult<bool> {
        let removed =
            self.conn.prepare_cached(sql::CLAIMED_REMOVE)?.execute([claim.number, claim.seq, claim.queue])? == 1;
        if removed {
            self.counts.add(claim.queue, State::Claimed, -1);
        }
        Ok(removed)
    }

    pub(crate) fn leave_ready(&mut self, row: &Row) -> SqlResult<()> {
        self.conn.prepare_cached(sql::READY_REMOVE)?.execute([row.queue, row.rank, row.seq])?;
        self.counts.add(row.queue, State::Ready, -1);
        Ok(())
    }

    pub(crate) fn leave_scheduled(&mut self, row: &Row) -> SqlResult<()> {
        self.conn.prepare_cached(sql::SCHEDULED_REMOVE)?.execute([row.queue, row.at.as_millis(), row.seq])?;
        self.counts.add(row.queue, State::Scheduled, -1);
        Ok(())
    }

    pub(crate) fn leave_dead(&mut self, row: &Row) -> SqlResult<()> {
        self.conn.prepare_cached(sql::DEAD_REMOVE)?.execute([row.at.as_millis(), row.rank, row.seq])?;
        self.counts.add(row.queue, State::Dead, -1);
        Ok(())
    }

    /// A job that has just left its place, or was just added, enters another. The job's row is not touched: its
    /// columns must say the same, see [`Target::columns`].
    pub(crate) fn enter(&mut self, seq: i64, queue: i64, target: Target<'_>) -> SqlResult<()> {
        match target {
            Target::Ready { rank, .. } => {
                self.conn.prepare_cached(sql::READY_ADD)?.execute([queue, rank, seq])?;
            }
            Target::Scheduled { at, .. } => {
                self.conn.prepare_cached(sql::SCHEDULED_ADD)?.execute([queue, at.as_millis(), seq])?;
            }
            Target::Dead { at, rank, reason } => {
                let row = params![at.as_millis(), rank, seq, reason.cause.to_string(), reason.detail];
                self.conn.prepare_cached(sql::DEAD_ADD)?.execute(row)?;
            }
        }
        self.counts.add(queue, target.state(), 1);
        self.effects.jobs_moved |= !matches!(target, Target::Dead { .. });
        Ok(())
    }

    /// A job that has just left its place enters another one unchanged, but for how often it was recovered.
    pub(crate) fn move_to(&mut self, seq: i64, queue: i64, recoveries: u32, target: Target<'_>) -> SqlResult<()> {
        let (rank, at, kind) = target.columns();
        self.conn.prepare_cached(sql::JOB_MOVE)?.execute(params![seq, queue, rank, at, kind, recoveries])?;
        self.enter(seq, queue, target)
    }

    /// A job that has just left its place enters another one with a new record. Its recoveries start over:
    /// they count crashes in a row.
    pub(crate) fn replace(
        &mut self,
        seq: i64,
        queue: &QueueName,
        envelope: &[u8],
        target: Target<'_>,
    ) -> SqlResult<()> {
        let queue = self.names.id(self.conn, queue)?;
        let (rank, at, kind) = target.columns();
        self.conn.prepare_cached(sql::JOB_REPLACE)?.execute(params![seq, queue, rank, at, kind, 0, envelope])?;
        self.enter(seq, queue, target)
    }

    /// A job whose claim has just ended goes back to the very place it was claimed from: before all that stood behind
    /// it, whatever came and went meanwhile, and however many go back in whatever order.
    pub(crate) fn put_back(&mut self, claim: Claim) -> SqlResult<()> {
        let place = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (queue, rank, at) = self.conn.prepare_cached(sql::JOB_PLACE)?.query_row([claim.seq], place)?;
        let at = Timestamp::from_millis(at);
        let target =
            if rank == SCHEDULED_RANK { Target::Scheduled { at, kind: 0 } } else { Target::Ready { rank, since: at } };
        self.enter(claim.seq, queue, target)
    }

    /// The same for a job whose worker died, which is noted.
    pub(crate) fn put_back_crashed(&mut self, claim: Claim, recoveries: u32) -> SqlResult<()> {
        self.conn.prepare_cached(sql::JOB_CRASHED)?.execute(params![claim.seq, recoveries])?;
        self.put_back(claim)
    }

    /// A job that has just left its place is gone.
    pub(crate) fn remove(&mut self, seq: i64) -> SqlResult<()> {
        self.conn.prepare_cached(sql::JOB_REMOVE)?.execute([seq])?;
        Ok(())
    }
}
