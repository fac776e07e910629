//! Servers for hand use, and for one run of a program: `cargo xtask services` and `cargo xtask quickstart --broker redis`.
//!
//! - `services [--standalone] [--cluster] [--sentinel]` starts these, all without a flag, says where they are, and
//!   stops them at the end of its input, or of itself.
//! - `services run COMMAND…` starts a server, puts its URL where `{url}` stands in the command, and becomes the command.
//!   The server ends with it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program on the command line talks to its user")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use goose_services::{Cluster, Server, Watched};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, command)) if first == "run" => run(command),
        _ => serve(&arguments),
    }
}

const KINDS: [&str; 3] = ["--standalone", "--cluster", "--sentinel"];

fn serve(flags: &[String]) -> ExitCode {
    if let Some(unknown) = flags.iter().find(|flag| !KINDS.contains(&flag.as_str())) {
        eprintln!("services: there is no flag {unknown}; there is {}", KINDS.join(", "));
        return ExitCode::from(2);
    }
    let is_wanted = |kind: &str| flags.is_empty() || flags.iter().any(|flag| flag == kind);
    // Each lives to the end of this function.
    let standalone = is_wanted(KINDS[0]).then(Server::durable);
    let cluster = is_wanted(KINDS[1]).then(|| Cluster::start(3, true));
    let sentinel = is_wanted(KINDS[2]).then(Watched::start);

    if let Some(server) = &standalone {
        let about = "one server, every write on disk before it answers";
        show(about, &server.url(), &format!("redis-cli -p {}", server.port()));
    }
    if let Some(cluster) = &cluster {
        show(
            "three primaries, each with a replica",
            &cluster.url(),
            &format!("redis-cli -c -p {}", cluster.nodes[0].port()),
        );
    }
    if let Some(watched) = &sentinel {
        let sentinel = watched.sentinels[0].port();
        let about = format!("a primary ({}) and its replica ({})", watched.primary.port(), watched.replica.port());
        show(
            &format!("{about}, watched by three Sentinels"),
            &watched.url(),
            &format!("redis-cli -p {sentinel} SENTINEL MASTERS"),
        );
    }
    println!("Use a URL in `RedisBroker::connect`, or with:");
    println!("  cargo xtask quickstart --broker redis --url URL");
    println!("  cargo xtask bench --broker redis --url URL");
    println!("Quote it: a shell reads `?` and `&` in its own way.");
    println!("\nctrl-C, or the end of the input, stops them and removes what they hold");
    // It is over when nobody can type any more, however that came about.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    ExitCode::SUCCESS
}

fn show(about: &str, url: &str, look: &str) {
    println!("{about}\n  {url}\n  {look}\n");
}

/// The command takes the place of this process, so that ctrl-C and the exit code are its own. Its standard input becomes
/// what holds the server: it needs no other, and it is closed with it, whatever its end.
fn run(command: &[String]) -> ExitCode {
    let server = Server::durable();
    let mut words = command.iter().map(|word| word.replace("{url}", &server.url()));
    let Some(program) = words.next() else {
        eprintln!("services: run needs a command");
        return ExitCode::from(2);
    };
    println!("a server for this run: {}", server.url());
    let error = Command::new(&program).args(words).stdin(goose_services::leash()).exec();
    eprintln!("services: cannot start {program}: {error}");
    ExitCode::FAILURE
}
