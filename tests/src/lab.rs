//! A place with a broker and a ledger, and the processes on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::Timestamp;
use goose_core::broker::Broker;
use goose_rmq::QueueType;
use goose_services::rabbit::{Queue, Rabbit, RabbitCluster};
use tempfile::TempDir;

use crate::Result;
use crate::brokers::{self, Address, Kind, Settings};
use crate::child::Process;
use crate::ledger::{Entry, Ledger, Tail, now};
use crate::oracle::{Findings, Leftovers, judge};
use crate::servers::{Servers, Setup};

/// How long a process may take to start or to stop, and jobs that nothing hinders may take: a limit for what hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the keys of the lab start with, where a broker has keys.
pub const PREFIX: &str = "lab";

/// How often the ledger is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A fresh place, removed when this is dropped.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
    address: Address,
    /// Of a broker that has some.
    servers: Option<Servers>,
    /// Of RabbitMQ.
    rabbit: Option<Rabbit>,
    rabbit_cluster: Option<RabbitCluster>,
    /// Everything read from the ledger so far.
    entries: Vec<Entry>,
    tail: Tail,
}

impl Lab {
    /// A place with an empty broker of this kind.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(kind: Kind) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        match kind {
            Kind::Sqlite => {
                let address = Address::Sqlite(folder.path().join("jobs.db"));
                Ok(Self::at(folder, address, None))
            }
            Kind::Redis(topology) => Self::on(Setup::patient(topology)),
            Kind::Rabbit(queue_type) => {
                let rabbit = Rabbit::start();
                let address = Address::Rabbit { queue_type, prefix: PREFIX.to_owned(), urls: vec![rabbit.url()] };
                Ok(Self { rabbit: Some(rabbit), ..Self::at(folder, address, None) })
            }
            Kind::RabbitCluster => Self::on_cluster(RabbitCluster::start(3)),
        }
    }

    /// A place with Redis servers of its own.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn on(setup: Setup) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let servers = Servers::start(setup);
        let address = Address::Redis { prefix: PREFIX.to_owned(), url: servers.url() };
        Ok(Self::at(folder, address, Some(servers)))
    }

    /// A place with this cluster of RabbitMQ, and quorum queues.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn on_cluster(cluster: RabbitCluster) -> Result<Self> {
        let (queue_type, prefix) = (QueueType::Quorum, PREFIX.to_owned());
        let address = Address::Rabbit { queue_type, prefix, urls: cluster.urls() };
        Ok(Self { rabbit_cluster: Some(cluster), ..Self::at(tempfile::tempdir()?, address, None) })
    }

    fn at(folder: TempDir, address: Address, servers: Option<Servers>) -> Self {
        let tail = Tail::of(folder.path().join("ledger"));
        Self { folder, address, servers, rabbit: None, rabbit_cluster: None, entries: Vec::new(), tail }
    }

    /// The RabbitMQ server of the broker, if it is one and has one.
    pub fn rabbit(&mut self) -> Option<&mut Rabbit> {
        self.rabbit.as_mut()
    }

    /// The cluster of RabbitMQ of the broker, if it has one.
    pub fn rabbit_cluster(&mut self) -> Option<&mut RabbitCluster> {
        self.rabbit_cluster.as_mut()
    }

    /// What is in the queues of RabbitMQ, as the first node sees it that can be asked; nothing of other brokers.
    #[must_use]
    pub fn rabbit_queues(&self) -> Vec<Queue> {
        let nodes = self.rabbit_cluster.iter().flat_map(|cluster| &cluster.nodes);
        let node = self.rabbit.iter().chain(nodes).find(|node| node.try_eval("ok").is_ok());
        node.map_or_else(Vec::new, Rabbit::queues)
    }

    /// The servers of the broker.
    ///
    /// # Errors
    /// It has none.
    pub fn servers(&mut self) -> Result<&mut Servers> {
        Ok(self.servers.as_mut().ok_or("this broker has no server")?)
    }

    /// Where the broker is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where the ledger is.
    #[must_use]
    pub fn ledger_path(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    /// The ledger, to write to.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn ledger(&self) -> Result<Ledger> {
        Ledger::open(self.ledger_path())
    }

    /// A handle of this process on the broker.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn broker(&self) -> Result<Arc<dyn Broker>> {
        Ok(brokers::open_when_there(&self.address, Settings::default()).await?)
    }

    /// A client of this process.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::new(self.broker().await?))
    }

    /// Starts a worker and waits until it takes jobs. More flags of `chaos-worker` go in pairs.
    ///
    /// # Errors
    /// It does not start.
    pub async fn worker(&self, flags: &[(&str, u64)]) -> Result<Process> {
        let mut worker = Process::start("chaos-worker", self.arguments(flags))?;
        match worker.line(PATIENCE).await?.as_str() {
            "ready" => Ok(worker),
            other => Err(format!("a worker said {other:?} instead of \"ready\"").into()),
        }
    }

    /// Starts a producer. More flags of `chaos-producer` go in pairs.
    ///
    /// # Errors
    /// It does not start.
    pub fn producer(&self, flags: &[(&str, u64)]) -> Result<Process> {
        Process::start("chaos-producer", self.arguments(flags))
    }

    fn arguments(&self, flags: &[(&str, u64)]) -> Vec<String> {
        let ledger = self.ledger_path().display().to_string();
        let mut arguments = vec!["--broker".to_owned(), self.address.to_string(), "--ledger".to_owned(), ledger];
        for (name, value) in flags {
            arguments.extend([format!("--{name}"), value.to_string()]);
        }
        arguments
    }

    /// Kills a process and writes that down.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn kill(&self, process: &mut Process) -> Result<()> {
        process.kill()?;
        self.note_fault(process.pid(), "killed")
    }

    /// Writes down that a process was hurt.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn note_fault(&self, pid: u32, what: &str) -> Result<()> {
        self.ledger()?.record(&Entry::Fault { pid, what: what.to_owned(), at: now() })
    }

    /// Writes down that the broker was hurt, and is well again now.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn note_outage(&self, what: &str, from: Timestamp) -> Result<()> {
        self.ledger()?.record(&Entry::Outage { what: what.to_owned(), from, to: now() })
    }

    /// Everything in the ledger.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn entries(&mut self) -> Result<&[Entry]> {
        self.entries.extend(self.tail.read()?);
        Ok(&self.entries)
    }

    /// Waits until the ledger fulfils a condition.
    ///
    /// # Errors
    /// It does not in time; the error says what is there.
    pub async fn until(&mut self, limit: Duration, what: &str, condition: impl Fn(&[Entry]) -> bool) -> Result<()> {
        let looking = async {
            let mut again = tokio::time::interval(LOOK_AGAIN);
            loop {
                again.tick().await;
                if condition(self.entries()?) {
                    return Ok(());
                }
            }
        };
        match tokio::time::timeout(limit, looking).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("waited {limit:?} for {what}; the ledger has {} entries", self.entries.len()).into()),
        }
    }

    /// Waits until no job waits or runs.
    ///
    /// # Errors
    /// Some still do when the time is up; the error says how many.
    pub async fn until_idle(&self, limit: Duration) -> Result<()> {
        let broker = self.broker().await?;
        let statistics = broker.statistics().ok_or("the lab needs a broker that counts")?;
        let end = Instant::now() + limit;
        let mut again = tokio::time::interval(Duration::from_millis(20));
        loop {
            again.tick().await;
            let queues = match statistics.queues().await {
                Err(error) if error.is_retryable() && Instant::now() < end => continue,
                queues => queues?,
            };
            // Some brokers know only how many of all queues there are.
            let known: u64 = queues.iter().filter_map(|counts| counts.scheduled).sum();
            let scheduled = match broker.scheduled_jobs() {
                Some(jobs) if queues.iter().any(|counts| counts.scheduled.is_none()) => match jobs.size().await {
                    Err(error) if error.is_retryable() && Instant::now() < end => continue,
                    size => size?,
                },
                _ => known,
            };
            if scheduled == 0 && queues.iter().all(|counts| counts.ready + counts.running == 0) {
                return Ok(broker.close().await?);
            }
            if Instant::now() >= end {
                return Err(format!("after {limit:?} there is still work: {queues:?}").into());
            }
        }
    }

    /// Judges the run. All workers must have ended.
    ///
    /// # Errors
    /// The ledger cannot be read, or what the broker answers.
    pub async fn judge(&mut self) -> Result<Findings> {
        let broker = self.broker().await?;
        let mut left = Leftovers::of(&*broker).await?;
        broker.close().await?;
        left.complaints = brokers::complaints(&self.address).await?;
        left.keeps_copies = matches!(self.address, Address::Rabbit { .. });
        Ok(judge(self.entries()?, &left))
    }
}
