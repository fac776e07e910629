//! The check of the server before anything is entrusted to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fred::bytes::Bytes;
use fred::types::config::Server;
use goose_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::call::load;
use super::classify::Fault;
use super::config::Setup;
use super::keeper::Vitals;
use super::wire::{Request, Wire};
use super::{Reply, Script};

/// The oldest server whose commands suffice.
const OLDEST: (u32, u32) = (6, 2);

/// How keys and values are laid out. A program that finds a number above its own leaves them alone; one that changes the
/// layout raises it, and knows how to read what it finds.
const LAYOUT: i64 = 1;

/// Runs a script at all, reads every type of key there is, and writes down the layout where nobody has. On a full server
/// nothing is written.
const PROBE: &str = "\
-- KEYS 1 a key that does not exist  2 the hash with the layout
-- ARGV 1 the layout of this program
-- returns the layout of what is there
redis.call('TIME')
redis.call('LLEN', KEYS[1])
redis.call('HLEN', KEYS[1])
redis.call('ZCARD', KEYS[1])
redis.call('SMEMBERS', KEYS[1])
local layout = redis.call('HGET', KEYS[2], 'layout')
if not layout then redis.pcall('HSET', KEYS[2], 'layout', ARGV[1]) end
return tonumber(layout or ARGV[1])
";

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) setup: &'a Setup,
    pub(super) scripts: &'static [&'static Script],
    /// A key that nothing uses, and in the same slot the one that holds the layout.
    pub(super) probe_keys: [Bytes; 2],
}

impl Wanted<'_> {
    /// Checks every node and gives it the scripts.
    pub(super) async fn check(&self, wire: &Wire, deadline: Instant) -> Result<()> {
        for node in wire.nodes() {
            let info = self.send(wire, &node, "INFO", Vec::new(), deadline, "read what the server is").await?;
            Info::of(&info.into_text()?).check(&node, self.setup)?;
            for script in self.scripts {
                let args = vec![Bytes::from_static(b"LOAD"), Bytes::from_static(script.source.as_bytes())];
                self.send(wire, &node, "SCRIPT", args, deadline, "give the server its scripts").await?;
            }
        }
        self.probe(wire, deadline).await
    }

    async fn send(
        &self,
        wire: &Wire,
        node: &Server,
        command: &'static str,
        args: Vec<Bytes>,
        deadline: Instant,
        doing: &str,
    ) -> Result<Reply> {
        let request = Request { node: Some(node.clone()), ..Request::new(command, args) };
        let answer = wire.send(&request, deadline).await;
        answer.map_err(|fault| refused(fault, node, format_args!("cannot {doing} ({command})")))
    }

    /// Runs what workers and producers run, where it changes nothing: the rights are there, and so is Lua; and what is
    /// there is laid out as this program has it.
    async fn probe(&self, wire: &Wire, deadline: Instant) -> Result<()> {
        static SCRIPT: Script = Script::new("probe", PROBE, super::Repeat::Always);
        let [key, layout] = &self.probe_keys;
        let slot = self.setup.topology.slot_of(key);
        let refused = |doing: &'static str| move |fault: Fault| fault.without_outcome().into_error(doing);
        load(wire, &SCRIPT, slot, deadline).await.map_err(refused("cannot give the server a script (SCRIPT LOAD)"))?;
        let fixed = [Bytes::from_static(SCRIPT.sha().as_bytes()), Bytes::from_static(b"2")];
        let args = fixed.into_iter().chain([key.clone(), layout.clone(), LAYOUT.to_string().into()]).collect();
        let request = Request { slot, ..Request::new("EVALSHA", args) };
        let found =
            wire.send(&request, deadline).await.map_err(refused("cannot run a script (EVALSHA)"))?.into_int()?;
        if found > LAYOUT {
            let message = format!(
                "the jobs on this server were stored by a newer goose (layout {found} in {}, this program knows {LAYOUT}); \
                 update this program, or use another prefix",
                layout.escape_ascii()
            );
            return Err(Error::new(ErrorKind::Misconfigured, message));
        }
        let request = Request { slot, ..Request::new("BZPOPMIN", vec![key.clone(), Bytes::from_static(b"0.01")]) };
        wire.send(&request, deadline).await.map_err(refused("cannot wait for jobs (BZPOPMIN)"))?;
        Ok(())
    }
}

