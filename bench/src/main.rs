//! How fast a broker is, through client and worker as users have them, in one run beside a raw probe.
//!
//! `goose-bench --broker redis [--url URL] [--json] [--jobs N]`; `cargo xtask bench` runs it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod broker;
mod jobs;
mod options;
mod probe;
mod report;
mod scenarios;

use std::process::ExitCode;

use goose_core::BoxError;

type Result<T> = std::result::Result<T, BoxError>;

fn main() -> ExitCode {
    let options = match options::Options::from_args(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(BoxError::from).and_then(|runtime| runtime.block_on(scenarios::run(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
