//! Keeps one connection alive for ever: opens it, watches it, opens the next.
//!
//! The connection for heartbeats leads. Its calls have the shortest limit, so it is the first to find that a server hangs;
//! when it then comes to another server, because a replica has taken over, the others follow.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fred::types::config::Server;
use goose_core::ErrorKind;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::attempts::Attempts;
use super::classify::Fault;
use super::config::Setup;
use super::pace::Pace;
use super::preflight::look_again;
use super::wire::{End, Wire};

/// A connection that has lasted this long was a good one: the next is tried at once again.
const GOOD: Duration = Duration::from_secs(2);

/// The connection that the others follow to another server.
const LEADING: &str = "beat";

/// One connection of each link looks again at the server, for all of them.
const LOOKING: &str = "data";

/// Owns the task that keeps the connection. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Keeper {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

/// Where the connection stands.
#[derive(Debug, Clone)]
enum State {
    Up(Wire),
    /// There is none, and why; how many attempts have failed in a row.
    Down(Fault, u64),
}

/// What all keepers of a link tell about themselves.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    pub(super) reconnects: AtomicU64,
    pub(super) last_error: Mutex<Option<String>>,
    lead: watch::Sender<Lead>,
}

/// Where the leading connection has come to.
#[derive(Debug, Clone)]
struct Lead {
    nodes: Vec<Server>,
    /// The server that knew the way.
    through: Option<Server>,
    /// How those are to end that lead elsewhere.
    end: End,
}

impl Default for Lead {
    fn default() -> Self {
        Self { nodes: Vec::new(), through: None, end: End::Gentle }
    }
}

impl Keeper {
    pub(super) fn start(runtime: &Handle, setup: Arc<Setup>, role: &'static str, vitals: Arc<Vitals>) -> Self {
        let (tell, state) = watch::channel(State::Down(Fault::unavailable("not connected yet"), 0));
        let task = runtime.spawn(keep(setup, role, vitals, tell));
        Self { state, task }
    }

    /// The connection, when there is one before the deadline.
    ///
    /// A failure that nobody has set right (a wrong password) is answered at once: waiting would only hide it.
    pub(super) async fn wire(&self, deadline: Instant) -> Result<Wire, Fault> {
        self.wait(deadline, |fault, _| fault.is_final()).await
    }

    /// The first connection, or why every server of the URL refused it.
    pub(super) async fn first(&self, servers: usize, deadline: Instant) -> Result<Wire, Fault> {
        let servers = u64::try_from(servers).unwrap_or(u64::MAX);
        self.wait(deadline, |fault, attempts| fault.is_final() || attempts >= servers).await
    }

    async fn wait(&self, deadline: Instant, enough: impl Fn(&Fault, u64) -> bool) -> Result<Wire, Fault> {
        // Says whether the keeper is gone, which leaves its last state behind.
        if self.state.has_changed().is_err() {
            return Err(Fault::closed());
        }
        if let State::Up(wire) = &*self.state.borrow() {
            return Ok(wire.clone());
        }
        let mut state = self.state.clone();
        loop {
            let fault = match &*state.borrow_and_update() {
                State::Up(wire) => return Ok(wire.clone()),
                State::Down(fault, attempts) if *attempts > 0 && enough(fault, *attempts) => return Err(fault.clone()),
                State::Down(fault, _) => fault.clone(),
            };
            match timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Fault::closed()),
                Err(_) => return Err(fault.without_outcome()),
            }
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// Replaces the connection at once, with whatever waits on it.
    pub(super) fn restart(&self) {
        if let State::Up(wire) = &*self.state.borrow() {
            wire.give_up(End::AtOnce, "a wait on it was given up");
        }
    }

