//! Taking the jobs of dead sessions, and burying those that seem to kill their workers.

use std::time::Duration;

use goose_core::Job;
use goose_core::broker::{DeathCause, DeathReason};
use rusqlite::params;

use crate::encoding::{Claim, Row, kind};
use crate::error::SqlResult;
use crate::lease::{Lease, claims_of};
use crate::places::Target;
use crate::sql;
use crate::tx::{News, Tx};

/// The most jobs one transaction recovers.
const CHUNK: usize = 500;

/// Declares a lease dead, unless its owner has beaten meanwhile or somebody else was faster. From then on its
/// owner cannot claim anything under it.
pub(crate) fn condemn(tx: &Tx<'_>, lease: Lease) -> SqlResult<bool> {
    Ok(tx.conn.prepare_cached(sql::LEASE_CONDEMN)?.execute([lease.id, lease.beats])? == 1)
}

/// Recovers some jobs of a condemned lease; removes the lease and returns `true` when none is left.
pub(crate) fn recover(tx: &mut Tx<'_>, lease: Lease, max_recoveries: u32) -> SqlResult<bool> {
    let (first, last) = claims_of(lease.id);
    let claims: Vec<(i64, Row)> = {
        let limit = i64::try_from(CHUNK).unwrap_or(i64::MAX);
        let mut statement = tx.conn.prepare_cached(sql::CLAIMS_OF)?;
        let rows =
            statement.query_map(params![first, last, limit], |row| Ok((row.get(0)?, Row::read_from(row, 1)?)))?;
        rows.collect::<SqlResult<_>>()?
    };
    let finished = claims.len() < CHUNK;
    // Jobs whose owner had stopped in good order (state 3) did not kill it.
    let crashed = lease.state % 2 == 0;
    let mut suspects = 0;
    for (number, row) in claims {
        let claim = Claim { seq: row.seq, number, queue: row.queue };
        if tx.leave_claimed(claim)? {
            recover_one(tx, claim, &row, crashed, max_recoveries, lease.duration, &mut suspects)?;
        }
    }
    if finished {
        tx.conn.prepare_cached(sql::LEASE_REMOVE)?.execute([lease.id])?;
    }
    Ok(finished)
}

/// How often in a row a job's worker must have died for it to be suspected of being the cause.
pub(crate) const SUSPECT: u32 = 2;

/// How far apart suspects are kept, the `n`th (from 0) of many: so far that one which kills its worker takes none of
/// the others along, and not so far that the last of a thousand innocent ones waits for more than a minute.
pub(crate) fn apart(lease: Duration, n: u32, many: usize) -> Duration {
    let many = u32::try_from(many).unwrap_or(u32::MAX).max(1);
    (lease / 2).min(Duration::from_secs(60) / many).saturating_mul(n)
}

fn recover_one(
    tx: &mut Tx<'_>,
    claim: Claim,
    row: &Row,
    crashed: bool,
    max_recoveries: u32,
    lease: Duration,
    suspects: &mut u32,
) -> SqlResult<()> {
    let recoveries = row.recoveries.saturating_add(u32::from(crashed));
    tx.counts.queue(row.queue).recovered += 1;
    let queue = tx.names.name(tx.conn, row.queue)?;
    tx.effects.news.push(News::Recovered { id: row.id, queue, recoveries });
    if recoveries > max_recoveries {
        let reason = DeathReason::new(DeathCause::Poison, format!("its worker died {recoveries} times in a row"));
        let mut row = row.clone();
        row.recoveries = recoveries;
        return bury(tx, &row, reason, row.job().ok());
    }
    if recoveries < SUSPECT {
        return tx.put_back_crashed(claim, recoveries);
    }
    // A job that has killed two workers waits before it meets the next one, so that a poison job cannot take down
    // a fleet in a row; and it comes back apart from the others that were around, who are innocent but for one.
    let pause = lease.saturating_mul(recoveries - 1).min(Duration::from_secs(300));
    let pause = pause.saturating_add(apart(lease, *suspects, CHUNK));
    *suspects += 1;
    let target = Target::Scheduled { at: tx.after(pause), kind: kind::RECOVERED };
    tx.move_to(row.seq, row.queue, recoveries, target)
}

/// Puts a job that has just left its place among the dead, without a worker's word: its record stays as it
/// was. A job that is to skip the dead queue is dropped.
pub(crate) fn bury(tx: &mut Tx<'_>, row: &Row, reason: DeathReason, job: Option<Job>) -> SqlResult<()> {
    let queue = tx.names.name(tx.conn, row.queue)?;
    let sums = tx.counts.queue(row.queue);
    if job.as_ref().is_some_and(|job| job.retry.skip_dead_queue) {
        sums.discarded += 1;
        tx.remove(row.seq)?;
    } else {
        sums.died += 1;
        let target = Target::Dead { at: tx.now, rank: tx.death_rank()?, reason: &reason };
        tx.move_to(row.seq, row.queue, row.recoveries, target)?;
    }
    tx.effects.news.push(News::Died { id: row.id, queue, job: job.map(Box::new), reason });
    Ok(())
}
