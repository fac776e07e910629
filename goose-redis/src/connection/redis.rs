//! The link over fred: a thread, a connection for jobs and one for heartbeats.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::bytes::Bytes;
use goose_core::{BoxFuture, Error, ErrorKind, Result};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::call::Call;
use super::config::Setup;
use super::keeper::{Keeper, Vitals};
use super::preflight::Wanted;
use super::runtime::Runtime;
use super::wait::BlockingWaiter;
use super::{Health, Lane, Link, Repeat, Reply, Script, Topology, Waiter};
use crate::error::closed;
use crate::names::Names;
use crate::options::RedisOptions;

/// How long opening may take in all, when servers answer slowly.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Connects, checks the server and gives it the scripts.
///
/// # Errors
/// [`RedisOptions::open`] lists them.
pub(crate) async fn open(options: &RedisOptions, scripts: &'static [&'static Script]) -> Result<Arc<dyn Link>> {
    let setup = Arc::new(Setup::of(options)?);
    let runtime = Runtime::start()
        .map_err(|error| Error::new(ErrorKind::Unavailable, "cannot start the broker's thread").with_source(error))?;
    let probe_keys = Names::new(options.key_prefix()).probe();
    let vitals = Arc::new(Vitals::default());
    let keep = |role| Keeper::start(runtime.handle(), Arc::clone(&setup), role, Arc::clone(&vitals));
    let lanes = Arc::new(Lanes { data: keep("data"), beat: keep("beat"), asking: tokio::sync::Mutex::default() });
    let check = {
        let (setup, lanes) = (Arc::clone(&setup), Arc::clone(&lanes));
        runtime.spawn(async move {
            let deadline = Instant::now() + OPEN_LIMIT;
            let cannot = || format!("cannot connect to redis at {}", setup.place());
            let wire =
                lanes.data.first(setup.seeds.len(), deadline).await.map_err(|fault| fault.into_error(cannot()))?;
            let wanted = Wanted { setup: &setup, scripts, probe_keys };
            wanted.check(&wire, deadline).await?;
            lanes.beat.first(setup.seeds.len(), deadline).await.map_err(|fault| fault.into_error(cannot()))?;
            Ok(())
        })
    };
    // Dropping the runtime on the way out ends everything that was begun.
    check.await.unwrap_or_else(|_| Err(closed()))?;
    Ok(Arc::new(RedisLink { runtime, setup, lanes, vitals }))
}

struct RedisLink {
    runtime: Runtime,
    setup: Arc<Setup>,
    lanes: Arc<Lanes>,
    vitals: Arc<Vitals>,
}

struct Lanes {
    data: Keeper,
    beat: Keeper,
    /// Held while the server is asked whether it answers.
    asking: tokio::sync::Mutex<()>,
}

impl Lanes {
    /// A call for jobs. One that waits for as long as a heartbeat may makes sure that there is one: who has no session sends
    /// none, and would learn only by the time limit of its calls that the server hangs and another has taken over.
    async fn run_data(&self, call: &Call, setup: &Setup, at_risk: impl Fn(bool)) -> Result<Reply> {
        let mut answer = pin!(call.run(&self.data, setup.data_limit, at_risk));
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = sleep(setup.beat_limit) => {}
            }
            // One asks for all.
            let Ok(_asking) = self.asking.try_lock() else { continue };
            let time = Call::command("TIME", None, Vec::new(), call.slot());
            tokio::select! {
                answer = &mut answer => return answer,
                _ = time.run(&self.beat, setup.beat_limit, |_| {}) => {}
            }
        }
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Health { connected, reconnects, last_error } = self.health();
        f.debug_struct("RedisLink")
            .field("at", &self.setup.place())
            .field("connected", &connected)
            .field("reconnects", &reconnects)
            .field("last_error", &last_error)
            .finish()
    }
}

impl RedisLink {
    /// Runs a call on our own thread.
    async fn run(&self, lane: Lane, call: Call) -> Result<Reply> {
        let (lanes, setup) = (Arc::clone(&self.lanes), Arc::clone(&self.setup));
        let at_risk = Arc::new(AtomicBool::new(false));
        let harmless = call.repeat() == Repeat::Always;
        let task = {
            let at_risk = Arc::clone(&at_risk);
            self.runtime.spawn(async move {
                let at_risk = |is| at_risk.store(is, Ordering::Release);
                match lane {
                    Lane::Data => lanes.run_data(&call, &setup, at_risk).await,
                    Lane::Beat => call.run(&lanes.beat, setup.beat_limit, at_risk).await,
                }
            })
        };
        match task.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => {
                Err(Error::new(ErrorKind::Internal, "a call panicked; this is a bug, please report it"))
            }
            // The link was closed under it.
            Err(_) if harmless || !at_risk.load(Ordering::Acquire) => Err(closed()),
            Err(_) => {
                let message = "the broker was closed while a call was under way; it may or may not have happened";
                Err(Error::new(ErrorKind::OutcomeUnknown, message))
            }
        }
    }
}

impl Link for RedisLink {
    fn eval(
        &self,
        lane: Lane,
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    ) -> BoxFuture<'_, Result<Reply>> {
        let slot = keys.first().and_then(|key| self.setup.topology.slot_of(key));
        Box::pin(self.run(lane, Call::script(script, keys, args, slot)))
    }

    fn command(
        &self,
        lane: Lane,
        name: &'static str,
        key: Option<Bytes>,
        args: Vec<Bytes>,
    ) -> BoxFuture<'_, Result<Reply>> {
        let slot = key.as_ref().and_then(|key| self.setup.topology.slot_of(key));
        Box::pin(self.run(lane, Call::command(name, key, args, slot)))
    }

    fn waiter(&self) -> BoxFuture<'_, Result<Box<dyn Waiter>>> {
        Box::pin(async move {
            let runtime = self.runtime.handle();
            let keeper = Keeper::start(runtime, Arc::clone(&self.setup), "wait", Arc::clone(&self.vitals));
            let waiter = BlockingWaiter::new(runtime.clone(), keeper, self.setup.topology);
            Ok(Box::new(waiter) as Box<dyn Waiter>)
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) -> JoinHandle<()> {
        self.runtime.spawn(task)
    }

    fn topology(&self) -> Topology {
        self.setup.topology
    }

    fn health(&self) -> Health {
        Health {
            connected: self.lanes.data.is_connected() && self.lanes.beat.is_connected(),
            reconnects: self.vitals.reconnects.load(Ordering::Relaxed),
            last_error: self.vitals.last_error.lock().clone(),
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.runtime.shut_down())
    }
}
