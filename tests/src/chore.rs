//! The job of the lab: it writes down that it started, misbehaves as it was told, and writes down that it finished.

use std::sync::mpsc;
use std::time::Duration;

use goose_core::{JobArgs, JobId, Outcome};
use goose_worker::Context;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::ledger::{Entry, Ledger, now};

/// Arguments of the lab's job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chore {
    /// What to do between the two lines.
    pub task: Task,
}

impl JobArgs for Chore {
    const NAME: &'static str = "lab/chore";
}

/// What a chore does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Nothing.
    Nothing,
    /// Waits, as a well-behaved handler does.
    Nap(Duration),
    /// Waits, but only in a worker from which the job was not taken before: holds jobs until the worker is killed.
    NapUnlessRecovered(Duration),
    /// Blocks the runtime's thread, as no handler should.
    Block(Duration),
    /// Ends the process.
    Abort,
    /// Fails in its first attempts, then succeeds.
    FailFirst(u32),
    /// Gives up at once.
    Bury,
    /// Says that it is no longer worth doing.
    Discard,
}

/// The handler.
///
/// # Errors
/// The ledger cannot be written.
pub async fn run(chore: Chore, cx: Context) -> Result<Outcome> {
    let ledger = cx.state::<Ledger>()?;
    let (id, pid, attempt, recoveries) = (cx.job_id(), std::process::id(), cx.attempt(), cx.recoveries());
    ledger.record(&Entry::Started { id, pid, attempt, recoveries, at: now() })?;
    let outcome = do_task(chore.task, &cx).await;
    ledger.record(&Entry::Finished { id, pid, attempt, at: now() })?;
    Ok(outcome)
}

async fn do_task(task: Task, cx: &Context) -> Outcome {
    match task {
        Task::Nothing => Outcome::Done,
        Task::NapUnlessRecovered(_) if cx.recoveries() > 0 => Outcome::Done,
        Task::Nap(time) | Task::NapUnlessRecovered(time) => {
            tokio::time::sleep(time).await;
            Outcome::Done
        }
        Task::Block(time) => {
            // Nobody sends: this is how to hold a thread for a while.
            let (_sender, receiver) = mpsc::channel::<()>();
            let _ = receiver.recv_timeout(time);
            Outcome::Done
        }
        Task::Abort => std::process::abort(),
        Task::FailFirst(times) if cx.attempt() <= times => Outcome::retry(format!("attempt {} fails", cx.attempt())),
        Task::FailFirst(_) => Outcome::Done,
        Task::Bury => Outcome::Bury("told to".to_owned()),
        Task::Discard => Outcome::Discard("told to".to_owned()),
    }
}

/// Acknowledged ids as lines of a ledger.
#[must_use]
pub fn acknowledged(ids: impl IntoIterator<Item = JobId>) -> Vec<Entry> {
    let at = now();
    ids.into_iter().map(|id| Entry::Acknowledged { id, at }).collect()
}
