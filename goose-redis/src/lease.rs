//! Heartbeats, looking at those of others, and taking the jobs of the dead.
//!
//! Runs on the broker's own thread, so that handlers which block the worker's runtime do not hold it up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::bytes::Bytes;
use goose_core::broker::{DeathCause, DeathReason};
use goose_core::{Error, ErrorKind, Event, QueueName, Result, Timestamp};

use crate::broker::Inner;
use crate::connection::{Lane, Reply};
use crate::encoding::{self, Claim};
use crate::names::QueueKeys;
use crate::scripts::{BEAT, CHUNK, LATE, OPEN, RECOVER, SERVE, STOP};
use crate::session::Session;
use crate::settle;
use crate::together::together;
use crate::watch::{BEATS_PER_LEASE, Look, Sighting, Watch};

/// The most late sessions of one answer, as `beat.lua` has it, and how few more are not worth another call.
const PAGE: i64 = 1000;
const FEW: i64 = 50;

/// How many dead sessions are taken over at the same time.
const AT_ONCE: usize = 25;

/// Opens a session on all its queues. Not with the short limit of heartbeats: nobody is held up by this but the caller.
pub(crate) async fn open(inner: &Inner, session: &Session) -> Result<()> {
    let (began, ids) = (Instant::now(), session.ids());
    serve_all(inner, session, Lane::Data).await?;
    // All queues at once, here and below: one after the other would take as many round trips, and a slow link with many
    // queues more time than a lease lasts.
    let opens = ids.iter().enumerate().map(|(queue, id)| open_queue(inner, session, queue, id, Lane::Data));
    together(opens).await.into_iter().collect::<Result<()>>()?;
    (0..ids.len()).for_each(|queue| session.renew(queue, began));
    Ok(())
}

/// Opens a session on one of its queues, under this identity. The lane says how long that may take.
pub(crate) async fn open_in(inner: &Inner, session: &Session, queue: usize, id: &str, lane: Lane) -> Result<()> {
    serve_all(inner, session, lane).await?;
    open_queue(inner, session, queue, id, lane).await
}

/// Says that the queues have a session.
async fn serve_all(inner: &Inner, session: &Session, lane: Lane) -> Result<()> {
    let names = session.queues.iter().map(|(queue, _)| Bytes::from(queue.as_str().to_owned())).collect();
    inner.link.eval(lane, &SERVE, vec![inner.names.served()], names).await.map(drop)
}

async fn open_queue(inner: &Inner, session: &Session, queue: usize, id: &str, lane: Lane) -> Result<()> {
    let (_, keys) = &session.queues[queue];
    let args = vec![id.to_owned().into(), millis(session.lease), description(session)];
    let reply = inner.link.eval(lane, &OPEN, vec![keys.leases.clone(), keys.claims(id)], args).await?;
    inner.clock.heard(Timestamp::from_millis(reply.into_int()?));
    Ok(())
}

/// Ends a session in good order on all its queues, and wakes somebody else where there is something to do: the marker may
/// have woken us last.
pub(crate) async fn close(inner: &Arc<Inner>, session: &Arc<Session>) -> Result<()> {
    let stops = session.queues.iter().zip(session.ids()).map(|((_, keys), id)| {
        let claims = keys.claims(&id);
        let keys = [&keys.leases, &claims, &keys.ready, &keys.scheduled, &keys.wake, &keys.meta];
        let keys = keys.map(Bytes::clone).to_vec();
        inner.link.eval(Lane::Beat, &STOP, keys, vec![id.into()])
    });
    together(stops).await.into_iter().try_for_each(|reply| reply.map(drop))
}

