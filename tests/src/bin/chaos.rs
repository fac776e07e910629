//! The chaos driver: `cargo xtask chaos --broker sqlite --jobs 20000 --seed 1`,
//! `cargo xtask chaos --broker redis --topology cluster`, `cargo xtask chaos --broker rmq --queue-type quorum`,
//! `cargo xtask chaos --broker rmq --queue-type quorum --topology cluster`.
//!
//! Flags, with their defaults: `--broker sqlite`, `--topology standalone` (`cluster` and `sentinel` for Redis, `cluster` for
//! RabbitMQ, with quorum queues), `--queue-type classic` (`quorum` for RabbitMQ), `--jobs 20000`, `--seed 1`, `--workers 2`, `--concurrency 25`,
//! `--faults 6`, `--lease-ms 2000`, `--deadline-s 240`. The last line of its output begins with `chaos:`; the exit code
//! is 0 only when nothing was lost, doubled without a fault, or left claimed, and the broker's data do not contradict themselves.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use goose_tests::chaos::{Run, play};
use goose_tests::flags::Flags;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match drive().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn drive() -> goose_tests::Result<bool> {
    let run = read_flags()?;
    let began = Instant::now();
    println!("{run:?}");
    let findings = play(&run, |step| println!("{:7.3} s  {step}", began.elapsed().as_secs_f64())).await?;
    println!("{findings}");
    Ok(findings.is_clean())
}

fn read_flags() -> goose_tests::Result<Run> {
    let mut flags = Flags::parse(std::env::args().skip(1))?;
    let default = Run::default();
    let name: String = flags.take("broker")?.unwrap_or_else(|| "sqlite".to_owned());
    let topology = flags.take::<String>("topology")?.filter(|topology| topology != "standalone");
    let queue_type = flags.take::<String>("queue-type")?.filter(|queue_type| queue_type != "classic");
    let broker = match topology.or(queue_type) {
        None => name.parse()?,
        Some(variant) => format!("{name}-{variant}").parse()?,
    };
    let run = Run {
        broker,
        jobs: flags.take("jobs")?.unwrap_or(default.jobs),
        seed: flags.take("seed")?.unwrap_or(default.seed),
        workers: flags.take("workers")?.unwrap_or(default.workers).max(1),
        concurrency: flags.take("concurrency")?.unwrap_or(default.concurrency),
        faults: flags.take("faults")?.unwrap_or(default.faults),
        lease: flags.take("lease-ms")?.map_or(default.lease, Duration::from_millis),
        deadline: flags.take("deadline-s")?.map_or(default.deadline, Duration::from_secs),
    };
    flags.finish()?;
    Ok(run)
}
