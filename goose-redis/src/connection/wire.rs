//! One connection, from its opening to its break. It is never repaired: the keeper makes the next one.

use std::sync::Arc;
use std::time::Duration;

use fred::bytes::Bytes;
use fred::clients::Client;
use fred::error::Error as FredError;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::{Options, Server};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Value};
use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::Reply;
use super::classify::Fault;
use super::config::Setup;

/// How many calls may be on their way at once; more wait. It bounds memory when the server is slow.
const IN_FLIGHT: u32 = 10_000;
/// How long one attempt to connect may take, on a cluster including that to all primaries.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the calls in flight may take to be answered on a connection that is given up for another.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// A connection in use; a handle.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    permits: Semaphore,
    end: watch::Sender<End>,
    /// Why it was given up.
    reason: Mutex<Option<String>>,
    /// Every node there is a connection to.
    nodes: Mutex<Vec<Server>>,
}

/// Whether a connection is to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// It is good.
    No,
    /// It leads to the wrong place; what is in flight may still be answered.
    Gentle,
    /// It hangs.
    AtOnce,
    /// It is over: its task has ended by itself.
    Over,
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: &'static str,
    pub(super) args: Vec<Bytes>,
    /// The slot whose node it goes to; any node without one.
    pub(super) slot: Option<u16>,
    /// This node and no other.
    pub(super) node: Option<Server>,
    /// It waits on the server, and nothing behind it is answered before.
    pub(super) blocking: bool,
}

impl Request {
    pub(super) fn new(command: &'static str, args: Vec<Bytes>) -> Self {
        Self { command, args, slot: None, node: None, blocking: false }
    }
}

/// The task that reads and writes. Dropping it closes the sockets.
#[derive(Debug)]
pub(super) struct Router {
    task: ConnectHandle,
    /// Every node that a connection was made to.
    arrivals: Receiver<Server>,
    name: Bytes,
}

impl Drop for Router {
    fn drop(&mut self) {
        // Dropping a client does not end its task, and `quit` would wait behind a blocked command.
        self.task.abort();
    }
}

impl Wire {
    /// Makes one attempt, which asks `first`.
    pub(super) async fn open(setup: &Setup, role: &str, first: &Server) -> Result<(Self, Router), Fault> {
        // No policy: a broken connection ends the task instead of being repaired behind our back.
        let client = Client::new(setup.asking(first), Some(Setup::performance()), Some(Setup::connection()), None);
        let arrivals = client.reconnect_rx();
        let name = setup.client_name(role).into();
        let mut router = Router { task: client.connect(), arrivals, name };
        let connected = async {
            tokio::select! {
                connected = client.wait_for_connect() => connected,
                end = &mut router.task => Err(end_of(end)),
            }
        };
        match timeout(CONNECT_LIMIT, connected).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Fault::unconnected(&error)),
            Err(_) => return Err(Fault::unavailable("the server does not answer")),
        }
        let wire = Self(Arc::new(Inner {
            client,
            permits: Semaphore::new(IN_FLIGHT as usize),
            end: watch::Sender::new(End::No),
            reason: Mutex::default(),
            nodes: Mutex::default(),
        }));
        // Not `active_connections`, which knows only nodes that let us ask for the number of our connection.
        while let Ok(node) = router.arrivals.try_recv() {
            wire.introduce(node, &router.name);
        }
        Ok((wire, router))
    }

    /// Sends once and waits for the answer.
    pub(super) async fn send(&self, request: &Request, deadline: Instant) -> Result<Reply, Fault> {
        let inner = &self.0;
        if *inner.end.borrow() != End::No {
            return Err(Fault::replaced());
        }
        let Ok(Ok(_permit)) = timeout_at(deadline, inner.permits.acquire()).await else {
            return Err(Fault::unavailable("too many calls are waiting for the server"));
        };
        let limit = deadline.saturating_duration_since(Instant::now());
        if limit.is_zero() {
            return Err(Fault::out_of_time());
        }
        let hash = request.slot.map_or(ClusterHash::Random, ClusterHash::Custom);
        let command = CustomCommand::new_static(request.command, hash, request.blocking);
        let args: Vec<Value> = request.args.iter().cloned().map(Value::Bytes).collect();
        // fred's own limit, because a command whose limit is over is then not written any more.
        let options = Options { timeout: Some(limit), cluster_node: request.node.clone(), ..Options::default() };
        let client = inner.client.with_options(&options);
        let mut end = inner.end.subscribe();
        tokio::select! {
            biased;
            answer = client.custom_raw(command, args) => match answer {
                Ok(frame) => Reply::from_frame(frame).map_err(|text| Fault::answered(&text)),
                Err(error) => Err(Fault::unanswered(&error)),
            },
            // A task that ends answers what it has written and what is queued, but then keeps the queue open: what
            // comes in later is neither written nor answered.
            _ = end.wait_for(|end| *end == End::Over) => Err(Fault::unavailable("the connection broke")),
        }
    }

    /// The nodes there are connections to; the primaries, on a cluster.
    pub(super) fn nodes(&self) -> Vec<Server> {
        self.0.nodes.lock().clone()
    }

    /// Asks the keeper for another connection. The first reason is told.
    pub(super) fn give_up(&self, end: End, why: &str) {
        self.0.reason.lock().get_or_insert_with(|| why.to_owned());
        self.0.end.send_if_modified(|current| {
            let worse = end > *current;
            *current = end.max(*current);
            worse
        });
    }

    /// Whether and how it was given up.
    pub(super) fn end(&self) -> End {
        *self.0.end.borrow()
    }

    /// Serves until the connection breaks or is given up; returns why.
    pub(super) async fn serve(&self, mut router: Router) -> Fault {
        let mut end = self.0.end.subscribe();
        loop {
            tokio::select! {
                ended = &mut router.task => {
                    self.give_up(End::Over, "it broke");
                    return Fault::broken(&end_of(ended));
                }
                Ok(node) = router.arrivals.recv() => self.introduce(node, &router.name),
                // The sender is in this wire, so it cannot be gone.
                _ = end.changed() => break,
            }
        }
        if *end.borrow_and_update() == End::Gentle {
            let answered = self.0.permits.acquire_many(IN_FLIGHT);
            tokio::select! {
                _ = timeout(DRAIN_LIMIT, answered) => {}
                _ = &mut router.task => {}
                _ = end.changed() => {}
            }
        }
        Fault::replaced_because(self.0.reason.lock().as_deref().unwrap_or_default())
    }

    /// Notes a new node and tells it our name, for `CLIENT LIST`. That is only for people, so nobody waits for it.
    fn introduce(&self, node: Server, name: &Bytes) {
        let mut nodes = self.0.nodes.lock();
        if !nodes.contains(&node) {
            nodes.push(node.clone());
        }
        let (wire, name) = (self.clone(), name.clone());
        tokio::spawn(async move {
            let args = vec![Bytes::from_static(b"SETNAME"), name];
            let request = Request { node: Some(node), ..Request::new("CLIENT", args) };
            if let Err(fault) = wire.send(&request, Instant::now() + Duration::from_secs(5)).await {
                tracing::debug!(fault = fault.summary(), "cannot name the connection");
            }
        });
    }
}

