//! Calling cargo, and programs through it, from the root of the repository.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Failure, Result};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// One call of cargo.
#[derive(Debug, Clone)]
pub(crate) struct Cargo {
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Cargo {
    pub(crate) fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        Self { arguments, environment: Vec::new() }
    }

    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// The call as one would type it.
    pub(crate) fn shown(&self) -> String {
        let mut words: Vec<String> = self.environment.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        words.push("cargo".to_owned());
        words.extend(self.arguments.iter().map(|argument| argument.to_string_lossy().into_owned()));
        words.join(" ")
    }

    /// Cargo and its arguments, for a program that is to start it. Without the environment.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words = vec![program()];
        words.extend(self.arguments.iter().cloned());
        words
    }

    /// Shows the call and runs it on this terminal.
    pub(crate) fn run(&self) -> Result<()> {
        println!("$ {}", self.shown());
        self.run_quietly()
    }

    /// Lets it take the place of this process, where the system can do that: ctrl-C and the exit code are then its own.
    /// What we say is on standard error: standard output is that of the program, for whoever reads it.
    pub(crate) fn become_it(&self) -> Result<()> {
        eprintln!("$ {}", self.shown());
        #[cfg(unix)]
        {
            let error = std::os::unix::process::CommandExt::exec(&mut self.command());
            Err(self.cannot_start(&error))
        }
        #[cfg(not(unix))]
        self.run_quietly()
    }

    /// Runs it on this terminal without showing the call.
    fn run_quietly(&self) -> Result<()> {
        let status = self.command().status().map_err(|error| self.cannot_start(&error))?;
        if status.success() { Ok(()) } else { Err(Failure::of_program(&self.shown(), status.code())) }
    }

    /// Shows the call, runs it, and hands every line of its standard output to `on_line`.
    pub(crate) fn run_lines(&self, mut on_line: impl FnMut(&str)) -> Result<()> {
        println!("$ {}", self.shown());
        let mut child = self.command().stdout(Stdio::piped()).spawn().map_err(|error| self.cannot_start(&error))?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n').map_while(std::result::Result::ok) {
                on_line(&String::from_utf8_lossy(&line));
            }
        }
        let status = child.wait().map_err(|error| Failure::new(format!("cannot wait for cargo: {error}")))?;
        if status.success() { Ok(()) } else { Err(Failure::of_program(&self.shown(), status.code())) }
    }

    /// Runs it and returns what it prints.
    pub(crate) fn output(&self) -> Result<String> {
        let output = self.command().stderr(Stdio::inherit()).output().map_err(|error| self.cannot_start(&error))?;
        if !output.status.success() {
            return Err(Failure::of_program(&self.shown(), output.status.code()));
        }
        String::from_utf8(output.stdout)
            .map_err(|_| Failure::new(format!("{} printed something that is not UTF-8", self.shown())))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.current_dir(root()).args(&self.arguments).envs(self.environment.iter().copied());
        command
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot start {}: {error}", self.shown()))
    }
}

/// The cargo that started us.
fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
