//! `cargo xtask services`: servers for hand use, and `run`, a server for one run of a program.

use std::ffi::{OsStr, OsString};

use crate::cargo::Cargo;
use crate::flags::value_of;
use crate::servers::{Found, RABBITMQ, REDIS, Server};
use crate::{Failure, Result};

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    for server in wanted(arguments) {
        need_command(server)?;
    }
    program().args(arguments).become_it()
}

/// The servers that these arguments ask for. Whatever is wrong with them is told by the program.
fn wanted(arguments: &[OsString]) -> &'static [Server] {
    const ALL: &[Server] = &[REDIS, RABBITMQ];
    match value_of("--broker", arguments).and_then(OsStr::to_str) {
        Some("rmq") => &ALL[1..],
        None if arguments.is_empty() => ALL,
        Some(_) | None => &ALL[..1],
    }
}

/// What serves a broker, by the broker's name on command lines.
pub(crate) fn server_of(broker: &OsStr) -> Option<&'static Server> {
    match broker.to_str() {
        Some("redis") => Some(&REDIS),
        Some("rmq" | "rmq-quorum" | "rmq-journal") => Some(&RABBITMQ),
        _ => None,
    }
}

/// The call of cargo inside of a call that gives it a durable server of its own, of Redis or of RabbitMQ; `{url}` in its
/// arguments becomes the server's. The server ends with it.
pub(crate) fn with_server(broker: &str, call: &Cargo) -> Cargo {
    program().args(["run", "--broker", broker]).args(call.words())
}

/// Fails where no such server can be started.
pub(crate) fn need_command(server: &Server) -> Result<()> {
    match server.set_up()? {
        Found::Command(_) => Ok(()),
        Found::Url(_) => Err(Failure::new(format!(
            "there is no {} to start; install one, or give the running one with --url where a command takes it",
            server.name()
        ))),
    }
}

fn program() -> Cargo {
    Cargo::new(["run", "--quiet", "--package", "goose-services", "--bin", "services", "--"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_started_must_be_there() {
        let names = |line: &str| {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            wanted(&arguments).iter().map(Server::name).collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["Redis", "RabbitMQ"]);
        assert_eq!(names("--cluster"), ["Redis"]);
        assert_eq!(names("--broker redis"), ["Redis"]);
        assert_eq!(names("--broker rmq --cluster"), ["RabbitMQ"]);
    }
}
