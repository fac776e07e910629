//! Heartbeats, and watching those of others.
//!
//! Runs on the broker's own thread, so that handlers which block the worker's runtime do not hold it up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::bytes::Bytes;
use goose_core::broker::{DeathCause, DeathReason};
use goose_core::{Error, ErrorKind, Event, QueueName, Result, Timestamp};

use crate::broker::Inner;
use crate::connection::{Lane, Reply};
use crate::encoding::{self, Claim};
use crate::scripts::{BEAT, CHUNK, LATE, OPEN, RECOVER, SERVE, STOP};
use crate::session::Session;
use crate::settle;
use crate::together::together;

/// How often a lease is renewed while it lasts.
const BEATS_PER_LEASE: u32 = 6;

/// How long others may take to connect again after an outage, at the longest.
const RECONNECTED: Duration = Duration::from_secs(2);

/// A session as others see it: its queue, its id, and the end of its lease.
type Sighting = (QueueName, Bytes, i64);

/// The most late sessions of one answer, as `beat.lua` has it, and how few more are not worth another call.
const PAGE: i64 = 1000;
const FEW: i64 = 50;

/// How many dead sessions are taken over at the same time.
const AT_ONCE: usize = 25;

/// How many queues of others are looked at in one turn, and how many beats pass between turns. Nobody is in a hurry
/// there: jobs wait only where nobody works. But all workers look, so each must look at little.
const OTHERS: usize = 10;
const BEATS_PER_TURN: u32 = 10;

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
    /// Beats since the last turn among the queues of others.
    beats: u32,
    /// Where to go on among them.
    position: usize,
    /// Those in which somebody is late: looked at with every beat until nobody is.
    suspects: Vec<QueueName>,
}

impl Watch {
    /// Starts its turns at a place of its own, so that not all workers look at the same queues.
    fn new(seed: usize) -> Self {
        Self { position: seed, ..Self::default() }
    }

    /// Whether it is time for a turn; the first beat is one.
    fn is_turn(&mut self) -> bool {
        let is_turn = self.beats.is_multiple_of(BEATS_PER_TURN);
        self.beats = self.beats.wrapping_add(1);
        is_turn
    }

