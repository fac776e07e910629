//! Real RabbitMQ servers: private ports, folder, cookie and name, no plugins, and always stopped.
//!
//! One takes three or four seconds to start, nearly all of it processor time, so tests share one where they can and keep
//! apart by the names of their queues.
//!
//! A test that wants to change or see something on a server without AMQP has two ways: [`Rabbit::eval`] runs Erlang inside
//! of the node and takes a millisecond; [`Rabbit::ctl`] is `rabbitmqctl` and takes a second or two.

mod amqp;
mod builder;
mod cluster;
mod door;
mod epmd;
mod fake;
mod manage;
mod programs;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::leash;
use builder::Place;
pub use builder::RabbitBuilder;
pub use cluster::RabbitCluster;
pub use fake::FakeRabbit;
pub use manage::Queue;
use programs::Programs;

/// How long a server may take to start, on a machine that has much else to do.
const START: Duration = Duration::from_secs(120);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Rabbit {
    /// How it was asked for: what a restart repeats.
    settings: RabbitBuilder,
    programs: Programs,
    place: Place,
    /// `None` when it was killed, or has not been started yet.
    process: Option<Child>,
}

impl Rabbit {
    /// A server with the defaults.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// For a server that is not like the others.
    pub fn builder() -> RabbitBuilder {
        RabbitBuilder::default()
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// Its port for TLS, if it has one.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.place.tls_port
    }

    /// Where it is, for the user `guest`, who may do everything.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("guest", "guest")
    }

    /// Where it is, for another user.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{}/%2f", self.port())
    }

    /// What it calls itself, with the host.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@localhost", self.place.name)
    }

    /// Where it keeps its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.place.folder.path()
    }

    /// Its process, that of the Erlang machine; panics when there is none.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server was killed, `restart` it first").id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            leash::release(process.id());
            let _ = process.wait();
        }
    }

    /// Stops it in good order, as an operator does.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        crate::within(START, "the server stops", || self.has_ended());
        self.kill();
    }

    /// Starts it again on the same ports and data, after `kill -9` if it still runs.
    pub fn restart(&mut self) {
        self.launch();
        self.wait_until_up();
    }

    /// The same without waiting for it.
    fn launch(&mut self) {
        self.kill();
        self.process = Some(builder::spawn(&self.settings, &self.programs, &self.place));
    }

    /// Hangs: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Runs Erlang expressions inside of the node and answers the last one's value; panics when that fails.
    #[allow(clippy::must_use_candidate, reason = "many are sent for what they do")]
    pub fn eval(&self, expressions: &str) -> String {
        self.try_eval(expressions).unwrap_or_else(|error| panic!("{expressions}: {error}"))
    }

    /// Runs Erlang expressions inside of the node: a binary is answered as its text, anything else as Erlang writes it.
    ///
    /// # Errors
    /// The node is not there, or the expressions fail.
    pub fn try_eval(&self, expressions: &str) -> std::io::Result<String> {
        self.place.door.evaluate(expressions)
    }

    /// The program that is `rabbitmqctl` for this node.
    #[must_use]
    pub fn ctl_program(&self) -> PathBuf {
        self.folder().join("ctl")
    }

    /// Runs `rabbitmqctl` on this node and answers what it writes; panics when it fails. Slow, see above.
    #[allow(clippy::must_use_candidate, reason = "many are sent for what they do")]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = Command::new(self.ctl_program()).args(arguments).output().expect("rabbitmqctl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {text}{errors}");
        text
    }

    /// What it has written to its log so far, and what it said before there was one.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name| std::fs::read(self.folder().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("said"), read("log")].concat()).into_owned()
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
    }

    fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.try_wait().is_ok_and(|status| status.is_some()))
    }

    fn wait_until_up(&mut self) {
        assert!(self.comes_up(), "the server does not come up: {}", self.log());
    }

    /// Whether it answers in time; `false` at once when its process ends.
    fn comes_up(&mut self) -> bool {
        let end = Instant::now() + START;
        while Instant::now() < end && !self.has_ended() {
            if amqp::answers(self.port()) && self.try_eval("ok").is_ok() {
                return true;
            }
            crate::rest(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_node_without_its_name_server_starts_no_daemon_that_outlives_it() {
        let mut rabbit = Rabbit::start();
        let port = rabbit.place.epmd.port();
        rabbit.place.epmd = epmd::Epmd::start();
        let is_there = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        crate::eventually("the name server is gone", || !is_there());
        // What the node does by itself once a minute.
        rabbit.eval("rabbit_nodes:ensure_epmd()");
        assert!(!is_there());
    }
}
