//! A wall clock that is wrong, and can be moved while the program that believes in it runs.
//!
//! A small library that is preloaded into the program, compiled on the spot. The usual one for this, libfaketime, cannot
//! be loaded into servers that are linked with jemalloc.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const SOURCE: &str = include_str!("shifted_clock.c");

/// A clock for any number of programs. Monotonic clocks are right.
#[derive(Debug)]
pub struct ShiftedClock {
    folder: tempfile::TempDir,
}

impl ShiftedClock {
    /// A clock that is right at first; `None` where none can be made: it takes Linux and a C compiler.
    #[must_use]
    pub fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = folder.path().join("clock.c");
        std::fs::write(&source, SOURCE).expect("a file in a temporary folder");
        let compile = |compiler: &String| {
            let mut command = Command::new(compiler);
            command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("clock.so")).arg(&source);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        let compilers = [std::env::var("CC").unwrap_or_default(), "cc".to_owned(), "gcc".to_owned()];
        if !cfg!(target_os = "linux") || !compilers.iter().any(compile) {
            return None;
        }
        let clock = Self { folder };
        std::fs::write(clock.file(), [0; 8]).expect("a file in a temporary folder");
        Some(clock)
    }

    /// From now on it is ahead by so many milliseconds, or behind.
    pub fn shift(&self, millis: i64) {
        // Not truncated first: programs have it in their memory.
        let mut file = OpenOptions::new().write(true).open(self.file()).expect("the file of the clock");
        file.write_all(&millis.to_ne_bytes()).expect("the file of the clock");
    }

    /// What a program must find in its environment to believe in it.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
        [("LD_PRELOAD", text(&self.folder.path().join("clock.so"))), ("GOOSE_SHIFTED_CLOCK", text(&self.file()))]
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("millis")
    }
}
