//! Which handler runs which job.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use goose_core::{Error, ErrorKind, IntoOutcome, JobArgs, JobName, Result};
use serde::de::DeserializeOwned;

use crate::handler::{AsyncHandler, BlockingAdapter, ErasedHandler};
use crate::{BlockingHandler, Handler};

/// Handlers by job name.
#[derive(Default)]
pub(crate) struct Registry(HashMap<&'static str, Arc<dyn ErasedHandler>>);

impl Registry {
    pub(crate) fn add_async<S, H>(&mut self, handler: H) -> Result<()>
    where
        S: 'static,
        H: Handler<S, Args: JobArgs + DeserializeOwned, Attempt: Future<Output: IntoOutcome> + Send + 'static>,
    {
        self.add::<H::Args>(Arc::new(AsyncHandler::new(handler)))
    }

    pub(crate) fn add_blocking<S, H>(&mut self, handler: H) -> Result<()>
    where
        S: 'static,
        H: BlockingHandler<S, Args: JobArgs + DeserializeOwned, Returned: IntoOutcome>,
    {
        self.add::<H::Args>(Arc::new(BlockingAdapter::new(handler)))
    }

    fn add<A: JobArgs>(&mut self, handler: Arc<dyn ErasedHandler>) -> Result<()> {
        JobName::of::<A>()?;
        match self.0.insert(A::NAME, handler) {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::InvalidInput, format!("job {:?} has two handlers", A::NAME))),
        }
    }

    pub(crate) fn find(&self, name: &JobName) -> Option<&Arc<dyn ErasedHandler>> {
        self.0.get(name.as_str())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
