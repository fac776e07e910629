//! A Redis server for the tests: the one that was named, the one that is installed, or one that is installed now.
//!
//! The servers themselves are started by `goose-services`, each where it is needed; here it is made sure that they can be.

mod find;

use crate::Result;
use crate::install::Apt;
use find::Machine;

/// What the tests have to work with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redis {
    /// A command that starts servers.
    Command(String),
    /// No such command, only the URL of a server that somebody else started.
    Url(String),
}

/// Looks for a server, installs one where it can, and says what it has.
pub(crate) fn set_up() -> Result<Redis> {
    let machine = Machine::this();
    let redis = machine.set_up(|packages| Apt::of_this_machine().map(|apt| apt.install(packages)))?;
    match &redis {
        Redis::Command(command) => {
            eprintln!("Redis: {command}, {}", find::version(command).unwrap_or_default());
            if let Some(url) = &machine.url {
                eprintln!(
                    "Redis: GOOSE_REDIS_URL is set, suites that one given server is enough for use {}",
                    hide(url)
                );
            }
        }
        Redis::Url(url) => {
            println!(
                "Redis: no command that starts a server; only what runs on one given server is run, on {}",
                hide(url)
            );
        }
    }
    Ok(redis)
}

/// The URL without what may be a password.
fn hide(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => url.to_owned(),
    }
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
