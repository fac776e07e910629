//! Ending claims.

use std::time::Duration;

use fred::bytes::{Bytes, BytesMut};
use goose_core::broker::{DeathReason, Delivery, SettleError, Settlement, Verdict};
use goose_core::{Error, ErrorKind, Job, QueueName, Result, Timestamp};

use crate::again::again;
use crate::broker::Inner;
use crate::connection::{Lane, Reply};
use crate::encoding::{self, Claim, Kind, NAME};
use crate::scripts::{CHUNK, ENQUEUE, SETTLE};
use crate::session::Session;
use crate::together::together;

/// One end, as the script wants it.
#[derive(Clone)]
struct End {
    claim: Claim,
    verdict: &'static [u8],
    delay: i64,
    value: Bytes,
    reason: Bytes,
}

impl End {
    fn is_done(&self) -> bool {
        self.verdict == DONE
    }
}

/// The verdict that scripts are not told, but where it stands.
const DONE: &[u8] = b"D";

/// What a settlement turns into.
enum Plan {
    /// One step in the job's queue.
    Here(End),
    /// The job goes on in another queue, which may live on another node: it is put there first.
    Elsewhere(Move),
    /// No receipt of ours.
    Unknown,
}

/// A job that leaves the queue it was claimed from.
struct Move {
    claim: Claim,
    to: QueueName,
    verdict: &'static [u8],
    value: Bytes,
    delay: i64,
}

/// Ends claims; one answer per settlement, in order.
pub(crate) async fn settle(
    inner: &Inner,
    session: &Session,
    settlements: &[Settlement],
) -> Vec<Result<(), SettleError>> {
    let now = inner.clock.now();
    let plans: Vec<Plan> = settlements.iter().map(|settlement| plan(session, settlement, now)).collect();
    let mut answers: Vec<Result<(), SettleError>> = plans.iter().map(|_| Err(SettleError::Fenced)).collect();
    // All queues at the same time; within one, the last chunk first: what goes to the front later stands before.
    let (mut here, mut elsewhere) = (vec![Vec::new(); session.queues.len()], Vec::new());
    for (i, plan) in plans.into_iter().enumerate() {
        match plan {
            Plan::Here(end) => here[usize::from(end.claim.queue)].push((i, end)),
            Plan::Elsewhere(step) => elsewhere.push((i, step)),
            Plan::Unknown => {}
        }
    }
    let in_queue = async |queue: usize, ends: &[(usize, End)]| {
        let mut held = Vec::with_capacity(ends.len());
        for chunk in ends.chunks(CHUNK).rev() {
            let outcome = run(inner, session, queue, &chunk.iter().map(|(_, end)| end).collect::<Vec<_>>()).await;
            held.extend(chunk.iter().enumerate().map(|(n, (i, _))| {
                let answer = match &outcome {
                    Ok(held) if held[n] => Ok(()),
                    Ok(_) => Err(SettleError::Fenced),
                    Err(error) => Err(SettleError::Broker(again(error))),
                };
                (*i, answer)
            }));
        }
        held
    };
    let used = here.iter().enumerate().filter(|(_, ends)| !ends.is_empty());
    let ended = together(used.map(|(queue, ends)| in_queue(queue, ends))).await;
    let moved = together(elsewhere.into_iter().map(async |(i, step)| (i, move_on(inner, session, step).await))).await;
    for (i, answer) in ended.into_iter().flatten().chain(moved) {
        answers[i] = answer;
    }
    let mut held = session.held.lock();
    for (settlement, answer) in settlements.iter().zip(&answers) {
        // Fenced is an end too: it is not ours any more.
        if matches!(answer, Ok(()) | Err(SettleError::Fenced))
            && let Some(claim) = Claim::of(&settlement.receipt)
        {
            held.ended(claim);
        }
    }
    drop(held);
    answers
}

fn plan(session: &Session, settlement: &Settlement, now: Timestamp) -> Plan {
    let claim = Claim::of(&settlement.receipt);
    let Some((claim, (home, _))) = claim.and_then(|claim| Some((claim, session.queues.get(usize::from(claim.queue))?)))
    else {
        return Plan::Unknown;
    };
    let here = |verdict, delay, value, reason| Plan::Here(End { claim, verdict, delay, value, reason });
    let again = |job: &Job, kind, verdict: &'static [u8], delay: Duration| {
        let delay = Timestamp::EPOCH.saturating_add(delay).as_millis();
        let value = encoding::encode(job, kind, now);
        if job.ready_queue() == home {
            here(verdict, delay, value, Bytes::new())
        } else {
            Plan::Elsewhere(Move { claim, to: job.ready_queue().clone(), verdict, value, delay })
        }
    };
    match &settlement.verdict {
        Verdict::Done => here(DONE, 0, Bytes::new(), Bytes::new()),
        Verdict::Discard => here(b"X", 0, Bytes::new(), Bytes::new()),
        Verdict::Retry { job, delay } => again(job, Kind::Retry, b"R", *delay),
        Verdict::Snooze { job, delay } => again(job, Kind::Snoozed, b"Z", *delay),
        Verdict::Bury { job, reason } => here(b"B", 0, encoding::encode(job, Kind::Scheduled, now), epitaph(reason)),
        // `Release`, and what a later core may add before this broker learns of it: handing back loses nothing.
        _ => here(b"L", 0, Bytes::new(), Bytes::new()),
    }
}

/// Cause and words of a death in one value.
pub(crate) fn epitaph(reason: &DeathReason) -> Bytes {
    format!("{}:{}", reason.cause, reason.detail).into()
}

