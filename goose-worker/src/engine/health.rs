//! The pulse of each loop, and the report that tells which one has stopped beating.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use goose_core::broker::LoopHealth;
use parking_lot::Mutex;

/// How often the runtime's own pulse beats.
const RUNTIME_BEAT: Duration = Duration::from_millis(500);
/// Without a beat for this long, the runtime's threads are taken to be blocked.
const RUNTIME_STALLS_AFTER: Duration = Duration::from_secs(2);

/// The state of one loop, written by the loop and read from any thread without its help.
#[derive(Debug)]
pub(crate) struct Pulse {
    name: &'static str,
    stalls_after: Duration,
    born: Instant,
    /// Milliseconds from `born` to the last beat.
    last_beat: AtomicU64,
    restarts: AtomicU64,
    /// Failures since the last progress: how long to wait before the next start.
    failures_in_a_row: AtomicU32,
    last_error: Mutex<Option<String>>,
    /// Since when it goes round and still cannot do what it is there for.
    held_up_since: Mutex<Option<Instant>>,
}

impl Pulse {
    pub(crate) fn new(name: &'static str, stalls_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            name,
            stalls_after,
            born: Instant::now(),
            last_beat: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            last_error: Mutex::new(None),
            held_up_since: Mutex::new(None),
        })
    }

    /// The loop went round.
    pub(crate) fn beat(&self) {
        let millis = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat.store(millis, Ordering::Relaxed);
    }

    /// The loop did what it is there for.
    pub(crate) fn progress(&self) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
    }

    /// Something failed and the loop goes on.
    pub(crate) fn note(&self, error: String) {
        *self.last_error.lock() = Some(error);
    }

    /// Whether the loop has something that it cannot get done. While it has, it counts as stalled, although it
    /// goes round.
    pub(crate) fn hold_up(&self, held_up: bool) {
        let mut since = self.held_up_since.lock();
        *since = held_up.then(|| since.unwrap_or_else(Instant::now));
    }

    /// The loop failed and will be started again. Says how many failures in a row came before this one.
    pub(crate) fn failed(&self, error: String) -> u32 {
        self.note(error);
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.failures_in_a_row.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn health(&self) -> LoopHealth {
        let last_beat = Duration::from_millis(self.last_beat.load(Ordering::Relaxed));
        let mut health = LoopHealth::new(self.name, self.born.elapsed().saturating_sub(last_beat), self.stalls_after);
        health.restarts = self.restarts.load(Ordering::Relaxed);
        health.last_error.clone_from(&self.last_error.lock());
        if let Some(since) = *self.held_up_since.lock() {
            // No patience at all; the time is never zero, or it would not count.
            health.last_progress = since.elapsed().max(Duration::from_nanos(1));
            health.stalls_after = Duration::ZERO;
        }
        health
    }
}

/// How a worker is doing.
///
/// ```
/// # fn example(worker: &goose_worker::Worker) {
/// let health = worker.health();
/// if !health.is_healthy() {
///     for stalled in health.stalled() {
///         eprintln!("{} of {:?} last went round {:?} ago", stalled.health.name, stalled.pool, stalled.health.last_progress);
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Health {
    /// All loops: the worker's and its broker's.
    pub loops: Vec<WorkerLoop>,
}

/// One background loop of a worker.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerLoop {
    /// The queues of the pool it serves; `None` for the worker as a whole.
    pub pool: Option<String>,
    /// Its state. The loop `runtime` stalls when all threads of the async runtime are blocked. The loop `settler`
    /// counts as stalled while the broker refuses to store how some job ended: the job stays claimed, its end is
    /// told again until the broker takes it, and `last_error` says what it has against it.
    pub health: LoopHealth,
}

impl Health {
    /// Whether no loop is stalled.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.stalled().next().is_none()
    }

    /// The loops that have made no progress for too long.
    pub fn stalled(&self) -> impl Iterator<Item = &WorkerLoop> {
        self.loops.iter().filter(|each| each.health.is_stalled())
    }
}

/// The pulse of the runtime itself: it beats as long as any thread is free to run tasks.
pub(crate) fn runtime_pulse() -> Arc<Pulse> {
    Pulse::new("runtime", RUNTIME_STALLS_AFTER)
}

/// Beats for ever; the worker aborts it at its end.
pub(crate) async fn beat_for_the_runtime(pulse: Arc<Pulse>) {
    let mut tick = tokio::time::interval(RUNTIME_BEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        pulse.beat();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex as StdMutex, mpsc};

    use super::*;
    use crate::test_bench::{Number, TestBench, until};

    #[test]
    fn a_loop_stalls_when_it_does_not_beat() {
        let pulse = Pulse::new("poller", Duration::ZERO);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !pulse.health().is_stalled() {
            assert!(Instant::now() < deadline, "it should count as stalled by now");
            std::thread::yield_now();
        }
        let health = Health { loops: vec![WorkerLoop { pool: Some("mail".into()), health: pulse.health() }] };
        assert!(!health.is_healthy());
        assert_eq!(health.stalled().next().unwrap().pool.as_deref(), Some("mail"));

        let patient = Pulse::new("poller", Duration::from_secs(60));
        patient.beat();
        assert!(!patient.health().is_stalled());
    }

    #[test]
    fn failures_are_counted_and_the_last_one_kept() {
        let pulse = Pulse::new("settler", Duration::from_secs(1));
        assert_eq!([pulse.failed("a".into()), pulse.failed("b".into())], [0, 1]);
        pulse.progress();
        assert_eq!(pulse.failed("c".into()), 0);
        let health = pulse.health();
        assert_eq!((health.name, health.restarts, health.last_error.as_deref()), ("settler", 3, Some("c")));
    }

    #[test]
    fn a_loop_that_is_held_up_counts_as_stalled_from_then_on() {
        let pulse = Pulse::new("settler", Duration::from_secs(60));
        pulse.hold_up(true);
        pulse.note("refused".into());
        let first = pulse.health();
        assert!(first.is_stalled());
        pulse.beat();
        pulse.hold_up(true);
        let later = pulse.health();
        assert!(later.is_stalled() && later.last_progress >= first.last_progress);
        pulse.hold_up(false);
        let after = pulse.health();
        assert_eq!((after.is_stalled(), after.restarts, after.last_error.as_deref()), (false, 0, Some("refused")));
    }

    #[tokio::test]
    async fn a_job_that_blocks_is_visible_from_another_thread() {
        // One thread for everything: the handler blocks the runtime itself.
        let bench = TestBench::new();
        let (release, released) = mpsc::channel::<()>();
        let released = StdMutex::new(released);
        let worker = Arc::new(
            bench
                .worker()
                .handle(move |_: Number| {
                    let _ = released.lock().unwrap().recv_timeout(Duration::from_secs(30));
                    async {}
                })
                .start()
                .await
                .unwrap(),
        );
        assert!(worker.health().is_healthy());
        let watched = Arc::clone(&worker);
        let watcher = std::thread::spawn(move || {
            let deadline = Instant::now() + Duration::from_secs(20);
            let stalled = |worker: &crate::Worker| worker.health().stalled().any(|each| each.health.name == "runtime");
            while !stalled(&watched) && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            let seen = stalled(&watched);
            drop(release);
            seen
        });
        bench.enqueue([7]).await;
        bench.events.wait(1, "succeeded").await;
        assert!(watcher.join().unwrap());
        until("the runtime's pulse", || worker.health().is_healthy()).await;
        worker.stop().await.unwrap();
    }
}
