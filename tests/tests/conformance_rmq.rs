//! The conformance suite over RabbitMQ: on classic queues and on quorum queues of one server, and on both with a journal.
//!
//! The server is started before the first scenario; each scenario has a prefix of its own.
//! `GOOSE_RABBITMQ_SERVER=COMMAND` names another server program. With `GOOSE_RABBITMQ_URL=amqp://…` that server is used
//! instead of one of our own; what scenarios declare on it stays there.

use std::fmt;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::{BoxFuture, Error, ErrorKind, JobId, QueueName, Result};
use goose_rmq::{QueueType, RmqBroker, RmqOptions};
use goose_services::rabbit::Rabbit;
use goose_testkit::conformance::{Harness, Namespace, Process, Skip, libtest};
use goose_tests::skips;

const MAX_RECOVERIES: u32 = 2;

/// Short, so that the recovery scenarios are.
const HEARTBEAT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // A list of the scenarios needs none. Otherwise it is started first: it may take longer than a scenario has patience.
    let is_list = std::env::args().any(|argument| argument == "--list");
    let server = Arc::new(Mutex::new((!is_list).then(At::find)));
    let on = |name, queue_type, journal| Arc::new(OnRabbit { name, queue_type, journal, server: Arc::clone(&server) });
    let harnesses = [
        on("classic", QueueType::Classic, false),
        on("quorum", QueueType::Quorum, false),
        on("classic-journal", QueueType::Classic, true),
        on("quorum-journal", QueueType::Quorum, true),
    ];
    let outcome = libtest::main(harnesses.map(|harness| harness as Arc<dyn Harness>));
    // Ends the server.
    drop(server.lock().unwrap_or_else(PoisonError::into_inner).take());
    outcome
}

/// A server of our own, or somebody else's by its URL.
enum At {
    Own(Box<Rabbit>),
    Given(String),
}

impl At {
    fn find() -> Self {
        std::env::var("GOOSE_RABBITMQ_URL").map_or_else(|_| Self::Own(Box::new(Rabbit::start())), Self::Given)
    }

    fn url(&self) -> String {
        match self {
            Self::Own(rabbit) => rabbit.url(),
            Self::Given(url) => url.clone(),
        }
    }

    /// Whether its quorum queues know no priorities. That of somebody else is taken for a new one.
    fn is_before_4(&self) -> bool {
        match self {
            Self::Own(rabbit) => rabbit.eval("list_to_binary(rabbit_misc:version())").starts_with("3."),
            Self::Given(_) => false,
        }
    }
}

struct OnRabbit {
    name: &'static str,
    queue_type: QueueType,
    journal: bool,
    server: Arc<Mutex<Option<At>>>,
}

impl fmt::Debug for OnRabbit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRabbit").field("name", &self.name).finish_non_exhaustive()
    }
}

impl OnRabbit {
    fn with_server<T>(&self, ask: impl FnOnce(&At) -> T) -> Result<T> {
        let failed = || Error::new(ErrorKind::Unavailable, "a scenario panicked while it looked at the server");
        let mut server = self.server.lock().map_err(|_| failed())?;
        Ok(ask(server.get_or_insert_with(At::find)))
    }

    async fn open(&self, namespace: &Namespace) -> Result<RmqBroker> {
        let options = RmqOptions::new(self.with_server(At::url)?).prefix(namespace.as_str());
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
        let mut skips = if self.journal { skips::rmq_with_journal() } else { skips::rmq() };
        if self.queue_type == QueueType::Quorum && self.with_server(At::is_before_4).unwrap_or(false) {
            skips.extend(skips::rmq_quorum_before_4());
            if self.journal {
                skips.extend(skips::rmq_quorum_with_journal_before_4());
            }
        }
        skips
    }

    /// Removes the scenario's queues and exchanges.
    fn clean_up<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.with_server(|server| match server {
                At::Own(rabbit) => remove(rabbit, namespace),
                At::Given(_) => Ok(()),
            })?
        })
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
