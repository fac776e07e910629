//! Jobs that are not for us to run: each is sent to where it belongs, and then the message it came in is acknowledged.
//!
//! Jobs that are handed back, recovered, poisonous, unreadable, or not yet due. They are claimed until their errand is done,
//! so whatever goes wrong here, the worst is that the server gives them to somebody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::{DeathCause, DeathReason};
use goose_core::{Error, Event, Job, JobId, QueueName, Result};

use super::shared::Shared;
use super::surroundings::{self, Corpse};
use crate::amqp::Outgoing;
use crate::error::closed;
use crate::log::Count;
use crate::outbox;

/// The pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is to be done with one claim.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) tag: u64,
    pub(super) slot: usize,
    pub(super) what: What,
    /// What observers hear when it is done.
    pub(super) news: News,
}

#[derive(Debug)]
pub(super) enum What {
    Send {
        message: Outgoing,
        by_cascade: bool,
    },
    Bury(Corpse),
    /// Its end is what it was to come to.
    Drop,
}

#[derive(Debug)]
pub(super) enum News {
    None,
    Recovered {
        id: JobId,
        recoveries: u32,
    },
    /// With the recoveries that were one too many.
    Poison {
        job: Box<Job>,
        recoveries: u32,
        reason: DeathReason,
    },
    Undecodable {
        id: JobId,
        reason: DeathReason,
    },
}

impl Errand {
    /// Whether what is sent comes back into the same queue at once, before the jobs that are there.
    pub(super) fn comes_back_at_once(&self) -> bool {
        matches!((&self.what, &self.news), (What::Send { by_cascade: false, .. }, News::Recovered { .. }))
    }
}

/// Whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Once,
    /// For as long as the claims last.
    Endless,
}

/// Does errands for claims of this generation, in order. With an error, some are not done.
pub(super) async fn run(
    session: Arc<Shared>,
    generation: u64,
    mut errands: Vec<Errand>,
    patience: Patience,
) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    // What others have now is theirs.
    while session.state().generation == generation {
        let error = attempt(&session, generation, &mut errands).await;
        session.hungry.notify_one();
        let Some(error) = error else { break };
        if patience == Patience::Once {
            return Err(error);
        }
        tracing::warn!(
            jobs = errands.len(),
            error = format!("{error:#}"),
            "cannot send jobs to where they belong; will try again"
        );
        session.state().last_error = Some(format!("{error:#}"));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Leaves those that must be done again.
async fn attempt(session: &Arc<Shared>, generation: u64, errands: &mut Vec<Errand>) -> Option<Error> {
    let inner = &session.inner;
    let by_cascade = errands.iter().any(|errand| matches!(errand.what, What::Send { by_cascade: true, .. }));
    if by_cascade && let Err(error) = inner.topology.ensure_cascade().await {
        return Some(error);
    }
    let (mut messages, mut corpses) = (Vec::new(), Vec::new());
    for errand in errands.iter() {
        match &errand.what {
            What::Send { message, .. } => messages.push(message.clone()),
            What::Bury(corpse) => corpses.push(corpse.clone()),
            What::Drop => {}
        }
    }
    let mut sent = outbox::publish_all(inner, messages).await.into_iter();
    let mut buried = surroundings::bury(inner, corpses).await.into_iter();
    let (mut done, mut failed, mut trouble) = (Vec::new(), Vec::new(), None);
    for errand in errands.drain(..) {
        let answer = match &errand.what {
            What::Send { .. } => sent.next(),
            What::Bury(_) => buried.next(),
            What::Drop => Some(Ok(())),
        };
        let answer = answer.unwrap_or_else(|| Err(closed()));
        match answer {
            Ok(()) => done.push(errand),
            Err(error) => {
                failed.push(errand);
                trouble.get_or_insert(error);
            }
        }
    }
    acknowledge(session, generation, &done).await;
    {
        let mut state = session.state();
        if state.generation == generation {
            let returned = done.iter().chain(&failed).filter(|errand| matches!(errand.news, News::None));
            returned.for_each(|errand| state.slots[errand.slot].is_back());
        }
    }
    *errands = failed;
    done.iter().for_each(|errand| tell(session, errand));
    trouble
}

/// Returns when the server has heard of it. A copy may be here already: if it were run before the server has let go of the
/// original, and killed this process, both would be recovered.
async fn acknowledge(session: &Shared, generation: u64, done: &[Errand]) {
    let heard = {
        let mut state = session.state();
        if done.is_empty() || state.generation != generation {
            return;
        }
        state.acknowledge(done.iter().map(|errand| errand.tag), Instant::now());
        state.hear()
    };
    if let Some(heard) = heard {
        // If not, the channel is over, and the server gives the originals to somebody else.
        let _ = heard.await;
    }
    let now = Instant::now();
    let mut state = session.state();
    if state.generation == generation {
        let copies = done.iter().filter(|errand| errand.comes_back_at_once());
        copies.for_each(|errand| state.slots[errand.slot].copies_are_stored(1, now));
    }
}

fn tell(session: &Shared, errand: &Errand) {
    let (queue, observer) = (&session.queues[errand.slot], &session.options.observer);
    match &errand.news {
        News::None => {}
        News::Recovered { id, recoveries } => recovered(session, queue, *id, *recoveries),
        News::Poison { job, recoveries, reason } => {
            recovered(session, queue, job.id, *recoveries);
            if matches!(errand.what, What::Drop) {
                surroundings::count(&session.inner, Count::Discarded, 1);
            }
            observer.observe(&Event::Died { id: job.id, queue, job: Some(job), reason });
        }
        News::Undecodable { id, reason } => {
            tracing::warn!(job.id = %id, queue = %queue, "buried a message that is no job");
            observer.observe(&Event::Died { id: *id, queue, job: None, reason });
        }
    }
}

/// Tells that a job was taken from a dead session.
pub(super) fn recovered(session: &Shared, queue: &QueueName, id: JobId, recoveries: u32) {
    tracing::warn!(job.id = %id, queue = %queue, recoveries, "recovered a job from a dead worker");
    surroundings::count(&session.inner, Count::Recovered, 1);
    session.options.observer.observe(&Event::Recovered { id, queue, recoveries });
}

/// Why a job is dead that was taken from so many dead sessions.
pub(super) fn poison(recoveries: u32) -> DeathReason {
    let words = format!("its worker died {recoveries} times in a row");
    DeathReason::new(DeathCause::Poison, words)
}
