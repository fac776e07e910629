//! Error and death hooks: the application's code that hears of failures, for instance to tell an error service.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::DeathReason;
use goose_core::{BoxFuture, Event, Job, JobId, Observer, QueueName};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// How many calls of hooks may run at once. Beyond that they are left out, with a warning, so that a hook
/// that hangs cannot fill the memory.
const MAX_RUNNING: u32 = 1000;

/// An attempt that failed, as [`WorkerBuilder::on_error`](crate::WorkerBuilder::on_error) hooks get it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The job, with this failure in its attempt state.
    pub job: Job,
    /// The error with its causes; for a panic its message.
    pub error: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// How long the attempt ran.
    pub ran: Duration,
}

/// A job that died, as [`WorkerBuilder::on_death`](crate::WorkerBuilder::on_death) hooks get it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Death {
    /// The job's id.
    pub id: JobId,
    /// The queue it was in last.
    pub queue: QueueName,
    /// The job; `None` where its stored bytes cannot be decoded.
    pub job: Option<Job>,
    /// Why it died.
    pub reason: DeathReason,
}

type Hook<T> = Arc<dyn Fn(T) -> BoxFuture<'static, ()> + Send + Sync>;

/// The hooks of a worker.
#[derive(Default)]
pub(crate) struct Hooks {
    on_error: Vec<Hook<FailedAttempt>>,
    on_death: Vec<Hook<Death>>,
}

impl Hooks {
    pub(crate) fn on_error<F, Fut>(&mut self, hook: F)
    where
        F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.on_error.push(Arc::new(move |failed| Box::pin(hook(failed))));
    }

    pub(crate) fn on_death<F, Fut>(&mut self, hook: F)
    where
        F: Fn(Death) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.on_death.push(Arc::new(move |death| Box::pin(hook(death))));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.on_error.is_empty() && self.on_death.is_empty()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hooks({} on error, {} on death)", self.on_error.len(), self.on_death.len())
    }
}

/// Calls hooks when events happen, each in a task of its own.
#[derive(Debug)]
pub(crate) struct HookRunner {
    hooks: Hooks,
    /// Brokers report deaths from threads of their own, which belong to no runtime.
    runtime: Handle,
    room: Arc<Semaphore>,
}

impl HookRunner {
    pub(crate) fn new(hooks: Hooks, runtime: Handle) -> Self {
        Self { hooks, runtime, room: Arc::new(Semaphore::new(MAX_RUNNING as usize)) }
    }

    fn run<T: Send + 'static>(&self, hook: &Hook<T>, what: &'static str, about: T) {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(hook = what, "left out a hook, because {MAX_RUNNING} are running");
            return;
        };
        let hook = Arc::clone(hook);
        let run = self.runtime.spawn(async move {
            // Called inside the task, so that a panic before the first await is the task's too.
            hook(about).await;
        });
        self.runtime.spawn(async move {
            if run.await.is_err_and(|error| error.is_panic()) {
                tracing::error!(hook = what, "a hook panicked");
            }
            drop(place);
        });
    }

    /// Waits until no hook is running.
    pub(crate) async fn finished(&self) {
        let _ = self.room.acquire_many(MAX_RUNNING).await;
    }
}

impl Observer for HookRunner {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Failed { job, error, ran } => {
                for hook in &self.hooks.on_error {
                    let attempt = job.attempts.last_failure().map_or(1, |failure| failure.attempt);
                    let failed = FailedAttempt { job: job.clone(), error: error.to_owned(), attempt, ran };
                    self.run(hook, "on_error", failed);
                }
            }
            Event::Died { id, queue, job, reason } => {
                for hook in &self.hooks.on_death {
                    let (queue, job, reason) = (queue.clone(), job.cloned(), reason.clone());
                    self.run(hook, "on_death", Death { id, queue, job, reason });
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::broker::DeathCause;
    use goose_core::{JobName, Payload, Timestamp};
    use tokio::sync::mpsc;

    fn failed_job() -> Job {
        let mut job = Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![]));
        job.attempts.record_failure(Timestamp::EPOCH, "no");
        job
    }

    #[tokio::test]
    async fn a_panicking_hook_harms_neither_the_next_nor_the_room() {
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut hooks = Hooks::default();
        hooks.on_error(|_| async { panic!("in a hook") });
        hooks.on_error(move |failed: FailedAttempt| {
            let tell = tell.clone();
            async move { tell.send((failed.error, failed.attempt)).unwrap() }
        });
        let runner = HookRunner::new(hooks, Handle::current());
        let job = failed_job();
        for _ in 0..3 {
            runner.observe(&Event::Failed { job: &job, error: "no", ran: Duration::ZERO });
        }
        for _ in 0..3 {
            assert_eq!(told.recv().await.unwrap(), ("no".to_owned(), 1));
        }
        runner.finished().await;
        assert_eq!(runner.room.available_permits(), MAX_RUNNING as usize);
    }

    #[tokio::test]
    async fn hooks_run_when_the_event_comes_from_a_foreign_thread() {
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut hooks = Hooks::default();
        hooks.on_death(move |death: Death| {
            let tell = tell.clone();
            async move { tell.send(death).unwrap() }
        });
        let runner = HookRunner::new(hooks, Handle::current());
        let (id, reason) = (JobId::new(), DeathReason::new(DeathCause::Undecodable, "not an envelope"));
        let died = Event::Died { id, queue: &QueueName::default(), job: None, reason: &reason };
        std::thread::scope(|scope| scope.spawn(|| runner.observe(&died)).join().unwrap());
        let death = told.recv().await.unwrap();
        assert_eq!((death.id, death.job.is_none(), death.reason), (id, true, reason));
    }

    #[tokio::test]
    async fn hooks_that_hang_are_left_out_beyond_a_limit() {
        let mut hooks = Hooks::default();
        hooks.on_error(|_| std::future::pending());
        let runner = HookRunner::new(hooks, Handle::current());
        let job = failed_job();
        for _ in 0..MAX_RUNNING + 10 {
            runner.observe(&Event::Failed { job: &job, error: "no", ran: Duration::ZERO });
        }
        assert_eq!(runner.room.available_permits(), 0);
    }
}
