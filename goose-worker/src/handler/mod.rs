//! What may handle a job: plain functions and closures, async or blocking, with or without a context.

mod async_fn;
mod blocking;
mod erased;

use std::future::Future;

use crate::Context;

pub(crate) use erased::{AsyncHandler, BlockingAdapter, ErasedHandler};

/// An async function that handles jobs: `async fn(Args) -> R` or `async fn(Args, Context) -> R`, where `Args`
/// implements [`JobArgs`](crate::JobArgs) and `serde::Deserialize`, and `R` is `()`,
/// [`Outcome`](crate::Outcome) or a `Result` of either with any error. Closures may capture.
///
/// The name of the job comes from the arguments, so a handler cannot be bound to the wrong one. `Shape` is
/// inferred; it only tells the two kinds of function apart.
///
/// A handler is cut at its next `.await` when its job times out, reaches its deadline, or outlives the grace
/// period of a stop: the future is dropped. Code that must not be cut belongs into a spawned task that is
/// awaited, or into a [`BlockingHandler`].
///
/// ```
/// use goose_worker::{Context, JobArgs, Outcome, Worker};
/// use std::time::Duration;
///
/// #[derive(serde::Deserialize)]
/// struct Ping(u32);
/// impl JobArgs for Ping {
///     const NAME: &'static str = "ping";
/// }
/// #[derive(serde::Deserialize)]
/// struct Sync { user: u64 }
/// impl JobArgs for Sync {
///     const NAME: &'static str = "sync";
/// }
///
/// async fn ping(Ping(n): Ping) {
///     println!("ping {n}");
/// }
/// async fn sync(sync: Sync, cx: Context) -> Result<Outcome, std::num::ParseIntError> {
///     let _limit: u32 = cx.job().headers.get("limit").map_or("10", |text| text).parse()?;
///     Ok(if sync.user == 0 { Outcome::Snooze(Duration::from_secs(60)) } else { Outcome::Done })
/// }
///
/// # fn example(broker: impl goose_worker::broker::Broker) {
/// let builder = Worker::builder(broker).handle(ping).handle(sync);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle jobs",
    label = "expected an async function of a job's arguments",
    note = "write it as `async fn(Args) -> R` or `async fn(Args, Context) -> R`",
    note = "a function that is not async is registered with `handle_blocking`"
)]
pub trait Handler<Shape>: Send + Sync + 'static {
    /// What it takes; its [`JobArgs::NAME`](crate::JobArgs::NAME) is the name of the job.
    // Bounded where handlers are registered and not here: then the compiler names the bound that fails, and
    // not only the handler.
    type Args;

    /// An attempt; its output is an [`IntoOutcome`](crate::IntoOutcome).
    type Attempt: Future;

    /// Starts an attempt.
    fn call(&self, args: Self::Args, cx: Context) -> Self::Attempt;
}

/// A function that handles jobs and blocks its thread meanwhile: `fn(Args) -> R` or `fn(Args, Context) -> R`,
/// otherwise as a [`Handler`]. It runs on the runtime's threads for blocking work.
///
/// A thread cannot be cut. When such a job times out, [`Context::is_cancelled`] becomes true, the worker
/// waits until the function returns, and then the attempt counts as failed, whatever was returned: there
/// are never two copies of one job in one process. A job that outlives the grace period of a stop is left
/// to its lease, and another worker recovers it when the lease has ended.
///
/// ```
/// use goose_worker::{Context, JobArgs, Worker};
///
/// #[derive(serde::Deserialize)]
/// struct Resize { pixels: Vec<u8> }
/// impl JobArgs for Resize {
///     const NAME: &'static str = "resize";
/// }
///
/// fn resize(resize: Resize, cx: Context) -> std::io::Result<()> {
///     for row in resize.pixels.chunks(1024) {
///         if cx.is_cancelled() {
///             return Err(std::io::Error::other("cut short"));
///         }
///         std::hint::black_box(row);
///     }
///     Ok(())
/// }
///
/// # fn example(broker: impl goose_worker::broker::Broker) {
/// let builder = Worker::builder(broker).handle_blocking(resize);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle jobs as a blocking function",
    label = "expected a function of a job's arguments that is not async",
    note = "write it as `fn(Args) -> R` or `fn(Args, Context) -> R`",
    note = "an async function is registered with `handle`"
)]
pub trait BlockingHandler<Shape>: Send + Sync + 'static {
    /// What it takes; its [`JobArgs::NAME`](crate::JobArgs::NAME) is the name of the job.
    type Args;

    /// What it returns; an [`IntoOutcome`](crate::IntoOutcome).
    type Returned;

    /// Runs an attempt.
    fn call(&self, args: Self::Args, cx: Context) -> Self::Returned;
}