/// Beats until the session is over. Errors are reported and tried again, never the end of this task.
pub(crate) async fn serve(inner: Arc<Inner>, session: Arc<Session>) {
    let interval = session.lease / BEATS_PER_LEASE;
    // The end of an id is random, in hexadecimal.
    let id = session.id(0);
    let seed = id.get(id.len().saturating_sub(4)..).and_then(|end| usize::from_str_radix(end, 16).ok());
    let mut watch = Watch::new(seed.unwrap_or(0));
    // How many beats have failed in a row, and why the last one did.
    let mut failures = (0_u32, None);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let verdict = watch.next_verdict(Instant::now(), session.lease);
        let verdict = async {
            match verdict {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = session.over() => return,
            _ = ticks.tick() => {}
            () = verdict => {}
        }
        match round(&inner, &session, &mut watch).await {
            Ok(()) => failures = (0, None),
            Err(error) => {
                if failures.1 != Some(error.kind()) {
                    failures = (0, Some(error.kind()));
                }
                failures.0 = failures.0.saturating_add(1);
                // What lasts is told less and less often.
                if failures.0.is_power_of_two() || failures.0.is_multiple_of(32) {
                    let (error, beats) = (format!("{error:#}"), failures.0);
                    tracing::warn!(error, beats, "cannot renew the lease of this process; will try again");
                }
                inner.note_error(&error);
            }
        }
    }
}

