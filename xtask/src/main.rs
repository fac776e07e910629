//! Every developer command: `cargo xtask` lists them.
//!
//! [`flags`] declares all commands and their flags; each command has a file of its own. There are no
//! dependencies, because whoever runs the first command waits for this to build.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks on its output streams")]

mod bench;
mod capabilities;
mod cargo;
mod chaos;
mod ci;
mod failure;
mod feature_sets;
mod flags;
mod manifest;
mod quickstart;
mod servers;
mod services;
mod steps;
mod test;
mod tidy;

use std::process::ExitCode;

use failure::{Failure, Result};
use flags::Task;

fn main() -> ExitCode {
    match flags::parse(std::env::args_os().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Help(text) => {
            print!("{text}");
            Ok(())
        }
        Task::Quickstart(arguments) => quickstart::run(&arguments),
        Task::Test => test::run(),
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::Services(arguments) => services::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Chaos(arguments) => chaos::run(&arguments),
        Task::Capabilities { check } => capabilities::run(check),
    }
}
