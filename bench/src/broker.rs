//! Opening the broker to measure, with a private server where none is given.

use std::sync::Arc;

use goose_core::broker::Broker;
use goose_redis::RedisOptions;
use goose_rmq::{QueueType, RmqOptions};
use goose_services::Server;
use goose_services::rabbit::Rabbit;
use goose_sqlite::SqliteBroker;
use tempfile::TempDir;

use crate::Result;
use crate::options::{Journal, Options, Which};

/// A broker, and what must live as long as it.
pub(crate) struct Opened {
    pub(crate) broker: Arc<dyn Broker>,
    /// Where a raw probe finds the same server.
    pub(crate) at: At,
    _folder: TempDir,
    _server: Private,
}

/// Where a broker is.
#[derive(Debug, Clone)]
pub(crate) enum At {
    Sqlite,
    Redis { url: String },
    Rmq { url: String, queue_type: QueueType, journal: Journal, pid: Option<u32> },
}

/// A server of this run.
enum Private {
    None,
    Redis { _server: Server },
    Rmq { _server: Rabbit },
}

impl At {
    /// The same server behind another address.
    pub(crate) fn by(&self, near: String) -> Self {
        match self {
            Self::Sqlite => Self::Sqlite,
            Self::Redis { .. } => Self::Redis { url: near },
            Self::Rmq { queue_type, journal, pid, .. } => {
                Self::Rmq { url: near, queue_type: *queue_type, journal: *journal, pid: *pid }
            }
        }
    }

    pub(crate) fn url(&self) -> Option<&str> {
        match self {
            Self::Sqlite => None,
            Self::Redis { url } | Self::Rmq { url, .. } => Some(url),
        }
    }
}

pub(crate) async fn open(options: &Options) -> Result<Opened> {
    let folder = tempfile::tempdir()?;
    let (at, server) = match (options.broker, &options.url) {
        (Which::Sqlite, _) => (At::Sqlite, Private::None),
        (Which::Redis, Some(url)) => (At::Redis { url: url.clone() }, Private::None),
        (Which::Redis, None) => {
            let server = start(&[])?;
            (At::Redis { url: server.url() }, Private::Redis { _server: server })
        }
        (Which::Rmq(queue_type, journal), Some(url)) => {
            (At::Rmq { url: url.clone(), queue_type, journal, pid: None }, Private::None)
        }
        (Which::Rmq(queue_type, journal), None) => {
            let server = quietly(Rabbit::start)?;
            let at = At::Rmq { url: server.url(), queue_type, journal, pid: Some(server.pid()) };
            (at, Private::Rmq { _server: server })
        }
    };
    let broker: Arc<dyn Broker> = match &at {
        At::Sqlite => Arc::new(SqliteBroker::open(folder.path().join("bench.db")).await?),
        server => connect(server).await?,
    };
    Ok(Opened { broker, at, _folder: folder, _server: server })
}

/// A connection to a server.
pub(crate) async fn connect(at: &At) -> Result<Arc<dyn Broker>> {
    match at {
        At::Sqlite => Err("there is no server".into()),
        At::Redis { url } => Ok(Arc::new(RedisOptions::new(url).open().await?)),
        // A prefix for each kind, so that one server may have all.
        At::Rmq { url, queue_type, journal, .. } => {
            let prefix = format!("goose-bench-{queue_type:?}-journal-{journal:?}").to_lowercase();
            let options = RmqOptions::new(url).prefix(prefix).queue_type(*queue_type);
            Ok(Arc::new(options.journal(*journal == Journal::Kept).open().await?))
        }
    }
}

/// A Redis server of our own.
pub(crate) fn start(args: &'static [&'static str]) -> Result<Server> {
    quietly(|| Server::with(args))
}

/// What the crate for tests panics with is for people too.
fn quietly<T>(start: impl FnOnce() -> T + std::panic::UnwindSafe) -> Result<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let started = std::panic::catch_unwind(start);
    std::panic::set_hook(hook);
    started.map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("cannot start a server").into()
    })
}
