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
        // 3.9 before 3.10: by the numbers.
        scripts.sort_by_cached_key(|script| numbers(script));
        let on_path = std::env::split_paths(path).map(|folder| folder.join("rabbitmq-server"));
        let found = scripts.into_iter().rev().chain(on_path).find(|script| script.is_file());
        let server = found.unwrap_or_else(|| "rabbitmq-server".into());
        Self { ctl: ctl_of(&server), server: vec![server.display().to_string()] }
    }

    /// The `rabbitmqctl` that belongs to the server.
    pub(super) fn ctl(&self) -> Option<&Path> {
        self.ctl.as_deref()
    }
}

fn numbers(path: &Path) -> Vec<u32> {
    path.to_string_lossy().split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// The one that is named after the server, or stands beside it.
fn ctl_of(server: &Path) -> Option<PathBuf> {
    let mut named = server.as_os_str().to_owned();
    named.push("-ctl");
    [named.into(), server.with_file_name("rabbitmqctl")].into_iter().find(|path: &PathBuf| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_installed_server_comes_first_and_path_last() {
        let folder = tempfile::tempdir().unwrap();
        let program = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let (library, path) = (folder.path().join("lib"), folder.path().join("bin").display().to_string());
        let found = || Programs::installed(&library, &path);
        assert_eq!((found().server, found().ctl), (vec!["rabbitmq-server".to_owned()], None));

        let on_path = program("bin/rabbitmq-server");
        assert_eq!((found().server, found().ctl), (vec![on_path.display().to_string()], None));

        program("lib/rabbitmq_server-3.9.27/sbin/rabbitmq-server");
        let newest = program("lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server");
        let ctl = program("lib/rabbitmq_server-3.10.8/sbin/rabbitmqctl");
        assert_eq!((found().server, found().ctl), (vec![newest.display().to_string()], Some(ctl)));
    }

    #[test]
    fn a_named_server_has_its_own_ctl() {
        let folder = tempfile::tempdir().unwrap();
        let server = folder.path().join("rabbitmq-4.0").display().to_string();
        let named = || Programs::named(&format!("{server} --quiet"));
        assert_eq!((named().server, named().ctl), (vec![server.clone(), "--quiet".to_owned()], None));
        let (beside, own) = (folder.path().join("rabbitmqctl"), folder.path().join("rabbitmq-4.0-ctl"));
        std::fs::write(&beside, "").unwrap();
        assert_eq!(named().ctl, Some(beside));
        std::fs::write(&own, "").unwrap();
        assert_eq!(named().ctl, Some(own));
    }
}
