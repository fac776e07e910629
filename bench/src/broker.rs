//! Opening the broker to measure, with a private server where none is given.

use std::sync::Arc;

use goose_core::broker::Broker;
use goose_redis::RedisOptions;
use goose_services::Server;
use goose_sqlite::SqliteBroker;
use tempfile::TempDir;

use crate::Result;
use crate::options::Options;

/// A broker, and what must live as long as it.
pub(crate) struct Opened {
    pub(crate) broker: Arc<dyn Broker>,
    /// Where a raw probe finds the same server.
    pub(crate) url: Option<String>,
    _folder: TempDir,
    _server: Option<Server>,
}

pub(crate) async fn open(options: &Options) -> Result<Opened> {
    let folder = tempfile::tempdir()?;
    if options.broker == "sqlite" {
        let broker = Arc::new(SqliteBroker::open(folder.path().join("bench.db")).await?);
        return Ok(Opened { broker, url: None, _folder: folder, _server: None });
    }
    let server = match options.url {
        Some(_) => None,
        None => Some(start(&[])?),
    };
    let url = options.url.clone().or_else(|| server.as_ref().map(Server::url)).unwrap_or_default();
    let broker = redis(&url).await?;
    Ok(Opened { broker, url: Some(url), _folder: folder, _server: server })
}

/// Another connection to the same server.
pub(crate) async fn redis(url: &str) -> Result<Arc<dyn Broker>> {
    Ok(Arc::new(RedisOptions::new(url).open().await?))
}

/// A server of our own. What the crate for tests panics with is for people too.
pub(crate) fn start(args: &'static [&'static str]) -> Result<Server> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let started = std::panic::catch_unwind(|| Server::with(args));
    std::panic::set_hook(hook);
    started.map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("cannot start a server").into()
    })
}
