//! What the thread does on its own: sessions, heartbeats, recovery, the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::ConsumerOptions;
use goose_core::{Error, ErrorKind, Result};

use super::Engine;
use crate::encoding::Claim;
use crate::lease::{self, Lease};
use crate::recover::{condemn, recover};
use crate::session::Session;

/// How often a lease is renewed while it lasts.
const BEATS_PER_LEASE: u32 = 6;

impl Engine {
    pub(super) fn open_session(&mut self, options: ConsumerOptions) -> Result<Arc<Session>> {
        let (began, lease) = (Instant::now(), self.options.lease);
        let added = self.in_transaction(|tx| lease::add(tx, &options, lease));
        let lease_id = added.map_err(|failure| failure.translated())?;
        let session = Arc::new(Session::new(options, lease, lease_id, began));
        self.sessions.push(Arc::clone(&session));
        self.next_beat.get_or_insert(began + self.beat_interval());
        Ok(session)
    }

    /// Hands back what was claimed and not fetched, and ends the lease.
    pub(super) fn stop_session(&mut self, session: &Arc<Session>) -> Result<()> {
        let buffered = session.stop();
        let known = self.sessions.iter().position(|other| Arc::ptr_eq(other, session));
        let Some(position) = known.filter(|_| !self.abandoned) else { return Ok(()) };
        self.sessions.remove(position);
        if self.sessions.is_empty() {
            self.next_beat = None;
        }
        let claims: Vec<Claim> = buffered.iter().map(|delivery| Claim::of(&delivery.receipt)).collect();
        let ended = self.in_transaction(|tx| {
            for claim in &claims {
                if tx.leave_claimed(*claim)? {
                    tx.put_back(*claim)?;
                }
            }
            session.leases().into_iter().try_for_each(|lease_id| lease::end(tx, lease_id))
        });
        // When this fails, the lease ends by itself and the jobs are recovered.
        ended.map_err(|failure| failure.translated())
    }

    /// Beats, and watches others beat, when it is time to.
    pub(super) fn duties(&mut self) {
        self.notice_lost_file();
        let now = Instant::now();
        let beat_is_due = self.next_beat.is_some_and(|due| due <= now);
        if self.abandoned || (!beat_is_due && !self.unfinished_recovery) {
            return;
        }
        if beat_is_due {
            self.next_beat = Some(now + self.beat_interval());
            self.beat();
        }
        self.recover_dead();
    }

    fn notice_lost_file(&mut self) {
        let Some(path) = self.file.find_lost() else { return };
        let words = "the database file was deleted or replaced while it is open: what this process stores is gone when it \
                     ends; stop every process that has it open, put the file back, and start them again";
        tracing::warn!(path = %path.display(), "{words}");
        self.pulse.note_error(&Error::new(ErrorKind::Misconfigured, words));
    }

    fn beat_interval(&self) -> Duration {
        self.options.lease / BEATS_PER_LEASE
    }

    /// Renews the leases of all sessions.
    fn beat(&mut self) {
        let sessions = self.sessions.clone();
        let began = Instant::now();
        let beaten = self.in_transaction(|tx| {
            let mut alive = Vec::new();
            for session in &sessions {
                let mut leases = session.leases().into_iter();
                let current = leases.next().unwrap_or_default();
                alive.push(lease::beat(tx, current)?);
                for retired in leases {
                    let in_use = lease::has_claims(tx, retired)? && lease::beat(tx, retired)?;
                    if !in_use {
                        lease::end(tx, retired)?;
                        session.drop_retired(retired);
                    }
                }
            }
            Ok(alive)
        });
        match beaten {
            Ok(alive) => {
                for (session, alive) in sessions.iter().zip(alive) {
                    if !alive {
                        self.renew_lost_session(session);
                    } else {
                        session.renew(began);
                        if session.needs_new_lease() {
                            self.roll_over(session);
                        }
                    }
                }
            }
            Err(failure) => {
                let error = failure.translated();
                tracing::error!(
                    error = format!("{error:#}"),
                    "cannot renew the leases of this process; will try again"
                );
                self.pulse.note_error(&error);
            }
        }
    }

    /// A session was found dead while this process was stopped or cut off: others have its jobs. It goes on
    /// under a new lease, and nothing it held counts any more.
    pub(super) fn renew_lost_session(&mut self, session: &Arc<Session>) {
        if session.is_stopped() {
            return;
        }
        let (began, lease) = (Instant::now(), self.options.lease);
        tracing::warn!(silent_for = ?session.last_renewal(), "lost the claims of this process: its lease was not renewed in time");
        match self.in_transaction(|tx| lease::add(tx, &session.options, lease)) {
            Ok(lease_id) => {
                session.start_over(lease_id, began);
                self.look = true;
            }
            // The next heartbeat finds the old lease gone again, and comes back here.
            Err(failure) => session.fail(failure.translated()),
        }
    }

    fn roll_over(&mut self, session: &Arc<Session>) {
        let lease = self.options.lease;
        match self.in_transaction(|tx| lease::add(tx, &session.options, lease)) {
            Ok(lease_id) => session.roll_over(lease_id),
            Err(failure) => self.pulse.note_error(&failure.translated()),
        }
    }

    /// Takes the jobs of sessions that are dead, some at a time.
    fn recover_dead(&mut self) {
        let own: Vec<i64> = self.sessions.iter().flat_map(|session| session.leases()).collect();
        let Ok(leases) = Lease::all(&self.conn) else {
            // The beat that failed beside this has reported why.
            return;
        };
        let dead = self.watch.look(&leases, &own, Instant::now(), self.beat_interval());
        let max_recoveries = self.options.max_recoveries;
        self.unfinished_recovery = false;
        for lease in dead.into_iter().chain(leases.into_iter().filter(|lease| lease.is_condemned())) {
            let recovered = self.in_transaction(|tx| {
                let mine = lease.is_condemned() || condemn(tx, lease)?;
                if mine { recover(tx, lease, max_recoveries) } else { Ok(true) }
            });
            match recovered {
                Ok(finished) => self.unfinished_recovery |= !finished,
                Err(failure) => self.pulse.note_error(&failure.translated()),
            }
        }
    }

    /// Ends in good order: sessions hand back, waiting fetches are told.
    pub(super) fn close(&mut self) {
        for session in self.sessions.clone() {
            if let Err(error) = self.stop_session(&session) {
                tracing::warn!(error = format!("{error:#}"), "cannot hand back jobs; they will be recovered");
            }
        }
    }
}
