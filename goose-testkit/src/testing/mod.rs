//! Test your own jobs: without a server, without waiting, without threads of your own.
//!
//! | you want to | use |
//! |---|---|
//! | call one handler, with arguments as they travel | [`TestBroker::perform_inline`] |
//! | check what your code has enqueued | [`assert_enqueued`], [`enqueued`] |
//! | run everything that is ready, the way a worker does | [`TestBroker::worker`] and `drain` |
//! | see what happens tomorrow | [`TestBroker::advance`] |
//!
//! ```
//! use std::time::Duration;
//! use goose_client::JobArgs;
//! use goose_testkit::testing::{Expected, TestBroker, assert_enqueued};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! struct Remind { user: u32 }
//! impl JobArgs for Remind { const NAME: &'static str = "remind"; }
//!
//! async fn sign_up(client: &goose_client::Client, user: u32) -> goose_client::Result<()> {
//!     client.perform_in(Duration::from_secs(24 * 3600), Remind { user }).await?;
//!     Ok(())
//! }
//!
//! async fn remind(Remind { user }: Remind) -> Result<(), String> {
//!     if user == 7 { Ok(()) } else { Err("no such user".to_owned()) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> goose_client::Result<()> {
//! let test = TestBroker::new().await?;
//! sign_up(test.client(), 7).await?;
//! assert_enqueued(&test, Expected::<Remind>::once().matching(|job| job.user == 7).scheduled()).await;
//!
//! // Nothing is due yet; a day later it is.
//! assert_eq!(test.worker().handle(remind).drain().await?.succeeded, 0);
//! test.advance(Duration::from_secs(24 * 3600));
//! assert_eq!(test.worker().handle(remind).drain().await?.succeeded, 1);
//! # Ok(()) }
//! ```

mod enqueued;
mod expected;
mod manual_clock;
mod test_broker;

pub use enqueued::{Enqueued, enqueued};
pub use expected::{Expected, assert_enqueued};
pub use manual_clock::ManualClock;
pub use test_broker::TestBroker;
