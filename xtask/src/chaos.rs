//! `cargo xtask chaos`: the chaos driver of the `tests` package.

use std::ffi::OsString;

use crate::Result;
use crate::cargo::Cargo;

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    // The driver starts the producers and workers that lie beside it; `cargo run` would build the driver alone.
    Cargo::new(["build", "--package", "goose-tests", "--bins"]).run()?;
    Cargo::new(["run", "--quiet", "--package", "goose-tests", "--bin", "chaos", "--"]).args(arguments).become_it()
}
