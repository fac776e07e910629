//! A real server in a temporary folder.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::resp::Connection;

/// A running server. Dropping it kills it.
pub struct Server {
    port: u16,
    args: Vec<String>,
    process: Child,
    folder: tempfile::TempDir,
    /// For `ask` on servers that want one.
    pub user: Option<(String, String)>,
}

impl Server {
    /// A server with the defaults and nothing on disk.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server with further settings, as `--name value`.
    pub fn with(args: &[&str]) -> Self {
        // Somebody else may take the port before the server does.
        for _ in 0..20 {
            if let Some(server) = Self::try_start(free_port(), args) {
                return server;
            }
        }
        panic!("no server could be started; is redis-server installed?");
    }

    fn try_start(port: u16, args: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = spawn(port, folder.path(), &args);
        let mut server = Self { port, args, process, folder, user: None };
        server.comes_up().then_some(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends one command on a connection of its own; panics when the server is not there.
    pub fn ask(&self, words: &[&str]) -> String {
        self.try_ask(words).expect("the server answers")
    }

    pub fn try_ask(&self, words: &[&str]) -> std::io::Result<String> {
        let mut connection = Connection::open(self.port)?;
        if let Some((user, password)) = &self.user {
            connection.ask(&["AUTH", user, password])?;
        }
        connection.ask(words)
    }

    /// The lines of `CLIENT LIST` without the one that asked.
    pub fn clients(&self) -> Vec<String> {
        let mut connection = Connection::open(self.port).expect("the server answers");
        let own = format!("id={} ", connection.ask(&["CLIENT", "ID"]).expect("a number"));
        let list = connection.ask(&["CLIENT", "LIST"]).expect("a list");
        list.lines().filter(|line| !line.starts_with(&own)).map(str::to_owned).collect()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again on the same port, without its data unless it is told to keep them.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.port, self.folder.path(), &self.args);
        assert!(self.comes_up(), "the server did not come back");
    }

    /// Hangs: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

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
            // Any answer will do: it may want a password.
            if Connection::open(self.port).is_ok_and(|mut connection| connection.ask(&["PING"]).is_ok()) {
                return true;
            }
            super::rest(Duration::from_millis(10));
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
    let command = std::env::var("GOOSE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or("redis-server");
    let defaults = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"];
    Command::new(program)
        .args(words)
        // A sentinel takes its configuration file first.
        .args(args.iter().take_while(|arg| !arg.starts_with("--")))
        .args(["--port", &port.to_string(), "--dir"])
        .arg(folder)
        .args(if args.iter().any(|arg| arg == "--sentinel") { &defaults[..2] } else { &defaults[..] })
        .args(args.iter().skip_while(|arg| !arg.starts_with("--")))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server can be run")
}

/// A port that is free, as is the one ten thousand above it, which a cluster node talks to others on.
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
