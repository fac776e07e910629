//! Changes to the counters of queues, gathered over a transaction and written once per queue at its end.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::error::SqlResult;
use crate::sql;

/// The state of a job: which of the four tables names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Scheduled,
    Claimed,
    Dead,
}

/// What a transaction changed, per queue.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<i64, Change>);

/// The changes to one queue's row.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Change {
    ready: i64,
    scheduled: i64,
    claimed: i64,
    dead: i64,
    pub(crate) enqueued: i64,
    pub(crate) succeeded: i64,
    pub(crate) failed: i64,
    pub(crate) died: i64,
    pub(crate) discarded: i64,
    pub(crate) recovered: i64,
}

impl Counts {
    /// A job entered or left a state, or `n` of them.
    pub(crate) fn add(&mut self, queue: i64, state: State, n: i64) {
        let change = self.queue(queue);
        match state {
            State::Ready => change.ready += n,
            State::Scheduled => change.scheduled += n,
            State::Claimed => change.claimed += n,
            State::Dead => change.dead += n,
        }
    }

    /// The changes of one queue, for the sums.
    pub(crate) fn queue(&mut self, queue: i64) -> &mut Change {
        self.0.entry(queue).or_default()
    }

    /// Writes what was gathered.
    pub(crate) fn flush(&mut self, conn: &Connection) -> SqlResult<()> {
        let mut update = conn.prepare_cached(sql::QUEUE_COUNT)?;
        for (queue, c) in std::mem::take(&mut self.0) {
            update.execute(params![
                queue,
                c.ready,
                c.scheduled,
                c.claimed,
                c.dead,
                c.enqueued,
                c.succeeded,
                c.failed,
                c.died,
                c.discarded,
                c.recovered
            ])?;
        }
        Ok(())
    }
}
