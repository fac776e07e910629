//! What is particular to Redis.

use std::process::Command;

use super::Server;
use super::find::Machine;

pub(crate) const REDIS: Server = Server {
    name: "Redis",
    programs: &["redis-server", "valkey-server"],
    library: None,
    package: "redis-server",
    command: ("GOOSE_REDIS_SERVER", "takes the arguments of redis-server"),
    url: "GOOSE_REDIS_URL",
    what_to_do: "\
no redis-server and no valkey-server on PATH; do one of these:
  install it: apt-get install redis-server, dnf install valkey, apk add redis, brew install redis
  GOOSE_REDIS_SERVER=COMMAND names the command that starts one, Redis 6.2 or later, or Valkey
  GOOSE_REDIS_URL=redis://… names a server that tests may write to; what needs servers of its own is not run then",
    version,
};

/// The first line of what a command says about its version.
fn version(_: &Machine, command: &str) -> Result<String, String> {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else { return Err("it is empty".to_owned()) };
    let output = Command::new(program).args(words).arg("--version").output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("its --version ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]
mod tests {
    use super::*;
    use crate::servers::Found;
    use crate::servers::find::tests::{cannot_install, machine};
    use crate::servers::install::tests::Folder;

    #[test]
    fn redis_comes_before_valkey_and_nothing_is_installed_then() {
        let folder = Folder::new("found");
        folder.program("valkey-server", "");
        let install = |_: &[&str]| panic!("it is there already");
        let found = || machine(&folder).set_up(&REDIS, install).unwrap();
        assert_eq!(found(), Found::Command("valkey-server".to_owned()));
        folder.program("redis-server", "");
        assert_eq!(found(), Found::Command("redis-server".to_owned()));
    }

    #[test]
    fn the_named_command_must_work() {
        let folder = Folder::new("named");
        folder.program("redis-server", "");
        folder.program("mine", "[ \"$1 $2\" = \"--quick --version\" ] && echo version 9");
        let command = format!("{} --quick", folder.path().join("mine").display());
        let named = |command: &str| Machine { server: Some(command.to_owned()), ..machine(&folder) };
        assert_eq!(named(&command).set_up(&REDIS, cannot_install).unwrap(), Found::Command(command.clone()));
        assert_eq!(version(&machine(&folder), &command).unwrap(), "version 9");
        for bad in [folder.path().join("mine").display().to_string(), "/no/such/server".to_owned()] {
            let text = named(&bad).set_up(&REDIS, cannot_install).unwrap_err().to_string();
            assert!(text.starts_with(&format!("GOOSE_REDIS_SERVER={bad:?} starts no server: ")), "{text}");
        }
    }
}
