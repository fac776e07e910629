//! Keeps the loops alive: none may end on an error or a panic.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use goose_core::{Backoff, Result};
use tokio_util::sync::CancellationToken;

use super::complaints::Complaints;
use super::health::Pulse;
use super::panics::CatchUnwind;

/// The first pause, and the only one in a hurry: a broker that is away must not be asked in a tight loop.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// A loop of the engine.
pub(crate) trait Actor: Send {
    /// Goes round until there is nothing left to do. After an error or a panic it is called again on the
    /// same value, so everything that must not be lost lives in the value, not in the future.
    fn run(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// A broker that comes back must find its workers within two seconds, however long it was away. With the part that is
/// left to chance this is 0.9 s: no longer than brokers take to connect again, and half of the time is left for a machine
/// that is busy.
const LONGEST_PAUSE: Duration = Duration::from_millis(600);

/// How long a loop pauses after so many failures in a row before this one: briefly at first, most of a second when
/// failures go on.
pub(crate) fn pause_after(failures: u32) -> Duration {
    // Workers that lost the same broker must not all come back in the same instant.
    Backoff::Exponential { base: SHORTEST_PAUSE, cap: LONGEST_PAUSE, jitter: 0.5 }.delay(failures)
}

/// Runs an actor to its end, starting it again after each failure: soon at first, after most of a
/// second when failures go on. Once there is `hurry`, pauses are as short as the first one.
pub(crate) async fn supervise(mut actor: impl Actor, pulse: Arc<Pulse>, hurry: CancellationToken) {
    let mut complaints = Complaints::new();
    loop {
        let failure = match CatchUnwind::call(|| Box::pin(actor.run())).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => panic,
        };
        if complaints.is_due() {
            tracing::warn!(actor = pulse.name(), error = failure, "a loop failed and starts again");
        } else {
            tracing::debug!(actor = pulse.name(), error = failure, "a loop failed once more and starts again");
        }
        let pause = pause_after(pulse.failed(failure));
        pulse.beat();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = async { hurry.cancelled().await; tokio::time::sleep(SHORTEST_PAUSE).await } => {}
        }
        pulse.beat();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::{Error, ErrorKind};
    use tokio::time::Instant;

    /// Fails in every way there is, then ends.
    struct Clumsy {
        runs: usize,
        fails: usize,
    }

    impl Actor for Clumsy {
        async fn run(&mut self) -> Result<()> {
            self.runs += 1;
            match self.runs {
                runs if runs > self.fails => Ok(()),
                runs if runs % 2 == 0 => panic!("clumsy"),
                _ => Err(Error::new(ErrorKind::Unavailable, "the broker is away").with_source("cut")),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_panics_start_it_again_after_a_growing_pause() {
        let pulse = Pulse::new("clumsy", Duration::from_secs(1));
        let start = Instant::now();
        supervise(Clumsy { runs: 0, fails: 10 }, Arc::clone(&pulse), CancellationToken::new()).await;
        let health = pulse.health();
        assert_eq!((health.restarts, health.last_error.as_deref()), (10, Some("panicked: clumsy")));
        // 50 + 100 + 200 + 400 ms, six times 600 ms, and up to half as much again.
        let took = start.elapsed();
        assert!((4_350..6_600).contains(&took.as_millis()), "{took:?}");
    }

    #[test]
    fn however_often_it_failed_a_broker_that_is_back_is_found_within_two_seconds() {
        let longest = (0..1_000).map(pause_after).max().unwrap();
        assert!(longest <= Duration::from_millis(900), "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn hurry_keeps_the_pauses_short() {
        let pulse = Pulse::new("clumsy", Duration::from_secs(1));
        let (start, hurry) = (Instant::now(), CancellationToken::new());
        hurry.cancel();
        supervise(Clumsy { runs: 0, fails: 9 }, Arc::clone(&pulse), hurry).await;
        let took = start.elapsed();
        assert!((9 * SHORTEST_PAUSE..10 * SHORTEST_PAUSE).contains(&took), "{took:?}");
        let health = pulse.health();
        assert_eq!((health.restarts, health.last_error.as_deref()), (9, Some("the broker is away: cut")));
    }
}