/// How long a second look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Looks again at the servers behind a connection that was made anew: after a failover they may be others, with other
/// settings. Nothing can be refused any more, so what is wrong is said in the log and in the health of consumers.
pub(super) async fn look_again(wire: Wire, setup: Arc<Setup>, vitals: Arc<Vitals>) {
    for node in wire.nodes() {
        let request = Request { node: Some(node.clone()), ..Request::new("INFO", Vec::new()) };
        let info = wire.send(&request, Instant::now() + LOOK_LIMIT).await;
        let Some(info) = info.ok().and_then(|info| info.into_text().ok()) else { continue };
        if let Err(error) = Info::of(&info).check(&node, &setup) {
            tracing::error!(
                error = format!("{error:#}"),
                "the server behind the new connection is not fit for a queue"
            );
            *vitals.last_error.lock() = Some(format!("{error:#}"));
        }
    }
}

fn refused(fault: Fault, node: &Server, doing: impl std::fmt::Display) -> Error {
    fault.without_outcome().into_error(format_args!("{doing} at {}:{}", node.host, node.port))
}

/// What the server says about itself.
struct Info<'a>(HashMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    fn of(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }

    fn check(&self, node: &Server, setup: &Setup) -> Result<()> {
        let Setup { topology, allow_eviction, .. } = *setup;
        let at = format!("{}:{}", node.host, node.port);
        let misconfigured = |message: String| Err(Error::new(ErrorKind::Misconfigured, message));
        let Some(version) = self.get("redis_version") else {
            return misconfigured(format!("{at} does not say which version of redis it is; use Redis or Valkey"));
        };
        if parse_version(version) < OLDEST {
            let (major, minor) = OLDEST;
            return misconfigured(format!("{at} runs version {version}, use {major}.{minor} or later"));
        }
        if self.get("redis_mode") == Some("sentinel") {
            return misconfigured(format!(
                "{at} is a sentinel; use a redis-sentinel:// url with a sentinelServiceName"
            ));
        }
        match (topology.is_cluster(), self.get("cluster_enabled") == Some("1")) {
            (false, true) => return misconfigured(format!("{at} is part of a cluster; use a redis-cluster:// url")),
            (true, false) => return misconfigured(format!("{at} is not part of a cluster; use a redis:// url")),
            (true, true) | (false, false) => {}
        }
        if self.get("role").is_some_and(|role| role != "master") {
            return misconfigured(format!("{at} is a read-only replica; use the primary, or Sentinel"));
        }
        match self.get("maxmemory_policy") {
            Some("noeviction") => {}
            Some(policy) if !allow_eviction => {
                return misconfigured(format!(
                    "{at} may throw jobs away when its memory is full (maxmemory-policy {policy}); \
                     set it to noeviction (CONFIG SET maxmemory-policy noeviction), or accept that by \
                     RedisOptions::allow_eviction(true)"
                ));
            }
            Some(policy) => tracing::warn!(at, policy, "the server may throw jobs away when its memory is full"),
            None => tracing::warn!(at, "the server does not say whether it may throw jobs away; set noeviction"),
        }
        if self.get("aof_enabled") == Some("0") {
            tracing::info!(at, "the server keeps no append-only file: a crash of it loses the latest jobs");
        }
        Ok(())
    }
}

/// The first two numbers; zero for what is none.
fn parse_version(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Topology;
    use crate::options::RedisOptions;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n\
                        # Replication\r\nrole:master\r\n# Cluster\r\ncluster_enabled:0\r\n";

    fn check(info: &str, topology: Topology) -> Result<()> {
        let mut setup = Setup::of(&RedisOptions::new("redis://db"))?;
        setup.topology = topology;
        Info::of(info).check(&Server::new("db", 6379), &setup)
    }

    #[test]
    fn every_wrong_server_gets_its_own_words() {
        check(GOOD, Topology::Standalone).unwrap();
        check(GOOD, Topology::Sentinel).unwrap();
        for (from, to, topology, words) in [
            ("7.0.15", "6.0.16", Topology::Standalone, "db:6379 runs version 6.0.16, use 6.2 or later"),
            ("7.0.15", "5.0", Topology::Standalone, "use 6.2 or later"),
            ("redis_version", "ignored", Topology::Standalone, "does not say which version"),
            ("mode:standalone", "mode:sentinel", Topology::Standalone, "redis-sentinel://"),
            ("enabled:0", "enabled:1", Topology::Standalone, "use a redis-cluster:// url"),
            ("enabled:0", "enabled:0", Topology::Cluster, "is not part of a cluster"),
            ("role:master", "role:slave", Topology::Standalone, "read-only replica"),
            ("noeviction", "allkeys-lru", Topology::Standalone, "maxmemory-policy allkeys-lru"),
        ] {
            let error = check(&GOOD.replace(from, to), topology).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse_version("6.2.0") >= OLDEST);
        assert!(parse_version("10.0.0") >= OLDEST);
        assert!(parse_version("6.1.99") < OLDEST);
        assert!(parse_version("unstable") < OLDEST);
    }
}
