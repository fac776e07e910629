//! The smallest broker that keeps the promise of `enqueue`, for the tests of this crate.

use std::sync::{Arc, Mutex, MutexGuard};

use goose_core::broker::{Broker, Consumer, ConsumerOptions, EnqueueVerdict};
use goose_core::{BoxFuture, Error, ErrorKind, Job, JobArgs, Result};

#[derive(serde::Serialize)]
pub(crate) struct Ping(pub(crate) u32);
impl JobArgs for Ping {
    const NAME: &'static str = "ping";
}

/// Keeps what it was given, once per id.
#[derive(Debug, Default, Clone)]
pub(crate) struct RecordingBroker(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    sizes_of_calls: Vec<usize>,
    /// The number of the first call that fails; none by default.
    fail_from: Option<usize>,
    /// Whether the next call is answered with an error although it is done.
    loses_answer: bool,
}

impl RecordingBroker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn jobs(&self) -> Vec<Job> {
        self.state().jobs.clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.state().sizes_of_calls.len()
    }

    pub(crate) fn sizes_of_calls(&self) -> Vec<usize> {
        self.state().sizes_of_calls.clone()
    }

    pub(crate) fn fail_calls_from(&self, call: usize) {
        self.state().fail_from = Some(call);
    }

    pub(crate) fn lose_next_answer(&self) {
        self.state().loses_answer = true;
    }
}

impl Broker for RecordingBroker {
    fn name(&self) -> &'static str {
        "recording"
    }

    fn enqueue(&self, jobs: Vec<Job>) -> BoxFuture<'_, Result<Vec<EnqueueVerdict>>> {
        Box::pin(async move {
            let mut state = self.state();
            let call = state.sizes_of_calls.len();
            state.sizes_of_calls.push(jobs.len());
            if state.fail_from.is_some_and(|first| call >= first) {
                return Err(Error::new(ErrorKind::Unavailable, "the broker is away"));
            }
            let verdicts = jobs.iter().map(|job| EnqueueVerdict::Enqueued(job.id)).collect();
            for job in jobs {
                if state.jobs.iter().all(|known| known.id != job.id) {
                    state.jobs.push(job);
                }
            }
            if std::mem::take(&mut state.loses_answer) {
                return Err(Error::new(ErrorKind::OutcomeUnknown, "no answer in time"));
            }
            Ok(verdicts)
        })
    }

    fn consume(&self, _: ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn Consumer>>> {
        Box::pin(async { Err(Error::unsupported("recording", "consuming")) })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
