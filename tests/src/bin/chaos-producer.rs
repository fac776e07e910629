//! Enqueues chores and writes each acknowledged id to the ledger. Prints `done` when all are in.
//!
//! `--jobs` in batches of `--batch` (50), with a pause of `--pause-ms` (none) after each.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is how the lab follows it")]

use std::process::ExitCode;
use std::time::Duration;

use goose_client::Client;
use goose_core::{Backoff, ErrorKind, Job};
use goose_tests::brokers::{self, Address, Settings};
use goose_tests::chore::{Chore, Task, acknowledged};
use goose_tests::fault::SplitMix64;
use goose_tests::flags::Flags;
use goose_tests::ledger::{Entry, Ledger, now};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match produce().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos-producer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn produce() -> goose_tests::Result<()> {
    let mut flags = Flags::parse(std::env::args().skip(1))?;
    let address: Address = flags.require("broker")?;
    let ledger = Ledger::open(flags.require::<String>("ledger")?)?;
    let jobs: usize = flags.require("jobs")?;
    let batch: usize = flags.take("batch")?.unwrap_or(50);
    let pause = flags.take("pause-ms")?.map(Duration::from_millis);
    let mut mix = SplitMix64(flags.take("seed")?.unwrap_or(1));
    let lease = flags.take("lease-ms")?.map(Duration::from_millis);
    let consumer_timeout = flags.take("consumer-timeout-ms")?.map(Duration::from_millis);
    flags.finish()?;

    let client = Client::new(brokers::open_when_there(&address, Settings { lease, consumer_timeout }).await?);
    let mut left = jobs;
    while left > 0 {
        let now = left.min(batch.max(1));
        let batch = (0..now).map(|_| chore(&client, &mut mix)).collect::<goose_core::Result<Vec<_>>>()?;
        enqueue(&client, &ledger, batch).await?;
        left -= now;
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    client.broker().close().await?;
    println!("done");
    Ok(())
}

/// Mostly quick ones; some fail once, some are given up.
fn chore(client: &Client, mix: &mut SplitMix64) -> goose_core::Result<Job> {
    let task = match mix.below(100) {
        0..=2 => Task::FailFirst(1),
        3 => Task::Bury,
        4 => Task::Discard,
        5..=14 => Task::Nap(Duration::from_millis(mix.below(20))),
        _ => Task::Nothing,
    };
    client.job(Chore { task }).backoff(Backoff::fixed(Duration::from_millis(50))).build()
}

/// Writes down what was acknowledged. The same jobs are enqueued again as long as the broker says that it may pass.
async fn enqueue(client: &Client, ledger: &Ledger, jobs: Vec<Job>) -> goose_tests::Result<()> {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let mut left = jobs;
    loop {
        again.tick().await;
        let report = client.enqueue_jobs(left.clone()).await?;
        ledger.record_all(&acknowledged(report.enqueued()))?;
        let mut failed = Vec::new();
        for (_, id, error) in report.failed() {
            if !error.is_retryable() || error.kind() == ErrorKind::Full {
                return Err(format!("job {id}: {error:#}").into());
            }
            if error.kind() == ErrorKind::OutcomeUnknown {
                ledger.record(&Entry::Doubted { id, at: now() })?;
            }
            failed.push(id);
        }
        if failed.is_empty() {
            return Ok(());
        }
        left.retain(|job| failed.contains(&job.id));
    }
}
