//! A RabbitMQ server: the one that was named, the one that is installed, or one that is installed now.
//!
//! As with Redis, `goose-services` starts the servers; here it is made sure that it can.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::install::{Apt, find_in};
use crate::{Failure, Result};

/// What a machine and its user say about servers.
#[derive(Debug)]
struct Machine {
    path: OsString,
    /// Where packages keep the server's own scripts, one folder per version; `goose-services` looks here first.
    library: PathBuf,
    /// `GOOSE_RABBITMQ_SERVER`: a command that starts a server.
    server: Option<String>,
}

const WHAT_TO_DO: &str = "\
no rabbitmq-server on PATH; do one of these:
  install it: apt-get install rabbitmq-server, dnf install rabbitmq-server, brew install rabbitmq
  GOOSE_RABBITMQ_SERVER=COMMAND names the command that starts one, RabbitMQ 3.10 or later";

/// Looks for a server, installs one where it can, and says what it has.
pub(crate) fn set_up() -> Result<()> {
    let command = Machine::this().set_up(|packages| Apt::of_this_machine().map(|apt| apt.install(packages)))?;
    eprintln!("RabbitMQ: {command}");
    Ok(())
}

impl Machine {
    fn this() -> Self {
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            library: "/usr/lib/rabbitmq/lib".into(),
            server: std::env::var("GOOSE_RABBITMQ_SERVER").ok().filter(|value| !value.trim().is_empty()),
        }
    }

    /// What was named; what is installed; what `install` gets (it answers `None` where it cannot).
    ///
    /// Nothing is asked for its version: the script of the server knows no such flag and would start it.
    fn set_up(&self, install: impl FnOnce(&[&str]) -> Option<Result<()>>) -> Result<String> {
        if let Some(command) = &self.server {
            let program = command.split_whitespace().next().unwrap_or_default();
            if Path::new(program).is_file() || find_in(&self.path, program).is_some() {
                return Ok(command.clone());
            }
            return Err(Failure::new(format!(
                "GOOSE_RABBITMQ_SERVER={command:?} starts no server: there is no program {program}; name a command that is like rabbitmq-server, or unset it"
            )));
        }
        if let Some(program) = self.installed() {
            return Ok(program.display().to_string());
        }
        let installed = install(&["rabbitmq-server"]);
        if let Some(program) = self.installed() {
            return Ok(program.display().to_string());
        }
        let why = match installed {
            Some(Err(failure)) => format!("{failure}\n"),
            Some(Ok(())) | None => String::new(),
        };
        Err(Failure::new(format!("{why}{WHAT_TO_DO}")))
    }

    fn installed(&self) -> Option<PathBuf> {
        let versions = std::fs::read_dir(&self.library).into_iter().flatten().flatten();
        let mut scripts = versions.map(|version| version.path().join("sbin/rabbitmq-server"));
        scripts.find(|script| script.is_file()).or_else(|| find_in(&self.path, "rabbitmq-server"))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::install::tests::Folder;

    fn machine(folder: &Folder) -> Machine {
        Machine { path: folder.path().into(), library: folder.path().join("lib"), server: None }
    }

    #[test]
    fn what_is_missing_is_installed_and_what_is_there_is_not() {
        let folder = Folder::new("rabbit-missing");
        let machine = machine(&folder);
        let install = |packages: &[&str]| {
            folder.program(packages[0], "");
            Some(Ok(()))
        };
        let command = folder.path().join("rabbitmq-server").display().to_string();
        assert_eq!(machine.set_up(install).unwrap(), command);
        assert_eq!(machine.set_up(|_| panic!("it is there already")).unwrap(), command);
    }

    #[test]
    fn the_scripts_of_a_package_count_without_path() {
        let folder = Folder::new("rabbit-library");
        let sbin = folder.path().join("lib/rabbitmq_server-3.10.8/sbin");
        std::fs::create_dir_all(&sbin).unwrap();
        std::fs::write(sbin.join("rabbitmq-server"), "").unwrap();
        let found = machine(&folder).set_up(|_| panic!("it is there already")).unwrap();
        assert_eq!(found, sbin.join("rabbitmq-server").display().to_string());
    }

    #[test]
    fn without_any_server_the_error_says_what_to_do() {
        let folder = Folder::new("rabbit-none");
        let text = machine(&folder).set_up(|_| None).unwrap_err().to_string();
        for words in ["apt-get install rabbitmq-server", "GOOSE_RABBITMQ_SERVER=COMMAND"] {
            assert!(text.contains(words), "{text}");
        }
        let fails = |_: &[&str]| Some(Err(Failure::new("apt-get ended with code 100")));
        let text = machine(&folder).set_up(fails).unwrap_err().to_string();
        assert!(text.starts_with("apt-get ended with code 100\nno rabbitmq-server"), "{text}");
    }

    #[test]
    fn the_named_command_must_be_there() {
        let folder = Folder::new("rabbit-named");
        let program = folder.program("mine", "").display().to_string();
        let named = |command: String| Machine { server: Some(command), ..machine(&folder) }.set_up(|_| None);
        for command in [format!("{program} --quick"), "mine --quick".to_owned()] {
            assert_eq!(named(command.clone()).unwrap(), command);
        }
        let text = named("/no/such/server".to_owned()).unwrap_err().to_string();
        assert!(text.starts_with("GOOSE_RABBITMQ_SERVER=\"/no/such/server\" starts no server: "), "{text}");
    }
}
