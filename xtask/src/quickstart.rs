//! `cargo xtask quickstart`: the example program of `goose-worker/examples/quickstart`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::cargo::{Cargo, root};
use crate::flags::value_of;
use crate::{Result, services};

pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let program = Program::for_run(arguments);
    let arguments = from_here(arguments);
    if let Some(broker) = program.to_serve {
        if let Some(server) = services::server_of(OsStr::new(broker)) {
            services::need_command(server)?;
        }
        return program.with_server(broker, &arguments)?.become_it();
    }
    program.call("run").args(["--"]).args(arguments).become_it()
}

/// The program, with the brokers that a run needs.
pub(crate) struct Program {
    features: &'static str,
    /// The broker for which a server is to be started.
    to_serve: Option<&'static str>,
}

impl Program {
    /// The one that the flags ask for.
    fn for_run(arguments: &[OsString]) -> Self {
        let url = value_of("--url", arguments);
        let is_amqp = url.is_some_and(|url| url.as_encoded_bytes().starts_with(b"amqp"));
        let implied = if is_amqp { "rmq" } else { "redis" };
        let default = OsStr::new(if url.is_some() { implied } else { "sqlite" });
        Self::for_broker(value_of("--broker", arguments).unwrap_or(default), url)
    }

    pub(crate) fn for_broker(name: &OsStr, url: Option<&OsStr>) -> Self {
        let with_tls = ["rediss", "valkeys", "amqps"]
            .iter()
            .any(|scheme| url.is_some_and(|url| url.as_encoded_bytes().starts_with(scheme.as_bytes())));
        let (features, served) = match (name.to_str(), with_tls) {
            (Some("redis"), false) => ("sqlite,redis", "redis"),
            (Some("redis"), true) => ("sqlite,redis-tls", "redis"),
            (Some("rmq"), false) => ("sqlite,rmq", "rmq"),
            (Some("rmq"), true) => ("sqlite,rmq-tls", "rmq"),
            _ => return Self { features: "sqlite", to_serve: None },
        };
        Self { features, to_serve: url.is_none().then_some(served) }
    }

    /// The call that builds it, or builds and runs it; its arguments follow after `--`.
    pub(crate) fn call(&self, subcommand: &str) -> Cargo {
        Cargo::new([subcommand, "--package", "goose-worker", "--features", self.features, "--example", "quickstart"])
    }

    /// Builds it, and answers the call that runs it with a server of its own.
    pub(crate) fn with_server(&self, broker: &str, arguments: &[OsString]) -> Result<Cargo> {
        // Before the server is started, so that it does not wait for the build.
        self.call("build").run()?;
        let call = self.call("run").args(["--quiet", "--", "--url", "{url}"]).args(arguments);
        Ok(services::with_server(broker, &call))
    }
}

/// Cargo runs in the root of the repository, the user may be elsewhere: relative paths are made absolute,
/// and a missing DIR becomes the repository.
fn from_here(arguments: &[OsString]) -> Vec<OsString> {
    let here = std::env::current_dir().unwrap_or_else(|_| root());
    let mut has_dir = false;
    let mut resolved = Vec::with_capacity(arguments.len() + 1);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let absolute = |path: &OsString| here.join(Path::new(path)).into_os_string();
        if argument == "--db" {
            resolved.push(argument.clone());
            resolved.extend(arguments.next().map(absolute));
        } else if argument == "--broker" || argument == "--url" {
            resolved.push(argument.clone());
            resolved.extend(arguments.next().cloned());
        } else if argument.as_encoded_bytes().starts_with(b"-") {
            resolved.push(argument.clone());
        } else {
            has_dir = true;
            resolved.push(absolute(argument));
        }
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
        let given =
            ["--db", "jobs.db", "--broker", "redis", "--url", "redis://x", "--crash", "src"].map(OsString::from);
        let mut expected = given.clone();
        expected[1] = here.join("jobs.db").into();
        expected[7] = here.join("src").into();
        assert_eq!(from_here(&given), expected);
    }

    #[test]
    fn without_a_folder_it_is_the_repository() {
        let given = ["--db", "/tmp/jobs.db"].map(OsString::from);
        assert_eq!(from_here(&given), ["--db".into(), "/tmp/jobs.db".into(), root().into_os_string()]);
    }

    #[test]
    fn nothing_of_a_broker_is_built_for_a_run_without_it() {
        let program = |name: &str, url: Option<&'static str>| {
            let Program { features, to_serve } = Program::for_broker(OsStr::new(name), url.map(OsStr::new));
            (features, to_serve)
        };
        assert_eq!(program("sqlite", None), ("sqlite", None));
        assert_eq!(program("redis", None), ("sqlite,redis", Some("redis")));
        assert_eq!(program("redis", Some("redis://x")), ("sqlite,redis", None));
        assert_eq!(program("redis", Some("rediss-cluster://x")), ("sqlite,redis-tls", None));
        assert_eq!(program("rmq", None), ("sqlite,rmq", Some("rmq")));
        assert_eq!(program("rmq", Some("amqp://x")), ("sqlite,rmq", None));
        assert_eq!(program("rmq", Some("amqps://x")), ("sqlite,rmq-tls", None));
    }

    #[test]
    fn a_url_alone_means_redis() {
        let features = |words: &[&str]| {
            let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
            Program::for_run(&arguments).features
        };
        assert_eq!(features(&["--crash"]), "sqlite");
        assert_eq!(features(&["--url", "redis://x"]), "sqlite,redis");
        assert_eq!(features(&["--url", "redis://x", "--broker", "sqlite"]), "sqlite");
    }
}
