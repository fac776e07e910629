//! Claiming jobs for a session.

use std::sync::Arc;

use goose_core::Timestamp;
use goose_core::broker::{DeathCause, DeathReason, Delivery};
use rusqlite::{Connection, OptionalExtension, params};

use crate::counts::State;
use crate::encoding::{Claim, Row, kind};
use crate::error::SqlResult;
use crate::names::Names;
use crate::places::Target;
use crate::recover::{SUSPECT, apart, bury};
use crate::session::Session;
use crate::sql;
use crate::tx::Tx;

/// The most jobs one transaction claims for one session.
pub(crate) const MOST: usize = 1000;

/// What a look without claiming found.
pub(crate) enum Peek {
    /// There is something to claim.
    Ready,
    /// Nothing before this time, as far as is known.
    NothingBefore(Option<Timestamp>),
}

/// Looks whether a session could claim anything: a read, so that an idle worker never takes the write lock.
pub(crate) fn peek(conn: &Connection, names: &mut Names, session: &Session, now: Timestamp) -> SqlResult<Peek> {
    let mut next: Option<Timestamp> = None;
    for name in session.options.queues.names() {
        let Some(queue) = names.known_id(conn, name)? else { continue };
        if is_paused(conn, queue)? {
            continue;
        }
        if conn.prepare_cached(sql::ANY_READY)?.exists([queue])? {
            return Ok(Peek::Ready);
        }
        let due = conn.prepare_cached(sql::NEXT_DUE)?.query_row([queue], |row| row.get(0)).optional()?;
        if let Some(due) = due.map(Timestamp::from_millis) {
            if due <= now {
                return Ok(Peek::Ready);
            }
            next = Some(next.map_or(due, |next| next.min(due)));
        }
    }
    Ok(Peek::NothingBefore(next))
}

/// Claims up to what the session wants. Its jobs become its own when the transaction commits.
pub(crate) fn claim(tx: &mut Tx<'_>, session: &Arc<Session>) -> SqlResult<()> {
    let wanted = session.wanted().min(MOST);
    if wanted == 0 {
        return Ok(());
    }
    let lease = session.lease_id();
    if !tx.conn.prepare_cached(sql::LEASE_IS_LIVE)?.exists([lease])? {
        tx.effects.lost.push(Arc::clone(session));
        return Ok(());
    }
    let mut claimed = Vec::with_capacity(wanted);
    let quotas = session.shares(wanted);
    let mut queues = Vec::with_capacity(quotas.len());
    for (name, quota) in session.options.queues.names().zip(quotas) {
        let queue = tx.names.id(tx.conn, name)?;
        if !is_paused(tx.conn, queue)? {
            queues.push(queue);
            take(tx, session, queue, quota.min(wanted - claimed.len()), &mut claimed)?;
        }
    }
    // What some queues left unused goes to the others.
    for queue in queues.into_iter().take_while(|_| !session.options.queues.is_strict()) {
        take(tx, session, queue, wanted - claimed.len(), &mut claimed)?;
    }
    if !claimed.is_empty() {
        tx.effects.deliveries.push((Arc::clone(session), claimed));
    }
    Ok(())
}

fn is_paused(conn: &Connection, queue: i64) -> SqlResult<bool> {
    conn.prepare_cached(sql::QUEUE_IS_PAUSED)?.exists([queue])
}

/// Claims up to `n` jobs of one queue: those whose time has come first, then those in line.
fn take(tx: &mut Tx<'_>, session: &Session, queue: i64, n: usize, claimed: &mut Vec<Delivery>) -> SqlResult<()> {
    let limit = |taken: usize| i64::try_from(n - taken.min(n)).unwrap_or(i64::MAX);
    if n == 0 {
        return Ok(());
    }
    let due = rows(tx, sql::DUE, params![queue, tx.now.as_millis(), limit(0)])?;
    if let Some(last) = due.last() {
        // What was read is the beginning of the line, and nobody else can write now: one statement removes it all.
        let end = params![queue, last.at.as_millis(), last.seq];
        tx.conn.prepare_cached(sql::SCHEDULED_REMOVE_TO)?.execute(end)?;
        tx.counts.add(queue, State::Scheduled, -count(&due));
    }
    let due = keep_apart(tx, session, due)?;
    let ready = rows(tx, sql::READY, params![queue, limit(due.len())])?;
    if let Some(last) = ready.last() {
        tx.conn.prepare_cached(sql::READY_REMOVE_TO)?.execute(params![queue, last.rank, last.seq])?;
        tx.counts.add(queue, State::Ready, -count(&ready));
    }
    if due.is_empty() && ready.is_empty() {
        drop_orphans(tx, queue)?;
    }
    for row in due.into_iter().chain(ready) {
        match row.job() {
            Ok(job) => {
                let claim = Claim { seq: row.seq, number: session.next_claim(), queue };
                tx.conn.prepare_cached(sql::CLAIMED_ADD)?.execute([claim.number, claim.seq, claim.queue])?;
                tx.counts.add(queue, State::Claimed, 1);
                let mut delivery = Delivery::new(job, claim.receipt(), row.at, tx.now);
                delivery.recoveries = row.recoveries;
                claimed.push(delivery);
            }
            Err(error) => {
                let reason = DeathReason::new(DeathCause::Undecodable, format!("{error:#}"));
                bury(tx, &row, reason, None)?;
            }
        }
    }
    Ok(())
}

/// Lets one suspect of several pass; the others come back later, one after another. However long nobody was there to
/// claim them, they are not claimed together.
fn keep_apart(tx: &mut Tx<'_>, session: &Session, due: Vec<Row>) -> SqlResult<Vec<Row>> {
    let suspects = due.iter().filter(|row| row.recoveries >= SUSPECT).count();
    if suspects < 2 {
        return Ok(due);
    }
    let (mut passed, mut kept_back) = (Vec::with_capacity(due.len()), 0);
    let mut first = true;
    for row in due {
        if row.recoveries < SUSPECT || std::mem::take(&mut first) {
            passed.push(row);
        } else {
            kept_back += 1;
            let at = tx.after(apart(session.lease, kept_back, suspects));
            tx.move_to(row.seq, row.queue, row.recoveries, Target::Scheduled { at, kind: kind::RECOVERED })?;
        }
    }
    Ok(passed)
}

/// Nothing could be claimed from this queue. If it says that something stands there, the file is damaged: the keys
/// name jobs that do not exist, and would make everybody look for them for ever.
fn drop_orphans(tx: &mut Tx<'_>, queue: i64) -> SqlResult<()> {
    let ready = tx.conn.prepare_cached(sql::READY_CLEAR)?.execute([queue])?;
    let due = tx.conn.prepare_cached(sql::DUE_CLEAR)?.execute([queue, tx.now.as_millis()])?;
    if ready + due > 0 {
        tracing::error!(ready, due, "the database named jobs that do not exist; was it edited by hand?");
        tx.counts.add(queue, State::Ready, -i64::try_from(ready).unwrap_or(0));
        tx.counts.add(queue, State::Scheduled, -i64::try_from(due).unwrap_or(0));
    }
    Ok(())
}

fn rows(tx: &Tx<'_>, statement: &str, parameters: impl rusqlite::Params) -> SqlResult<Vec<Row>> {
    tx.conn.prepare_cached(statement)?.query_map(parameters, Row::read)?.collect()
}

fn count(rows: &[Row]) -> i64 {
    i64::try_from(rows.len()).unwrap_or(i64::MAX)
}
