//! Heartbeats, and watching those of others.
//!
//! Runs on the broker's own thread, so that handlers which block the worker's runtime do not hold it up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::bytes::Bytes;
use goose_core::broker::{DeathCause, DeathReason};
use goose_core::{Event, QueueName, Result, Timestamp};

use crate::broker::Inner;
use crate::connection::{Lane, Reply};
use crate::encoding::{self, Claim};
use crate::scripts::{BEAT, CHUNK, LATE, OPEN, RECOVER, SERVE, STOP};
use crate::session::Session;
use crate::settle;

/// How often a lease is renewed while it lasts.
const BEATS_PER_LEASE: u32 = 6;

/// How long others may take to connect again after an outage, at the longest.
const RECONNECTED: Duration = Duration::from_secs(2);

/// A session as others see it: its queue, its id, and the end of its lease.
type Sighting = (QueueName, Bytes, i64);

/// How many queues that we do not serve ourselves are watched in one round.
const FOREIGN: usize = 50;

/// What this process has seen of late sessions, on its own monotonic clock.
///
/// A session is dead when the end of its lease is past on the server's clock *and* has not moved during two
/// beats of ours. The second condition makes it immune to a server clock that jumps. When we were held up
/// ourselves, or the server was away, everybody's lease may be over: everything seen is forgotten then. And when that
/// took longer than a lease, everybody gets the time to connect again and to say that they live.
#[derive(Debug, Default)]
struct Watch {
    seen: HashMap<Sighting, Instant>,
    last_look: Option<Instant>,
    /// Nobody is dead before this.
    quiet_until: Option<Instant>,
    /// Where to go on among the queues of others, when there are more than fit into a round.
    position: usize,
}

impl Watch {
    /// Some of the queues, in turn.
    fn some_of<'q>(&mut self, queues: &[&'q QueueName]) -> Vec<&'q QueueName> {
        let start = if self.position < queues.len() { self.position } else { 0 };
        self.position = start + FOREIGN;
        queues.iter().cycle().skip(start).take(queues.len().min(FOREIGN)).copied().collect()
    }

    /// Takes a look at the late sessions; returns those that are dead.
    fn look(&mut self, late: Vec<Sighting>, now: Instant, lease: Duration) -> Vec<Sighting> {
        let interval = lease / BEATS_PER_LEASE;
        let since_last = self.last_look.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        if since_last > interval * 5 / 2 {
            self.seen.clear();
        }
        if since_last > lease {
            self.quiet_until = Some(now + lease.max(RECONNECTED));
        }
        self.last_look = Some(now);
        let is_quiet = self.quiet_until.is_some_and(|end| now < end);
        self.seen.retain(|sighting, _| late.contains(sighting));
        let is_dead = |sighting: &Sighting| {
            let since = *self.seen.entry(sighting.clone()).or_insert(now);
            // A little less than two intervals, for the looks are not exactly one apart.
            !is_quiet && now.saturating_duration_since(since) >= interval * 7 / 4
        };
        late.into_iter().filter(is_dead).collect()
    }
}

/// Opens a session on all its queues, under this identity.
pub(crate) async fn open(inner: &Inner, session: &Session, id: &str) -> Result<()> {
    let began = Instant::now();
    let description = description(session);
    let names = session.queues.iter().map(|(queue, _)| Bytes::from(queue.as_str().to_owned())).collect();
    inner.link.eval(Lane::Beat, &SERVE, vec![inner.names.served()], names).await?;
    for (_, keys) in &session.queues {
        let args = vec![id.to_owned().into(), millis(session.lease), description.clone()];
        let reply = inner.link.eval(Lane::Beat, &OPEN, vec![keys.leases.clone(), keys.claims(id)], args).await?;
        inner.clock.heard(Timestamp::from_millis(reply.into_int()?));
    }
    session.renew(began);
    Ok(())
}

/// Ends a session in good order on all its queues.
pub(crate) async fn close(inner: &Inner, session: &Session) -> Result<()> {
    let id = session.id();
    for (_, keys) in &session.queues {
        let args = vec![id.clone().into()];
        inner.link.eval(Lane::Beat, &STOP, vec![keys.leases.clone(), keys.claims(&id)], args).await?;
    }
    Ok(())
}

