//! `cargo xtask services`: servers for hand use, and `run`, a server for one run of a program.

use std::ffi::{OsStr, OsString};

use crate::cargo::Cargo;
use crate::flags::value_of;
use crate::redis::{self, Redis};
use crate::{Failure, Result, rabbit};

/// The brokers that need a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    Redis,
    Rmq,
}

impl Served {
    /// The one that is called so on command lines, in whatever kind of queues.
    pub(crate) fn named(name: &OsStr) -> Option<Self> {
        match name.to_str() {
            Some("redis") => Some(Self::Redis),
            Some("rmq" | "rmq-quorum") => Some(Self::Rmq),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Rmq => "rmq",
        }
    }

    /// Fails where no server can be started.
    pub(crate) fn need_command(self) -> Result<()> {
        match self {
            Self::Rmq => rabbit::set_up(),
            Self::Redis => match redis::set_up()? {
                Redis::Command(_) => Ok(()),
                Redis::Url(_) => Err(Failure::new(
                    "there is no redis-server to start; install one, or give the running one with --url where a command takes it",
                )),
            },
        }
    }
}

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    wanted(arguments).iter().try_for_each(|served| served.need_command())?;
    program().args(arguments).become_it()
}

/// Whose servers the program starts for these arguments.
fn wanted(arguments: &[OsString]) -> Vec<Served> {
    match value_of("--broker", arguments) {
        // A name that is none is for the program to refuse.
        Some(name) => Served::named(name).into_iter().collect(),
        None if arguments.is_empty() => vec![Served::Redis, Served::Rmq],
        None => vec![Served::Redis],
    }
}

/// The call of cargo inside of a call that gives it a durable server of its own; `{url}` in its arguments becomes the
/// server's. The server ends with it.
pub(crate) fn with_server(served: Served, call: &Cargo) -> Cargo {
    program().args(["run", "--broker", served.name()]).args(call.words())
}

fn program() -> Cargo {
    Cargo::new(["run", "--quiet", "--package", "goose-services", "--bin", "services", "--"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_that_are_started_are_needed() {
        for (line, expected) in [
            ("", vec![Served::Redis, Served::Rmq]),
            ("--cluster", vec![Served::Redis]),
            ("--broker redis", vec![Served::Redis]),
            ("--broker rmq --cluster", vec![Served::Rmq]),
            ("--broker kafka", vec![]),
        ] {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(wanted(&arguments), expected, "{line}");
        }
    }
}
