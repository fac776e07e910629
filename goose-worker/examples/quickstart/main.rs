//! Counts the words of every file in a folder, with jobs that run in another process.
//!
//! Read in this order:
//! - `jobs`: what the two processes have in common, the types of the jobs.
//! - `place`: where they meet: a SQLite file, or a server of Redis or RabbitMQ.
//! - `producer`: the process you start. It enqueues, starts the worker, waits, and adds up.
//! - `worker`: the same program once more, as the process that runs the jobs.
//! - `worker_process`: starting it, stopping it, and killing it with `--crash`.
//! - `summary`: whether every job is accounted for.
//!
//! `cargo xtask quickstart [DIR] [--crash] [--db PATH]` runs it, with `--broker redis` or
//! `--broker rmq` (and `[--url URL]`) over a server.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program on the command line talks to its user")]

mod files;
mod jobs;
mod options;
mod place;
mod producer;
mod progress;
mod results;
mod summary;
mod worker;
mod worker_process;

use std::process::ExitCode;

use goose_worker::BoxError;
use options::Role;

type Result<T> = std::result::Result<T, BoxError>;

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match options::parse(std::env::args_os().skip(1)) {
        Ok(Role::Help) => {
            print!("{}", options::USAGE);
            Ok(ExitCode::SUCCESS)
        }
        Ok(Role::Producer(options)) => producer::run(&options).await,
        Ok(Role::Worker { address, results }) => worker::run(&address, &results).await.map(|()| ExitCode::SUCCESS),
        Err(error) => Err(error),
    };
    ended.unwrap_or_else(|error| {
        // `{:#}` prints the causes too.
        eprintln!("quickstart: {error:#}");
        ExitCode::FAILURE
    })
}
