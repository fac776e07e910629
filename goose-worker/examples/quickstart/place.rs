//! Where the queue and the results are: what both processes must know to meet.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goose_worker::broker::Broker;
use goose_worker::sqlite::SqliteBroker;
use tempfile::TempDir;

use crate::Result;
use crate::options::Queue;

/// The whole of what changes with the broker: every other line of this program is the same over each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A file.
    Sqlite(PathBuf),
    /// The URL of a server, a cluster or Sentinels.
    Redis(String),
    /// The URL of a server or of a node of a cluster.
    Rmq(String),
}

impl Address {
    pub(crate) async fn open(&self) -> Result<Arc<dyn Broker>> {
        match self {
            Self::Sqlite(path) => Ok(Arc::new(SqliteBroker::open(path).await?)),
            #[cfg(feature = "redis")]
            Self::Redis(url) => {
                // The server may be one that is in use: keep away from what is there.
                let options = goose_worker::redis::RedisOptions::new(url).prefix("goose-quickstart");
                Ok(Arc::new(options.open().await?))
            }
            #[cfg(not(feature = "redis"))]
            Self::Redis(_) => Err("this program was built without Redis; build it with --features sqlite,redis".into()),
            #[cfg(feature = "rmq")]
            Self::Rmq(url) => {
                let options = goose_worker::rmq::RmqOptions::new(url).prefix("goose-quickstart");
                Ok(Arc::new(options.open().await?))
            }
            #[cfg(not(feature = "rmq"))]
            Self::Rmq(_) => Err("this program was built without RabbitMQ; build it with --features sqlite,rmq".into()),
        }
    }

    /// As words of a command line.
    pub(crate) fn words(&self) -> [OsString; 2] {
        match self {
            Self::Sqlite(path) => ["sqlite".into(), path.into()],
            Self::Redis(url) => ["redis".into(), url.into()],
            Self::Rmq(url) => ["rmq".into(), url.into()],
        }
    }

    pub(crate) fn from_words(broker: &OsStr, place: OsString) -> Result<Self> {
        let url = |place: OsString| place.into_string().map_err(|url| format!("{} is not a URL", url.display()));
        match broker.to_str() {
            Some("sqlite") => Ok(Self::Sqlite(place.into())),
            Some("redis") => Ok(Self::Redis(url(place)?)),
            Some("rmq") => Ok(Self::Rmq(url(place)?)),
            _ => Err(format!("there is no broker {broker:?}; there is sqlite, redis and rmq").into()),
        }
    }
}

/// The queue, the file of results, and the folder that goes away at the end.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: Address,
    pub(crate) results: PathBuf,
    temporary: Option<TempDir>,
}

impl Place {
    pub(crate) fn new(queue: &Queue) -> Result<Self> {
        if let Queue::File(db) = queue {
            let db = std::path::absolute(db)?;
            return Ok(Self { results: beside(&db, ".results"), address: Address::Sqlite(db), temporary: None });
        }
        let folder = tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let address = match queue {
            Queue::Server(address) => address.clone(),
            Queue::Temporary | Queue::File(_) => Address::Sqlite(folder.path().join("jobs.db")),
        };
        Ok(Self { address, results: folder.path().join("results"), temporary: Some(folder) })
    }

    /// What must not be read as if it were any other file.
    pub(crate) fn files_of_the_queue(&self) -> Vec<PathBuf> {
        let mut files = vec![self.results.clone()];
        if let Address::Sqlite(db) = &self.address {
            files.extend(["", "-wal", "-shm", "-journal"].map(|ending| beside(db, ending)));
        }
        files.iter().map(|file| with_links_resolved(file)).collect()
    }

    pub(crate) fn is_on_a_server(&self) -> bool {
        matches!(self.address, Address::Redis(_) | Address::Rmq(_))
    }

    /// What is on a server of yours after all jobs have ended.
    pub(crate) fn what_stays(&self) -> Option<&'static str> {
        match &self.address {
            Address::Redis(_) => {
                Some("of this run the server keeps only counts, in a few keys that begin with goose-quickstart")
            }
            Address::Rmq(_) => {
                Some("of this run the server keeps only empty queues, whose names begin with goose-quickstart")
            }
            Address::Sqlite(_) => None,
        }
    }

    pub(crate) fn what_is_left(&self) -> String {
        match (&self.address, &self.temporary) {
            (Address::Redis(_) | Address::Rmq(_), _) => {
                "the other jobs stay on the server for as long as it keeps them".to_owned()
            }
            (Address::Sqlite(_), Some(_)) => "the temporary queue is removed".to_owned(),
            (Address::Sqlite(db), None) => format!("the other jobs stay in {}", db.display()),
        }
    }
}

/// The file in the same folder whose name is longer by this.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    file.with_file_name(name)
}

/// As a walk through the folder will see the file, which need not be there yet.
fn with_links_resolved(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new("."));
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).join(file.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_command_line() {
        let servers = [Address::Redis("redis://localhost/1".to_owned()), Address::Rmq("amqp://localhost".to_owned())];
        for address in servers.into_iter().chain([Address::Sqlite("a/b.db".into())]) {
            let [broker, place] = address.words();
            assert_eq!(Address::from_words(&broker, place).unwrap(), address);
        }
    }

    #[cfg(not(feature = "redis"))]
    #[tokio::test]
    async fn a_program_without_redis_says_how_to_get_it() {
        let error = Address::Redis("redis://localhost".to_owned()).open().await.unwrap_err().to_string();
        assert!(error.contains("--features sqlite,redis"), "{error}");
    }

    #[cfg(not(feature = "rmq"))]
    #[tokio::test]
    async fn a_program_without_rabbitmq_says_how_to_get_it() {
        let error = Address::Rmq("amqp://localhost".to_owned()).open().await.unwrap_err().to_string();
        assert!(error.contains("--features sqlite,rmq"), "{error}");
    }
}