/// One call; says of each end whether its claim held.
async fn run(inner: &Inner, session: &Session, queue: usize, ends: &[&End]) -> Result<Vec<bool>> {
    let (_, k) = &session.queues[queue];
    let claims = k.claims(&session.id(queue));
    let keys = [&claims, &k.jobs, &k.ready, &k.scheduled, &k.dead, &k.epitaphs, &k.recoveries, &k.meta, &k.wake];
    // Done jobs come first, all in one value.
    let done = ends.iter().filter(|end| end.is_done()).count();
    let mut names = BytesMut::with_capacity(done * NAME);
    for end in ends.iter().filter(|end| end.is_done()) {
        end.claim.write_name(&mut names);
    }
    let mut args = Vec::with_capacity(1 + (ends.len() - done) * 6);
    args.push(names.freeze());
    for end in ends.iter().filter(|end| !end.is_done()) {
        args.extend([
            Bytes::copy_from_slice(end.claim.id.as_bytes()),
            end.claim.token().into(),
            Bytes::from_static(end.verdict),
            end.delay.to_string().into(),
            end.value.clone(),
            end.reason.clone(),
        ]);
    }
    let reply = match inner.link.eval(Lane::Data, &SETTLE, keys.map(Bytes::clone).to_vec(), args).await? {
        Reply::Int(1) => return Ok(vec![true; ends.len()]),
        reply => reply.into_array()?,
    };
    let mut held = reply.into_iter().map(|held| Ok(held.into_int()? == 1)).collect::<Result<Vec<bool>>>()?;
    if held.len() != ends.len() {
        return Err(Error::new(ErrorKind::Internal, "the server's answer to a settle has the wrong length"));
    }
    let (mut of_others, mut of_done) = (held.split_off(done).into_iter(), held.into_iter());
    let answer = |end: &&End| if end.is_done() { of_done.next() } else { of_others.next() };
    Ok(ends.iter().filter_map(answer).collect())
}

/// Lets a job go on in another queue. First it is made sure that the claim holds, then the job is put there, then
/// the claim ends: a crash in between runs the job twice, never not at all.
async fn move_on(inner: &Inner, session: &Session, step: Move) -> Result<(), SettleError> {
    let Move { claim, to, verdict, value, delay } = step;
    let id = || Bytes::copy_from_slice(claim.id.as_bytes());
    let from = usize::from(claim.queue);
    let claims = session.queues[from].1.claims(&session.id(from));
    let move_it = async {
        let token = inner.link.command(Lane::Data, "HGET", Some(claims), vec![id()]).await?;
        if token.into_bytes().ok().as_deref() != Some(claim.token().as_bytes()) {
            return Ok(false);
        }
        let name = to.as_str().to_owned().into();
        inner.link.command(Lane::Data, "SADD", Some(inner.names.queues()), vec![name]).await?;
        let there = inner.names.queue(&to);
        let keys = vec![there.jobs, there.ready, there.scheduled, there.wake, there.meta, there.dead, there.epitaphs];
        let place = if delay == 0 { "f".to_owned() } else { format!("d{delay}") };
        inner.link.eval(Lane::Data, &ENQUEUE, keys, vec![Bytes::from_static(b"0"), id(), value, place.into()]).await?;
        let end = End { claim, verdict: b"M", delay: 0, value: Bytes::new(), reason: Bytes::from_static(verdict) };
        let held = run(inner, session, from, &[&end]).await?;
        Ok(held.first() == Some(&true))
    };
    match move_it.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(SettleError::Fenced),
        Err(error) => Err(SettleError::Broker(error)),
    }
}

/// Buries a claimed job whose bytes are no job, as they are.
pub(crate) async fn bury_raw(
    inner: &Inner,
    session: &Session,
    claim: Claim,
    value: Bytes,
    reason: &DeathReason,
) -> Result<()> {
    let end = End { claim, verdict: b"U", delay: 0, value, reason: epitaph(reason) };
    run(inner, session, usize::from(claim.queue), &[&end]).await?;
    session.held.lock().ended(claim);
    Ok(())
}

/// Hands claims back to the front of their queues, in the order in which they were made. A queue that fails keeps none
/// from the others.
pub(crate) async fn release(inner: &Inner, session: &Session, claims: &[Claim]) -> Result<()> {
    let in_queue = async |queue: usize| {
        let here: Vec<End> = claims
            .iter()
            .filter(|claim| usize::from(claim.queue) == queue)
            .map(|claim| End { claim: *claim, verdict: b"L", delay: 0, value: Bytes::new(), reason: Bytes::new() })
            .collect();
        // Later chunks go before earlier ones, so the last comes first.
        for chunk in here.chunks(CHUNK).rev() {
            run(inner, session, queue, &chunk.iter().collect::<Vec<_>>()).await?;
        }
        Ok(())
    };
    together((0..session.queues.len()).map(in_queue)).await.into_iter().collect()
}

/// Hands back jobs that were claimed and that nobody took. What cannot be handed back now is looked for later.
pub(crate) async fn hand_back(inner: &Inner, session: &Session, deliveries: &[Delivery]) {
    // A process that was killed hands nothing back.
    if deliveries.is_empty() || session.is_abandoned() {
        return;
    }
    let claims: Vec<Claim> = deliveries.iter().filter_map(|delivery| Claim::of(&delivery.receipt)).collect();
    {
        let mut held = session.held.lock();
        claims.iter().for_each(|claim| held.ended(*claim));
    }
    if let Err(error) = release(inner, session, &claims).await {
        session.held.lock().left_behind();
        tracing::warn!(error = format!("{error:#}"), "cannot hand back jobs now; they go back later");
    }
}
