//! What a server is to be like, and how it is started so.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::door::{self, Door};
use super::epmd::Epmd;
use super::{Programs, Rabbit};
use crate::{free_port, leash};

/// A server that is yet to be started.
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is started before `start`"]
pub struct RabbitBuilder {
    config: Vec<String>,
    environment: Vec<(String, String)>,
    erlang: String,
    tls: Option<[PathBuf; 3]>,
}

/// What makes a server this one, and does not change when it is started again.
#[derive(Debug)]
pub(super) struct Place {
    /// Without the host.
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) tls_port: Option<u16>,
    /// Where other nodes reach it.
    pub(super) distribution_port: u16,
    pub(super) epmd: Epmd,
    pub(super) door: Door,
    pub(super) folder: tempfile::TempDir,
}

impl RabbitBuilder {
    /// A line for `rabbitmq.conf`, such as `consumer_timeout = 60000`.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// A line that every other one may overrule: the last one counts.
    pub(super) fn config_first(mut self, line: &str) -> Self {
        self.config.insert(0, line.to_owned());
        self
    }

    /// A further environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Further arguments for the Erlang machine, such as `-kernel net_ticktime 8`, or a setting for which `rabbitmq.conf`
    /// has no line: with `-rabbit channel_tick_interval 1000` it is looked every second, and not once a minute, whether a
    /// consumer is over its `consumer_timeout`.
    pub fn erlang(mut self, arguments: &str) -> Self {
        self.erlang = format!("{} {arguments}", self.erlang);
        self
    }

    /// TLS on a second port, with PEM files: the authorities that are trusted, the server's certificate, and its key.
    /// Clients need no certificate, unless a line of configuration says so: `ssl_options.verify = verify_peer` and
    /// `ssl_options.fail_if_no_peer_cert = true`.
    pub fn tls(mut self, authorities: &Path, certificate: &Path, key: &Path) -> Self {
        self.tls = Some([authorities, certificate, key].map(Path::to_owned));
        self
    }

    /// Starts it; panics when that fails.
    #[must_use]
    pub fn start(self) -> Rabbit {
        // Somebody else may take a port before the server does.
        for _ in 0..3 {
            let mut rabbit = self.clone().prepare(&unique_name());
            rabbit.launch();
            if rabbit.comes_up() {
                return rabbit;
            }
            if !rabbit.log().contains("eaddrinuse") {
                panic!("the server does not come up: {}", rabbit.log());
            }
        }
        panic!("three times somebody else took the port of a server before it came up");
    }

    /// All but the process.
    pub(super) fn prepare(self, name: &str) -> Rabbit {
        let folder = tempfile::Builder::new().prefix("rabbit").tempdir().expect("a temporary folder");
        leash::remove_at_the_end(folder.path());
        let place = Place {
            name: name.to_owned(),
            port: free_port(),
            tls_port: self.tls.as_ref().map(|_| free_port()),
            distribution_port: free_port(),
            epmd: Epmd::start(),
            door: Door::in_folder(folder.path()),
            folder,
        };
        let programs = Programs::of_this_machine();
        self.write_files(&place, &programs).expect("the files of the server");
        Rabbit { settings: self, programs, place, process: None }
    }

    fn write_files(&self, place: &Place, programs: &Programs) -> io::Result<()> {
        let folder = place.folder.path();
        fs::create_dir(folder.join("data"))?;
        fs::write(folder.join("plugins"), "[].\n")?;
        fs::write(folder.join("door.erl"), door::PROGRAM)?;
        let ctl = folder.join("ctl");
        fs::write(&ctl, ctl_script(place, programs))?;
        fs::set_permissions(&ctl, Permissions::from_mode(0o700))?;
        let mut config = self.config.clone();
        if let (Some(files), Some(port)) = (&self.tls, place.tls_port) {
            config.push(format!("listeners.ssl.default = 127.0.0.1:{port}"));
            for (file, setting) in files.iter().zip(["cacertfile", "certfile", "keyfile"]) {
                // A copy: the server may see no other folder than ours.
                let copy = folder.join(setting);
                fs::copy(file, &copy)?;
                config.push(format!("ssl_options.{setting} = {}", copy.display()));
            }
        }
        // Without a file the server starts a little faster.
        if !config.is_empty() {
            fs::write(folder.join("rabbitmq.conf"), config.join("\n") + "\n")?;
        }
        let secret = tempfile::Builder::new().prefix("").rand_bytes(20).tempfile_in(folder)?;
        write_cookie(folder, secret.path().file_name().unwrap_or_default().as_encoded_bytes())
    }
}

