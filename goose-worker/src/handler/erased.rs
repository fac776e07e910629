//! Handlers without their types, as the registry keeps them.

use std::future::{self, Future};
use std::marker::PhantomData;
use std::panic;
use std::sync::Arc;

use goose_core::{BoxFuture, Error, ErrorKind, IntoOutcome, Job, Outcome};
use serde::de::DeserializeOwned;

use super::{BlockingHandler, Handler};
use crate::{Context, codec};

/// A handler of some job: decodes the arguments and starts the attempt.
pub(crate) trait ErasedHandler: Send + Sync {
    /// Arguments that cannot be decoded are a failed attempt, so that a newer worker may read them later.
    fn call(&self, job: &Job, cx: Context) -> BoxFuture<'static, Outcome>;

    /// Whether an attempt cannot be cut by dropping its future.
    fn is_blocking(&self) -> bool;
}

/// An async handler. `fn() -> S` is `Send` and `Sync` whatever the shape is.
pub(crate) struct AsyncHandler<S, H>(H, PhantomData<fn() -> S>);

impl<S, H: Handler<S>> AsyncHandler<S, H> {
    pub(crate) fn new(handler: H) -> Self {
        Self(handler, PhantomData)
    }
}

impl<S, H> ErasedHandler for AsyncHandler<S, H>
where
    S: 'static,
    H: Handler<S, Args: DeserializeOwned, Attempt: Future<Output: IntoOutcome> + Send + 'static>,
{
    fn call(&self, job: &Job, cx: Context) -> BoxFuture<'static, Outcome> {
        match codec::decode(&job.args) {
            Ok(args) => {
                let attempt = self.0.call(args, cx);
                Box::pin(async move { attempt.await.into_outcome() })
            }
            Err(error) => Box::pin(future::ready(Outcome::retry(error))),
        }
    }

    fn is_blocking(&self) -> bool {
        false
    }
}

/// A blocking handler; shared, because a blocking thread outlives the future that waits for it.
pub(crate) struct BlockingAdapter<S, H>(Arc<H>, PhantomData<fn() -> S>);

impl<S, H: BlockingHandler<S>> BlockingAdapter<S, H> {
    pub(crate) fn new(handler: H) -> Self {
        Self(Arc::new(handler), PhantomData)
    }
}

impl<S, H> ErasedHandler for BlockingAdapter<S, H>
where
    S: 'static,
    H: BlockingHandler<S, Args: DeserializeOwned + Send + 'static, Returned: IntoOutcome>,
{
    fn call(&self, job: &Job, cx: Context) -> BoxFuture<'static, Outcome> {
        let args = match codec::decode(&job.args) {
            Ok(args) => args,
            Err(error) => return Box::pin(future::ready(Outcome::retry(error))),
        };
        let handler = Arc::clone(&self.0);
        let span = tracing::Span::current();
        Box::pin(async move {
            let attempt = tokio::task::spawn_blocking(move || {
                // It may have waited for a thread until after the executor cut it.
                if !cx.decide_start() {
                    return Outcome::retry("cut before it began");
                }
                span.in_scope(|| handler.call(args, cx).into_outcome())
            });
            match attempt.await {
                Ok(outcome) => outcome,
                // Goes on as the panic it was; the executor catches it like any other.
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                Err(error) => Outcome::retry(
                    Error::new(ErrorKind::Closed, "the runtime ended before the handler did").with_source(error),
                ),
            }
        })
    }

    fn is_blocking(&self) -> bool {
        true
    }
}
