//! The fetching task of a session: asks the server when somebody waits, and sleeps on the wake marker when there is
//! nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::bytes::Bytes;
use goose_core::broker::{DeathCause, DeathReason, Delivery};
use goose_core::{Error, ErrorKind, Event, Result, Timestamp};

use crate::broker::Inner;
use crate::calls::Calls;
use crate::connection::{Lane, Reply};
use crate::encoding::{self, Claim, fetch_token};
use crate::scripts::FETCH;
use crate::session::Session;
use crate::settle;
use crate::sleeper::{LONGEST_WAIT, Sleeper};
use crate::together::together;

/// How long others rely on an idle worker to wake at the time of the next due job: it asks again earlier than that.
const WATCH: Duration = LONGEST_WAIT.saturating_add(Duration::from_millis(500));

/// How long jobs wait here that nobody asks for any more. Then they go back: another worker may have a hand free.
const PATIENCE: Duration = Duration::from_millis(250);

/// Fetches until the session is over. Errors end in the waiting fetch, never this task.
pub(crate) async fn serve(inner: Arc<Inner>, session: Arc<Session>) {
    let mut sleeper = Sleeper::new(&session, inner.link.topology());
    let mut calls = Calls::of(&inner, &session);
    // A marker that was taken must be answered by a fetch even when nobody waits any more: the script puts it back
    // for others when there is something to do.
    let mut woken = false;
    // What came after the end.
    let mut late = Vec::new();
    while !session.is_over() {
        woken = calls.begin(woken);
        let found = tokio::select! {
            biased;
            answer = calls.answer() => answer,
            () = session.hunger() => continue,
            marked = sleeper.marker() => {
                woken |= marked;
                continue;
            }
            () = session.over() => break,
            () = at(session.buffered_since().map(|since| since + PATIENCE)) => {
                settle::hand_back(&inner, &session, &session.take_back()).await;
                continue;
            }
        };
        match found {
            Ok(Found { deliveries, .. }) if !deliveries.is_empty() => {
                // Stopped while the call was under way: nobody will take them from the buffer any more.
                if session.is_stopped() {
                    late = deliveries;
                } else {
                    let paused = session.deliver(deliveries);
                    settle::hand_back(&inner, &session, &paused).await;
                }
            }
            Ok(Found { lost, .. }) if !lost.is_empty() => {
                for (queue, id) in lost {
                    inner.renew_lost(&session, queue, &id).await;
                }
            }
            // Whoever was told of a time and does not sleep until then must tell the server so, by another call: see the script.
            // On a cluster nobody relies on us.
            Ok(found) if session.wanted() == 0 || calls.are_under_way() => {
                woken |= found.next_due.is_some() && calls.are_of_all_queues();
            }
            Ok(Found { next_due, now, .. }) => {
                let until_due = next_due.map_or(Duration::MAX, |due| due.since(now));
                match sleeper.start(&inner).await {
                    Ok(()) => {
                        woken = tokio::select! {
                            woken = sleeper.marker() => woken || next_due.is_some(),
                            // Our own timer: the server looks at the time limits of those who wait ten times a second.
                            () = tokio::time::sleep(until_due) => true,
                            () = session.over() => false,
                        };
                    }
                    Err(error) => session.fail(error),
                }
            }
            Err(error) if session.wanted() > 0 => session.fail(error),
            // Of several calls that fail together one error is enough.
            Err(error) => inner.note_error(&error),
        }
    }
    while calls.are_under_way() {
        if let Ok(found) = calls.answer().await {
            late.extend(found.deliveries);
        }
    }
    // All in one: those that go back later would stand before the others.
    settle::hand_back(&inner, &session, &late).await;
    if woken {
        let _ = fetch(&inner, &session, 0).await;
    }
    sleeper.close().await;
}

/// Comes at a moment, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// What a fetch found.
pub(crate) struct Found {
    pub(crate) deliveries: Vec<Delivery>,
    next_due: Option<Timestamp>,
    now: Timestamp,
    /// Where the session was found dead, and under which id.
    lost: Vec<(usize, String)>,
}

impl Found {
    fn nothing() -> Self {
        Self { deliveries: Vec::new(), next_due: None, now: Timestamp::EPOCH, lost: Vec::new() }
    }

    /// Adds what another call found.
    fn join(&mut self, other: Self) {
        self.deliveries.extend(other.deliveries);
        self.next_due = self.next_due.into_iter().chain(other.next_due).min();
        self.now = self.now.max(other.now);
        self.lost.extend(other.lost);
    }
}

