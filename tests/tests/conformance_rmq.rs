//! The conformance suite over RabbitMQ: on classic queues and on quorum queues of one server, on both with a journal, and on quorum
//! queues of a cluster of three nodes.
//!
//! What the chosen scenarios need is started before the first of them; each scenario has a prefix of its own.
//! `GOOSE_RABBITMQ_SERVER=COMMAND` names another server program. With `GOOSE_RABBITMQ_URL=amqp://…` that server is used
//! instead of one of our own; what scenarios declare on it stays there. The cluster, which one URL cannot be, is skipped then.

use std::fmt;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::{BoxFuture, Error, ErrorKind, JobId, QueueName, Result};
use goose_rmq::{QueueType, RmqBroker, RmqOptions};
use goose_services::rabbit::{Rabbit, RabbitCluster};
use goose_testkit::conformance::{Harness, Namespace, Process, Skip, libtest, scenarios};
use goose_tests::skips;
use libtest_mimic::Arguments;

const MAX_RECOVERIES: u32 = 2;

/// Short, so that the recovery scenarios are.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Three nodes, each with a part of every queue, need three times the processor time: more scenarios at a time only wait for each
/// other.
const AT_A_TIME_ON_CLUSTER: usize = 3;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let (one, cluster) = (Arc::new(Servers::new(At::one)), Arc::new(Servers::new(At::cluster)));
    let on = |name, queue_type, journal, servers: &Arc<Servers>| {
        let (servers, is_wanted) = (Arc::clone(servers), is_wanted(&arguments, name));
        Arc::new(OnRabbit { name, queue_type, journal, servers, is_wanted })
    };
    let on_one = [
        on("classic", QueueType::Classic, false, &one),
        on("quorum", QueueType::Quorum, false, &one),
        on("classic-journal", QueueType::Classic, true, &one),
        on("quorum-journal", QueueType::Quorum, true, &one),
    ];
    let on_cluster = on("cluster", QueueType::Quorum, false, &cluster);
    // Starting servers may take longer than a scenario has patience.
    if on_one.iter().any(|harness| harness.is_wanted) {
        one.start();
    }
    let outcome = libtest::main(on_one.map(|harness| harness as Arc<dyn Harness>));
    one.stop();
    if on_cluster.is_wanted {
        cluster.start();
    }
    let outcome_on_cluster = libtest::main_with_threads(AT_A_TIME_ON_CLUSTER, [on_cluster as Arc<dyn Harness>]);
    cluster.stop();
    if outcome == ExitCode::SUCCESS { outcome_on_cluster } else { outcome }
}

/// Whether any scenario of a harness is to be played, by what the command line says.
fn is_wanted(arguments: &Arguments, harness: &str) -> bool {
    !arguments.list
        && scenarios().iter().any(|scenario| {
            let name = format!("{harness}::{}", scenario.name());
            let is_meant = |words: &String| if arguments.exact { name == *words } else { name.contains(words) };
            arguments.filter.as_ref().is_none_or(is_meant) && !arguments.skip.iter().any(is_meant)
        })
}

/// Servers that are started when they are needed.
struct Servers {
    make: fn() -> At,
    at: Mutex<Option<Arc<At>>>,
}

/// Servers of our own, or somebody else's by its URL.
enum At {
    One(Box<Rabbit>),
    Cluster(RabbitCluster),
    Given(String),
}

impl At {
    fn one() -> Self {
        given().map_or_else(|| Self::One(Box::new(Rabbit::start())), Self::Given)
    }

    fn cluster() -> Self {
        given().map_or_else(|| Self::Cluster(RabbitCluster::start(3)), Self::Given)
    }

    fn urls(&self) -> Vec<String> {
        match self {
            Self::One(rabbit) => vec![rabbit.url()],
            Self::Cluster(cluster) => cluster.urls(),
            Self::Given(url) => vec![url.clone()],
        }
    }

    /// A node of our own, which can be looked into.
    fn node(&self) -> Option<&Rabbit> {
        match self {
            Self::One(rabbit) => Some(rabbit),
            Self::Cluster(cluster) => cluster.nodes.first(),
            Self::Given(_) => None,
        }
    }

    /// Whether its quorum queues know no priorities. That of somebody else is taken for a new one.
    fn is_before_4(&self) -> bool {
        self.node().is_some_and(|node| node.eval("list_to_binary(rabbit_misc:version())").starts_with("3."))
    }
}

