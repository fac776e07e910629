//! Runs chores. Prints `ready` when it takes jobs; stops gracefully when its standard input is closed, so that it also
//! ends when whoever started it is gone. Before it ends it prints `warnings` and how many there were in its log, which
//! `GOOSE_LAB_LOG=1` shows.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is how the lab follows it")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_tests::brokers::{self, Address, Settings};
use goose_tests::chore;
use goose_tests::flags::Flags;
use goose_tests::lab::PATIENCE;
use goose_tests::ledger::Ledger;
use goose_tests::warnings::WarningCount;
use goose_worker::Worker;
use tokio::sync::oneshot;

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> goose_tests::Result<()> {
    let log = WarningCount::install()?;
    let mut flags = Flags::parse(std::env::args().skip(1))?;
    let address: Address = flags.require("broker")?;
    let ledger: String = flags.require("ledger")?;
    let concurrency = flags.take("concurrency")?.unwrap_or(10);
    let prefetch = flags.take("prefetch")?;
    let threads = flags.take("threads")?.unwrap_or(2);
    let lease = flags.take("lease-ms")?.map(Duration::from_millis);
    let consumer_timeout = flags.take("consumer-timeout-ms")?.map(Duration::from_millis);
    let grace_period = Duration::from_millis(flags.take("grace-ms")?.unwrap_or(30_000));
    flags.finish()?;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let broker = brokers::open_when_there(&address, Settings { lease, consumer_timeout }).await?;
        let mut again = tokio::time::interval(Duration::from_millis(50));
        let end = Instant::now() + PATIENCE;
        let worker = loop {
            again.tick().await;
            let mut worker = Worker::builder(Arc::clone(&broker))
                .concurrency(concurrency)
                .grace_period(grace_period)
                .state(Ledger::open(&ledger)?)
                .handle(chore::run);
            if let Some(prefetch) = prefetch {
                worker = worker.prefetch(prefetch);
            }
            // As a process does that its supervisor starts again.
            match worker.start().await {
                Err(error) if error.is_retryable() && Instant::now() < end => {}
                started => break started?,
            }
        };
        println!("ready");
        closed_stdin().await?;
        worker.stop().await?;
        println!("warnings {}", log.count());
        Ok(())
    })
}

/// Waits on a thread of its own: handlers may block every thread of the runtime.
async fn closed_stdin() -> goose_tests::Result<()> {
    let (sender, closed) = oneshot::channel();
    std::thread::spawn(move || {
        let end = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = sender.send(end);
    });
    closed.await??;
    Ok(())
}
