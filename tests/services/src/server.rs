//! A real server in a temporary folder.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::leash;
use crate::resp::Connection;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    port: u16,
    args: Vec<String>,
    process: Child,
    /// Whether the process is still to be ended.
    is_held: bool,
    folder: tempfile::TempDir,
    /// For `ask` on servers that want one.
    pub user: Option<(String, String)>,
}

impl Server {
    /// A server with the defaults and nothing on disk.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server that has every write on disk before it answers.
    #[must_use]
    pub fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with further settings, as `--name value`.
    #[must_use]
    pub fn with(args: &[&str]) -> Self {
        // Somebody else may take the port before the server does.
        for _ in 0..20 {
            if let Some(server) = Self::try_start(free_port(), args) {
                return server;
            }
        }
        panic!("no server could be started with `{}`; install redis or set GOOSE_REDIS_SERVER", command());
    }

    fn try_start(port: u16, args: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        leash::remove_at_the_end(folder.path());
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = spawn(port, folder.path(), &args);
        let mut server = Self { port, args, process, is_held: true, folder, user: None };
        server.comes_up().then_some(server)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it keeps its files.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends one command on a connection of its own; panics when the server is not there.
    #[expect(clippy::must_use_candidate, reason = "most answers are of no interest")]
    pub fn ask(&self, words: &[&str]) -> String {
        self.try_ask(words).expect("the server answers")
    }

    /// Sends one command on a connection of its own.
    ///
    /// # Errors
    /// The server is not there.
    pub fn try_ask(&self, words: &[&str]) -> std::io::Result<String> {
        let mut connection = Connection::open(self.port)?;
        if let Some((user, password)) = &self.user {
            connection.ask(&["AUTH", user, password])?;
        }
        connection.ask(words)
    }

    /// The lines of `CLIENT LIST` without the one that asked.
    #[must_use]
    pub fn clients(&self) -> Vec<String> {
        let mut connection = Connection::open(self.port).expect("the server answers");
        let own = format!("id={} ", connection.ask(&["CLIENT", "ID"]).expect("a number"));
        let list = connection.ask(&["CLIENT", "LIST"]).expect("a list");
        list.lines().filter(|line| !line.starts_with(&own)).map(str::to_owned).collect()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if std::mem::take(&mut self.is_held) {
            let _ = self.process.kill();
            leash::release(self.pid());
            let _ = self.process.wait();
        }
    }

    /// Starts it again on the same port, without its data unless it is told to keep them.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.port, self.folder.path(), &self.args);
        self.is_held = true;
        assert!(self.comes_up(), "the server did not come back");
    }

    /// Hangs: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
    }

    fn comes_up(&mut self) -> bool {
        for _ in 0..400 {
            if self.process.try_wait().is_ok_and(|status| status.is_some()) {
                return false;
            }
            // Nearly any answer will do: it may want a password.
            let answer = Connection::open(self.port).and_then(|mut connection| connection.ask(&["PING"]));
            if answer.is_ok_and(|answer| !answer.starts_with("-LOADING")) {
                return true;
            }
            crate::rest(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, folder: &std::path::Path, args: &[String]) -> Child {
    let command = command();
    let mut words = command.split_whitespace();
    let program = words.next().expect("GOOSE_REDIS_SERVER is empty; unset it, or give the command of a server");
    let defaults = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"];
    leash::on_leash(program)
        .args(words)
        // A sentinel takes its configuration file first.
        .args(args.iter().take_while(|arg| !arg.starts_with("--")))
        .args(["--port", &port.to_string(), "--dir"])
        .arg(folder)
        .args(if args.iter().any(|arg| arg == "--sentinel") { &defaults[..2] } else { &defaults[..] })
        .args(args.iter().skip_while(|arg| !arg.starts_with("--")))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh")
}

/// The command that was asked for, or what is installed.
fn command() -> String {
    static FOUND: OnceLock<String> = OnceLock::new();
    let find = || {
        let installed = |name: &&str| {
            let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            version.is_ok_and(|status| status.success())
        };
        ["redis-server", "valkey-server"].into_iter().find(installed).unwrap_or("redis-server").to_owned()
    };
    FOUND.get_or_init(|| std::env::var("GOOSE_REDIS_SERVER").unwrap_or_else(|_| find())).clone()
}

/// A port that is free, as is the one ten thousand above it, which a cluster node talks to others on.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time start at different places.
    let start = u16::try_from(std::process::id() % 2000).unwrap_or(0) * 5;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}
