//! Servers for hand use, and for one run of a program: `cargo xtask services` and `cargo xtask quickstart --broker redis`.
//!
//! - `services [--broker redis] [--standalone] [--cluster] [--sentinel]` and `services --broker rmq [--standalone]
//!   [--cluster]` start these, all without a flag, say where they are, and stop them at the end of the input, or of
//!   themselves.
//! - `services run [--broker NAME] COMMAND…` starts a server, puts its URL where `{url}` stands in the command, and becomes
//!   the command. The server ends with it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program on the command line talks to its user")]

mod request;

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use goose_services::rabbit::{Rabbit, RabbitCluster};
use goose_services::{Cluster, Server, Watched};
use request::{Broker, Kind, Request};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Request::read(&arguments) {
        Ok(Request::Serve(wanted)) => serve(&wanted),
        Ok(Request::Run(broker, command)) => run(broker, &command),
        Err(message) => {
            eprintln!("services: {message}");
            ExitCode::from(2)
        }
    }
}

fn serve(wanted: &[(Broker, Kind)]) -> ExitCode {
    let redis = Redis::start(|kind| wanted.contains(&(Broker::Redis, kind)));
    let rabbit = RabbitMq::start(|kind| wanted.contains(&(Broker::Rmq, kind)));
    redis.show();
    rabbit.show();
    println!("ctrl-C, or the end of the input, stops them and removes what they hold");
    // It is over when nobody can type any more, however that came about.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    ExitCode::SUCCESS
}

/// Those that are wanted.
struct Redis {
    standalone: Option<Server>,
    cluster: Option<Cluster>,
    sentinel: Option<Watched>,
}

impl Redis {
    fn start(is_wanted: impl Fn(Kind) -> bool) -> Self {
        Self {
            standalone: is_wanted(Kind::Standalone).then(Server::durable),
            cluster: is_wanted(Kind::Cluster).then(|| Cluster::start(3, true)),
            sentinel: is_wanted(Kind::Sentinel).then(Watched::start),
        }
    }

    fn show(&self) {
        let Self { standalone, cluster, sentinel } = self;
        if let Some(server) = standalone {
            let about = "Redis: one server, every write on disk before it answers";
            show(about, &server.url(), &format!("redis-cli -p {}", server.port()));
        }
        if let Some(cluster) = cluster {
            show(
                "Redis: three primaries, each with a replica",
                &cluster.url(),
                &format!("redis-cli -c -p {}", cluster.nodes[0].port()),
            );
        }
        if let Some(watched) = sentinel {
            let (primary, replica) = (watched.primary.port(), watched.replica.port());
            show(
                &format!("Redis: a primary ({primary}) and its replica ({replica}), watched by three Sentinels"),
                &watched.url(),
                &format!("redis-cli -p {} SENTINEL MASTERS", watched.sentinels[0].port()),
            );
        }
        if standalone.is_some() || cluster.is_some() || sentinel.is_some() {
            println!("Use a URL in `RedisBroker::connect`, or with:");
            println!("  cargo xtask quickstart --broker redis --url URL");
            println!("  cargo xtask bench --broker redis --url URL");
            println!("Quote it: a shell reads `?` and `&` in its own way.\n");
        }
    }
}

/// Those that are wanted.
struct RabbitMq {
    standalone: Option<Rabbit>,
    cluster: Option<RabbitCluster>,
}

impl RabbitMq {
    fn start(is_wanted: impl Fn(Kind) -> bool) -> Self {
        Self {
            standalone: is_wanted(Kind::Standalone).then(Rabbit::start),
            cluster: is_wanted(Kind::Cluster).then(|| RabbitCluster::start(3)),
        }
    }

    fn show(&self) {
        if let Some(rabbit) = &self.standalone {
            show("RabbitMQ: one node", &rabbit.url(), &format!("{} status", rabbit.ctl_program().display()));
        }
        if let Some(cluster) = &self.cluster {
            let urls = cluster.urls().join("\n  ");
            let ctl = cluster.nodes[0].ctl_program();
            show("RabbitMQ: three nodes, in one cluster", &urls, &format!("{} cluster_status", ctl.display()));
        }
    }
}

fn show(about: &str, url: &str, look: &str) {
    println!("{about}\n  {url}\n  {look}\n");
}

/// The command takes the place of this process, so that ctrl-C and the exit code are its own. Its standard input becomes
/// what holds the server: it needs no other, and it is closed with it, whatever its end.
fn run(broker: Broker, command: &[String]) -> ExitCode {
    // Neither is dropped where the command takes over.
    let (redis, rabbit) = match broker {
        Broker::Redis => (Some(Server::durable()), None),
        Broker::Rmq => (None, Some(Rabbit::start())),
    };
    let url = redis.as_ref().map(Server::url).or_else(|| rabbit.as_ref().map(Rabbit::url)).unwrap_or_default();
    let mut words = command.iter().map(|word| word.replace("{url}", &url));
    let program = words.next().unwrap_or_default();
    println!("a server for this run: {url}");
    let error = Command::new(&program).args(words).stdin(goose_services::leash()).exec();
    eprintln!("services: cannot start {program}: {error}");
    ExitCode::FAILURE
}
