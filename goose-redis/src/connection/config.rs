//! Every setting of the client crate, with its reason.
//!
//! The crate's defaults are wrong for a queue: no limit to how long a call waits, no end to what it buffers, and
//! commands that were in flight when a connection broke are silently sent again. Here it only ever holds one
//! connection until that breaks; making the next one, and sending again, is decided in `keeper` and `call`.

use std::fmt;
use std::time::Duration;

use fred::socket2::TcpKeepalive;
use fred::types::config::{
    Blocking, ClusterDiscoveryPolicy, Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig,
    UnresponsiveConfig,
};
use goose_core::{Error, ErrorKind, Result};

use super::Topology;
use crate::options::RedisOptions;

/// The schemes that are accepted; `valkey` may stand for `redis` in each.
const SCHEMES: [&str; 6] = ["redis", "rediss", "redis-sentinel", "rediss-sentinel", "redis-cluster", "rediss-cluster"];

const URL_FORM: &str = "use redis://[user:password@]host[:port][/database]";

/// What connections are made with.
pub(super) struct Setup {
    config: Config,
    pub(super) topology: Topology,
    /// Where to ask first: the servers of the URL.
    pub(super) seeds: Vec<Server>,
    /// In front of the role in the names that `CLIENT LIST` shows.
    name: String,
    /// How long a call waits.
    pub(super) data_limit: Duration,
    pub(super) beat_limit: Duration,
    /// Whether a server that may throw keys away is accepted.
    pub(super) allow_eviction: bool,
}

/// The content has a password in it.
impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("topology", &self.topology).field("seeds", &self.seeds).finish_non_exhaustive()
    }
}

impl Setup {
    pub(super) fn of(options: &RedisOptions) -> Result<Self> {
        let mut config = parse(options.url())?;
        #[cfg(feature = "tls")]
        match (wants_tls(options.url()), options.root_certificates_given()) {
            (true, given) => config.tls = Some(super::tls::trusting(given)?),
            (false, None) => {}
            (false, Some(_)) => {
                let message = "root certificates are given and the url asks for no TLS; use a rediss:// url";
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        let topology = match config.server {
            ServerConfig::Clustered { .. } => Topology::Cluster,
            ServerConfig::Sentinel { .. } => Topology::Sentinel,
            ServerConfig::Centralized { .. } => Topology::Standalone,
        };
        let seeds = config.server.hosts();
        if let Some(username) = options.username_given() {
            config.username = Some(username.to_owned());
        }
        if let Some(password) = options.password_given() {
            config.password = Some(password.to_owned());
        }
        if config.username.is_some() && config.password.is_none() {
            return Err(Error::new(ErrorKind::InvalidInput, "a user name needs a password; give both"));
        }
        config.database = options.database_given().or(config.database);
        if topology.is_cluster() && (names_database(options.url()) || config.database.is_some_and(|number| number > 0))
        {
            return Err(Error::new(ErrorKind::InvalidInput, "a cluster has only database 0; use a prefix instead"));
        }
        // Not found at the first attempt is an answer to the caller; later attempts are the keeper's business.
        config.fail_fast = true;
        // Only waiters block, and nothing else is sent on their connections.
        config.blocking = Blocking::Block;
        Ok(Self {
            config,
            topology,
            seeds,
            name: options.connection_name_given().to_owned(),
            data_limit: options.command_timeout,
            beat_limit: (options.lease / 3).max(Duration::from_millis(200)).min(options.command_timeout),
            allow_eviction: options.evicting_is_allowed(),
        })
    }

    /// The servers, for messages; without credentials.
    pub(super) fn place(&self) -> String {
        let hosts: Vec<_> = self.seeds.iter().map(|server| format!("{}:{}", server.host, server.port)).collect();
        hosts.join(", ")
    }

    /// The name of a connection on the server.
    pub(super) fn client_name(&self, role: &str) -> String {
        format!("{}-{role}-{}", self.name, std::process::id())
    }

    /// The configuration for one attempt, which asks one server first.
    ///
    /// One and not all of them: fred asks them in the order of their names, and one that hangs without refusing would
    /// use up the time of every attempt.
    pub(super) fn asking(&self, first: &Server) -> Config {
        let mut config = self.config.clone();
        match &mut config.server {
            ServerConfig::Centralized { .. } => {}
            ServerConfig::Clustered { hosts, policy } => {
                *hosts = vec![first.clone()];
                // When slots have moved, ask whoever is known, not only the server of the URL.
                *policy = ClusterDiscoveryPolicy::UseCache;
            }
            ServerConfig::Sentinel { hosts, .. } => *hosts = vec![first.clone()],
        }
        config
    }

    pub(super) fn connection() -> ConnectionConfig {
        ConnectionConfig {
            connection_timeout: Duration::from_secs(5),
            internal_command_timeout: Duration::from_secs(5),
            // Once: what was written is never silently written again. (Zero would mean the default of three.)
            max_command_attempts: 1,
            // With one attempt fred cannot follow a redirection (it counts as a second one); with none it says so in
            // words that tell it apart from a lost connection, after reading the new table of slots.
            max_redirections: 0,
            // No limit here but in `wire`: a full buffer makes fred's own task end when it cannot queue its
            // request to reconnect, and callers had better wait than fail.
            max_command_buffer_len: 0,
            // It would set a random name; `wire` sets ours.
            auto_client_setname: false,
            // These two end the connection on certain errors and answer *every* call in flight with that error, also
            // those that were executed. `classify` reads the errors of each call, and `keeper` reconnects.
            reconnect_on_auth_error: false,
            reconnect_errors: Vec::new(),
            unresponsive: UnresponsiveConfig {
                // Since the last write; a connection with steady writes needs the time limits of its calls instead.
                max_timeout: Some(Duration::from_secs(10)),
                interval: Duration::from_secs(2),
            },
            tcp: tcp(),
            ..ConnectionConfig::default()
        }
    }

    pub(super) fn performance() -> PerformanceConfig {
        PerformanceConfig {
            // Every call has a limit of its own; this one is for those that fred makes up.
            default_command_timeout: Duration::from_secs(10),
            // One event for each node of a cluster comes at once when it is connected.
            broadcast_channel_capacity: 1024,
            ..PerformanceConfig::default()
        }
    }
}

fn tcp() -> TcpConfig {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)).with_retries(3);
    TcpConfig {
        nodelay: Some(true),
        // Finds a dead peer while nothing is sent,
        keepalive: Some(keepalive),
        // and this while something is.
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        user_timeout: Some(Duration::from_secs(10)),
        ..TcpConfig::default()
    }
}