/// Beats until the session is over. Errors are reported and tried again, never the end of this task.
pub(crate) async fn serve(inner: Arc<Inner>, session: Arc<Session>) {
    let interval = session.lease / BEATS_PER_LEASE;
    let mut watch = Watch::default();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = session.over() => return,
            _ = ticks.tick() => {}
        }
        match round(&inner, &session, &mut watch).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cannot renew the lease of this process; will try again");
                inner.note_error(&error);
            }
        }
    }
}

async fn round(inner: &Arc<Inner>, session: &Arc<Session>, watch: &mut Watch) -> Result<()> {
    let (id, began) = (session.id(), Instant::now());
    let mut late: Vec<Sighting> = Vec::new();
    let mut alive = true;
    for (queue, keys) in &session.queues {
        let args = vec![id.clone().into(), millis(session.lease)];
        let reply = inner.link.eval(Lane::Beat, &BEAT, vec![keys.leases.clone(), keys.claims(&id)], args).await?;
        let mut fields = reply.into_array()?.into_iter();
        if let (Some(now), Some(is_alive)) = (fields.next(), fields.next()) {
            inner.clock.heard(Timestamp::from_millis(now.into_int()?));
            alive &= is_alive.into_int()? == 1;
        }
        read_late(queue, &id, fields, &mut late)?;
    }
    if alive {
        session.renew(began);
        reconcile(inner, session).await?;
    } else {
        inner.renew_lost(session, &id).await;
    }
    // Queues that nobody serves any more must not keep the jobs of their last, dead session.
    let foreign: Vec<QueueName> = inner.served_queues(Lane::Beat).await?;
    let foreign: Vec<&QueueName> =
        foreign.iter().filter(|name| session.queues.iter().all(|(own, _)| own != *name)).collect();
    for queue in watch.some_of(&foreign) {
        let keys = vec![inner.names.queue(queue).leases];
        let mut fields = inner.link.eval(Lane::Beat, &LATE, keys, Vec::new()).await?.into_array()?.into_iter();
        fields.next();
        read_late(queue, &id, fields, &mut late)?;
    }
    for dead in watch.look(late, Instant::now(), session.lease) {
        recover(inner, session, dead).await?;
    }
    Ok(())
}

/// Reads the rest of an answer: the late sessions of a queue, but for our own.
fn read_late(
    queue: &QueueName,
    own: &str,
    mut fields: impl Iterator<Item = Reply>,
    late: &mut Vec<Sighting>,
) -> Result<()> {
    while let (Some(other), Some(end)) = (fields.next(), fields.next()) {
        let other = other.into_bytes()?;
        if other != own.as_bytes() {
            late.push((queue.clone(), other, end.into_text()?.parse().unwrap_or(0)));
        }
    }
    Ok(())
}

/// Hands back what fetches claimed whose answer never came: nobody runs those jobs, and our own lease would keep them
/// claimed for ever.
async fn reconcile(inner: &Inner, session: &Session) -> Result<()> {
    let lost = session.lost_fetches();
    if lost.is_empty() {
        return Ok(());
    }
    let mut found = Vec::new();
    for (queue, key) in session.claims().into_iter().enumerate() {
        let mut fields =
            inner.link.command(Lane::Beat, "HGETALL", Some(key), Vec::new()).await?.into_array()?.into_iter();
        while let (Some(field), Some(token)) = (fields.next(), fields.next()) {
            let Ok(id) = encoding::id(&field.into_bytes()?) else { continue };
            if let Some(claim) = Claim::from_token(id, &token.into_text()?, queue)
                && lost.contains(&claim.fetch)
            {
                found.push(claim);
            }
        }
    }
    if !found.is_empty() {
        found.sort_by_key(|claim| (claim.fetch, claim.place));
        tracing::warn!(jobs = found.len(), "handed back jobs of a fetch whose answer was lost");
        settle::release(inner, session, &found).await?;
    }
    Ok(())
}