/// Why fred's task ended.
fn end_of(end: Result<Result<(), FredError>, tokio::task::JoinError>) -> FredError {
    match end {
        Ok(Err(error)) => error,
        Ok(Ok(())) => FredError::new(fred::error::ErrorKind::IO, "Connection closed."),
        Err(error) => FredError::new(fred::error::ErrorKind::Unknown, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::classify::Verdict;
    use crate::options::RedisOptions;
    use goose_services::Fake;

    /// Fred's own limits are as long as that of the whole attempt, which asks several servers one after another.
    async fn is_given_up_early(url: &str) {
        let setup = Setup::of(&RedisOptions::new(url)).unwrap();
        let begun = Instant::now();
        let fault = Wire::open(&setup, "data", &setup.seeds[0]).await.map(drop).unwrap_err();
        let took = begun.elapsed();
        assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}: {fault:?}");
    }

    /// `internal_command_timeout`: a server that takes connections and answers nothing.
    #[tokio::test]
    async fn a_server_that_does_not_answer_uses_up_half_an_attempt_at_most() {
        let server = goose_services::Server::start();
        server.pause();
        is_given_up_early(&format!("{}/1", server.url())).await;
        server.resume();
    }

    /// `connection_timeout`: a host that answers no request to connect, played by a listener whose line is full.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_host_that_is_not_there_uses_up_half_an_attempt_at_most() {
        use socket2::{Domain, Socket, Type};
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting: Vec<Socket> = (0..4).map(|_| socket()).collect();
        for client in &waiting {
            client.set_nonblocking(true).unwrap();
            // Takes the only place, or begins to wait for it.
            let _ = client.connect(&address);
        }
        is_given_up_early(&format!("redis://127.0.0.1:{}", address.as_socket().unwrap().port())).await;
    }

    /// Between the end of fred's task and our noticing it, calls go into a queue that nobody reads any more.
    #[tokio::test]
    async fn what_is_sent_after_the_end_is_known_not_to_be_executed() {
        let fake = Fake::start(|_, _| None);
        let setup = Setup::of(&RedisOptions::new(fake.url())).unwrap();
        let (wire, router) = Wire::open(&setup, "data", &setup.seeds[0]).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        fake.hang_up();
        while !router.task.is_finished() {
            tokio::task::yield_now().await;
        }
        let request = Request::new("EVALSHA", vec!["sha".into(), "1".into(), "key".into()]);
        let (answer, _) = tokio::join!(wire.send(&request, deadline), wire.serve(router));
        assert_eq!(answer.unwrap_err().verdict, Verdict::NotNow);
        assert_eq!(wire.send(&request, deadline).await.unwrap_err().verdict, Verdict::NotNow);
        assert!(Instant::now() < deadline - Duration::from_secs(50), "neither waited for its time to be up");
    }
}