/// Never puts the URL into an error: it may hold a password, also in places where it does not belong.
fn parse(url: &str) -> Result<Config> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let redis_scheme = scheme.to_ascii_lowercase().replacen("valkey", "redis", 1);
    if matches!(redis_scheme.as_str(), "amqp" | "amqps") {
        return Err(invalid(format!("{redis_scheme}:// is the url of a RabbitMQ, whose broker is in goose-rmq")));
    }
    if !SCHEMES.contains(&redis_scheme.as_str()) {
        let schemes = SCHEMES.map(|scheme| format!("{scheme}://")).join(", ");
        return Err(invalid(format!("the url must start with one of {schemes}; valkey may stand for redis in each")));
    }
    if wants_tls(url) && !cfg!(feature = "tls") {
        return Err(invalid(format!(
            "{scheme}:// needs the feature `tls` of goose-redis; it is `redis-tls` of goose-client and goose-worker"
        )));
    }
    let (hint, parameters): (_, &[&str]) = if redis_scheme.ends_with("-sentinel") {
        (
            "use redis-sentinel://[user:password@]host[:port][/database]?sentinelServiceName=NAME[&node=HOST:PORT]",
            &["sentinelServiceName", "node", "sentinelUsername", "sentinelPassword"],
        )
    } else if redis_scheme.ends_with("-cluster") {
        ("use redis-cluster://[user:password@]host[:port][?node=HOST:PORT]", &["node"])
    } else {
        (URL_FORM, &[])
    };
    // fred passes over what it does not know. A typing error would go unnoticed, and what stands behind a `?` or `#` in
    // a password that is not percent-encoded would leave its first half as a host and port to be shown in errors.
    let known =
        |pair: &str| pair.split_once('=').is_some_and(|(name, value)| parameters.contains(&name) && !value.is_empty());
    if url.contains('#') || url.split_once('?').is_some_and(|(_, query)| !query.split('&').all(known)) {
        let words = "the url has a parameter that is not known here; percent-encode special characters, and";
        return Err(invalid(format!("{words} {hint}")));
    }
    // Without the `s`: of TLS fred gets to know by `tls`.
    let plain = format!("{}{}", redis_scheme.replacen("rediss", "redis", 1), &url[scheme.len()..]);
    Config::from_url(&plain).map_err(|error| {
        // The words of the parser name what is missing and never show the URL; the one that would is left out.
        invalid(format!("the url cannot be read; {hint}")).with_source(match error.details() {
            details if details.contains("host:port") => "invalid node parameter".to_owned(),
            details => details.to_owned(),
        })
    })
}

fn wants_tls(url: &str) -> bool {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    ["rediss", "valkeys"].iter().any(|tls| scheme.starts_with(tls))
}

