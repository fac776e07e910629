//! Starts jobs, many on one task for as long as they end at once.
//!
//! A task per job costs more than a job that has little to do. So one task, a runner, takes one job after the other
//! from those that came together, and only what does not end at its first poll goes on in a task of its own.
//!
//! A handler may block the thread in that first poll, and nobody else must wait for it:
//! - While there are jobs or ends that were not told, one more runner is scheduled, for an idle thread to take up. So
//!   as many jobs begin side by side as there are threads, as with a task per job.
//! - Tokio puts the task that was woken last where no other thread can take it until this one is free. So runners wake
//!   nobody between jobs; ends are told, and hands come free, when there are no jobs left, or many ends.
//! - Where one job has kept its thread for long, the next ones get a task each; see `Bench::keeps_apart`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant};

use super::executor::{Arrival, Bench, Outbound, execute, tell};
use super::panics::caught;

/// How long a runner keeps its thread before it lets other tasks have it.
const TURN: Duration = Duration::from_micros(500);
/// After how many jobs it looks at the clock, which costs as much as a small job.
const GLANCE: u32 = 8;
/// How many ends wait at most until they are told.
const MANY: usize = 128;

/// Jobs that start together.
struct Crew {
    bench: Arc<Bench>,
    left: Mutex<Left>,
}

struct Left {
    jobs: VecDeque<Arrival>,
    /// One for each job.
    hands: OwnedSemaphorePermit,
    ends: Vec<Outbound>,
    /// A runner is scheduled that has not begun.
    successor: bool,
}

/// Starts jobs; there must be a hand for each.
pub(crate) fn start(bench: &Arc<Bench>, mut jobs: VecDeque<Arrival>, mut hands: OwnedSemaphorePermit) {
    if bench.keeps_apart() {
        while jobs.len() > 1
            && let (Some(job), Some(hand)) = (jobs.pop_front(), hands.split(1))
        {
            spawn(bench, VecDeque::from([job]), hand);
        }
    }
    spawn(bench, jobs, hands);
}

fn spawn(bench: &Arc<Bench>, jobs: VecDeque<Arrival>, hands: OwnedSemaphorePermit) {
    let left = Mutex::new(Left { ends: Vec::with_capacity(jobs.len().min(MANY)), jobs, hands, successor: true });
    drop(tokio::spawn(run(Arc::new(Crew { bench: Arc::clone(bench), left }))));
}

async fn run(crew: Arc<Crew>) {
    crew.left.lock().successor = false;
    while !poll_fn(|cx| Poll::Ready(turn(&crew, cx))).await {
        tokio::task::yield_now().await;
    }
}

/// Starts jobs for a while; answers whether none is left.
fn turn(crew: &Arc<Crew>, cx: &mut Context<'_>) -> bool {
    let ends_at = Instant::now() + TURN;
    let (mut started, mut end) = (0_u32, None);
    while let Some((job, hand)) = crew.next(end.take()) {
        // Caught, for the others go on. The job has gone back to the broker by then.
        match caught(|| execute(&crew.bench, job, hand, cx)) {
            Ok(ended) => end = ended,
            Err(panic) => drop(caught(|| tracing::error!(panic, "a job could not be run"))),
        }
        started = started.wrapping_add(1);
        if started.is_multiple_of(GLANCE) && Instant::now() >= ends_at {
            crew.left.lock().ends.extend(end);
            return false;
        }
    }
    true
}

impl Crew {
    /// Takes an end and gives the next job. Makes sure that somebody takes what is left, should this job take long.
    fn next(self: &Arc<Self>, end: Option<Outbound>) -> Option<(Arrival, OwnedSemaphorePermit)> {
        let mut left = self.left.lock();
        left.ends.extend(end);
        let next = left.jobs.pop_front().and_then(|job| Some((job, left.hands.split(1)?)));
        let told = if next.is_none() || left.ends.len() >= MANY { std::mem::take(&mut left.ends) } else { Vec::new() };
        let needs_successor = next.is_some() && !left.successor && !(left.jobs.is_empty() && left.ends.is_empty());
        left.successor |= needs_successor;
        drop(left);
        let wakes = !told.is_empty();
        tell(&self.bench, told);
        if needs_successor {
            drop(tokio::spawn(run(Arc::clone(self))));
        }
        if next.is_some() && (wakes || needs_successor) {
            // Takes the place where no other thread can take a task, so that those that matter stand elsewhere.
            drop(tokio::spawn(async {}));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use parking_lot::Mutex;

    use crate::test_bench::{Number, TestBench};

    /// One handler keeps its thread, wherever it stands among the others: they run and are settled all the same.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_handler_that_blocks_its_thread_holds_up_nobody_else() {
        for blocked in [0, 1, 20, 48, 49] {
            let bench = TestBench::new();
            bench.enqueue(0..50).await;
            let (release, wait) = mpsc::channel::<()>();
            let wait = Mutex::new(wait);
            let handler = move |Number(n): Number| {
                if n == blocked {
                    let _ = wait.lock().recv();
                }
                std::future::ready(())
            };
            let worker = bench.worker().concurrency(50).handle(handler).start().await.unwrap();
            bench.events.wait(49, "succeeded").await;
            assert!(!bench.events.all().contains(&format!("succeeded {blocked}")));
            assert_eq!(bench.broker.claimed(), 1);
            bench.enqueue([100]).await;
            bench.events.wait(1, "succeeded 100").await;
            drop(release);
            bench.events.wait(51, "succeeded").await;
            worker.stop().await.unwrap();
        }
    }

    /// Handlers that tell Tokio of their blocking run side by side, more of them than there are threads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn handlers_that_block_in_place_run_side_by_side() {
        let bench = TestBench::new();
        bench.enqueue(0..10).await;
        let barrier = std::sync::Arc::new(std::sync::Barrier::new(10));
        let handler = move |_: Number| {
            tokio::task::block_in_place(|| barrier.wait());
            std::future::ready(())
        };
        let worker = bench.worker().concurrency(10).handle(handler).start().await.unwrap();
        bench.events.wait(10, "succeeded").await;
        worker.stop().await.unwrap();
    }
}
