//! The model's door to the suite: what every broker author writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use goose_core::{BoxFuture, JobId, QueueName, Result};
use goose_testkit::conformance::{Harness, Namespace, Process, Skip};
use parking_lot::Mutex;

use super::state::{LEASE, MAX_RECOVERIES, Shared};
use super::{Defect, Model};

/// Makes models, broken or not.
#[derive(Debug, Default)]
pub(crate) struct ModelHarness {
    pub(crate) defect: Option<Defect>,
    pub(crate) skips: Vec<Skip>,
    places: Mutex<HashMap<Namespace, Arc<Shared>>>,
}

impl ModelHarness {
    pub(crate) fn broken(defect: Defect) -> Self {
        Self { defect: Some(defect), ..Self::default() }
    }

    fn model(&self, namespace: &Namespace) -> Model {
        let mut places = self.places.lock();
        let shared = places.entry(namespace.clone()).or_insert_with(|| Shared::new(self.defect));
        Model::connect(Arc::clone(shared))
    }
}

impl Harness for ModelHarness {
    fn name(&self) -> &str {
        "model"
    }

    fn connect<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<Process>> {
        let model = self.model(namespace);
        let doomed = model.clone();
        let crash = move || {
            doomed.crash();
            std::future::ready(())
        };
        Box::pin(async move { Ok(Process::new(model, crash)) })
    }

    fn enqueue_raw<'a>(
        &'a self,
        namespace: &'a Namespace,
        queue: &'a QueueName,
        id: JobId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<()>> {
        self.model(namespace).enqueue_raw(id, queue.clone(), bytes);
        Box::pin(async { Ok(()) })
    }

    fn recovery_deadline(&self) -> Duration {
        LEASE * 4
    }

    fn max_recoveries(&self) -> u32 {
        MAX_RECOVERIES
    }

    /// Broken models are waited for in vain, so not for long.
    fn patience(&self) -> Duration {
        if self.defect.is_some() { Duration::from_secs(3) } else { Duration::from_secs(10) }
    }

    fn skips(&self) -> Vec<Skip> {
        self.skips.clone()
    }

    fn clean_up<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<()>> {
        self.places.lock().remove(namespace);
        Box::pin(async { Ok(()) })
    }
}
