//! Clocks that are wrong: those of clients and workers change nothing, and that of the server may jump.

use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::{Clock, SystemClock};
use goose_services::{Server, ShiftedClock};

use crate::child::{self, BETWEEN, DELAY, Twice};
use crate::stage::{Chore, Load, PATIENCE, Stage, all_done, recovered, until};
use crate::{Outcome, Played, ensure};

const NO_CLOCK: &str = "a clock can be moved only on Linux, and with a C compiler (cc)";

/// Neither early nor late, by this much on two busy processors.
const SLACK: Duration = Duration::from_secs(2);

async fn skewed(ahead_ms: i64) -> Outcome {
    let Some(clock) = ShiftedClock::new() else { return Ok(Played::Skipped(NO_CLOCK)) };
    clock.shift(ahead_ms);
    let stage = Stage::new();
    let broker = stage.beside().await?;
    let worker = stage.worker(&broker).queue("honest").start().await?;
    let client = Client::builder(broker.clone()).default_queue("skewed").build()?;
    client.perform_async(Twice).await?;
    // Not to be taken for expired by a worker that believes it is later.
    client.job(Chore::default()).expires_in(Duration::from_secs(60)).enqueue().await?;
    client.perform_in(Duration::from_secs(1), Chore::default()).await?;

    let begun = Instant::now();
    let time = SystemClock.now().saturating_add(DELAY * 2);
    let address = stage.server.url();
    let (said, ran) = tokio::join!(child::run(&address, time, &clock), async {
        until(PATIENCE, "the child's jobs ran", async || Ok(stage.runs.count() == 3)).await?;
        Ok::<_, goose_core::BoxError>(begun.elapsed())
    });
    let (said, ran) = (said?, ran?);
    ensure!((said.ahead - ahead_ms).abs() < 20_000, "the child's clock was ahead by {} ms", said.ahead);
    ensure!(said.between >= BETWEEN && said.between < BETWEEN + SLACK, "{:?} between two attempts", said.between);
    ensure!(said.chores == 2, "the child ran {} chores", said.chores);
    // In the order of their times, the last at the time that was given.
    ensure!(ran >= DELAY * 2 && ran < DELAY * 2 + SLACK, "the last of the child's jobs ran after {ran:?}");
    let times = stage.runs.firsts();
    let after = |n: usize| times[n] - times[0];
    ensure!(
        after(1) + Duration::from_millis(50) >= DELAY && after(1) < DELAY + SLACK,
        "the second after {:?}",
        after(1)
    );
    ensure!(after(2) < DELAY * 2 + SLACK, "the third after {:?}", after(2));
    ensure!(recovered(&broker).await? == 0, "the child was held for dead");
    worker.stop().await?;
    all_done(&broker).await?;
    Ok(Played::Done)
}

pub(crate) async fn a_process_that_is_an_hour_ahead() -> Outcome {
    skewed(3_600_000).await
}

pub(crate) async fn a_process_that_is_an_hour_behind() -> Outcome {
    skewed(-3_600_000).await
}

pub(crate) async fn a_process_that_is_a_day_ahead() -> Outcome {
    skewed(86_400_000).await
}

pub(crate) async fn a_process_that_is_a_day_behind() -> Outcome {
    skewed(-86_400_000).await
}

/// Workers are at it, with jobs that last longer than a lease, and the server's clock jumps to and fro.
pub(crate) async fn the_clock_of_the_server_jumps_by_an_hour() -> Outcome {
    let Some(clock) = ShiftedClock::new() else { return Ok(Played::Skipped(NO_CLOCK)) };
    let stage = Stage::with(Server::with_environment(&[], &clock.environment()));
    let server_time = || -> goose_tests::Result<i64> {
        Ok(stage.server.ask(&["TIME"]).lines().next().ok_or("no time")?.parse::<i64>()?)
    };
    let (first, second) = (stage.broker().await?, stage.broker().await?);
    let workers = [stage.worker(&first).start().await?, stage.worker(&second).start().await?];
    let client = Client::new(first.clone());
    let load = Load::start(&first, 2, Duration::from_millis(5));
    let mut long = Vec::new();
    for jump in [3_600, 0, -3_600, 0] {
        // It lasts through the jump and longer than a lease.
        long.push(client.perform_async(Chore::nap(Duration::from_secs(8))).await?);
        let soon = client.perform_in(Duration::from_millis(500), Chore::default()).await?;
        stage.have_run(PATIENCE, &long).await?;
        stage.have_run(PATIENCE, &[soon]).await?;
        let before = server_time()?;
        clock.shift(jump * 1_000);
        until(PATIENCE, "the server's clock jumped", async || Ok((server_time()? - before).abs() > 3_000)).await?;
        let jumped = Instant::now();
        // A delay that begins after the jump is as long as it was told to be.
        let id = client.perform_in(Duration::from_secs(1), Chore::default()).await?;
        stage.have_run(PATIENCE, &[id]).await?;
        let took = stage.runs.first(id).ok_or("it did not run")?.saturating_duration_since(jumped);
        ensure!(took >= Duration::from_secs(1) && took < Duration::from_secs(1) + SLACK, "{jump}: due after {took:?}");
        until(PATIENCE, "longer than a lease", async || Ok(jumped.elapsed() > Duration::from_secs(7))).await?;
    }
    let taken = load.stop().await?;
    stage.have_run(PATIENCE, &taken.ids).await?;
    let recovered = recovered(&first).await?;
    eprintln!("clock jumps: {} jobs, {recovered} recovered", taken.ids.len());
    ensure!(recovered == 0, "{recovered} jobs were taken from living workers");
    ensure!(stage.runs.doubles().is_empty(), "doubles: {:?}", stage.runs.doubles());
    for worker in workers {
        worker.stop().await?;
    }
    all_done(&first).await?;
    Ok(Played::Done)
}