/// The secret by which nodes know each other. Erlang refuses one that others may read.
pub(super) fn write_cookie(folder: &Path, secret: &[u8]) -> io::Result<()> {
    let file = folder.join(".erlang.cookie");
    if file.exists() {
        fs::remove_file(&file)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o400).open(file)?.write_all(secret)
}

/// No other test, and no other process, has one of the same name.
pub(super) fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("goose-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What the server and its `rabbitmqctl` must agree on.
fn environment(place: &Place) -> [(&'static str, String); 7] {
    let folder = place.folder.path();
    let in_folder = |name: &str| folder.join(name).display().to_string();
    [
        ("HOME", folder.display().to_string()),
        ("RABBITMQ_NODENAME", format!("{}@localhost", place.name)),
        ("RABBITMQ_CONF_ENV_FILE", in_folder("no-environment")),
        ("RABBITMQ_MNESIA_BASE", in_folder("data")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", in_folder("plugins")),
        ("ERL_EPMD_PORT", place.epmd.port().to_string()),
        // Nobody would end the daemon that they start when they do not find one.
        ("ERL_ZFLAGS", "-start_epmd false".to_owned()),
    ]
}

/// `rabbitmqctl` for this node, for people and for [`Rabbit::ctl`]. What their environment says is for other servers.
fn ctl_script(place: &Place, programs: &Programs) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let Some(ctl) = programs.ctl() else {
        let message = format!("no rabbitmqctl beside {0}, and no {0}-ctl", programs.server[0]);
        return format!("#!/bin/sh\necho {} >&2\nexit 69\n", quoted(&message));
    };
    // Any free port: the default is a range that all of a machine share.
    let ports = ["MIN", "MAX"].map(|end| format!("RABBITMQ_CTL_DIST_PORT_{end}=0"));
    let variables = environment(place).map(|(name, value)| quoted(&format!("{name}={value}")));
    let variables = [&ports[..], &variables].concat().join(" \\\n  ");
    format!(
        "#!/bin/sh\nexec env -i PATH=\"$PATH\" \\\n  {variables} \\\n  {} \"$@\"\n",
        quoted(&ctl.display().to_string())
    )
}

pub(super) fn spawn(settings: &RabbitBuilder, programs: &Programs, place: &Place) -> Child {
    place.door.clear();
    let folder = place.folder.path();
    let said = fs::File::create(folder.join("said")).expect("a file");
    let (program, arguments) = programs.server.split_first().expect("a command");
    let mut command = leash::on_leash(program);
    // Whatever is set for another server is not for this one.
    let foreign = |name: &str| name.starts_with("RABBITMQ_") || name.starts_with("ERL_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(foreign)) {
        command.env_remove(name);
    }
    let port = place.distribution_port;
    let erlang = format!(
        // With the name from the start the node need not find out whether it is free, which takes another machine.
        "-noinput -sname {}@localhost -kernel inet_dist_listen_min {port} inet_dist_listen_max {port} \
         inet_dist_use_interface {{127,0,0,1}} -eval file:eval(os:getenv(\"GOOSE_DOOR_PROGRAM\")) {}",
        place.name, settings.erlang
    );
    command
        .args(arguments)
        .envs(environment(place))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", place.port.to_string())
        .env("RABBITMQ_DIST_PORT", port.to_string())
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
        .env("RABBITMQ_LOG_BASE", folder)
        .env("RABBITMQ_LOGS", folder.join("log"))
        .env("GOOSE_DOOR", place.door.socket())
        .env("GOOSE_DOOR_PROGRAM", folder.join("door.erl"))
        // The script becomes the Erlang machine instead of waiting for it: its process is then the one that we have. That
        // it would read commands from us is undone with -noinput.
        .env("RABBITMQ_ALLOW_INPUT", "yes")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang)
        .envs(settings.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(said)
        .spawn()
        .expect("sh")
}