fn given() -> Option<String> {
    std::env::var("GOOSE_RABBITMQ_URL").ok()
}

impl Servers {
    fn new(make: fn() -> At) -> Self {
        Self { make, at: Mutex::new(None) }
    }

    fn start(&self) {
        // It panics with what is wrong; scenarios say that it did.
        let _ = self.at();
    }

    fn at(&self) -> Result<Arc<At>> {
        let failed = || Error::new(ErrorKind::Unavailable, "the servers did not start");
        let mut at = self.at.lock().map_err(|_| failed())?;
        Ok(Arc::clone(at.get_or_insert_with(|| Arc::new((self.make)()))))
    }

    /// Ends them, also after one of them failed to start.
    fn stop(&self) {
        drop(self.at.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

struct OnRabbit {
    name: &'static str,
    queue_type: QueueType,
    journal: bool,
    servers: Arc<Servers>,
    /// Whether any of its scenarios is played.
    is_wanted: bool,
}

impl fmt::Debug for OnRabbit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRabbit").field("name", &self.name).finish_non_exhaustive()
    }
}

impl OnRabbit {
    async fn open(&self, namespace: &Namespace) -> Result<RmqBroker> {
        let mut urls = self.servers.at()?.urls().into_iter();
        let options = RmqOptions::new(urls.next().unwrap_or_default()).prefix(namespace.as_str());
        let options = urls.fold(options, RmqOptions::server);
        let options = options.queue_type(self.queue_type).journal(self.journal);
        options.max_recoveries(MAX_RECOVERIES).heartbeat(HEARTBEAT).open().await
    }
}

impl Harness for OnRabbit {
    fn name(&self) -> &str {
        self.name
    }

    fn connect<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<Process>> {
        Box::pin(async move {
            let broker = self.open(namespace).await?;
            let doomed = broker.clone();
            Ok(Process::new(broker, move || {
                let doomed = doomed.clone();
                async move { doomed.abandon() }
            }))
        })
    }

    fn enqueue_raw<'a>(
        &'a self,
        namespace: &'a Namespace,
        queue: &'a QueueName,
        id: JobId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let broker = self.open(namespace).await?;
            broker.enqueue_raw(queue, id, bytes).await?;
            broker.close().await
        })
    }

    fn recovery_deadline(&self) -> Duration {
        // The server sees at once that a killed process is gone. What was left at a stop goes back after a heartbeat. The
        // rest is for a busy machine.
        HEARTBEAT * 4
    }

    fn max_recoveries(&self) -> u32 {
        MAX_RECOVERIES
    }

    fn skips(&self) -> Vec<Skip> {
        if self.name == "cluster" && given().is_some() {
            let reason = "GOOSE_RABBITMQ_URL is set, and what it names cannot be a cluster";
            return scenarios().into_iter().map(|scenario| Skip::new(scenario.name(), reason)).collect();
        }
        let mut skips = if self.journal { skips::rmq_with_journal() } else { skips::rmq() };
        // Nothing is started to find out what is not played anyway.
        let is_quorum = self.is_wanted && self.queue_type == QueueType::Quorum;
        if is_quorum && self.servers.at().is_ok_and(|at| at.is_before_4()) {
            skips.extend(skips::rmq_quorum_before_4());
            if self.journal {
                skips.extend(skips::rmq_quorum_with_journal_before_4());
            }
        }
        skips
    }

    /// Removes the scenario's queues and exchanges.
    fn clean_up<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.servers.at()?.node().map_or(Ok(()), |node| remove(node, namespace)) })
    }
}

/// From inside of the server, where all names are known.
fn remove(rabbit: &Rabbit, namespace: &Namespace) -> Result<()> {
    let erlang = format!(
        "Ours = fun({{resource, _, _, Name}}) -> string:prefix(Name, <<\"{namespace}/\">>) =/= nomatch end,
         [rabbit_amqqueue:delete(Q, false, false, <<\"test\">>) ||
             Q <- rabbit_amqqueue:list(), Ours(amqqueue:get_name(Q))],
         [rabbit_exchange:delete(element(2, X), false, <<\"test\">>) ||
             X <- rabbit_exchange:list(), Ours(element(2, X))], ok"
    );
    rabbit
        .try_eval(&erlang)
        .map(drop)
        .map_err(|error| Error::new(ErrorKind::Internal, "cannot remove the queues of the scenario").with_source(error))
}
