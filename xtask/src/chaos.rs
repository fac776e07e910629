//! `cargo xtask chaos`: the chaos driver of the `tests` package.

use std::ffi::OsString;

use crate::cargo::Cargo;
use crate::flags::value_of;
use crate::servers::REDIS;
use crate::{Result, services};

/// Not for the driver: the fault scenarios in their long form follow.
const LONG: &str = "--long";

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let is_long = arguments.iter().any(|argument| argument == LONG);
    if is_long {
        services::need_command(&REDIS)?;
    }
    if let Some(server) = value_of("--broker", arguments).and_then(services::server_of) {
        services::need_command(server)?;
    }
    // The driver starts the producers and workers that lie beside it; `cargo run` would build the driver alone.
    Cargo::new(["build", "--package", "goose-tests", "--bins"]).run()?;
    let driver = Cargo::new(["run", "--quiet", "--package", "goose-tests", "--bin", "chaos", "--"])
        .args(arguments.iter().filter(|argument| *argument != LONG));
    if !is_long {
        return driver.become_it();
    }
    driver.run()?;
    long_scenarios().become_it()
}

/// The named faults of Redis, each for as long as it takes in life.
fn long_scenarios() -> Cargo {
    let suites = ["test", "--package", "goose-tests", "--test", "scenarios_redis", "--test", "faults_redis"];
    Cargo::new(suites).env("GOOSE_LONG_SCENARIOS", "1")
}
