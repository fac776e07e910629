//! What is particular to RabbitMQ.

use std::path::Path;

use super::Server;
use super::find::Machine;

/// Its own script, and not the one of the same name that Debian and Fedora put on PATH: that one changes the user and the
/// folder, and so cannot be given files of a test.
const SCRIPT: &str = "sbin/rabbitmq-server";

pub(crate) const RABBITMQ: Server = Server {
    name: "RabbitMQ",
    programs: &["rabbitmq-server"],
    library: Some(("/usr/lib/rabbitmq/lib", SCRIPT)),
    package: "rabbitmq-server",
    command: ("GOOSE_RABBITMQ_SERVER", "takes RABBITMQ_… and HOME from the environment, as rabbitmq-server does"),
    url: "GOOSE_RABBITMQ_URL",
    what_to_do: "\
no rabbitmq-server under /usr/lib/rabbitmq or on PATH; do one of these:
  install it: apt-get install rabbitmq-server, dnf install rabbitmq-server, brew install rabbitmq; 3.10 or later, no plugin
  GOOSE_RABBITMQ_SERVER=COMMAND names the command that starts one
  GOOSE_RABBITMQ_URL=amqp://… names a server that tests may write to; what needs servers of its own is not run then",
    version,
};

/// The version in the name of its folder. It has no argument that shows it: whatever is given, it starts.
fn version(machine: &Machine, command: &str) -> Result<String, String> {
    let Some(program) = command.split_whitespace().next() else { return Err("it is empty".to_owned()) };
    let is_there = if program.contains('/') { Path::new(program).is_file() } else { machine.find(program).is_some() };
    if !is_there {
        return Err("there is no such program".to_owned());
    }
    let version = program.split('/').find_map(|part| part.strip_prefix("rabbitmq_server-"));
    Ok(version.map(|version| format!("({version})")).unwrap_or_default())
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]
mod tests {
    use super::*;
    use crate::servers::Found;
    use crate::servers::find::tests::{cannot_install, machine};
    use crate::servers::install::tests::Folder;

    #[test]
    fn the_newest_of_the_installed_versions_comes_before_path() {
        let folder = Folder::new("rabbitmq-versions");
        let found = || machine(&folder).set_up(&RABBITMQ, cannot_install).unwrap();
        folder.program("rabbitmq-server", "");
        assert_eq!(found(), Found::Command("rabbitmq-server".to_owned()));
        for version in ["3.9.27", "3.10.8"] {
            let scripts = folder.path().join(format!("rabbitmq_server-{version}/sbin"));
            std::fs::create_dir_all(&scripts).unwrap();
            std::fs::write(scripts.join("rabbitmq-server"), "").unwrap();
        }
        let newest = folder.path().join("rabbitmq_server-3.10.8").join(SCRIPT).display().to_string();
        assert_eq!(found(), Found::Command(newest.clone()));
        assert_eq!(version(&machine(&folder), &newest).unwrap(), "(3.10.8)");
    }

    #[test]
    fn the_named_command_must_be_there_and_is_not_started() {
        let folder = Folder::new("rabbitmq-named");
        let program = folder.program("mine", "touch \"$0.was-started\"");
        let named = |command: &str| {
            let machine = Machine { server: Some(command.to_owned()), ..machine(&folder) };
            machine.set_up(&RABBITMQ, cannot_install)
        };
        for command in ["mine", &program.display().to_string()] {
            assert_eq!(named(command).unwrap(), Found::Command(command.to_owned()));
        }
        assert!(!folder.path().join("mine.was-started").exists());
        let text = named("/no/such/server").unwrap_err().to_string();
        assert!(text.starts_with("GOOSE_RABBITMQ_SERVER=\"/no/such/server\" starts no server: there is no"), "{text}");
    }
}
