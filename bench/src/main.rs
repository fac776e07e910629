//! How fast a broker is, through client and worker as users have them, in one run beside a raw probe.
//!
//! `goose-bench --help` says what there is; `cargo xtask bench` runs it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod broker;
mod cost;
mod jobs;
mod latency;
mod link;
mod options;
mod probe;
mod report;
mod scale;
mod scenarios;

use std::process::ExitCode;

use goose_core::BoxError;

type Result<T> = std::result::Result<T, BoxError>;

fn main() -> ExitCode {
    let options = match options::Options::from_args(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("goose-bench: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(BoxError::from).and_then(|runtime| {
        runtime
            .block_on(async { if options.scale { scale::run(&options).await } else { scenarios::run(&options).await } })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("goose-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
