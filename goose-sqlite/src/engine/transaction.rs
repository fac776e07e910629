//! One transaction for everything that has gathered, and what follows from its commit.

use std::sync::Arc;

use goose_core::Event;

use super::Engine;
use crate::error::{SqlResult, translate};
use crate::fetch::claim;
use crate::session::Session;
use crate::tx::{Effects, News, Tx};
use crate::work::Work;

/// How a transaction failed.
pub(super) struct Failure {
    error: Arc<rusqlite::Error>,
    /// It did not even begin, so that trying its parts one by one is of no use.
    at_begin: bool,
}

impl Failure {
    pub(super) fn translated(&self) -> goose_core::Error {
        translate(&self.error)
    }
}

impl Engine {
    /// Does the work, claims for whoever waits, and answers everyone.
    pub(super) fn transact(&mut self, mut works: Vec<Box<dyn Work>>) {
        let claimable = self.find_claimable();
        if works.is_empty() && claimable.is_empty() {
            return;
        }
        match self.attempt(&mut works, &claimable) {
            Ok(()) => works.into_iter().for_each(|work| work.finish(Ok(()))),
            Err(failure) if failure.at_begin || works.len() + claimable.len() == 1 => {
                self.fail(works, &claimable, &failure);
            }
            // Somebody spoiled it for everyone: each alone now, so that only the guilty fail.
            Err(_) => {
                for work in works {
                    let mut alone = vec![work];
                    let outcome = self.attempt(&mut alone, &[]).map_err(|failure| failure.translated());
                    // There is exactly one; `finish` consumes it.
                    if let Some(work) = alone.pop() {
                        work.finish(outcome);
                    }
                }
                for session in &claimable {
                    if let Err(failure) = self.attempt(&mut [], &[Arc::clone(session)]) {
                        session.fail(failure.translated());
                    }
                }
            }
        }
        // A claim may have found less than the look before it promised: whoever still waits must know until when.
        self.look |= claimable.iter().any(|session| session.wanted() > 0);
    }

    fn fail(&self, works: Vec<Box<dyn Work>>, claimable: &[Arc<Session>], failure: &Failure) {
        works.into_iter().for_each(|work| work.finish(Err(failure.translated())));
        claimable.iter().for_each(|session| session.fail(failure.translated()));
    }

    fn attempt(&mut self, works: &mut [Box<dyn Work>], claimable: &[Arc<Session>]) -> Result<(), Failure> {
        let hungry: Vec<_> = self.hungry().cloned().collect();
        self.in_transaction(|tx| {
            for work in works.iter_mut() {
                work.run(tx)?;
            }
            // What was just enqueued can be claimed in the same transaction, by anyone who waits.
            let claimers = if tx.effects.jobs_moved { &hungry } else { claimable };
            for session in claimers {
                claim(tx, session)?;
            }
            Ok(())
        })
    }

    /// Runs a closure in a write transaction. When it is committed, its effects take place; when it fails,
    /// nothing has happened.
    pub(super) fn in_transaction<T>(&mut self, run: impl FnOnce(&mut Tx<'_>) -> SqlResult<T>) -> Result<T, Failure> {
        let failed = |error, at_begin| Failure { error: Arc::new(error), at_begin };
        let execute = |conn: &rusqlite::Connection, sql| conn.prepare_cached(sql)?.execute([]).map(drop);
        execute(&self.conn, "BEGIN IMMEDIATE").map_err(|error| failed(error, true))?;
        let mut tx = Tx::new(&self.conn, self.options.clock.now(), &mut self.names);
        let outcome = run(&mut tx).and_then(|value| {
            tx.counts.flush(&self.conn)?;
            execute(&self.conn, "COMMIT")?;
            Ok(value)
        });
        let effects = tx.effects;
        match outcome {
            Ok(value) => {
                self.apply(effects);
                Ok(value)
            }
            Err(error) => {
                // Some failures end the transaction by themselves.
                if !self.conn.is_autocommit() {
                    let _ = execute(&self.conn, "ROLLBACK");
                }
                self.names.forget();
                Err(failed(error, false))
            }
        }
    }

    fn apply(&mut self, effects: Effects) {
        for (session, deliveries) in effects.deliveries {
            session.deliver(deliveries);
        }
        for session in effects.lost {
            self.renew_lost_session(&session);
        }
        // Whoever still waits may have to wake earlier than was known.
        self.look |= effects.jobs_moved && self.hungry().next().is_some();
        for news in effects.news {
            self.tell(&news);
        }
    }

    /// Tells one observer of a session that serves the queue, or any: several pools of one worker share
    /// their observer, and an event is told once.
    fn tell(&self, news: &News) {
        let queue = match news {
            News::Recovered { queue, .. } | News::Died { queue, .. } => queue,
        };
        let serves = |session: &&Arc<Session>| session.options.queues.names().any(|name| name == queue);
        let Some(session) = self.sessions.iter().find(serves).or(self.sessions.first()) else { return };
        let event = match news {
            News::Recovered { id, queue, recoveries } => {
                tracing::warn!(job.id = %id, queue = %queue, recoveries, "recovered a job from a dead worker");
                Event::Recovered { id: *id, queue, recoveries: *recoveries }
            }
            News::Died { id, queue, job, reason } => {
                tracing::warn!(job.id = %id, queue = %queue, %reason, "buried a job");
                Event::Died { id: *id, queue, job: job.as_deref(), reason }
            }
        };
        session.options.observer.observe(&event);
    }
}
