//! The way from one middleware to the next, and to the handler.

use std::fmt;
use std::sync::Arc;

use goose_core::{BoxFuture, Job, Outcome};

use super::Middleware;
use crate::Context;
use crate::handler::ErasedHandler;

/// The rest of the way to the handler.
pub struct Next {
    chain: Arc<[Arc<dyn Middleware>]>,
    /// The place in the chain of the middleware that `run` calls.
    at: usize,
    handler: Arc<dyn ErasedHandler>,
}

impl Next {
    /// The whole way, from the outermost middleware on.
    pub(crate) fn first(chain: Arc<[Arc<dyn Middleware>]>, handler: Arc<dyn ErasedHandler>) -> Self {
        Self { chain, at: 0, handler }
    }

    /// Passes the job on to the next middleware, or decodes its arguments and calls the handler.
    #[must_use = "a job that is not passed on does not run"]
    pub fn run(self, job: Arc<Job>, cx: Context) -> BoxFuture<'static, Outcome> {
        match self.chain.get(self.at).cloned() {
            Some(middleware) => middleware.call(job, cx, Self { at: self.at + 1, ..self }),
            None => self.handler.call(&job, cx),
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("at", &self.at).field("of", &self.chain.len()).finish_non_exhaustive()
    }
}