/// Takes the jobs of a dead session.
async fn recover(inner: &Inner, session: &Session, (queue, dead, end): Sighting) -> Result<()> {
    let (name, k) = (&queue, &inner.names.queue(&queue));
    let dead_id = String::from_utf8_lossy(&dead).into_owned();
    let claims = k.claims(&dead_id);
    let keys =
        [&k.leases, &claims, &k.ready, &k.scheduled, &k.dead, &k.epitaphs, &k.recoveries, &k.meta, &k.wake, &k.jobs];
    loop {
        let args = vec![
            dead.clone(),
            end.to_string().into(),
            inner.options.max_recoveries.to_string().into(),
            millis(session.lease),
            CHUNK.to_string().into(),
        ];
        let reply = inner.link.eval(Lane::Beat, &RECOVER, keys.map(Bytes::clone).to_vec(), args).await?;
        let mut fields = reply.into_array()?.into_iter();
        let state = fields.next().map_or(Ok(0), Reply::into_int)?;
        while let (Some(id), Some(recoveries), Some(buried)) = (fields.next(), fields.next(), fields.next()) {
            let id = encoding::id(&id.into_bytes()?)?;
            let recoveries = u32::try_from(recoveries.into_int()?).unwrap_or(u32::MAX);
            let buried = buried.into_int()? == 1;
            tracing::warn!(job.id = %id, queue = %name, recoveries, "recovered a job from a dead worker");
            let observer = &session.options.observer;
            observer.observe(&Event::Recovered { id, queue: name, recoveries });
            if buried {
                let words = format!("its worker died {recoveries} times in a row");
                let reason = DeathReason::new(DeathCause::Poison, words);
                let dead = inner.find_dead(name, id).await;
                let job = dead.as_ref().and_then(|dead| dead.job());
                observer.observe(&Event::Died { id, queue: name, job, reason: &reason });
            }
        }
        if state != 2 {
            return Ok(());
        }
    }
}

fn millis(duration: Duration) -> Bytes {
    duration.as_millis().to_string().into()
}

/// What others can read about a session: worker id, process, start, host; padded, see `open.lua`.
fn description(session: &Session) -> Bytes {
    let worker = &session.options.worker;
    let started = goose_core::Clock::now(&goose_core::SystemClock).as_millis();
    format!("{} {} {started} {:<64}", worker.id, worker.pid, worker.host).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(6);
    const BEAT: Duration = Duration::from_secs(1);

    fn late() -> Vec<Sighting> {
        vec![(QueueName::default(), Bytes::from_static(b"other"), 17)]
    }

    #[test]
    fn a_late_session_is_dead_when_two_beats_have_passed_without_a_word() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(watch.look(Vec::new(), start, LEASE).is_empty());
        assert!(watch.look(late(), start + BEAT, LEASE).is_empty());
        assert!(watch.look(late(), start + BEAT * 2, LEASE).is_empty());
        assert_eq!(watch.look(late(), start + BEAT * 3, LEASE), late());
        // It moved: that was a beat.
        let moved = vec![(QueueName::default(), Bytes::from_static(b"other"), 18)];
        assert!(watch.look(moved, start + BEAT * 4, LEASE).is_empty());
    }

    /// When a server comes back, some connect again a little before the others.
    #[test]
    fn after_an_outage_of_a_lease_nobody_is_dead_for_another() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(watch.look(Vec::new(), start, LEASE).is_empty());
        let back = start + LEASE * 2;
        for beat in 0..6 {
            assert!(watch.look(late(), back + BEAT * beat, LEASE).is_empty(), "{beat}");
        }
        assert_eq!(watch.look(late(), back + LEASE, LEASE), late());
        // Short leases do not make connecting quicker.
        let (mut watch, lease) = (Watch::default(), LEASE / 60);
        assert!(watch.look(Vec::new(), start, lease).is_empty());
        for step in 0..100 {
            assert!(watch.look(late(), back + lease * step / 6, lease).is_empty(), "{step}");
        }
    }
}