/// Whether the URL has a database other than 0; fred looks for none in that of a cluster.
fn names_database(url: &str) -> bool {
    let address = url.split(['?', '#']).next().unwrap_or("").rsplit('@').next().unwrap_or("");
    let path = address.split_once("://").map_or(address, |(_, rest)| rest).split_once('/');
    path.is_some_and(|(_, database)| !matches!(database, "" | "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(url: &str) -> Result<Setup> {
        Setup::of(&RedisOptions::new(url))
    }

    #[test]
    fn every_form_of_url_is_understood() {
        for (url, topology, place) in [
            ("redis://localhost", Topology::Standalone, "localhost:6379"),
            ("valkey://:secret@10.0.0.1:7000/3", Topology::Standalone, "10.0.0.1:7000"),
            ("redis-sentinel://a:1?sentinelServiceName=main&node=b:2", Topology::Sentinel, "b:2, a:1"),
            ("redis-cluster://u:p@a:1?node=b:2", Topology::Cluster, "b:2, a:1"),
            ("redis-cluster://a/0", Topology::Cluster, "a:6379"),
            // Schemes ignore case.
            ("Redis://a", Topology::Standalone, "a:6379"),
            ("VALKEY-CLUSTER://a", Topology::Cluster, "a:6379"),
        ] {
            let setup = setup(url).unwrap();
            assert_eq!((setup.topology, setup.place().as_str()), (topology, place), "{url}");
        }
    }

    #[test]
    fn heartbeats_wait_no_longer_than_anything_else() {
        let options = RedisOptions::new("redis://localhost").command_timeout(Duration::from_millis(100));
        let setup = Setup::of(&options).unwrap();
        assert_eq!((setup.data_limit, setup.beat_limit), (Duration::from_millis(100), Duration::from_millis(100)));
    }

    #[test]
    fn a_bad_url_is_refused_without_showing_its_password() {
        for url in [
            "localhost:6379",
            "http://u:hunter2@localhost",
            "amqp://u:hunter2@localhost",
            "redis+unix://u:hunter2@x/run/redis.sock",
            "redis://u:hunter2@host:notaport",
            "redis://u:hunter2@host/one",
            "redis://u:hunter2@host/256",
            "redis-sentinel://u:hunter2@host",
            "redis-cluster://u:hunter2@host?node=hunter2",
            "redis-cluster://u:hunter2@host/4",
            "redis://u@host",
            // What is not understood is not passed over: it may be a typing error, or part of a password.
            "redis://host?db=hunter2",
            "redis://host?sentinelServiceName=jobs",
            "redis-cluster://host?nodes=other:1",
            "redis-sentinel://host?sentinelServiceName=",
            "redis://u:1#hunter2@host",
            "redis://u:1?hunter2@host",
        ] {
            let options = RedisOptions::new(url);
            let error = Setup::of(&options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error:#}");
            for text in [format!("{error:#}"), format!("{error:?}"), format!("{options:?}")] {
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
        let setup = setup("redis://u:hunter2@host").unwrap();
        assert!(!format!("{setup:?}").contains("hunter2"));
    }

    #[test]
    fn the_url_of_another_broker_names_that() {
        let error = setup("amqp://localhost").unwrap_err();
        assert!(error.to_string().contains("goose-rmq"), "{error}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_needs_its_feature() {
        let error = setup("rediss://localhost").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("feature `tls`"), "{error}");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_is_used_where_the_url_asks_for_it_and_nowhere_else() {
        let authority = include_bytes!("../../tests/certificates/authority.pem");
        for (url, topology) in [
            ("rediss://a", Topology::Standalone),
            ("valkeys://a", Topology::Standalone),
            ("rediss-cluster://a", Topology::Cluster),
            ("valkeys-sentinel://a?sentinelServiceName=main", Topology::Sentinel),
        ] {
            let encrypted = Setup::of(&RedisOptions::new(url).root_certificates(authority)).unwrap();
            assert!(encrypted.config.uses_tls() && encrypted.topology == topology, "{url}");
            let url = url.replacen("rediss", "redis", 1).replacen("valkeys", "valkey", 1);
            assert!(!setup(&url).unwrap().config.uses_tls(), "{url}");
            let error = Setup::of(&RedisOptions::new(url).root_certificates(authority)).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("rediss://"), "{error}");
        }
    }

    /// Those settings whose effect shows only on a network that drops packets.
    #[test]
    fn what_cannot_be_provoked_here_is_at_least_set() {
        let connection = Setup::connection();
        assert_eq!(connection.tcp.nodelay, Some(true));
        #[cfg(target_os = "linux")]
        assert_eq!(connection.tcp.user_timeout, Some(Duration::from_secs(10)));
        assert_eq!(connection.unresponsive.max_timeout, Some(Duration::from_secs(10)));
        assert_eq!(connection.max_command_attempts, 1);
        assert_eq!(Setup::performance().default_command_timeout, Duration::from_secs(10));
    }
}
