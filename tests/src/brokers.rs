//! Opening a broker by its address, so that programs and tests take any.
//!
//! A new broker needs a variant of [`Kind`] and of [`Address`], and one arm in each `match` here.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::BoxError;
use goose_core::broker::Broker;
use goose_redis::{RedisBroker, RedisOptions};
use goose_rmq::{QueueType, RmqOptions};
use goose_sqlite::SqliteOptions;

use crate::Result;
use crate::lab::PATIENCE;
use crate::servers::Topology;

/// The kinds of broker the lab can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The embedded broker.
    Sqlite,
    /// Redis servers, started for the lab alone.
    Redis(Topology),
    /// A RabbitMQ server, started for the lab alone, with queues of this type.
    Rabbit(QueueType),
    /// Three nodes of RabbitMQ in one cluster, started for the lab alone, with quorum queues.
    RabbitCluster,
}

const KINDS: [(&str, Kind); 7] = [
    ("sqlite", Kind::Sqlite),
    ("redis", Kind::Redis(Topology::Standalone)),
    ("redis-cluster", Kind::Redis(Topology::Cluster)),
    ("redis-sentinel", Kind::Redis(Topology::Sentinel)),
    ("rmq", Kind::Rabbit(QueueType::Classic)),
    ("rmq-quorum", Kind::Rabbit(QueueType::Quorum)),
    ("rmq-cluster", Kind::RabbitCluster),
];

impl FromStr for Kind {
    type Err = BoxError;

    fn from_str(name: &str) -> Result<Self> {
        let known = KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let names = KINDS.map(|(name, _)| name).join(", ");
        Ok(known.ok_or_else(|| format!("no broker {name:?} in the lab, there is: {names}"))?)
    }
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `sqlite:` and the path of the file.
    Sqlite(PathBuf),
    /// `redis:`, what keys start with, `@` and the URL.
    Redis {
        /// What keys start with.
        prefix: String,
        /// Which server.
        url: String,
    },
    /// `rmq:`, or `rmq-quorum:` for quorum queues, what names start with, `@` and the URLs of all nodes, with commas.
    Rabbit {
        /// Of all queues.
        queue_type: QueueType,
        /// What names start with.
        prefix: String,
        /// Which server, or which nodes of a cluster.
        urls: Vec<String>,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Redis { prefix, url } => write!(f, "redis:{prefix}@{url}"),
            Self::Rabbit { queue_type, prefix, urls } => {
                let kind = if *queue_type == QueueType::Quorum { "rmq-quorum" } else { "rmq" };
                write!(f, "{kind}:{prefix}@{}", urls.join(","))
            }
        }
    }
}

impl FromStr for Address {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| format!("{text:?} is not of the form kind:place"))?;
        match kind {
            "sqlite" => Ok(Self::Sqlite(rest.into())),
            "redis" => {
                let (prefix, url) = rest.split_once('@').ok_or("an address of Redis is redis:PREFIX@URL")?;
                Ok(Self::Redis { prefix: prefix.to_owned(), url: url.to_owned() })
            }
            "rmq" | "rmq-quorum" => {
                let (prefix, urls) = rest.split_once('@').ok_or("an address of RabbitMQ is rmq:PREFIX@URL,URL…")?;
                let queue_type = if kind == "rmq" { QueueType::Classic } else { QueueType::Quorum };
                let urls = urls.split(',').map(str::to_owned).collect();
                Ok(Self::Rabbit { queue_type, prefix: prefix.to_owned(), urls })
            }
            other => Err(format!("{other:?} is no kind of address, use sqlite, redis, rmq or rmq-quorum").into()),
        }
    }
}

/// Settings all brokers have in one form or another.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// How long a silent worker keeps its jobs; the broker's default if not set.
    pub lease: Option<Duration>,
}