pub(crate) async fn fetch(inner: &Inner, session: &Session, wanted: usize) -> Result<Found> {
    let quotas = session.shares(wanted);
    if quotas.len() == 1 || !inner.link.topology().is_cluster() {
        // On one server all queues share one call.
        let all: Vec<usize> = (0..session.queues.len()).collect();
        return fetch_group(inner, session, &all, wanted, &quotas).await;
    }
    // On a cluster each has a node of its own. With weights first its part from each, all at the same time; a strict order
    // must ask one after another. Then what is left, for whoever has more. Whoever wants nothing answers a marker: the
    // call puts it back for others if there is something to do.
    let has_parts = quotas.iter().sum::<usize>() <= wanted;
    let asked = (0..quotas.len()).filter(|queue| has_parts && (quotas[*queue] > 0 || wanted == 0));
    let parts =
        together(asked.map(async |queue| (queue, fetch_group(inner, session, &[queue], quotas[queue], &quotas).await)));
    let (mut found, mut trouble) = (Found::nothing(), None);
    let mut has_more = vec![true; quotas.len()];
    for (queue, part) in parts.await {
        match part {
            Ok(part) => {
                // Whoever gave less than its part has no more now.
                has_more[queue] = part.deliveries.len() >= quotas[queue];
                found.join(part);
            }
            Err(error) => trouble = Some(error),
        }
    }
    for (queue, has_more) in has_more.into_iter().enumerate() {
        let left = wanted.saturating_sub(found.deliveries.len());
        if left > 0 && has_more && trouble.is_none() {
            match fetch_group(inner, session, &[queue], left, &quotas).await {
                Ok(more) => found.join(more),
                Err(error) => trouble = Some(error),
            }
        }
    }
    match trouble {
        Some(error) if found.deliveries.is_empty() => Err(error),
        // What other nodes gave is claimed already, and must not go with the error of one.
        Some(error) => {
            inner.note_error(&error);
            Ok(found)
        }
        None => Ok(found),
    }
}

/// One call, for queues on one node.
async fn fetch_group(
    inner: &Inner,
    session: &Session,
    group: &[usize],
    want: usize,
    quotas: &[usize],
) -> Result<Found> {
    // A number of its own for each call, for its places are counted from one; and before the session's id is looked at,
    // so that a session that begins in between does not take the claims for its own.
    let fetch = session.next_fetch();
    let ids = session.ids();
    let asked = ask(inner, session, (fetch, &ids), group, want, quotas).await;
    let (mut found, jobs) = match asked.and_then(|reply| read(reply, fetch, group, &ids)) {
        Ok(answer) => answer,
        Err(error) => {
            // What may have been executed, or may still be, is looked for.
            let is_refused = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::PermissionDenied);
            let until = (!is_refused).then(|| Instant::now() + inner.options.command_timeout * 3);
            session.held.lock().failed(fetch, until);
            return Err(error);
        }
    };
    session.held.lock().answered(fetch, blocks(&jobs));
    if !jobs.is_empty() {
        session.saw(jobs.len(), jobs.iter().map(|job| job.value.len()).sum());
    }
    inner.clock.heard(found.now);
    found.deliveries.reserve(jobs.len());
    for job in jobs {
        if let Some(delivery) = job.deliver(inner, session, found.now).await {
            found.deliveries.push(delivery);
        }
    }
    Ok(found)
}

async fn ask(
    inner: &Inner,
    session: &Session,
    (fetch, ids): (u64, &[String]),
    group: &[usize],
    want: usize,
    quotas: &[usize],
) -> Result<Reply> {
    let mut keys = Vec::with_capacity(group.len() * 7);
    let lease = session.lease.as_millis().to_string().into();
    // Who asks each queue for itself cannot tell one that its hands are full with the jobs of another.
    let watch = if group.len() == session.queues.len() { WATCH } else { Duration::ZERO };
    let watch = watch.as_millis().to_string().into();
    let piece = session.piece().to_string().into();
    let mut args: Vec<Bytes> = vec![want.to_string().into(), fetch_token(fetch).into(), lease, watch, piece];
    for queue in group {
        let (_, k) = &session.queues[*queue];
        let claims = k.claims(&ids[*queue]);
        keys.extend([&k.jobs, &k.ready, &k.scheduled, &k.wake, &k.meta, &k.recoveries, &claims].map(Bytes::clone));
        args.push(quotas[*queue].min(want).to_string().into());
    }
    inner.link.eval(Lane::Data, &FETCH, keys, args).await
}