async fn round(inner: &Arc<Inner>, session: &Arc<Session>, watch: &mut Watch) -> Result<()> {
    let began = Instant::now();
    // What is wrong with one queue keeps nobody from recovering the jobs of another: all are asked at the same time, and
    // those that answer are looked at.
    let (own, others) = tokio::join!(renew(inner, session), look_elsewhere(inner, session, watch));
    let (mut looks, mut trouble) = (Vec::new(), None);
    for look in own.into_iter().chain(others) {
        match look {
            Ok(look) => looks.push(look),
            Err(error) => trouble = Some(error),
        }
    }
    if trouble.is_some() {
        watch.missed_some();
    }
    let dead = watch.look(looks, session.lease);
    for some in dead.chunks(AT_ONCE) {
        let recoveries = some.iter().map(|(queue, dead)| recover(inner, session, queue, dead));
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

/// Renews the lease on all queues of the session; returns who is late there.
async fn renew(inner: &Arc<Inner>, session: &Arc<Session>) -> Vec<Result<Look>> {
    // A connection that is made later than this is looked at with the next beat.
    let (began, reconnects, ids) = (Instant::now(), inner.link.health().reconnects, session.ids());
    let beats = session.queues.iter().zip(&ids).map(|((queue, keys), id)| beat(inner, session, id, queue, keys));
    let (mut lost, mut all_renewed) = (Vec::new(), true);
    let (mut looks, mut further) = (Vec::new(), Vec::new());
    for (queue, answer) in together(beats).await.into_iter().enumerate() {
        match answer {
            Ok(beat) => {
                if beat.is_alive {
                    session.renew(queue, began);
                } else {
                    lost.push(queue);
                }
                looks.push(Ok(beat.look));
                further.push(beat.further);
            }
            Err(error) => {
                all_renewed = false;
                looks.push(Err(error));
                further.push(0);
            }
        }
    }
    all_renewed &= lost.is_empty();
    for queue in lost {
        inner.renew_lost(session, queue, &ids[queue]).await;
    }
    if all_renewed && let Err(error) = reconcile(inner, session, reconnects).await {
        looks.push(Err(error));
    }
    let mut failures = Vec::new();
    for ((look, further), id) in looks.iter_mut().zip(further).zip(&ids) {
        if let Ok(look) = look
            && let Err(error) = look_further(inner, id, further, look).await
        {
            failures.push(Err(error));
        }
    }
    looks.extend(failures);
    looks
}

/// What a beat said of a queue.
struct Beat {
    is_alive: bool,
    look: Look,
    /// How many more late ones there are for us to look at.
    further: i64,
}

async fn beat(inner: &Inner, session: &Session, id: &str, queue: &QueueName, keys: &QueueKeys) -> Result<Beat> {
    let args = vec![id.to_owned().into(), millis(session.lease)];
    let reply = inner.link.eval(Lane::Beat, &BEAT, vec![keys.leases.clone(), keys.claims(id)], args).await?;
    let mut fields = reply.into_array()?.into_iter();
    let (Some(now), Some(is_alive), Some(further)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(Error::new(ErrorKind::Internal, "the server's answer to a beat is too short"));
    };
    inner.clock.heard(Timestamp::from_millis(now.into_int()?));
    let (is_alive, further) = (is_alive.into_int()? == 1, further.into_int()?);
    let look = Look { queue: queue.clone(), at: Instant::now(), late: read_late(id, fields)? };
    Ok(Beat { is_alive, look, further })
}

/// Looks at late sessions that did not fit into the answer to a beat. Without this, ten thousand workers that die
/// together would be recovered a thousand at a time, with two beats for each.
async fn look_further(inner: &Inner, own: &str, further: i64, look: &mut Look) -> Result<()> {
    let end = PAGE + if further < FEW { 0 } else { further };
    let mut from = PAGE;
    while from < end {
        let more = late_from(inner, &look.queue, own, from, PAGE.min(end - from)).await?;
        let is_last = more.is_empty();
        look.late.extend(more);
        // Seen no earlier than the last of them.
        look.at = Instant::now();
        if is_last {
            return Ok(());
        }
        from += PAGE;
    }
    Ok(())
}

/// Looks for late sessions of other queues: those that nobody serves any more must not keep the jobs of their last, dead
/// session.
async fn look_elsewhere(inner: &Inner, session: &Session, watch: &mut Watch) -> Vec<Result<Look>> {
    let mut looks = Vec::new();
    if watch.is_turn() {
        match inner.served_queues(Lane::Beat).await {
            Ok(mut others) => {
                others.retain(|name| session.queues.iter().all(|(own, _)| own != name));
                watch.suspect_some_of(&others);
            }
            Err(error) => looks.push(Err(error)),
        }
    }
    let suspects = watch.suspects().iter().map(async |queue| {
        let late = late_from(inner, queue, "", 0, PAGE).await?;
        Ok(Look { queue: queue.clone(), at: Instant::now(), late })
    });
    looks.extend(together(suspects).await);
    looks
}

/// Some of the late sessions of a queue, but for our own.
async fn late_from(inner: &Inner, queue: &QueueName, own: &str, from: i64, count: i64) -> Result<Vec<Sighting>> {
    let args = vec![from.to_string().into(), count.to_string().into()];
    let leases = inner.names.queue(queue).leases;
    let fields = inner.link.eval(Lane::Beat, &LATE, vec![leases], args).await?.into_array()?;
    // The first is the time.
    read_late(own, fields.into_iter().skip(1))
}

/// Reads the rest of an answer: the late sessions of a queue, but for our own.
fn read_late(own: &str, mut fields: impl Iterator<Item = Reply>) -> Result<Vec<Sighting>> {
    let mut late = Vec::new();
    while let (Some(other), Some(end)) = (fields.next(), fields.next()) {
        let other = other.into_bytes()?;
        if other != own.as_bytes() {
            late.push((other, end.into_text()?.parse().unwrap_or(0)));
        }
    }
    Ok(late)
}

/// Hands back claims that only the server knows of: nobody runs those jobs, and our own lease would keep them claimed for
/// ever.
async fn reconcile(inner: &Inner, session: &Session, reconnects: u64) -> Result<()> {
    if !session.held.lock().must_search(reconnects) {
        return Ok(());
    }
    let (asked, mut orphans) = (Instant::now(), Vec::new());
    let claims = session.claims().into_iter();
    let reads = claims.map(|key| inner.link.command(Lane::Beat, "HGETALL", Some(key), Vec::new()));
    for (queue, reply) in together(reads).await.into_iter().enumerate() {
        let mut fields = reply?.into_array()?.into_iter();
        while let (Some(field), Some(token)) = (fields.next(), fields.next()) {
            let Ok(id) = encoding::id(&field.into_bytes()?) else { continue };
            orphans.extend(Claim::from_token(id, &token.into_text()?, queue));
        }
    }
    {
        let mut held = session.held.lock();
        orphans.retain(|claim| held.is_orphan(*claim));
    }
    if !orphans.is_empty() {
        orphans.sort_by_key(|claim| (claim.fetch, claim.place));
        tracing::warn!(
            jobs = orphans.len(),
            "handed back jobs that were claimed and run by nobody: an answer or the last writes of a server were lost"
        );
        settle::release(inner, session, &orphans).await?;
    }
    session.held.lock().searched(asked, reconnects);
    Ok(())
}

/// Takes the jobs of a dead session.
async fn recover(inner: &Inner, session: &Session, name: &QueueName, (dead, end): &Sighting) -> Result<()> {
    let k = &inner.names.queue(name);
    let dead_id = String::from_utf8_lossy(dead).into_owned();
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
