//! Keeps one connection alive for ever: opens it, watches it, opens the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fred::types::config::Server;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::classify::Fault;
use super::config::Setup;
use super::pace::Pace;
use super::preflight::look_again;
use super::wire::{End, Wire};

/// A connection that has lasted this long was a good one: the next is tried at once again.
const GOOD: Duration = Duration::from_secs(2);

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
            wire.give_up(End::AtOnce);
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
    let mut pace = Pace::reconnecting();
    let mut servers = Servers::new(&setup);
    let mut failures = 0;
    loop {
        let fault = match Wire::open(&setup, role, servers.next()).await {
            Ok((wire, router)) => {
                failures = 0;
                servers.learn(wire.nodes());
                let since = Instant::now();
                tell.send_replace(State::Up(wire.clone()));
                if role == LOOKING && vitals.reconnects.load(Ordering::Relaxed) > 0 {
                    tracing::info!(at = setup.place(), "connected to redis again");
                    tokio::spawn(look_again(wire.clone(), Arc::clone(&setup), Arc::clone(&vitals)));
                }
                let fault = wire.serve(router).await;
                vitals.reconnects.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(role, fault = fault.summary(), "lost the connection to redis, connecting again");
                if since.elapsed() >= GOOD {
                    pace.reset();
                }
                fault
            }
            Err(fault) => {
                failures += 1;
                tracing::debug!(role, failures, fault = fault.summary(), "cannot connect to redis");
                fault
            }
        };
        *vitals.last_error.lock() = Some(fault.summary());
        tell.send_replace(State::Down(fault, failures));
        sleep(pace.pause()).await;
    }
}

/// Whom to ask for the way in, one after the other.
struct Servers<'a> {
    setup: &'a Setup,
    /// The nodes of the last connection to a cluster; those of the URL may be gone for good by now.
    learnt: Vec<Server>,
    turn: usize,
}

impl<'a> Servers<'a> {
    fn new(setup: &'a Setup) -> Self {
        Self { setup, learnt: Vec::new(), turn: 0 }
    }

    fn next(&mut self) -> &Server {
        let seeds = &self.setup.seeds;
        let turn = self.turn % (seeds.len() + self.learnt.len());
        self.turn = turn + 1;
        seeds.get(turn).unwrap_or_else(|| &self.learnt[turn - seeds.len()])
    }

    fn learn(&mut self, nodes: Vec<Server>) {
        if self.setup.topology.is_cluster() {
            self.learnt = nodes.into_iter().filter(|node| !self.setup.seeds.contains(node)).collect();
        }
    }
}
