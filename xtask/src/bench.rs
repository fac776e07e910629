//! `cargo xtask bench`: the program of the `bench` package, optimised.

use std::ffi::OsString;

use crate::cargo::Cargo;
use crate::flags::value_of;
use crate::servers::REDIS;
use crate::{Result, services};

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    if value_of("--broker", arguments).is_some_and(|name| name == "redis") && value_of("--url", arguments).is_none() {
        services::need_command(&REDIS)?;
    }
    Cargo::new(["run", "--release", "--package", "goose-bench", "--"]).args(arguments).become_it()
}
