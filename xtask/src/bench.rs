//! `cargo xtask bench`: the program of the `bench` package, optimised.

use std::ffi::OsString;

use crate::cargo::Cargo;
use crate::flags::value_of;
use crate::{Result, services};

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    if let Some(server) = value_of("--broker", arguments).and_then(services::server_of)
        && value_of("--url", arguments).is_none()
    {
        services::need_command(server)?;
    }
    Cargo::new(["run", "--release", "--package", "goose-bench", "--"]).args(arguments).become_it()
}
