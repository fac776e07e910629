//! Which server to start, and the program that manages it.

use std::path::{Path, PathBuf};

/// Debian, Fedora and their relatives keep the server's own scripts here, one folder per version. The ones on PATH change
/// the user and the folder, and so cannot be given files of a test.
const LIBRARY: &str = "/usr/lib/rabbitmq/lib";

/// Commands: a program and its first arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) server: Vec<String>,
    ctl: Option<PathBuf>,
}

impl Programs {
    /// What `GOOSE_RABBITMQ_SERVER` names, or what is installed.
    pub(super) fn of_this_machine() -> Self {
        match std::env::var("GOOSE_RABBITMQ_SERVER") {
            Ok(command) => Self::named(&command),
            Err(_) => Self::installed(Path::new(LIBRARY), &std::env::var("PATH").unwrap_or_default()),
        }
    }

    fn named(command: &str) -> Self {
        let server: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let program =
            server.first().expect("GOOSE_RABBITMQ_SERVER is empty; unset it, or give the command of a server");
        Self { ctl: ctl_of(Path::new(program)), server }
    }

    fn installed(library: &Path, path: &str) -> Self {
        let folders = std::fs::read_dir(library).into_iter().flatten().flatten();
        let mut scripts: Vec<_> = folders.map(|version| version.path().join("sbin/rabbitmq-server")).collect();
        scripts.sort();
        let on_path = std::env::split_paths(path).map(|folder| folder.join("rabbitmq-server"));
        let found = scripts.into_iter().rev().chain(on_path).find(|script| script.is_file());
        let server = found.unwrap_or_else(|| "rabbitmq-server".into());
        Self { ctl: ctl_of(&server), server: vec![server.display().to_string()] }
    }

    pub(super) fn ctl(&self) -> &Path {
        let about = "there is no rabbitmqctl that belongs to the server";
        let server = &self.server;
        self.ctl
            .as_deref()
            .unwrap_or_else(|| panic!("{about}: put one beside {server:?}, or name it {}-ctl", server[0]))
    }
}

/// The one that is named after the server, or stands beside it.
fn ctl_of(server: &Path) -> Option<PathBuf> {
    let mut named = server.as_os_str().to_owned();
    named.push("-ctl");
    [named.into(), server.with_file_name("rabbitmqctl")].into_iter().find(|path: &PathBuf| path.is_file())
}
