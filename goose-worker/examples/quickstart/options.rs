//! The command line: `quickstart [DIR] [--crash] [--db PATH]`, and a hidden form for the worker process.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::Result;

pub(crate) const USAGE: &str = "\
Usage: quickstart [DIR] [--crash] [--db PATH]

  DIR        the folder whose files are counted (default: the current one)
  --crash    kill the worker half-way and let a second one take over
  --db PATH  keep the jobs in this file (default: a temporary one)
";

/// What this process is asked to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Help,
    /// The process that was started by hand: it enqueues, starts workers, and adds up.
    Producer(Options),
    /// The process that runs jobs.
    Worker {
        db: PathBuf,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    pub(crate) crash: bool,
    pub(crate) db: Option<PathBuf>,
}

/// The word that makes this program a worker.
const WORKER: &str = "--worker";

/// The arguments with which the producer starts a worker.
pub(crate) fn worker_arguments(db: impl Into<OsString>) -> [OsString; 2] {
    [WORKER.into(), db.into()]
}

/// Reads the arguments without the program's name. Names of files need not be UTF-8.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Role> {
    let mut arguments = arguments.into_iter();
    let mut dir = None;
    let mut options = Options { dir: PathBuf::from("."), crash: false, db: None };
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().map(PathBuf::from).ok_or_else(|| format!("{argument:?} needs a path\n\n{USAGE}"));
        if argument == "--help" || argument == "-h" {
            return Ok(Role::Help);
        } else if argument == WORKER {
            return Ok(Role::Worker { db: value()? });
        } else if argument == "--db" {
            options.db = Some(value()?);
        } else if argument == "--crash" {
            options.crash = true;
        } else if argument.as_encoded_bytes().starts_with(b"-") {
            return Err(format!("there is no flag {argument:?}\n\n{USAGE}").into());
        } else if dir.replace(PathBuf::from(&argument)).is_some() {
            return Err(format!("{argument:?} is one folder too many\n\n{USAGE}").into());
        }
    }
    options.dir = dir.unwrap_or(options.dir);
    Ok(Role::Producer(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Role> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn every_flag_is_understood_and_nothing_else() {
        let options = |dir: &str, crash, db: Option<&str>| {
            Role::Producer(Options { dir: dir.into(), crash, db: db.map(PathBuf::from) })
        };
        assert_eq!(parse_words("").unwrap(), options(".", false, None));
        assert_eq!(parse_words("--crash src --db x.db").unwrap(), options("src", true, Some("x.db")));
        assert_eq!(parse(worker_arguments("x.db")).unwrap(), Role::Worker { db: "x.db".into() });
        for (line, message) in [
            ("--fast", "there is no flag \"--fast\""),
            ("a b", "\"b\" is one folder too many"),
            ("--db", "\"--db\" needs a path"),
        ] {
            let error = parse_words(line).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
