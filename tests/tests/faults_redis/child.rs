//! This program once more, as a process of its own that believes in another time.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::{Clock, Outcome, SystemClock, Timestamp};
use goose_redis::RedisOptions;
use goose_services::ShiftedClock;
use goose_worker::{Context, JobArgs, Worker};
use serde::{Deserialize, Serialize};

use crate::stage::{Chore, PATIENCE, Runs, until, work};

/// The address of the server: whoever has it is the child.
const ADDRESS: &str = "GOOSE_FAULTS_CHILD";
/// A time on the server's clock, in ms.
const TIME: &str = "GOOSE_FAULTS_TIME";

/// The pause between the two attempts of `Twice`.
pub(crate) const BETWEEN: Duration = Duration::from_secs(1);
/// How late the job is that is scheduled by a pause.
pub(crate) const DELAY: Duration = Duration::from_secs(2);

/// A job that is done at its second attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Twice;

impl JobArgs for Twice {
    const NAME: &'static str = "faults/twice";
}

async fn at_the_second_attempt(_: Twice, cx: Context) -> goose_tests::Result<Outcome> {
    cx.state::<Runs>()?.note(cx.job_id());
    Ok(if cx.attempt() == 1 { Outcome::retry_in(BETWEEN, "told to") } else { Outcome::Done })
}

/// What the child did, in its words.
#[derive(Debug)]
pub(crate) struct Said {
    /// By how much its clock is ahead of ours, in ms.
    pub(crate) ahead: i64,
    /// How long it was between the attempts of `Twice`, by a clock that nobody moves.
    pub(crate) between: Duration,
    /// How many chores it ran.
    pub(crate) chores: usize,
}

/// Lets a child play its part under a clock of its own; `time` is a time on the server's clock.
pub(crate) async fn run(address: &str, time: Timestamp, clock: &ShiftedClock) -> goose_tests::Result<Said> {
    let output = tokio::process::Command::new(std::env::current_exe()?)
        .envs(clock.environment())
        .env(ADDRESS, address)
        .env(TIME, time.as_millis().to_string())
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<i64>);
    let mut number = || match numbers.next() {
        Some(Ok(number)) => Ok(number),
        other => Err(format!("{other:?}: {text} {}", String::from_utf8_lossy(&output.stderr))),
    };
    let its_time = number()?;
    let between = Duration::from_millis(u64::try_from(number()?)?);
    let chores = usize::try_from(number()?)?;
    Ok(Said { ahead: its_time - SystemClock.now().as_millis(), between, chores })
}

/// Plays the child's part, if this is the child.
pub(crate) fn play() -> Option<ExitCode> {
    let address = std::env::var(ADDRESS).ok()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let played = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(part(&address)));
    match played {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("{error}");
            Some(ExitCode::FAILURE)
        }
    }
}

/// Enqueues three jobs for others: now, later, and at a time. Then runs what others left for it: one `Twice` and some
/// chores.
async fn part(address: &str) -> goose_tests::Result<()> {
    let time = Timestamp::from_millis(std::env::var(TIME)?.parse()?);
    let broker = RedisOptions::new(address).open().await?;
    let client = Client::builder(broker.clone()).default_queue("honest").build()?;
    client.job(Chore::default()).tag("now").enqueue().await?;
    client.job(Chore::default()).tag("later").run_in(DELAY).enqueue().await?;
    client.job(Chore::default()).tag("at").run_at(time).enqueue().await?;
    let runs = Runs::default();
    let worker = Worker::builder(broker.clone()).queue("skewed").state(runs.clone());
    let worker = worker.handle(work).handle(at_the_second_attempt).start().await?;
    let begun = Instant::now();
    until(PATIENCE, "the job ran twice", async || Ok(runs.doubles().len() == 1)).await?;
    // Longer than a lease: others must not hold this one for dead.
    until(PATIENCE, "it lived for a while", async || Ok(begun.elapsed() > Duration::from_secs(8))).await?;
    let (twice, now) = (runs.doubles().into_iter().next().ok_or("none ran twice")?, SystemClock.now());
    worker.stop().await?;
    let between = runs.between(twice).ok_or("it ran once")?.as_millis();
    #[expect(clippy::print_stdout, reason = "it is how the parent hears of it")]
    {
        println!("{} {between} {}", now.as_millis(), runs.count() - 1);
    }
    Ok(())
}
