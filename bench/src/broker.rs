//! Opening the broker to measure, with a private server where none is given.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::Broker;
use goose_redis::RedisOptions;
use goose_sqlite::SqliteBroker;
use tempfile::TempDir;

use crate::Result;
use crate::options::Options;

/// A broker, and what must live as long as it.
pub(crate) struct Opened {
    pub(crate) broker: Arc<dyn Broker>,
    /// Where a raw probe finds the same server.
    pub(crate) probe_url: Option<String>,
    _folder: TempDir,
    _server: Option<Server>,
}

/// A server of our own, ended with the run.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) async fn open(options: &Options) -> Result<Opened> {
    let folder = tempfile::tempdir()?;
    match options.broker.as_str() {
        "sqlite" => {
            let broker = Arc::new(SqliteBroker::open(folder.path().join("bench.db")).await?);
            Ok(Opened { broker, probe_url: None, _folder: folder, _server: None })
        }
        "redis" => {
            let (server, url) = match &options.url {
                Some(url) => (None, url.clone()),
                None => start(&folder).map(|(server, url)| (Some(server), url))?,
            };
            let deadline = Instant::now() + Duration::from_secs(10);
            let broker = loop {
                match RedisOptions::new(&url).open().await {
                    Ok(broker) => break broker,
                    Err(error) if Instant::now() > deadline => return Err(error.into()),
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            Ok(Opened { broker: Arc::new(broker), probe_url: Some(url), _folder: folder, _server: server })
        }
        other => Err(format!("no broker {other:?}; there is sqlite, redis").into()),
    }
}

fn start(folder: &TempDir) -> Result<(Server, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let command = std::env::var("GOOSE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let server = Command::new(&command)
        .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start {command}: {error}"))?;
    Ok((Server(server), format!("redis://127.0.0.1:{port}")))
}
