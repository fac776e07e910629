//! Starts jobs, many on one task for as long as they end at once.
//!
//! A task per job costs more than a job that has little to do. So one task, a runner, takes one job after the other
//! from those that came together, and only what does not end at its first poll goes on in a task of its own.
//!
//! A handler may block the thread in that first poll. The others must not wait for it: while there are jobs left, one
//! more runner is always scheduled, which an idle thread takes up. So as many jobs begin side by side as there are
//! threads, as with a task per job.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant};

use super::executor::{Arrival, Bench, execute};
use super::panics::caught;

/// How long a runner keeps its thread before it lets other tasks have it.
const TURN: Duration = Duration::from_micros(500);
/// After how many jobs it looks at the clock, which costs as much as a small job.
const GLANCE: u32 = 8;

/// Jobs that start together.
struct Crew {
    bench: Arc<Bench>,
    left: Mutex<Left>,
}

struct Left {
    jobs: VecDeque<Arrival>,
    /// One for each job.
    hands: OwnedSemaphorePermit,
    /// A runner is scheduled that has not begun.
    successor: bool,
}

/// Starts jobs; there must be a hand for each.
pub(crate) fn start(bench: &Arc<Bench>, jobs: VecDeque<Arrival>, hands: OwnedSemaphorePermit) {
    let left = Mutex::new(Left { jobs, hands, successor: true });
    let crew = Arc::new(Crew { bench: Arc::clone(bench), left });
    drop(tokio::spawn(run(crew)));
}

async fn run(crew: Arc<Crew>) {
    crew.left.lock().successor = false;
    let mut is_last = false;
    while !is_last {
        is_last = poll_fn(|cx| Poll::Ready(turn(&crew, cx))).await;
        if !is_last {
            tokio::task::yield_now().await;
        }
    }
}

/// Starts jobs for a while; answers whether none is left.
fn turn(crew: &Arc<Crew>, cx: &mut Context<'_>) -> bool {
    let end = Instant::now() + TURN;
    let mut started = 0_u32;
    while let Some((job, hand)) = crew.next() {
        // Caught, for the others go on. The job has gone back to the broker by then.
        if let Err(panic) = caught(|| execute(&crew.bench, job, hand, cx)) {
            let _ = caught(|| tracing::error!(panic, "a job could not be run"));
        }
        started = started.wrapping_add(1);
        if started.is_multiple_of(GLANCE) && Instant::now() >= end {
            return false;
        }
    }
    true
}

impl Crew {
    /// The next job. Makes sure that somebody else takes the one after it, should this one take long.
    fn next(self: &Arc<Self>) -> Option<(Arrival, OwnedSemaphorePermit)> {
        let mut left = self.left.lock();
        let job = left.jobs.pop_front()?;
        let hand = left.hands.split(1)?;
        if !left.jobs.is_empty() && !left.successor {
            left.successor = true;
            drop(left);
            drop(tokio::spawn(run(Arc::clone(self))));
            // The task that was spawned last stands where no other thread can take it. Let that be one of no use.
            drop(tokio::spawn(async {}));
        }
        Some((job, hand))
    }
}
