//! A primary with a replica, watched by Sentinels that fail over fast.

use std::path::Path;

use crate::server::Server;

#[derive(Debug)]
/// See the name of this file. Dropping it stops all.
pub struct Watched {
    /// The primary at first.
    pub primary: Server,
    /// Its replica.
    pub replica: Server,
    /// Three, of which two must agree.
    pub sentinels: Vec<Server>,
    /// Where the sentinels write what they learn.
    _folder: tempfile::TempDir,
}

impl Watched {
    /// Starts all and waits until they know each other.
    #[must_use]
    pub fn start() -> Self {
        Self::with(1000, &[])
    }

    /// The same with a time in ms after which a silent primary counts as down, and further settings for the two
    /// servers, as `--name value`.
    #[must_use]
    pub fn with(down_after: u32, further: &[&str]) -> Self {
        let mut settings = vec!["--repl-diskless-sync-delay", "0"];
        settings.extend(further);
        let primary = Server::with(&settings);
        let port = primary.port().to_string();
        settings.extend(["--replicaof", "127.0.0.1", &port]);
        let replica = Server::with(&settings);
        crate::eventually("the replica is in sync", || {
            replica.ask(&["INFO", "replication"]).contains("master_link_status:up")
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sentinels = (0..3).map(|n| sentinel(&folder.path().join(format!("{n}.conf")), &port, down_after)).collect();
        let watched = Self { primary, replica, sentinels, _folder: folder };
        crate::eventually("all sentinels know each other and the replica", || {
            watched.sentinels.iter().all(|sentinel| {
                let master = sentinel.ask(&["SENTINEL", "MASTER", "jobs"]);
                let field =
                    |name: &str| master.lines().skip_while(|line| *line != name).nth(1).unwrap_or("").to_owned();
                field("num-other-sentinels") == "2" && field("num-slaves") == "1"
            })
        });
        watched
    }

    /// The port of the primary, as the first Sentinel knows it.
    #[must_use]
    pub fn primary_port(&self) -> Option<u16> {
        let answer = self.sentinels[0].try_ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "jobs"]).ok()?;
        answer.lines().nth(1)?.parse().ok()
    }

    /// A URL with every Sentinel; they know the primary as `jobs`.
    #[must_use]
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.sentinels[1..].iter().map(|node| format!("node=127.0.0.1:{}", node.port())).collect();
        format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=jobs&{}", self.sentinels[0].port(), nodes.join("&"))
    }
}

fn sentinel(file: &Path, primary_port: &str, down_after: u32) -> Server {
    let settings = format!(
        "sentinel monitor jobs 127.0.0.1 {primary_port} 2\n\
         sentinel down-after-milliseconds jobs {down_after}\n\
         sentinel failover-timeout jobs 3000\n"
    );
    std::fs::write(file, settings).expect("the settings of the sentinel");
    Server::with(&[file.to_str().expect("a plain path"), "--sentinel"])
}