/// Reads the answer to a fetch: what was found, and the jobs of the deliveries as they came.
fn read(reply: Reply, fetch: u64, group: &[usize], ids: &[String]) -> Result<(Found, Vec<RawJob>)> {
    let (mut found, mut jobs) = (Found::nothing(), Vec::new());
    let mut fields = reply.into_array()?.into_iter();
    let mut next = || fields.next().ok_or_else(too_short);
    found.now = Timestamp::from_millis(next()?.into_int()?);
    let due = next()?.into_text()?;
    found.next_due = due.parse().ok().map(Timestamp::from_millis);
    let queue_of = |number: Reply| {
        let number = usize::try_from(number.into_int()?).ok();
        number.and_then(|number| group.get(number.checked_sub(1)?)).copied().ok_or_else(too_short)
    };
    for number in next()?.into_array()? {
        let queue = queue_of(number)?;
        found.lost.push((queue, ids[queue].clone()));
    }
    let mut place = 0;
    while let Ok(block) = next() {
        let mut parts = block.into_array()?.into_iter();
        let mut part = || parts.next().ok_or_else(too_short);
        let queue = queue_of(part()?)?;
        let (ids, values) = (part()?.into_bytes()?, part()?.into_array()?);
        let (mut dues, mut recoveries) = (part()?.into_array()?.into_iter(), part()?.into_array()?.into_iter());
        jobs.reserve(values.len());
        if ids.len() != values.len() * 16 {
            return Err(too_short());
        }
        for (id, value) in ids.chunks(16).zip(values) {
            place += 1;
            // Nil for a job that was never recovered.
            let recoveries = match recoveries.next() {
                None | Some(Reply::Nil) => 0,
                Some(times) => u32::try_from(times.into_int()?).unwrap_or(u32::MAX),
            };
            let due = dues.next().map(Reply::into_text).transpose()?;
            let due = due.and_then(|due| due.parse().ok()).map(Timestamp::from_millis);
            let id = encoding::id(id)?;
            let claim = Claim { id, fetch, place, queue: u16::try_from(queue).unwrap_or(u16::MAX) };
            jobs.push(RawJob { claim, value: value.into_bytes()?, due, recoveries });
        }
    }
    Ok((found, jobs))
}

/// How many jobs of which queues, in their order.
fn blocks(jobs: &[RawJob]) -> Vec<(u16, u16)> {
    let of_one = jobs.chunk_by(|a, b| a.claim.queue == b.claim.queue);
    of_one.map(|jobs| (jobs[0].claim.queue, u16::try_from(jobs.len()).unwrap_or(u16::MAX))).collect()
}

fn too_short() -> Error {
    Error::new(ErrorKind::Internal, "the server's answer to a fetch is too short")
}

/// A claimed job as it came from the server.
struct RawJob {
    claim: Claim,
    value: Bytes,
    due: Option<Timestamp>,
    recoveries: u32,
}

impl RawJob {
    /// The delivery; what cannot be decoded is buried as it is.
    async fn deliver(self, inner: &Inner, session: &Session, now: Timestamp) -> Option<Delivery> {
        match encoding::decode(&self.value) {
            Ok((header, job)) => {
                let ready_at = self.due.unwrap_or(header.since).min(now);
                let mut delivery = Delivery::new(job, self.claim.receipt(), ready_at, now);
                delivery.recoveries = self.recoveries;
                Some(delivery)
            }
            Err(error) => {
                let reason = DeathReason::new(DeathCause::Undecodable, format!("{error:#}"));
                let id = self.claim.id;
                let queue = &session.queues[usize::from(self.claim.queue)].0;
                match settle::bury_raw(inner, session, self.claim, self.value, &reason).await {
                    Ok(()) => session.options.observer.observe(&Event::Died { id, queue, job: None, reason: &reason }),
                    // It goes back with the next beat, and is buried by whoever claims it next.
                    Err(error) => {
                        let mut held = session.held.lock();
                        held.ended(self.claim);
                        held.left_behind();
                        drop(held);
                        tracing::warn!(job.id = %id, error = format!("{error:#}"), "cannot bury a job that cannot be decoded")
                    }
                }
                None
            }
        }
    }
}