    /// Adds some of the queues, in turn, to those to look at.
    fn suspect_some_of(&mut self, queues: &[QueueName]) {
        let Some(start) = self.position.checked_rem(queues.len()) else { return };
        self.position = start + OTHERS;
        for queue in queues.iter().cycle().skip(start).take(queues.len().min(OTHERS)) {
            if !self.suspects.contains(queue) {
                self.suspects.push(queue.clone());
            }
        }
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
        // Many may be late at once, when a whole data centre is gone.
        let still_late: HashSet<&Sighting> = late.iter().collect();
        self.seen.retain(|sighting, _| still_late.contains(sighting));
        self.suspects.retain(|queue| late.iter().any(|(name, _, _)| name == queue));
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
    // All queues at once, here and below: one after the other would take as many round trips, and a slow link with many
    // queues more time than a lease lasts.
    let opens = session.queues.iter().map(|(_, keys)| {
        let args = vec![id.to_owned().into(), millis(session.lease), description.clone()];
        inner.link.eval(Lane::Beat, &OPEN, vec![keys.leases.clone(), keys.claims(id)], args)
    });
    for reply in together(opens).await {
        inner.clock.heard(Timestamp::from_millis(reply?.into_int()?));
    }
    session.renew(began);
    Ok(())
}

/// Ends a session in good order on all its queues, and wakes somebody else where there is something to do: the marker may
/// have woken us last.
pub(crate) async fn close(inner: &Arc<Inner>, session: &Arc<Session>) -> Result<()> {
    let id = session.id();
    let stops = session.queues.iter().map(|(_, keys)| {
        let claims = keys.claims(&id);
        let keys = [&keys.leases, &claims, &keys.ready, &keys.scheduled, &keys.wake, &keys.meta];
        let keys = keys.map(Bytes::clone).to_vec();
        inner.link.eval(Lane::Beat, &STOP, keys, vec![id.clone().into()])
    });
    together(stops).await.into_iter().try_for_each(|reply| reply.map(drop))
}

/// Beats until the session is over. Errors are reported and tried again, never the end of this task.
pub(crate) async fn serve(inner: Arc<Inner>, session: Arc<Session>) {
    let interval = session.lease / BEATS_PER_LEASE;
    // The end of an id is random, in hexadecimal.
    let id = session.id();
    let seed = id.get(id.len().saturating_sub(4)..).and_then(|end| usize::from_str_radix(end, 16).ok());
    let mut watch = Watch::new(seed.unwrap_or(0));
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
    let (mut alive, mut trouble) = (true, None);
    let beats = session.queues.iter().map(|(_, keys)| {
        let args = vec![id.clone().into(), millis(session.lease)];
        inner.link.eval(Lane::Beat, &BEAT, vec![keys.leases.clone(), keys.claims(&id)], args)
    });
    let mut further = Vec::new();
    for ((queue, _), answer) in session.queues.iter().zip(together(beats).await) {
        match answer.and_then(|reply| read_beat(inner, queue, &id, reply, &mut late)) {
            Ok(beat) => {
                alive &= beat.is_alive;
                further.push((queue, beat.further));
            }
            Err(error) => trouble = Some(error),
        }
    }
    if !alive {
        inner.renew_lost(session, &id).await;
    } else if trouble.is_none() {
        session.renew(began);
        reconcile(inner, session).await?;
    }
    // What is wrong with one queue keeps nobody from recovering the jobs of another.
    if let Err(error) = look_elsewhere(inner, session, watch, &id, &mut late).await {
        trouble = Some(error);
    }
    for (queue, further) in further {
        if let Err(error) = look_further(inner, queue, &id, further, &mut late).await {
            trouble = Some(error);
        }
    }
    let dead = watch.look(late, Instant::now(), session.lease);
    for some in dead.chunks(AT_ONCE) {
        let recoveries = some.iter().map(|dead| recover(inner, session, dead.clone()));
        for recovered in together(recoveries).await {
            trouble = recovered.err().or(trouble);
        }
        // The rest with the next beat, which must not come late.
        if began.elapsed() >= session.lease / BEATS_PER_LEASE {
            break;
        }
    }
    trouble.map_or(Ok(()), Err)
}

/// Reads what a beat answered; says whether the session lives.
fn read_beat(inner: &Inner, queue: &QueueName, own: &str, reply: Reply, late: &mut Vec<Sighting>) -> Result<Beat> {
    let mut fields = reply.into_array()?.into_iter();
    let (Some(now), Some(is_alive), Some(further)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(Error::new(ErrorKind::Internal, "the server's answer to a beat is too short"));
    };
    inner.clock.heard(Timestamp::from_millis(now.into_int()?));
    let is_alive = is_alive.into_int()? == 1;
    let further = further.into_int()?;
    read_late(queue, own, fields, late)?;
    Ok(Beat { is_alive, further })
}

/// What a beat said of a queue, but for the late sessions.
struct Beat {
    is_alive: bool,
    /// How many more late ones there are for us to look at.
    further: i64,
}

/// Looks at late sessions that did not fit into the answer to a beat. Without this, ten thousand workers that die
/// together would be recovered a thousand at a time, with two beats for each.
async fn look_further(
    inner: &Inner,
    queue: &QueueName,
    own: &str,
    further: i64,
    late: &mut Vec<Sighting>,
) -> Result<()> {
    let end = PAGE + if further < FEW { 0 } else { further };
    let mut from = PAGE;
    while from < end {
        let args = vec![from.to_string().into(), PAGE.min(end - from).to_string().into()];
        let leases = inner.names.queue(queue).leases;
        let fields = inner.link.eval(Lane::Beat, &LATE, vec![leases], args).await?.into_array()?;
        let is_last = fields.len() <= 1;
        read_late(queue, own, fields.into_iter().skip(1), late)?;
        if is_last {
            return Ok(());
        }
        from += PAGE;
    }
    Ok(())
}

/// Looks for late sessions of other queues: those that nobody serves any more must not keep the jobs of their last, dead
/// session.
async fn look_elsewhere(
    inner: &Inner,
    session: &Session,
    watch: &mut Watch,
    own: &str,
    late: &mut Vec<Sighting>,
) -> Result<()> {
    if watch.is_turn() {
        let mut others: Vec<QueueName> = inner.served_queues(Lane::Beat).await?;
        others.retain(|name| session.queues.iter().all(|(own, _)| own != name));
        watch.suspect_some_of(&others);
    }
    let looks = watch.suspects.iter().map(|queue| {
        let leases = inner.names.queue(queue).leases;
        inner.link.eval(Lane::Beat, &LATE, vec![leases], vec!["0".into(), PAGE.to_string().into()])
    });
    let mut trouble = None;
    for (queue, reply) in watch.suspects.iter().zip(together(looks).await) {
        let read = reply.and_then(Reply::into_array).and_then(|fields| {
            // The first is the time.
            read_late(queue, own, fields.into_iter().skip(1), late)
        });
        if let Err(error) = read {
            trouble = Some(error);
        }
    }
    trouble.map_or(Ok(()), Err)
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
    let claims = session.claims().into_iter();
    let reads = claims.map(|key| inner.link.command(Lane::Beat, "HGETALL", Some(key), Vec::new()));
    for (queue, reply) in together(reads).await.into_iter().enumerate() {
        let mut fields = reply?.into_array()?.into_iter();
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

    fn late(queue: &str, end: i64) -> Sighting {
        (QueueName::new(queue).unwrap(), Bytes::from_static(b"0123"), end)
    }

    #[test]
    fn dead_is_who_was_late_and_silent_for_two_beats_of_ours() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(watch.look(vec![late("a", 1)], start, LEASE).is_empty());
        assert!(watch.look(vec![late("a", 1)], start + BEAT, LEASE).is_empty());
        assert_eq!(watch.look(vec![late("a", 1)], start + BEAT * 2, LEASE), [late("a", 1)]);
        // It beat in between, though late.
        assert!(watch.look(vec![late("a", 2)], start + BEAT * 3, LEASE).is_empty());
        // We were asleep, and may have been the only ones who were not.
        assert!(watch.look(vec![late("a", 2)], start + BEAT * 8, LEASE).is_empty());
        assert_eq!(watch.look(vec![late("a", 2)], start + BEAT * 10, LEASE), [late("a", 2)]);
    }

    /// However many there are, each gets its turn, and one that is suspected is not let go of in between.
    #[test]
    fn every_queue_of_others_is_looked_at_in_turn_and_suspects_with_every_beat() {
        let others: Vec<QueueName> = (0..25).map(|n| QueueName::new(format!("q{n}")).unwrap()).collect();
        let (mut watch, start) = (Watch::new(0xFFFF), Instant::now());
        let mut dead = Vec::new();
        for beat in 0..BEATS_PER_TURN * 3 {
            if watch.is_turn() {
                watch.suspect_some_of(&others);
            }
            assert!(watch.suspects.len() <= OTHERS + 1, "{:?}", watch.suspects);
            let seen = watch.suspects.contains(&others[7]).then(|| late("q7", 1));
            dead.extend(watch.look(seen.into_iter().collect(), start + BEAT * beat, LEASE));
        }
        assert!(dead.len() > 1, "it was looked at until somebody would have recovered it");
        watch.suspect_some_of(&[]);
    }

    /// When a server comes back, some connect again a little before the others.
    #[test]
    fn after_an_outage_of_a_lease_nobody_is_dead_for_another() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(watch.look(Vec::new(), start, LEASE).is_empty());
        let back = start + LEASE * 2;
        for beat in 0..6 {
            assert!(watch.look(vec![late("a", 1)], back + BEAT * beat, LEASE).is_empty(), "{beat}");
        }
        assert_eq!(watch.look(vec![late("a", 1)], back + LEASE, LEASE), vec![late("a", 1)]);
        // Short leases do not make connecting quicker.
        let (mut watch, lease) = (Watch::default(), LEASE / 60);
        assert!(watch.look(Vec::new(), start, lease).is_empty());
        for step in 0..100 {
            assert!(watch.look(vec![late("a", 1)], back + lease * step / 6, lease).is_empty(), "{step}");
        }
    }
}
