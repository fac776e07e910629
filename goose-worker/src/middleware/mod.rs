//! Your code around each attempt.

mod next;

use std::future::Future;
use std::sync::Arc;

use goose_core::{BoxFuture, Job, Outcome};

use crate::Context;

pub use next::Next;

/// Code around each attempt: it sees the job before the handler does, and the outcome after.
///
/// Any `async fn(Arc<Job>, Context, Next) -> Outcome` is one. Outermost is what was added first. It may
/// answer without calling [`Next::run`], change the outcome, or pass on a changed copy of the job, for
/// instance with decrypted arguments; what the broker keeps is the job as it was. Storing the outcome is no
/// middleware: nothing here can lose a job. A panic here is a failed attempt, as in a handler.
///
/// Arguments are decoded after the last middleware, so those that cannot be decoded are an outcome that
/// middleware sees.
///
/// ```
/// use goose_worker::{Context, Job, Next, Outcome, Worker};
/// use std::{sync::Arc, time::Instant};
///
/// async fn log_it(job: Arc<Job>, cx: Context, next: Next) -> Outcome {
///     let (name, start) = (job.name.clone(), Instant::now());
///     let outcome = next.run(job, cx).await;
///     println!("{name} took {:?}: {outcome}", start.elapsed());
///     outcome
/// }
///
/// # fn example(broker: impl goose_worker::broker::Broker) {
/// let builder = Worker::builder(broker).middleware(log_it);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not worker middleware",
    label = "expected an async function of `Arc<Job>`, `Context` and `Next`",
    note = "write it as `async fn(Arc<Job>, Context, Next) -> Outcome`"
)]
pub trait Middleware: Send + Sync + 'static {
    /// Passes the job on with [`Next::run`], or answers for it.
    fn call(&self, job: Arc<Job>, cx: Context, next: Next) -> BoxFuture<'static, Outcome>;
}

#[diagnostic::do_not_recommend]
impl<F, Fut> Middleware for F
where
    F: Fn(Arc<Job>, Context, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    fn call(&self, job: Arc<Job>, cx: Context, next: Next) -> BoxFuture<'static, Outcome> {
        Box::pin(self(job, cx, next))
    }
}
