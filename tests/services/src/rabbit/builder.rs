//! What a server is to be like, and how it is started so.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Door, Epmd, Programs, Rabbit};
use crate::{free_port, leash};

/// A server that is yet to be started.
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is started before `start`"]
pub struct RabbitBuilder {
    config: Vec<String>,
    environment: Vec<(String, String)>,
}

/// What makes a server this one.
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) port: u16,
    pub(super) epmd: u16,
    pub(super) folder: &'a Path,
    pub(super) door: &'a Door,
}

impl Place<'_> {
    /// Where other nodes reach it. [`free_port`] sees to it that it is free.
    fn distribution_port(&self) -> u16 {
        self.port + 10_000
    }
}

impl RabbitBuilder {
    /// A line for `rabbitmq.conf`, such as `consumer_timeout = 60000`.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// A further environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it; panics when that fails.
    #[must_use]
    pub fn start(self) -> Rabbit {
        let mut rabbit = self.launch();
        rabbit.wait_until_up();
        rabbit
    }

    /// Starts it and does not wait.
    pub(super) fn launch(self) -> Rabbit {
        let programs = Programs::of_this_machine();
        let folder = tempfile::Builder::new().prefix("rabbit").tempdir().expect("a temporary folder");
        leash::remove_at_the_end(folder.path());
        let name = unique_name();
        let (port, epmd, door) = (free_port(), Epmd::start(), Door::in_folder(folder.path()));
        let place = Place { name: &name, port, epmd: epmd.port(), folder: folder.path(), door: &door };
        write_files(&self, &place).expect("the files of the server");
        let process = spawn(&self, &programs, &place);
        Rabbit { settings: self, programs, name, port, epmd, door, folder, process, is_held: true }
    }
}

/// No other test, and no other process, has one of the same name.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("goose-{}-{}@localhost", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn write_files(settings: &RabbitBuilder, place: &Place<'_>) -> std::io::Result<()> {
    let folder = place.folder;
    fs::create_dir(folder.join("data"))?;
    fs::write(folder.join("plugins"), "[].\n")?;
    fs::write(folder.join("door.erl"), super::door::PROGRAM)?;
    if !settings.config.is_empty() {
        fs::write(folder.join("rabbitmq.conf"), settings.config.join("\n") + "\n")?;
    }
    // Erlang refuses a cookie that others may read.
    let mut cookie = OpenOptions::new().write(true).create_new(true).mode(0o400).open(folder.join(".erlang.cookie"))?;
    let secret = tempfile::Builder::new().prefix("").rand_bytes(20).tempfile_in(folder)?;
    cookie.write_all(secret.path().file_name().unwrap_or_default().as_encoded_bytes())
}

/// What the server and its `rabbitmqctl` must agree on.
pub(super) fn environment(command: &mut Command, place: &Place<'_>) {
    // Whatever is set for another server is not for this one.
    let foreign = |name: &str| name.starts_with("RABBITMQ_") || name.starts_with("ERL_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(foreign)) {
        command.env_remove(name);
    }
    command
        .env("HOME", place.folder)
        .env("RABBITMQ_NODENAME", place.name)
        .env("RABBITMQ_CONF_ENV_FILE", place.folder.join("no-environment"))
        .env("RABBITMQ_MNESIA_BASE", place.folder.join("data"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", place.folder.join("plugins"))
        .env("ERL_EPMD_PORT", place.epmd.to_string())
        // Nobody would end the daemon that they start when they do not find one.
        .env("ERL_ZFLAGS", "-start_epmd false")
        // Any free port: the default is a range that all of a machine share.
        .env("RABBITMQ_CTL_DIST_PORT_MIN", "0")
        .env("RABBITMQ_CTL_DIST_PORT_MAX", "0");
}

pub(super) fn spawn(settings: &RabbitBuilder, programs: &Programs, place: &Place<'_>) -> Child {
    place.door.clear();
    let (program, arguments) = programs.server.split_first().expect("a command");
    let said = fs::File::create(place.folder.join("said")).expect("a file");
    let mut command = leash::on_leash(program);
    environment(&mut command, place);
    let (port, distribution) = (place.port.to_string(), place.distribution_port().to_string());
    let extra = format!(
        // With the name from the start the node need not find out whether it is free, which takes another machine.
        "-noinput -sname {} -kernel inet_dist_listen_min {distribution} inet_dist_listen_max {distribution} \
         inet_dist_use_interface {{127,0,0,1}} -eval file:eval(os:getenv(\"GOOSE_DOOR_PROGRAM\"))",
        place.name
    );
    command
        .args(arguments)
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port)
        .env("RABBITMQ_DIST_PORT", &distribution)
        .env("RABBITMQ_CONFIG_FILE", place.folder.join("rabbitmq"))
        .env("RABBITMQ_LOG_BASE", place.folder)
        .env("RABBITMQ_LOGS", place.folder.join("log"))
        .env("GOOSE_DOOR", place.door.socket())
        .env("GOOSE_DOOR_PROGRAM", place.folder.join("door.erl"))
        // The script becomes the Erlang machine instead of waiting for it: its process is then the one that we have. That
        // it would read commands from us is undone with -noinput.
        .env("RABBITMQ_ALLOW_INPUT", "yes")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", extra)
        .envs(settings.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(said)
        .spawn()
        .expect("sh")
}