    /// Closes the connection and waits until its task is gone.
    pub(super) async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(setup: Arc<Setup>, role: &'static str, vitals: Arc<Vitals>, tell: watch::Sender<State>) {
    let mut servers = Servers::new(&setup);
    let mut pace = Pace::reconnecting(setup.seeds.len());
    let mut lead = vitals.lead.subscribe();
    let mut attempts = Attempts::new(&setup, role);
    let (mut failures, mut doubted) = (0, false);
    // How the last connection ended.
    let mut end = End::Gentle;
    loop {
        lead.mark_unchanged();
        let first = servers.next();
        let fault = match attempts.next(first.clone()).await {
            Some(Ok((wire, router))) => {
                (failures, doubted) = (0, false);
                servers.learn(wire.nodes());
                let since = Instant::now();
                if role == LEADING {
                    vitals.lead.send_replace(Lead { nodes: wire.nodes(), through: Some(first), end });
                }
                tell.send_replace(State::Up(wire.clone()));
                if role == LOOKING && vitals.reconnects.load(Ordering::Relaxed) > 0 {
                    tracing::info!(at = setup.place(), "connected to redis again");
                    tokio::spawn(look_again(wire.clone(), Arc::clone(&setup), Arc::clone(&vitals)));
                }
                let fault = tokio::select! {
                    fault = wire.serve(router) => fault,
                    never = follow(&wire, &mut lead, &mut servers), if role != LEADING => match never {},
                };
                end = if wire.end() == End::AtOnce { End::AtOnce } else { End::Gentle };
                vitals.reconnects.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(role, fault = fault.summary(), "lost the connection to redis, connecting again");
                if since.elapsed() >= GOOD {
                    pace.reset();
                }
                fault
            }
            Some(Err(fault)) => {
                // A server that goes away in the middle can look like the wrong one, and whoever waits for a connection
                // would be told to mend the settings. So it takes two attempts to be sure.
                if fault.kind == ErrorKind::Misconfigured && !std::mem::replace(&mut doubted, true) {
                    sleep(pace.pause()).await;
                    continue;
                }
                doubted = fault.kind == ErrorKind::Misconfigured;
                failures += 1;
                tracing::debug!(role, failures, fault = fault.summary(), "cannot connect to redis");
                fault
            }
            None => {
                // Not a failure yet, and it has taken its time already.
                tell.send_replace(State::Down(Fault::unavailable("the server does not answer"), failures));
                continue;
            }
        };
        *vitals.last_error.lock() = Some(fault.summary());
        tell.send_replace(State::Down(fault, failures));
        tokio::select! {
            () = sleep(pace.pause()) => {}
            () = found(&mut lead, &mut servers), if role != LEADING => {}
        }
    }
}

/// Waits until the leading connection has been made: whoever is still looking asks where it was.
async fn found(lead: &mut watch::Receiver<Lead>, servers: &mut Servers<'_>) {
    // The sender is in the vitals, which outlive this.
    if lead.changed().await.is_ok() {
        servers.begin_with(lead.borrow_and_update().through.clone());
    } else {
        std::future::pending().await
    }
}

/// Gives a connection up when the leading one has come to other servers than this one has.
async fn follow(wire: &Wire, lead: &mut watch::Receiver<Lead>, servers: &mut Servers<'_>) -> Infallible {
    // The sender is in the vitals, which outlive this.
    while lead.changed().await.is_ok() {
        let lead = lead.borrow_and_update();
        if wire.nodes().iter().any(|node| !lead.nodes.contains(node)) {
            servers.begin_with(lead.through.clone());
            wire.give_up(lead.end, "the connection for heartbeats leads to another server");
        }
    }
    std::future::pending().await
}

/// Whom to ask for the way in, one after the other.
struct Servers<'a> {
    setup: &'a Setup,
    /// The nodes of the last connection to a cluster; those of the URL may be gone for good by now.
    learnt: Vec<Server>,
    turn: usize,
    /// Who is known to know.
    favourite: Option<Server>,
}

impl<'a> Servers<'a> {
    fn new(setup: &'a Setup) -> Self {
        Self { setup, learnt: Vec::new(), turn: 0, favourite: None }
    }

    fn begin_with(&mut self, favourite: Option<Server>) {
        self.favourite = favourite;
    }

    fn next(&mut self) -> Server {
        if let Some(favourite) = self.favourite.take() {
            return favourite;
        }
        let seeds = &self.setup.seeds;
        let turn = self.turn % (seeds.len() + self.learnt.len());
        self.turn = turn + 1;
        seeds.get(turn).unwrap_or_else(|| &self.learnt[turn - seeds.len()]).clone()
    }

    fn learn(&mut self, nodes: Vec<Server>) {
        if self.setup.topology.is_cluster() {
            self.learnt = nodes.into_iter().filter(|node| !self.setup.seeds.contains(node)).collect();
        }
    }
}
