//! Leases: one row per live consumer, with a counter that goes up while it lives.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use goose_core::broker::ConsumerOptions;
use rusqlite::{Connection, params};

use crate::error::SqlResult;
use crate::sql;
use crate::tx::Tx;

/// The claim numbers under a lease.
pub(crate) fn claims_of(lease_id: i64) -> (i64, i64) {
    (lease_id << 32, (lease_id << 32) | i64::from(u32::MAX))
}

/// Writes a new lease and returns its number, which was never used before.
pub(crate) fn add(tx: &Tx<'_>, options: &ConsumerOptions, lease: Duration) -> SqlResult<i64> {
    let queues: Vec<&str> = options.queues.names().map(goose_core::QueueName::as_str).collect();
    let millis = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    let worker = &options.worker;
    tx.conn.prepare_cached(sql::LEASE_ADD)?.execute(params![
        worker.id.as_bytes(),
        worker.host,
        worker.pid,
        // No queue name has a space in it.
        queues.join(" "),
        tx.now.as_millis(),
        millis
    ])?;
    Ok(tx.conn.last_insert_rowid())
}

/// Says "alive". `false` when the lease was lost.
pub(crate) fn beat(tx: &Tx<'_>, lease_id: i64) -> SqlResult<bool> {
    Ok(tx.conn.prepare_cached(sql::LEASE_BEAT)?.execute([lease_id])? == 1)
}

/// Ends a lease in good order: it goes at once, or, while jobs are still running under it, when they are recovered.
pub(crate) fn end(tx: &Tx<'_>, lease_id: i64) -> SqlResult<()> {
    let statement = if has_claims(tx, lease_id)? { sql::LEASE_STOP } else { sql::LEASE_REMOVE };
    tx.conn.prepare_cached(statement)?.execute([lease_id])?;
    Ok(())
}

pub(crate) fn has_claims(tx: &Tx<'_>, lease_id: i64) -> SqlResult<bool> {
    let (first, last) = claims_of(lease_id);
    tx.conn.prepare_cached(sql::ANY_CLAIM_OF)?.exists([first, last])
}

/// A lease as an observer reads it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    pub(crate) beats: i64,
    pub(crate) duration: Duration,
    /// See the schema: from 2 on it is condemned.
    pub(crate) state: i64,
}

impl Lease {
    pub(crate) fn is_condemned(self) -> bool {
        self.state >= 2
    }

    pub(crate) fn all(conn: &Connection) -> SqlResult<Vec<Self>> {
        conn.prepare_cached(sql::LEASES)?.query_map([], Self::read)?.collect()
    }

    fn read(row: &rusqlite::Row<'_>) -> SqlResult<Self> {
        let millis: i64 = row.get(2)?;
        Ok(Self {
            id: row.get(0)?,
            beats: row.get(1)?,
            duration: Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)),
            state: row.get(3)?,
        })
    }
}

/// What one process has seen of the others' leases, on its own monotonic clock.
///
/// A lease counts as dead when its counter has not moved for as long as the lease lasts *while this process was
/// watching*. When the process itself was stopped, or the file was locked, or the machine slept, then the
/// others may have been kept from beating by the same thing: everything seen so far is forgotten and the time starts anew.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: HashMap<i64, (i64, Instant)>,
    last_look: Option<Instant>,
}

impl Watch {
    /// Takes a look at all leases; returns those that are dead and not condemned yet. `interval` is how often
    /// this is called.
    pub(crate) fn look(&mut self, leases: &[Lease], own: &[i64], now: Instant, interval: Duration) -> Vec<Lease> {
        let since_last = self.last_look.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        if since_last > interval * 5 / 2 {
            self.seen.clear();
        }
        self.last_look = Some(now);
        self.seen.retain(|id, _| leases.iter().any(|lease| lease.id == *id));
        let mut dead = Vec::new();
        for lease in leases.iter().filter(|lease| !lease.is_condemned() && !own.contains(&lease.id)) {
            let (beats, since) = self.seen.entry(lease.id).or_insert((lease.beats, now));
            if *beats != lease.beats {
                (*beats, *since) = (lease.beats, now);
            } else if now.saturating_duration_since(*since) >= lease.duration {
                dead.push(*lease);
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(id: i64, beats: i64) -> Lease {
        Lease { id, beats, duration: SECOND * 6, state: 0 }
    }

    #[test]
    fn a_silent_lease_is_dead_after_its_duration_and_a_beating_one_never() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        for tick in 0..20 {
            let dead = watch.look(&[lease(1, 5), lease(2, tick.into())], &[], start + SECOND * tick, SECOND);
            let dead: Vec<i64> = dead.iter().map(|lease| lease.id).collect();
            assert_eq!(dead, if tick < 6 { vec![] } else { vec![1] }, "after {tick} s");
        }
    }

    #[test]
    fn an_observer_that_was_stopped_starts_anew() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut look = |seconds| watch.look(&[lease(1, 5)], &[], start + SECOND * seconds, SECOND).len();
        assert_eq!([look(0), look(1), look(2)], [0, 0, 0]);
        // Asleep for a minute, with everyone else perhaps: the first look after that condemns nobody.
        assert_eq!([look(62), look(63), look(65), look(67)], [0, 0, 0, 0]);
        assert_eq!([look(68)], [1]);
    }

    #[test]
    fn own_and_condemned_leases_are_left_alone() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let condemned = Lease { state: 2, ..lease(2, 0) };
        for tick in 0..10 {
            assert!(watch.look(&[lease(1, 0), condemned], &[1], start + SECOND * tick, SECOND).is_empty());
        }
    }
}
