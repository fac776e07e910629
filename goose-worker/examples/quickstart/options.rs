//! The command line: `quickstart [DIR] [--crash] [--db PATH]`, and a hidden form for the worker process.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::Result;
use crate::place::{Address, Place};

pub(crate) const USAGE: &str = "\
Usage: quickstart [DIR] [--crash] [--broker sqlite|redis|rmq] [--db PATH] [--url URL]

  DIR            the folder whose files are counted (default: the current one)
  --crash        kill the worker half-way and let a second one take over
  --broker NAME  sqlite, the default, redis or rmq
  --db PATH      keep the jobs in this SQLite file (default: a temporary one)
  --url URL      keep the jobs on this server of Redis or RabbitMQ, in keys or queues that begin with
                 goose-quickstart; implies the broker (default: redis://localhost or amqp://localhost)
";

/// What this process is asked to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Help,
    /// The process that was started by hand: it enqueues, starts workers, and adds up.
    Producer(Options),
    /// The process that runs jobs.
    Worker {
        address: Address,
        results: PathBuf,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    pub(crate) crash: bool,
    pub(crate) queue: Queue,
}

/// Where the jobs are to be kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// In a SQLite file that goes away at the end.
    Temporary,
    /// In this SQLite file.
    File(PathBuf),
    /// On a server.
    Server(Address),
}

/// The word that makes this program a worker.
const WORKER: &str = "--worker";

/// The arguments with which the producer starts a worker.
pub(crate) fn worker_arguments(place: &Place) -> [OsString; 4] {
    let [broker, queue] = place.address.words();
    [WORKER.into(), broker, queue, place.results.clone().into()]
}

/// Reads the arguments without the program's name. Names of files need not be UTF-8.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Role> {
    let mut arguments = arguments.into_iter();
    let (mut dir, mut crash) = (None, false);
    let (mut broker, mut db, mut url) = (None, None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument:?} needs a value\n\n{USAGE}"));
        match argument.to_str() {
            Some("--help" | "-h") => return Ok(Role::Help),
            Some(WORKER) => {
                let address = Address::from_words(&value()?, value()?)?;
                return Ok(Role::Worker { address, results: value()?.into() });
            }
            Some("--broker") => broker = Some(value()?),
            Some("--db") => db = Some(value()?),
            Some("--url") => url = Some(value()?),
            Some("--crash") => crash = true,
            _ if argument.as_encoded_bytes().starts_with(b"-") => {
                return Err(format!("there is no flag {argument:?}\n\n{USAGE}").into());
            }
            _ if dir.is_some() => return Err(format!("{argument:?} is one folder too many\n\n{USAGE}").into()),
            _ => dir = Some(PathBuf::from(argument)),
        }
    }
    let queue = queue(broker.as_deref(), db, url)?;
    Ok(Role::Producer(Options { dir: dir.unwrap_or_else(|| PathBuf::from(".")), crash, queue }))
}

/// What the flags about the queue say together.
fn queue(broker: Option<&OsStr>, db: Option<OsString>, url: Option<OsString>) -> Result<Queue> {
    let has_url = url.is_some();
    let is_amqp = url.as_ref().is_some_and(|url| url.as_encoded_bytes().starts_with(b"amqp"));
    let implied = if is_amqp { "rmq" } else { "redis" };
    let broker = broker.unwrap_or(OsStr::new(if has_url { implied } else { "sqlite" }));
    let here = if broker == "rmq" { "amqp://localhost" } else { "redis://localhost" };
    match Address::from_words(broker, url.unwrap_or_else(|| here.into()))? {
        Address::Redis(_) | Address::Rmq(_) if db.is_some() => {
            Err(format!("--db is for --broker sqlite\n\n{USAGE}").into())
        }
        server @ (Address::Redis(_) | Address::Rmq(_)) => Ok(Queue::Server(server)),
        Address::Sqlite(_) if has_url => Err(format!("--url is for --broker redis or rmq\n\n{USAGE}").into()),
        Address::Sqlite(_) => Ok(db.map_or(Queue::Temporary, |db| Queue::File(db.into()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Role> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn every_flag_is_understood_and_nothing_else() {
        let options = |dir: &str, crash, queue| Role::Producer(Options { dir: dir.into(), crash, queue });
        let redis = |url: &str| Queue::Server(Address::Redis(url.to_owned()));
        let rmq = |url: &str| Queue::Server(Address::Rmq(url.to_owned()));
        assert_eq!(parse_words("").unwrap(), options(".", false, Queue::Temporary));
        assert_eq!(parse_words("--crash src --db x.db").unwrap(), options("src", true, Queue::File("x.db".into())));
        assert_eq!(parse_words("--broker redis src").unwrap(), options("src", false, redis("redis://localhost")));
        assert_eq!(parse_words("--url redis://x --broker redis").unwrap(), options(".", false, redis("redis://x")));
        assert_eq!(parse_words("--broker rmq").unwrap(), options(".", false, rmq("amqp://localhost")));
        assert_eq!(parse_words("--url redis://x").unwrap(), options(".", false, redis("redis://x")));
        assert_eq!(parse_words("--url amqp://x").unwrap(), options(".", false, rmq("amqp://x")));
        for queue in [Queue::Temporary, Queue::File("x.db".into()), redis("redis://x"), rmq("amqp://x")] {
            let place = Place::new(&queue).unwrap();
            let worker = Role::Worker { address: place.address.clone(), results: place.results.clone() };
            assert_eq!(parse(worker_arguments(&place)).unwrap(), worker);
        }
        for (line, message) in [
            ("--fast", "there is no flag \"--fast\""),
            ("a b", "\"b\" is one folder too many"),
            ("--db", "\"--db\" needs a value"),
            ("--broker kafka", "there is no broker \"kafka\"; there is sqlite, redis and rmq"),
            ("--url redis://x --broker sqlite", "--url is for --broker redis or rmq"),
            ("--db x.db --broker redis", "--db is for --broker sqlite"),
            ("--db x.db --url redis://x", "--db is for --broker sqlite"),
            ("--db x.db --broker rmq", "--db is for --broker sqlite"),
        ] {
            let error = parse_words(line).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
