//! Finding a server on this machine.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::{Found, Server, numbers};
use crate::{Failure, Result};

/// What a machine and its user say about servers.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) path: OsString,
    /// Where versions of a server are, beside PATH.
    pub(super) library: Option<PathBuf>,
    /// A command that starts a server, by the user's word.
    pub(super) server: Option<String>,
    /// A server that runs already, by the user's word.
    pub(super) url: Option<String>,
}

impl Machine {
    pub(super) fn this(server: &Server) -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            library: server.library.map(|(folder, _)| folder.into()),
            server: text(server.command.0),
            url: text(server.url),
        }
    }

    /// What was named; what is installed; what `install` gets (it answers `None` where it cannot); what is given.
    pub(super) fn set_up(&self, server: &Server, install: impl FnOnce(&[&str]) -> Option<Result<()>>) -> Result<Found> {
        if let Some(command) = &self.server {
            let (variable, requirement) = server.command;
            return match (server.version)(self, command) {
                Ok(_) => Ok(Found::Command(command.clone())),
                Err(error) => Err(Failure::new(format!(
                    "{variable}={command:?} starts no server: {error}; name a command that {requirement}, or unset it"
                ))),
            };
        }
        if let Some(command) = self.installed(server) {
            return Ok(Found::Command(command));
        }
        let installed = install(&[server.package]);
        if let Some(command) = self.installed(server) {
            return Ok(Found::Command(command));
        }
        if let Some(url) = &self.url {
            return Ok(Found::Url(url.clone()));
        }
        let why = match installed {
            Some(Err(failure)) => format!("{failure}\n"),
            Some(Ok(())) | None => String::new(),
        };
        Err(Failure::new(format!("{why}{}", server.what_to_do)))
    }

    /// The newest version in the library, or what is on PATH.
    fn installed(&self, server: &Server) -> Option<String> {
        let on_path =
            || server.programs.iter().find(|program| self.find(program).is_some()).map(|name| (*name).to_owned());
        self.in_library(server).or_else(on_path)
    }

    fn in_library(&self, server: &Server) -> Option<String> {
        let (_, program) = server.library?;
        let versions = std::fs::read_dir(self.library.as_ref()?).ok()?.flatten();
        let programs = versions.map(|version| version.path().join(program)).filter(|path| path.is_file());
        programs.max_by_key(|path| numbers(path)).map(|path| path.display().to_string())
    }

    /// Where a program is.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        on_path(&self.path, program)
    }
}

/// Where a program of this machine is.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    on_path(&std::env::var_os("PATH")?, program)
}

fn on_path(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]
pub(super) mod tests {
    use super::*;
    use crate::servers::install::tests::Folder;
    use crate::servers::{RABBITMQ, REDIS};

    pub(crate) fn machine(folder: &Folder) -> Machine {
        Machine { path: folder.path().into(), library: Some(folder.path().to_owned()), server: None, url: None }
    }

    pub(crate) fn cannot_install(_: &[&str]) -> Option<Result<()>> {
        None
    }

    #[test]
    fn what_is_missing_is_installed() {
        let folder = Folder::new("missing");
        let install = |packages: &[&str]| {
            folder.program(packages[0], "");
            Some(Ok(()))
        };
        for (server, program) in [(REDIS, "redis-server"), (RABBITMQ, "rabbitmq-server")] {
            let found = machine(&folder).set_up(&server, install).unwrap();
            assert_eq!(found, Found::Command(program.to_owned()));
        }
    }

    #[test]
    fn without_any_server_the_error_says_what_to_do() {
        let folder = Folder::new("none");
        for (server, name, scheme) in [(REDIS, "redis", "redis"), (RABBITMQ, "rabbitmq", "amqp")] {
            let text = machine(&folder).set_up(&server, cannot_install).unwrap_err().to_string();
            let variable = format!("GOOSE_{}", name.to_uppercase());
            for words in [
                format!("apt-get install {name}-server"),
                format!("{variable}_SERVER=COMMAND"),
                format!("{variable}_URL={scheme}://"),
            ] {
                assert!(text.contains(&words), "{text}");
            }
            let fails = |_: &[&str]| Some(Err(Failure::new("apt-get ended with code 100")));
            let text = machine(&folder).set_up(&server, fails).unwrap_err().to_string();
            assert!(text.starts_with(&format!("apt-get ended with code 100\nno {name}-server")), "{text}");
        }
    }

    #[test]
    fn a_given_server_is_the_last_resort() {
        let folder = Folder::new("given");
        let machine = Machine { url: Some("redis://elsewhere".to_owned()), ..machine(&folder) };
        let set_up = || machine.set_up(&REDIS, cannot_install).unwrap();
        assert_eq!(set_up(), Found::Url("redis://elsewhere".to_owned()));
        folder.program("redis-server", "");
        assert_eq!(set_up(), Found::Command("redis-server".to_owned()));
    }
}
