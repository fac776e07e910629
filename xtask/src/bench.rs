//! `cargo xtask bench`: the program of the `bench` package, optimised.

use std::ffi::OsString;

use crate::Result;
use crate::cargo::Cargo;
use crate::flags::value_of;
use crate::services::Served;

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    if let Some(served) = value_of("--broker", arguments).and_then(Served::named)
        && value_of("--url", arguments).is_none()
    {
        served.need_command()?;
    }
    Cargo::new(["run", "--release", "--package", "goose-bench", "--"]).args(arguments).become_it()
}
