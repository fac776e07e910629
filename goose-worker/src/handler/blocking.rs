//! Functions and closures that block are handlers too.

use super::BlockingHandler;
use crate::Context;

impl<F, A, R> BlockingHandler<fn(A) -> R> for F
where
    F: Fn(A) -> R + Send + Sync + 'static,
{
    type Args = A;
    type Returned = R;

    fn call(&self, args: A, _: Context) -> R {
        self(args)
    }
}

impl<F, A, R> BlockingHandler<fn(A, Context) -> R> for F
where
    F: Fn(A, Context) -> R + Send + Sync + 'static,
{
    type Args = A;
    type Returned = R;

    fn call(&self, args: A, cx: Context) -> R {
        self(args, cx)
    }
}
