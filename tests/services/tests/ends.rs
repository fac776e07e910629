//! Servers end with the process that started them, whatever its end.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed expectation is how a test reports"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use goose_services::{Remote, eventually};

/// Servers: port and the name of that one run, for a port that comes free may soon be another server's.
type Servers = BTreeMap<u16, String>;

/// The program `services`, and what it has started.
struct Program {
    process: Child,
    folders: tempfile::TempDir,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let folders = tempfile::tempdir().unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_services"))
            .args(arguments)
            .env("TMPDIR", folders.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process, folders }
    }

    /// Reads its output up to a line with this word; the text, and the Redis servers whose ports it names.
    fn read_to(&mut self, word: &str) -> (String, Servers) {
        let text = self.read_text_to(word);
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
        let ports: BTreeSet<u16> = numbers.filter(|number| *number >= 20_000).collect();
        let servers = ports.into_iter().map(|port| (port, run_on(port).unwrap())).collect();
        (text, servers)
    }

    fn read_text_to(&mut self, word: &str) -> String {
        let lines = BufReader::new(self.process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut text = String::new();
        for line in lines {
            text = text + &line + "\n";
            if line.contains(word) {
                return text;
            }
        }
        panic!("no {word:?} in {text}");
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }

    fn nothing_is_left(mut self, servers: &Servers) {
        eventually("no server runs any more", || {
            !servers.iter().any(|(port, run)| run_on(*port).as_ref() == Some(run))
        });
        eventually("nothing is left on disk", || fs::read_dir(self.folders.path()).unwrap().next().is_none());
        self.process.wait().unwrap();
        eventually("no process is left", || self.processes().is_empty());
    }

    /// The names of all processes that come from it, however far they have gone: they have inherited its environment.
    /// None where the system does not tell.
    fn processes(&self) -> Vec<String> {
        let inherited = format!("TMPDIR={}", self.folders.path().display());
        let has_it = |process: &Path| {
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == inherited.as_bytes())
        };
        let all = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
        all.filter(|process| has_it(process))
            .filter_map(|process| fs::read_to_string(process.join("comm")).ok())
            .collect()
    }
}

/// The name of the run of the server on a port, if there is one.
fn run_on(port: u16) -> Option<String> {
    let about = Remote::at(&format!("redis://127.0.0.1:{port}"))?.ask(&["INFO", "server"]).ok()?;
    about.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::to_owned)
}

/// Whether this process was started with SIGINT ignored, as shells start what is to run in the background. Programs inherit
/// that, and ctrl-C is none of their business then.
fn ignores_interrupts() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.is_some_and(|signals| signals & 0b10 != 0)
}

#[test]
fn every_end_of_the_program_is_that_of_its_servers() {
    for signal in ["-INT", "-TERM", "-KILL", "-ABRT"] {
        if signal == "-INT" && ignores_interrupts() {
            eprintln!("left out: -INT, which was ignored before this began");
            continue;
        }
        let mut program = Program::start(&["--standalone"]);
        let (text, servers) = program.read_to("ctrl-C");
        assert!(text.contains("redis://127.0.0.1:") && !text.contains("redis-cluster://"), "{text}");
        assert_eq!(servers.len(), 1);
        program.signal(signal);
        program.nothing_is_left(&servers);
    }
}

#[test]
fn the_end_of_the_input_ends_all() {
    let mut program = Program::start(&["--broker", "redis"]);
    let (text, servers) = program.read_to("ctrl-C");
    for scheme in ["redis://", "redis-cluster://", "redis-sentinel://"] {
        assert!(text.contains(scheme), "{text}");
    }
    assert_eq!(servers.len(), 1 + 6 + 5, "{text}");
    drop(program.process.stdin.take());
    program.nothing_is_left(&servers);
}

#[test]
fn a_command_has_a_server_for_as_long_as_it_runs() {
    let mut program = Program::start(&["run", "sh", "-c", "echo there is {url}; exec sleep 600"]);
    let (text, servers) = program.read_to("there is");
    assert!(text.contains("there is redis://127.0.0.1:") && servers.len() == 1, "{text}");
    program.signal("-KILL");
    program.nothing_is_left(&servers);
}

/// The ports in the URLs of a text.
fn amqp_ports(text: &str) -> Vec<u16> {
    let places = text.split("amqp://guest:guest@127.0.0.1:").skip(1);
    places.map(|place| place.split('/').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn rabbitmq_ends_with_the_program_and_leaves_no_daemon() {
    for end in ["input", "-KILL"] {
        let mut program = Program::start(&["--broker", "rmq"]);
        let text = program.read_text_to("ctrl-C");
        let ports = amqp_ports(&text);
        assert_eq!(ports.len(), 1 + 3, "{text}");
        if Path::new("/proc/self/environ").exists() {
            let machines = program.processes().iter().filter(|name| name.starts_with("beam")).count();
            assert_eq!(machines, 4, "{:?}", program.processes());
        }
        match end {
            "input" => drop(program.process.stdin.take()),
            signal => program.signal(signal),
        }
        program.nothing_is_left(&Servers::new());
        assert!(ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()), "{text}");
    }
}

#[test]
fn a_command_has_a_rabbitmq_for_as_long_as_it_runs() {
    let mut program = Program::start(&["run", "--broker", "rmq", "sh", "-c", "echo there is {url}; exec sleep 600"]);
    let text = program.read_text_to("there is");
    assert!(TcpStream::connect(("127.0.0.1", amqp_ports(&text)[0])).is_ok(), "{text}");
    program.signal("-KILL");
    program.nothing_is_left(&Servers::new());
}
