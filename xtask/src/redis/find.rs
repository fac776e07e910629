//! Finding a server on this machine.

use std::ffi::OsString;
use std::process::Command;

use super::Redis;
use crate::install::find_in;
use crate::{Failure, Result};

/// What a machine and its user say about servers.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) path: OsString,
    /// `GOOSE_REDIS_SERVER`: a command that starts a server.
    pub(super) server: Option<String>,
    /// `GOOSE_REDIS_URL`: a server that runs already.
    pub(super) url: Option<String>,
}

/// In the order in which `goose-services` looks for them.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

const WHAT_TO_DO: &str = "\
no redis-server and no valkey-server on PATH; do one of these:
  install it: apt-get install redis-server, dnf install valkey, apk add redis, brew install redis
  GOOSE_REDIS_SERVER=COMMAND names the command that starts one, Redis 6.2 or later, or Valkey
  GOOSE_REDIS_URL=redis://… names a server that tests may write to; what needs servers of its own is not run then";

impl Machine {
    pub(super) fn this() -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            server: text("GOOSE_REDIS_SERVER"),
            url: text("GOOSE_REDIS_URL"),
        }
    }

    /// What was named; what is installed; what `install` gets (it answers `None` where it cannot); what is given.
    pub(super) fn set_up(&self, install: impl FnOnce(&[&str]) -> Option<Result<()>>) -> Result<Redis> {
        if let Some(command) = &self.server {
            return match version(command) {
                Ok(_) => Ok(Redis::Command(command.clone())),
                Err(error) => Err(Failure::new(format!(
                    "GOOSE_REDIS_SERVER={command:?} starts no server: {error}; name a command that takes the arguments of redis-server, or unset it"
                ))),
            };
        }
        if let Some(program) = self.installed() {
            return Ok(Redis::Command(program.to_owned()));
        }
        let installed = install(&["redis-server"]);
        if let Some(program) = self.installed() {
            return Ok(Redis::Command(program.to_owned()));
        }
        if let Some(url) = &self.url {
            return Ok(Redis::Url(url.clone()));
        }
        let why = match installed {
            Some(Err(failure)) => format!("{failure}\n"),
            Some(Ok(())) | None => String::new(),
        };
        Err(Failure::new(format!("{why}{WHAT_TO_DO}")))
    }

    fn installed(&self) -> Option<&'static str> {
        PROGRAMS.into_iter().find(|program| find_in(&self.path, program).is_some())
    }
}

/// The first line of what a command says about its version, or why it says nothing.
pub(super) fn version(command: &str) -> std::result::Result<String, String> {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else { return Err("it is empty".to_owned()) };
    let output = Command::new(program).args(words).arg("--version").output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("its --version ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::install::tests::Folder;

    fn machine(folder: &Folder) -> Machine {
        Machine { path: folder.path().into(), server: None, url: None }
    }

    fn cannot_install(_: &[&str]) -> Option<Result<()>> {
        None
    }

    #[test]
    fn redis_comes_before_valkey_and_nothing_is_installed_then() {
        let folder = Folder::new("found");
        folder.program("valkey-server", "");
        let install = |_: &[&str]| panic!("it is there already");
        assert_eq!(machine(&folder).set_up(install).unwrap(), Redis::Command("valkey-server".to_owned()));
        folder.program("redis-server", "");
        assert_eq!(machine(&folder).set_up(install).unwrap(), Redis::Command("redis-server".to_owned()));
    }

    #[test]
    fn what_is_missing_is_installed() {
        let folder = Folder::new("missing");
        let install = |packages: &[&str]| {
            folder.program(packages[0], "");
            Some(Ok(()))
        };
        assert_eq!(machine(&folder).set_up(install).unwrap(), Redis::Command("redis-server".to_owned()));
    }

    #[test]
    fn without_any_server_the_error_says_what_to_do() {
        let folder = Folder::new("none");
        let text = machine(&folder).set_up(cannot_install).unwrap_err().to_string();
        for words in ["apt-get install redis-server", "GOOSE_REDIS_SERVER=COMMAND", "GOOSE_REDIS_URL=redis://"] {
            assert!(text.contains(words), "{text}");
        }
        let fails = |_: &[&str]| Some(Err(Failure::new("apt-get ended with code 100")));
        let text = machine(&folder).set_up(fails).unwrap_err().to_string();
        assert!(text.starts_with("apt-get ended with code 100\nno redis-server"), "{text}");
    }

    #[test]
    fn a_given_server_is_the_last_resort() {
        let folder = Folder::new("given");
        let url = || Some("redis://elsewhere".to_owned());
        let machine = Machine { url: url(), ..machine(&folder) };
        assert_eq!(machine.set_up(cannot_install).unwrap(), Redis::Url("redis://elsewhere".to_owned()));
        folder.program("redis-server", "");
        assert_eq!(machine.set_up(cannot_install).unwrap(), Redis::Command("redis-server".to_owned()));
    }

    #[test]
    fn the_named_command_must_work() {
        let folder = Folder::new("named");
        folder.program("redis-server", "");
        folder.program("mine", "[ \"$1 $2\" = \"--quick --version\" ] && echo version 9");
        let command = format!("{} --quick", folder.path().join("mine").display());
        let named = |command: &str| Machine { server: Some(command.to_owned()), ..machine(&folder) };
        assert_eq!(named(&command).set_up(cannot_install).unwrap(), Redis::Command(command.clone()));
        assert_eq!(version(&command).unwrap(), "version 9");
        for bad in [folder.path().join("mine").display().to_string(), "/no/such/server".to_owned()] {
            let text = named(&bad).set_up(cannot_install).unwrap_err().to_string();
            assert!(text.starts_with(&format!("GOOSE_REDIS_SERVER={bad:?} starts no server: ")), "{text}");
        }
    }
}
