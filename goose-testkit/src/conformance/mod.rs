//! Prove a broker: one list of scenarios that every broker must pass.
//!
//! Each sentence with "must" in [`goose_core::broker`] is a scenario here. The suite knows nothing of any broker; it
//! reaches yours through one trait, [`Harness`].
//!
//! # For your own broker
//!
//! 1. Add `goose-testkit` to your dev-dependencies with `default-features = false` and the feature `libtest`, and a test
//!    target without the standard harness:
//!
//!    ```toml
//!    [[test]]
//!    name = "conformance"
//!    harness = false
//!    ```
//! 2. Implement [`Harness`]: how to [connect](Harness::connect) like a new process, how to
//!    [crash](Process::new) such a process, how to [store bytes](Harness::enqueue_raw) that are no job, and how long
//!    your leases are. Choose short leases (about a second): a few scenarios wait for them to run out.
//! 3. In `tests/conformance.rs`, hand it to `libtest::main`, or call [`run`] from anywhere and print the [`Report`].
//! 4. `cargo test --test conformance` runs one test per scenario. Work through the batteries in the order of the list.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//! use goose_core::{BoxFuture, JobId, QueueName, Result};
//! use goose_testkit::conformance::{self, Harness, Namespace, Process};
//! # use goose_core::broker::Broker;
//! # async fn connect(_: &str) -> Result<Handle> { unreachable!() }
//! # #[derive(Debug, Clone)] struct Handle;
//! # impl Handle {
//! #     async fn forget_leases(self) {}
//! #     async fn push_bytes(&self, _: &QueueName, _: JobId, _: Vec<u8>) -> Result<()> { Ok(()) }
//! # }
//! # impl Broker for Handle {
//! #     fn name(&self) -> &'static str { "mine" }
//! #     fn enqueue(&self, _: Vec<goose_core::Job>) -> BoxFuture<'_, Result<Vec<goose_core::broker::EnqueueVerdict>>> { unreachable!() }
//! #     fn consume(&self, _: goose_core::broker::ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn goose_core::broker::Consumer>>> { unreachable!() }
//! #     fn close(&self) -> BoxFuture<'_, Result<()>> { unreachable!() }
//! # }
//!
//! #[derive(Debug)]
//! struct Mine { server: String }
//!
//! impl Harness for Mine {
//!     fn name(&self) -> &str { "mine" }
//!     fn connect<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<Process>> {
//!         Box::pin(async move {
//!             let handle = connect(&format!("{}/{namespace}", self.server)).await?;
//!             let doomed = handle.clone();
//!             Ok(Process::new(handle, move || doomed.clone().forget_leases()))
//!         })
//!     }
//!     fn enqueue_raw<'a>(
//!         &'a self, namespace: &'a Namespace, queue: &'a QueueName, id: JobId, bytes: Vec<u8>,
//!     ) -> BoxFuture<'a, Result<()>> {
//!         Box::pin(async move {
//!             connect(&format!("{}/{namespace}", self.server)).await?.push_bytes(queue, id, bytes).await
//!         })
//!     }
//!     fn recovery_deadline(&self) -> Duration { Duration::from_secs(3) }
//!     fn max_recoveries(&self) -> u32 { 3 }
//!     fn clean_up<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<()>> {
//!         Box::pin(async move { drop(namespace); Ok(()) })
//!     }
//! }
//!
//! # async fn example() {
//! let report = conformance::run(Arc::new(Mine { server: "tcp://localhost".into() }), "").await;
//! println!("{report}");
//! assert!(report.is_success());
//! # }
//! ```
//!
//! # What a broker cannot do
//!
//! A broker that lacks a capability, or cannot pass a scenario for a reason of its kind, says so in
//! [`Harness::skips`]. Skips are printed with their reasons. A scenario whose capability is missing and that is not
//! skipped *fails*, and so does a skip that names no scenario: nothing drops out of the suite in silence.
//!
//! # What the suite measures
//!
//! Things that should happen at once may take [`Harness::patience`]; where promptness is the promise (wake-ups, due
//! jobs), the median over several jobs may take [`Harness::promptness`]. So a busy machine fails nothing, and a broker
//! that polls every second does.

mod battery;
mod failure;
mod harness;
mod job;
mod list;
mod report;
mod scenario;
mod session;
mod stage;
mod witness;

#[cfg(feature = "libtest")]
pub mod libtest;

pub use failure::Failure;
pub use harness::{Harness, Namespace, Process, Skip};
pub use list::{run, scenarios};
pub use report::{Outcome, Report};
pub use scenario::Scenario;
