//! One transaction for everything that has gathered, and what follows from its commit.

use std::sync::Arc;

use goose_core::{Error, ErrorKind, Event};

use super::Engine;
use crate::error::{SqlResult, translate};
use crate::fetch::claim;
use crate::session::Session;
use crate::tx::{Effects, News, Tx};
use crate::work::Work;

/// How a transaction failed.
pub(super) struct Failure {
    error: Arc<rusqlite::Error>,
    at: Step,
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// It did not even begin, so that trying its parts one by one is of no use.
    Begin,
    Run,
    Commit,
}

impl Failure {
    pub(super) fn translated(&self) -> Error {
        let error = translate(&self.error);
        if self.at == Step::Commit && error.kind() == ErrorKind::Unavailable {
            // The disk failed after the data was handed to it: it may be there, or come back after a crash.
            return Error::new(ErrorKind::OutcomeUnknown, "the disk failed while it stored a transaction")
                .with_source(error);
        }
        error
    }
}

/// Who claims in a transaction, once its work is done.
#[derive(Clone, Copy)]
enum Claimers<'a> {
    Nobody,
    These(&'a [Arc<Session>]),
    /// These, and if the work made jobs claimable, whoever else waits.
    Waiting(&'a [Arc<Session>]),
}

impl Engine {
    /// Does the work, claims for whoever waits, and answers everyone.
    pub(super) fn transact(&mut self, mut works: Vec<Box<dyn Work>>) {
        let claimable = self.find_claimable();
        if works.is_empty() && claimable.is_empty() {
            return;
        }
        self.others.is_busy();
        match self.attempt(&mut works, Claimers::Waiting(&claimable)) {
            Ok(()) => works.into_iter().for_each(|work| work.finish(Ok(()))),
            Err(failure) if failure.at == Step::Begin => {
                works.into_iter().for_each(|work| work.finish(Err(failure.translated())));
                claimable.iter().for_each(|session| session.fail(failure.translated()));
            }
            // Somebody spoiled it for everyone: each alone now, so that only the guilty fail.
            Err(_) => self.one_by_one(works),
        }
        // A claim may have found less than the look before it promised: whoever still waits must know until when.
        self.look |= claimable.iter().any(|session| session.wanted() > 0);
    }

    fn one_by_one(&mut self, works: Vec<Box<dyn Work>>) {
        for work in works {
            let mut alone = [work];
            let outcome = self.attempt(&mut alone, Claimers::Nobody).map_err(|failure| failure.translated());
            let [work] = alone;
            work.finish(outcome);
        }
        let hungry: Vec<_> = self.hungry().cloned().collect();
        for session in hungry {
            if let Err(failure) = self.attempt(&mut [], Claimers::These(&[Arc::clone(&session)])) {
                session.fail(failure.translated());
            }
        }
    }

    fn attempt(&mut self, works: &mut [Box<dyn Work>], claimers: Claimers<'_>) -> Result<(), Failure> {
        let hungry: Vec<_> = self.hungry().cloned().collect();
        self.in_transaction(|tx| {
            for work in works.iter_mut() {
                work.run(tx)?;
            }
            let claimers = match claimers {
                Claimers::Nobody => &[][..],
                // What was just enqueued can be claimed in the same transaction.
                Claimers::Waiting(_) if tx.effects.jobs_moved => &hungry,
                Claimers::Waiting(sessions) | Claimers::These(sessions) => sessions,
            };
            claimers.iter().try_for_each(|session| claim(tx, session))
        })
    }

    /// Does work that only reads, beside whoever is writing.
    pub(super) fn read(&mut self, work: Box<dyn Work>) {
        let mut work = work;
        let outcome = self.in_read_transaction(|tx| work.run(tx));
        work.finish(outcome.map_err(|failure| failure.translated()));
    }

    /// Runs a closure in a write transaction. When it is committed, its effects take place; when it fails,
    /// nothing has happened.
    pub(super) fn in_transaction<T>(&mut self, run: impl FnOnce(&mut Tx<'_>) -> SqlResult<T>) -> Result<T, Failure> {
        self.in_transaction_that("BEGIN IMMEDIATE", run)
    }

    /// The same for a closure that only reads.
    pub(super) fn in_read_transaction<T>(
        &mut self,
        run: impl FnOnce(&mut Tx<'_>) -> SqlResult<T>,
    ) -> Result<T, Failure> {
        self.in_transaction_that("BEGIN", run)
    }

    fn in_transaction_that<T>(
        &mut self,
        begins: &str,
        run: impl FnOnce(&mut Tx<'_>) -> SqlResult<T>,
    ) -> Result<T, Failure> {
        let failed = |error, at| Failure { error: Arc::new(error), at };
        let execute = |conn: &rusqlite::Connection, sql: &str| conn.prepare_cached(sql)?.execute([]).map(drop);
        execute(&self.conn, begins).map_err(|error| failed(error, Step::Begin))?;
        let mut tx = Tx::new(&self.conn, &self.options, &mut self.names);
        let done = run(&mut tx).and_then(|value| tx.counts.flush(&self.conn).map(|()| value));
        let effects = tx.effects;
        let outcome = match done {
            Ok(value) => execute(&self.conn, "COMMIT").map(|()| value).map_err(|error| failed(error, Step::Commit)),
            Err(error) => Err(failed(error, Step::Run)),
        };
        match outcome {
            Ok(value) => {
                self.apply(effects);
                Ok(value)
            }
            Err(failure) => {
                // Some failures end the transaction by themselves.
                if !self.conn.is_autocommit() {
                    let _ = execute(&self.conn, "ROLLBACK");
                }
                self.names.forget();
                Err(failure)
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

    /// Tells one observer (who also writes the log) of a session that serves the queue, or any: several pools of one worker share
    /// their observer, and an event is told once.
    fn tell(&self, news: &News) {
        let queue = match news {
            News::Recovered { queue, .. } | News::Died { queue, .. } => queue,
        };
        let serves = |session: &&Arc<Session>| session.options.queues.names().any(|name| name == queue);
        let Some(session) = self.sessions.iter().find(serves).or(self.sessions.first()) else { return };
        let event = match news {
            News::Recovered { id, queue, recoveries } => Event::Recovered { id: *id, queue, recoveries: *recoveries },
            News::Died { id, queue, job, reason } => Event::Died { id: *id, queue, job: job.as_deref(), reason },
        };
        session.options.observer.observe(&event);
    }
}
