//! Async functions and closures are handlers.

use std::future::Future;

use super::Handler;
use crate::Context;

impl<F, Fut, A> Handler<fn(A) -> Fut> for F
where
    F: Fn(A) -> Fut + Send + Sync + 'static,
    Fut: Future,
{
    type Args = A;
    type Attempt = Fut;

    fn call(&self, args: A, _: Context) -> Fut {
        self(args)
    }
}

impl<F, Fut, A> Handler<fn(A, Context) -> Fut> for F
where
    F: Fn(A, Context) -> Fut + Send + Sync + 'static,
    Fut: Future,
{
    type Args = A;
    type Attempt = Fut;

    fn call(&self, args: A, cx: Context) -> Fut {
        self(args, cx)
    }
}
