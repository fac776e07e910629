//! Settings of the connections that can be seen from outside.

use super::*;
use goose_services::{Server, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_have_names_also_after_a_reconnect() {
    let server = Server::start();
    let link = connect_with(RedisOptions::new(server.url()).connection_name("shop").database(3)).await;
    let _waiter = link.waiter().await.unwrap();
    let named = || {
        let pid = std::process::id();
        let clients = server.clients();
        ["data", "beat", "wait"].iter().all(|role| {
            clients.iter().any(|line| line.contains(&format!(" name=shop-{role}-{pid} ")) && line.contains(" db=3 "))
        })
    };
    eventually("all three are named and in their database", named);
    server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    eventually("they are so again", named);
}

/// Without keepalive an idle connection whose peer vanished is never found out.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_probed_by_the_operating_system() {
    let server = Server::start();
    let _link = connect(server.url()).await;
    eventually("both connections have a keepalive timer of at most 15 s", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let remote = format!(":{:04X}", server.port());
        let timers = table.lines().skip(1).filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (kind, rest) = fields[5].split_once(':')?;
            // Established, to our server; the timer's kind 2 is keepalive, its rest in hundredths of a second.
            (fields[2].ends_with(&remote) && fields[3] == "01" && kind == "02")
                .then(|| u64::from_str_radix(rest, 16).unwrap_or(u64::MAX))
        });
        timers.filter(|rest| *rest <= 1_500).count() == 2
    });
}