/// Opens a handle.
///
/// # Errors
/// What the broker answers.
pub async fn open(address: &Address, settings: Settings) -> goose_core::Result<Arc<dyn Broker>> {
    match address {
        Address::Sqlite(path) => {
            let mut options = SqliteOptions::new(path);
            if let Some(lease) = settings.lease {
                options = options.lease(lease);
            }
            Ok(Arc::new(options.open().await?))
        }
        Address::Redis { prefix, url } => Ok(Arc::new(open_redis(prefix, url, settings).await?)),
        Address::Rabbit { queue_type, prefix, urls } => {
            let (first, others) = urls.split_first().map_or(("", &[][..]), |(first, others)| (first, others));
            let mut options = RmqOptions::new(first).prefix(prefix).queue_type(*queue_type);
            for url in others {
                options = options.server(url);
            }
            if let Some(lease) = settings.lease {
                // The nearest thing to a lease, in whole seconds.
                options = options.heartbeat(Duration::from_secs(lease.as_secs().max(1)));
            }
            Ok(Arc::new(options.open().await?))
        }
    }
}

/// Opens a handle as a process does that its supervisor starts again until the broker is there.
///
/// # Errors
/// What the broker answers, when that does not pass or has not passed within [`PATIENCE`].
pub async fn open_when_there(address: &Address, settings: Settings) -> goose_core::Result<Arc<dyn Broker>> {
    let mut again = tokio::time::interval(Duration::from_millis(50));
    let end = Instant::now() + PATIENCE;
    loop {
        again.tick().await;
        match open(address, settings).await {
            Err(error) if error.is_retryable() && Instant::now() < end => {}
            answer => return answer,
        }
    }
}

async fn open_redis(prefix: &str, url: &str, settings: Settings) -> goose_core::Result<RedisBroker> {
    let mut options = RedisOptions::new(url).prefix(prefix);
    if let Some(lease) = settings.lease {
        options = options.lease(lease);
    }
    options.open().await
}

/// What a broker finds wrong with its own data; nothing is good news.
///
/// # Errors
/// It cannot be asked.
pub async fn complaints(address: &Address) -> Result<Vec<String>> {
    match address {
        Address::Sqlite(path) => {
            let connection = rusqlite::Connection::open(path)?;
            let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            Ok(if check == "ok" { Vec::new() } else { vec![check] })
        }
        Address::Redis { prefix, url } => {
            let broker = open_redis(prefix, url, Settings::default()).await?;
            let complaints = broker.check_consistency().await?;
            broker.close().await?;
            Ok(complaints)
        }
        // There are no data of ours beside the messages.
        Address::Rabbit { .. } => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        let address: Address = "sqlite:/tmp/a:b.db".parse().unwrap();
        assert_eq!(address, Address::Sqlite("/tmp/a:b.db".into()));
        assert_eq!(address.to_string(), "sqlite:/tmp/a:b.db");
        let text = "redis:lab@redis://:secret@127.0.0.1:7000/1?x=y";
        let address: Address = text.parse().unwrap();
        let (prefix, url) = ("lab".to_owned(), "redis://:secret@127.0.0.1:7000/1?x=y".to_owned());
        assert_eq!(address, Address::Redis { prefix, url });
        assert_eq!(address.to_string(), text);
        let text = "rmq-quorum:lab@amqp://guest:guest@127.0.0.1:7000/%2f,amqp://guest:guest@127.0.0.1:7001/%2f";
        let address: Address = text.parse().unwrap();
        let Address::Rabbit { queue_type: QueueType::Quorum, urls, .. } = &address else { panic!("{address:?}") };
        assert_eq!(urls.len(), 2);
        assert_eq!(address.to_string(), text);
        let unknown = "postgres:x".parse::<Address>().unwrap_err();
        assert_eq!(unknown.to_string(), "\"postgres\" is no kind of address, use sqlite, redis, rmq or rmq-quorum");
    }

    #[test]
    fn kinds_have_names() {
        assert_eq!("redis-cluster".parse::<Kind>().unwrap(), Kind::Redis(Topology::Cluster));
        let unknown = "postgres".parse::<Kind>().unwrap_err().to_string();
        assert_eq!(
            unknown,
            "no broker \"postgres\" in the lab, there is: sqlite, redis, redis-cluster, redis-sentinel, rmq, \
             rmq-quorum, rmq-cluster"
        );
    }
}
