//! Servers for the tests: those that were named, those that are installed, or those that are installed now.
//!
//! The servers themselves are started by `goose-services`, each where it is needed; here it is made sure that they can be.

mod find;
mod install;
mod rabbitmq;
mod redis;

use std::path::Path;

use crate::Result;
use find::Machine;
pub(crate) use rabbitmq::RABBITMQ;
pub(crate) use redis::REDIS;

/// A kind of server: how it is found, and what to tell whoever has none.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    /// What it is called on PATH, in the order in which `goose-services` looks.
    programs: &'static [&'static str],
    /// A folder off PATH that holds a folder for each installed version, and where in there the program is.
    library: Option<(&'static str, &'static str)>,
    /// What Debian and its relatives call it.
    package: &'static str,
    /// The environment variable with a command that starts one, and what such a command must be.
    command: (&'static str, &'static str),
    /// The environment variable with the URL of one that runs already.
    url: &'static str,
    what_to_do: &'static str,
    /// What a command says about its version, or why it starts no server. It is not started for that.
    version: fn(&Machine, &str) -> std::result::Result<String, String>,
}

/// What the tests have to work with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A command that starts servers.
    Command(String),
    /// No such command, only the URL of a server that somebody else started.
    Url(String),
}

impl Server {
    /// Looks for a server, installs one where it can, and says what it has.
    pub(crate) fn set_up(&self) -> Result<Found> {
        let machine = Machine::this(self);
        let found =
            machine.set_up(self, |packages| install::Apt::of_this_machine().map(|apt| apt.install(packages)))?;
        let Self { name, url: variable, .. } = self;
        match &found {
            Found::Command(command) => {
                eprintln!("{name}: {command} {}", (self.version)(&machine, command).unwrap_or_default());
                if let Some(url) = &machine.url {
                    let hidden = hide(url);
                    eprintln!("{name}: {variable} is set, suites that one given server is enough for use {hidden}");
                }
            }
            Found::Url(url) => {
                let hidden = hide(url);
                println!(
                    "{name}: no command that starts a server; only what runs on one given server is run, on {hidden}"
                );
            }
        }
        Ok(found)
    }

    /// The environment variable with the URL of one that runs already.
    pub(crate) fn url_variable(&self) -> &'static str {
        self.url
    }

    /// What it is called where it is talked about.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

/// The URL without what may be a password.
fn hide(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => url.to_owned(),
    }
}

/// The numbers in a path: versions are sorted by them.
fn numbers(path: &Path) -> Vec<u32> {
    path.to_string_lossy().split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(hide("redis://u:p@ss@host:1/2"), "redis://…@host:1/2");
        assert_eq!(hide("redis://host"), "redis://host");
    }
}
