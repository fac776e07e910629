//! Servers end with the process that started them, whatever its end.

// It finds the servers in /proc.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
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

    /// Reads its output up to a line with this word.
    fn read_to(&mut self, word: &str) -> String {
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

    /// What runs with one of its folders as the working directory: each server goes to the one it is given.
    fn servers(&self) -> Vec<PathBuf> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let places = processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
        places.filter(|place| place.starts_with(self.folders.path())).collect()
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }

    fn nothing_is_left(mut self) {
        eventually("no server runs any more", || self.servers().is_empty());
        eventually("nothing is left on disk", || fs::read_dir(self.folders.path()).unwrap().next().is_none());
        self.process.wait().unwrap();
    }
}

#[test]
fn every_end_of_the_program_is_that_of_its_servers() {
    for signal in ["-INT", "-TERM", "-KILL", "-ABRT"] {
        let mut program = Program::start(&["--standalone"]);
        let text = program.read_to("ctrl-C");
        assert!(text.contains("redis://127.0.0.1:") && !text.contains("redis-cluster://"), "{text}");
        assert_eq!(program.servers().len(), 1);
        program.signal(signal);
        program.nothing_is_left();
    }
}

#[test]
fn the_end_of_the_input_ends_all() {
    let mut program = Program::start(&[]);
    let text = program.read_to("ctrl-C");
    for scheme in ["redis://", "redis-cluster://", "redis-sentinel://"] {
        assert!(text.contains(scheme), "{text}");
    }
    assert_eq!(program.servers().len(), 1 + 6 + 5);
    drop(program.process.stdin.take());
    program.nothing_is_left();
}

#[test]
fn a_command_has_a_server_for_as_long_as_it_runs() {
    let mut program = Program::start(&["run", "sh", "-c", "echo there is {url}; exec sleep 600"]);
    let text = program.read_to("there is");
    assert!(text.contains("there is redis://127.0.0.1:"), "{text}");
    // A hung server is ended, too.
    let server = program.servers();
    assert_eq!(server.len(), 1);
    program.signal("-KILL");
    program.nothing_is_left();
}
