//! Installing what the tests use, on Debian and its relatives, where we may.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::find::find;
use crate::{Failure, Result};

/// The package manager of Debian and its relatives.
#[derive(Debug)]
pub(super) struct Apt {
    program: PathBuf,
    /// Whether services may start is asked of this file; see the script.
    policy: PathBuf,
}

/// Services of the packages must not start: the tests have servers of their own, on ports of their own. A file that
/// forbids it is how Debian is told; it is there for as long as the installation, and one that is there already stays.
const SCRIPT: &str = r#"
policy=$1 apt=$2
shift 2
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || exit
fi
exec >&2
"$apt" update -q -o Acquire::Retries=0 && "$apt" install -q -y --no-install-recommends "$@"
"#;

impl Apt {
    /// `None` where there is no apt-get, or no right to use it.
    pub(super) fn of_this_machine() -> Option<Self> {
        if !Path::new("/etc/debian_version").exists() || !is_root() {
            return None;
        }
        let program = find("apt-get")?;
        Some(Self { program, policy: "/usr/sbin/policy-rc.d".into() })
    }

    /// Installs packages and starts none of them.
    pub(super) fn install(&self, packages: &[&str]) -> Result<()> {
        eprintln!("$ {} install --no-install-recommends {}", self.program.display(), packages.join(" "));
        let status = Command::new("sh")
            .args(["-c", SCRIPT, "install"])
            .args([&self.policy, &self.program])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .map_err(|error| Failure::new(format!("cannot start sh: {error}")))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::of_program(&format!("the installation of {}", packages.join(" ")), status.code()))
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]
pub(super) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A folder of programs, gone with the test.
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        pub(crate) fn program(&self, name: &str, script: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn apt(folder: &Folder, script: &str) -> Apt {
        Apt { program: folder.program("apt-get", script), policy: folder.path().join("policy-rc.d") }
    }

    #[test]
    fn services_may_not_start_while_packages_are_installed() {
        let folder = Folder::new("policy");
        let log = folder.path().join("log");
        let apt = apt(
            &folder,
            &format!("d={}; $d/policy-rc.d; echo $? $* $DEBIAN_FRONTEND >>$d/log", folder.path().display()),
        );
        apt.install(&["redis-server", "redis-tools"]).unwrap();
        let text = fs::read_to_string(&log).unwrap();
        let expected = "101 update -q -o Acquire::Retries=0 noninteractive\n\
            101 install -q -y --no-install-recommends redis-server redis-tools noninteractive\n";
        assert_eq!(text, expected);
        assert!(!apt.policy.exists(), "it was put there for the installation alone");

        let own = folder.program("policy-rc.d", "exit 7");
        apt.install(&["redis-server"]).unwrap();
        assert!(own.exists(), "somebody else's is not removed");
        assert!(fs::read_to_string(&log).unwrap().contains("\n7 install"));
    }

    #[test]
    fn a_failed_installation_is_told_and_leaves_nothing_behind() {
        let folder = Folder::new("fails");
        let apt = apt(&folder, "[ $1 = update ] || exit 100");
        let text = apt.install(&["redis-server"]).unwrap_err().to_string();
        assert_eq!(text, "the installation of redis-server ended with code 100");
        assert!(!apt.policy.exists());
    }
}
