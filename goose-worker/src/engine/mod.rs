//! The engine: a few named loops per pool, and who talks to whom.
//!
//! ```text
//!             fetch            runner                              settle
//!   broker ──────────► poller ──────► executor ──────► settler ──────────► broker
//!                      holds a few,   middleware,      gathers ends,
//!                      waits for      handler, limits, repeats until
//!                      free hands     panics           they are stored
//! ```
//!
//! `supervisor` starts a loop again when it fails; `health` tells which one is stuck; `shutdown` ends them in
//! order. `verdict` holds the rules of failing. Leases, recovery and due times are the broker's business
//! and do not occur here: this is the same for all brokers.

mod complaints;
mod ended;
mod executor;
mod health;
mod pace;
mod panics;
mod polled;
mod poller;
mod refused;
mod runner;
mod running;
mod settler;
mod shutdown;
mod supervisor;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use goose_core::Result;
use goose_core::broker::{Broker, Consumer, ConsumerOptions, WorkerIdentity};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::context::Surroundings;
use crate::hooks::HookRunner;
use crate::observers::Observers;
use crate::options::Options;
use crate::pool::PoolPlan;
use crate::registry::Registry;
use executor::Bench;
use health::Pulse;
use poller::Poller;
use settler::Settler;

pub(crate) use executor::Chain;
pub use health::{Health, WorkerLoop};
pub(crate) use panics::caught;
pub(crate) use shutdown::shut_down;

/// What an engine is made of.
pub(crate) struct Plan {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) pools: Vec<PoolPlan>,
    pub(crate) registry: Registry,
    pub(crate) middleware: Chain,
    pub(crate) surroundings: Surroundings,
    pub(crate) observers: Observers,
    pub(crate) hooks: Option<Arc<HookRunner>>,
    pub(crate) options: Options,
    pub(crate) runtime: Handle,
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) identity: WorkerIdentity,
    pub(crate) options: Options,
    pub(crate) runtime: Handle,
    pools: Vec<PoolRun>,
    hooks: Option<Arc<HookRunner>>,
    /// No new jobs.
    stopping: CancellationToken,
    /// No more patience with running ones.
    cut: CancellationToken,
    runtime_pulse: Arc<Pulse>,
    runtime_beat: JoinHandle<()>,
}

/// A running pool.
#[derive(Debug)]
struct PoolRun {
    label: String,
    concurrency: usize,
    hands: Arc<Semaphore>,
    bench: Arc<Bench>,
    pulses: [Arc<Pulse>; 2],
    poller: Mutex<Option<JoinHandle<()>>>,
    settler: Mutex<Option<JoinHandle<()>>>,
    /// Tells the settler that no more ends will come.
    closing: CancellationToken,
}

impl Engine {
    /// Opens a consumer per pool, then starts all loops.
    pub(crate) async fn start(plan: Plan) -> Result<Arc<Self>> {
        let identity = WorkerIdentity::current();
        let mut consumers: Vec<Arc<dyn Consumer>> = Vec::new();
        for pool in &plan.pools {
            let mut options = ConsumerOptions::new(pool.queues.clone(), pool.concurrency);
            options.prefetch = pool.prefetch;
            options.worker = identity.clone();
            options.observer = Arc::new(plan.observers.clone());
            match plan.broker.consume(options).await {
                Ok(consumer) => consumers.push(consumer.into()),
                Err(error) => {
                    for consumer in consumers {
                        if let Err(error) = consumer.stop().await {
                            tracing::warn!(error = format!("{error:#}"), "a session was left to its lease");
                        }
                    }
                    return Err(error);
                }
            }
        }

        let (stopping, cut) = (CancellationToken::new(), CancellationToken::new());
        let (registry, surroundings) = (Arc::new(plan.registry), Arc::new(plan.surroundings));
        let start_pool = |(pool, consumer): (&PoolPlan, Arc<dyn Consumer>)| {
            let (settler, inbox) = mpsc::channel(settler::INBOX);
            let bench = Bench {
                consumer,
                registry: Arc::clone(&registry),
                middleware: plan.middleware.clone(),
                surroundings: Arc::clone(&surroundings),
                observers: plan.observers.clone(),
                options: plan.options,
                settler,
                ended: AtomicU64::new(0),
                apart_until: AtomicU64::new(0),
                cut: cut.clone(),
            };
            PoolRun::start(pool, bench, inbox, &stopping)
        };
        let pools = plan.pools.iter().zip(consumers).map(start_pool).collect();
        let runtime_pulse = health::runtime_pulse();
        let runtime_beat = tokio::spawn(health::beat_for_the_runtime(Arc::clone(&runtime_pulse)));
        tracing::debug!(worker = %identity.id, broker = plan.broker.name(), "worker started");
        let Plan { options, runtime, hooks, .. } = plan;
        Ok(Arc::new(Self { identity, options, runtime, pools, hooks, stopping, cut, runtime_pulse, runtime_beat }))
    }

    pub(crate) fn health(&self) -> Health {
        let of_worker = WorkerLoop { pool: None, health: self.runtime_pulse.health() };
        let of_pools = self.pools.iter().flat_map(|pool| {
            let own = pool.pulses.iter().map(|pulse| pulse.health());
            let loops = own.chain(pool.bench.consumer.health());
            loops.map(|health| WorkerLoop { pool: Some(pool.label.clone()), health })
        });
        Health { loops: std::iter::once(of_worker).chain(of_pools).collect() }
    }
}

impl PoolRun {
    fn start(
        plan: &PoolPlan,
        bench: Bench,
        inbox: mpsc::Receiver<settler::Message>,
        stopping: &CancellationToken,
    ) -> Self {
        let bench = Arc::new(bench);
        let hands = Arc::new(Semaphore::new(plan.concurrency));
        let polling = Pulse::new("poller", poller::STALLS_AFTER);
        let settling = Pulse::new("settler", settler::STALLS_AFTER);
        let closing = CancellationToken::new();
        let poller =
            Poller::new(Arc::clone(&bench), Arc::clone(&hands), plan.prefetch, Arc::clone(&polling), stopping.clone());
        let settler = Settler::new(
            Arc::clone(&bench.consumer),
            inbox,
            bench.observers.clone(),
            Arc::clone(&settling),
            closing.clone(),
        );
        let poller = tokio::spawn(supervisor::supervise(poller, Arc::clone(&polling), stopping.clone()));
        let settler = tokio::spawn(supervisor::supervise(settler, Arc::clone(&settling), closing.clone()));
        Self {
            label: plan.label(),
            concurrency: plan.concurrency,
            hands,
            bench,
            pulses: [polling, settling],
            poller: Mutex::new(Some(poller)),
            settler: Mutex::new(Some(settler)),
            closing,
        }
    }
}
