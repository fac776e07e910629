//! `cargo xtask services`: Redis servers for hand use, and `run`, a server for one run of a program.

use std::ffi::OsString;

use crate::cargo::Cargo;
use crate::redis::{self, Redis};
use crate::{Failure, Result};

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    need_command()?;
    program().args(arguments).become_it()
}

/// The call of cargo inside of a call that gives it a durable server of its own; `{url}` in its arguments becomes the
/// server's. The server ends with it.
pub(crate) fn with_server(call: &Cargo) -> Cargo {
    program().args(["run"]).args(call.words())
}

/// Fails where no server can be started.
pub(crate) fn need_command() -> Result<()> {
    match redis::set_up()? {
        Redis::Command(_) => Ok(()),
        Redis::Url(_) => Err(Failure::new(
            "there is no redis-server to start; install one, or give the running one with --url where a command takes it",
        )),
    }
}

fn program() -> Cargo {
    Cargo::new(["run", "--quiet", "--package", "goose-services", "--bin", "services", "--"])
}
