//! Servers end with the process that started them, whatever its end.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use goose_services::eventually;

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

    /// Reads its output up to a line with this word; the text, and the ports it names.
    fn read_to(&mut self, word: &str) -> (String, BTreeSet<u16>) {
        let lines = BufReader::new(self.process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut text = String::new();
        for line in lines {
            text = text + &line + "\n";
            if line.contains(word) {
                let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
                let ports: BTreeSet<u16> = numbers.filter(|number| *number >= 20_000).collect();
                assert!(ports.iter().all(|port| is_open(*port)), "{text}");
                return (text, ports);
            }
        }
        panic!("no {word:?} in {text}");
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }

    fn nothing_is_left(mut self, ports: &BTreeSet<u16>) {
        eventually("no server runs any more", || !ports.iter().any(|port| is_open(*port)));
        eventually("nothing is left on disk", || fs::read_dir(self.folders.path()).unwrap().next().is_none());
        self.process.wait().unwrap();
    }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn every_end_of_the_program_is_that_of_its_servers() {
    for signal in ["-INT", "-TERM", "-KILL", "-ABRT"] {
        let mut program = Program::start(&["--standalone"]);
        let (text, ports) = program.read_to("ctrl-C");
        assert!(text.contains("redis://127.0.0.1:") && !text.contains("redis-cluster://"), "{text}");
        assert_eq!(ports.len(), 1);
        program.signal(signal);
        program.nothing_is_left(&ports);
    }
}

#[test]
fn the_end_of_the_input_ends_all() {
    let mut program = Program::start(&[]);
    let (text, ports) = program.read_to("ctrl-C");
    for scheme in ["redis://", "redis-cluster://", "redis-sentinel://"] {
        assert!(text.contains(scheme), "{text}");
    }
    assert_eq!(ports.len(), 1 + 6 + 5, "{text}");
    drop(program.process.stdin.take());
    program.nothing_is_left(&ports);
}

#[test]
fn a_command_has_a_server_for_as_long_as_it_runs() {
    let mut program = Program::start(&["run", "sh", "-c", "echo there is {url}; exec sleep 600"]);
    let (text, ports) = program.read_to("there is");
    assert!(text.contains("there is redis://127.0.0.1:") && ports.len() == 1, "{text}");
    program.signal("-KILL");
    program.nothing_is_left(&ports);
}
