//! `cargo xtask quickstart`: the example program of `goose-worker/examples/quickstart`.

use std::ffi::OsString;
use std::path::Path;

use crate::Result;
use crate::cargo::{Cargo, root};

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    program().args(["--"]).args(from_here(arguments)).become_it()
}

/// The call that builds and runs the program; its arguments follow after `--`.
pub(crate) fn program() -> Cargo {
    Cargo::new(["run", "--package", "goose-worker", "--features", "sqlite", "--example", "quickstart"])
}

/// Cargo runs in the root of the repository, the user may be elsewhere: relative paths are made absolute,
/// and a missing DIR becomes the repository.
fn from_here(arguments: &[OsString]) -> Vec<OsString> {
    let here = std::env::current_dir().unwrap_or_else(|_| root());
    let mut has_dir = false;
    let mut value_follows = false;
    let mut resolved = Vec::with_capacity(arguments.len() + 1);
    for argument in arguments {
        let is_flag = argument.as_encoded_bytes().starts_with(b"-") && !value_follows;
        has_dir |= !is_flag && !value_follows;
        resolved.push(if is_flag { argument.clone() } else { here.join(Path::new(argument)).into_os_string() });
        value_follows = argument == "--db" && is_flag;
    }
    if !has_dir {
        resolved.push(root().into_os_string());
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_where_the_user_stands() {
        let here = std::env::current_dir().unwrap();
        let given = ["--db", "jobs.db", "--crash", "src"].map(OsString::from);
        let expected = ["--db".into(), here.join("jobs.db").into(), "--crash".into(), here.join("src").into()];
        assert_eq!(from_here(&given), expected as [OsString; 4]);
    }

    #[test]
    fn without_a_folder_it_is_the_repository() {
        let given = ["--db", "/tmp/jobs.db"].map(OsString::from);
        assert_eq!(from_here(&given), ["--db".into(), "/tmp/jobs.db".into(), root().into_os_string()]);
    }
}
