//! What stands between a client and its broker: your code, around each enqueue.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use goose_core::broker::EnqueueVerdict;
use goose_core::{BoxFuture, Job, Result};

use crate::client::Shared;

/// Code around each enqueue: it sees the jobs before the broker does, and the verdicts after.
///
/// Any `async fn(Vec<Job>, EnqueueNext) -> Result<Vec<EnqueueVerdict>>` is one. It is called once per call
/// to the broker, with one job or a chunk of a bulk, and may
/// - change jobs: tags, headers, queue, even the encoded arguments; they are validated again after that,
/// - refuse them all with [`ErrorKind::Rejected`](crate::ErrorKind::Rejected), or single ones by passing on
///   the others and putting [`EnqueueVerdict::Failed`] in their places,
/// - look at the verdicts.
///
/// It must answer one verdict per job it was given, in order; anything else is
/// [`ErrorKind::Internal`](crate::ErrorKind::Internal) for the caller. Outermost is what was added first.
///
/// ```
/// use goose_client::{Client, EnqueueNext, EnqueueVerdict, Job, Result};
///
/// async fn tag_with_region(mut jobs: Vec<Job>, next: EnqueueNext) -> Result<Vec<EnqueueVerdict>> {
///     for job in &mut jobs {
///         job.tags.push("eu-west".to_owned());
///     }
///     next.run(jobs).await
/// }
///
/// # fn example(broker: impl goose_client::broker::Broker) -> Result<()> {
/// let client = Client::builder(broker).middleware(tag_with_region).build()?;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not client middleware",
    label = "expected an async function of jobs and `EnqueueNext`",
    note = "write it as `async fn(Vec<Job>, EnqueueNext) -> goose_client::Result<Vec<EnqueueVerdict>>`"
)]
pub trait EnqueueMiddleware: Send + Sync + 'static {
    /// Passes jobs on with [`EnqueueNext::run`], or answers for them.
    fn call(&self, jobs: Vec<Job>, next: EnqueueNext) -> BoxFuture<'static, Result<Vec<EnqueueVerdict>>>;
}

#[diagnostic::do_not_recommend]
impl<F, Fut> EnqueueMiddleware for F
where
    F: Fn(Vec<Job>, EnqueueNext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<EnqueueVerdict>>> + Send + 'static,
{
    fn call(&self, jobs: Vec<Job>, next: EnqueueNext) -> BoxFuture<'static, Result<Vec<EnqueueVerdict>>> {
        Box::pin(self(jobs, next))
    }
}

/// The rest of the way to the broker.
pub struct EnqueueNext {
    client: Arc<Shared>,
    /// The place in the chain of the middleware that `run` calls.
    at: usize,
}

impl EnqueueNext {
    /// The whole way, from the outermost middleware on.
    pub(crate) fn first(client: Arc<Shared>) -> Self {
        Self { client, at: 0 }
    }

    /// Passes jobs on to the next middleware, or to the broker.
    ///
    /// # Errors
    /// Whatever the inner middleware or the broker answers.
    #[must_use = "jobs that are not passed on are not enqueued"]
    pub fn run(self, jobs: Vec<Job>) -> BoxFuture<'static, Result<Vec<EnqueueVerdict>>> {
        match self.client.middleware.get(self.at).cloned() {
            Some(middleware) => middleware.call(jobs, Self { at: self.at + 1, ..self }),
            None => Box::pin(async move { self.client.hand_over_valid(jobs).await }),
        }
    }
}

impl fmt::Debug for EnqueueNext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnqueueNext").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording_broker::{Ping, RecordingBroker};
    use crate::{Client, Error, ErrorKind, JobId};
    use std::sync::Mutex;

    #[tokio::test]
    async fn the_first_added_is_outermost_and_sees_jobs_and_verdicts() {
        let broker = RecordingBroker::default();
        let log = Arc::new(Mutex::new(Vec::new()));
        let noting = |name: &'static str| {
            let log = Arc::clone(&log);
            move |mut jobs: Vec<Job>, next: EnqueueNext| {
                let log = Arc::clone(&log);
                async move {
                    log.lock().unwrap().push(format!("{name} before"));
                    jobs[0].tags.push(name.to_owned());
                    let verdicts = next.run(jobs).await;
                    log.lock().unwrap().push(format!("{name} after"));
                    verdicts
                }
            }
        };
        let client =
            Client::builder(broker.clone()).middleware(noting("outer")).middleware(noting("inner")).build().unwrap();
        client.perform_async(Ping(1)).await.unwrap();
        assert_eq!(*log.lock().unwrap(), ["outer before", "inner before", "inner after", "outer after"]);
        assert_eq!(broker.jobs()[0].tags, ["outer", "inner"]);
    }

    #[tokio::test]
    async fn it_may_refuse_all_or_one() {
        async fn refuse_odd(jobs: Vec<Job>, next: EnqueueNext) -> Result<Vec<EnqueueVerdict>> {
            if jobs.len() == 1 {
                return Err(Error::new(ErrorKind::Rejected, "not on a Sunday"));
            }
            let odd: Vec<bool> = jobs.iter().map(|job| job.args.bytes[0] % 2 == 1).collect();
            let even = jobs.into_iter().filter(|job| job.args.bytes[0] % 2 == 0).collect();
            let mut passed = next.run(even).await?.into_iter();
            let refused = || EnqueueVerdict::Failed(Error::new(ErrorKind::Rejected, "odd"));
            Ok(odd.into_iter().map(|odd| if odd { refused() } else { passed.next().unwrap() }).collect())
        }
        let broker = RecordingBroker::default();
        let client = Client::builder(broker.clone()).middleware(refuse_odd).build().unwrap();

        let error = client.perform_async(Ping(1)).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Rejected, "not on a Sunday"));
        let report = client.perform_bulk((0..4).map(Ping)).await.unwrap();
        let kinds: Vec<_> = report.verdicts().map(|(_, verdict)| verdict.err().map(Error::kind)).collect();
        assert_eq!(kinds, [None, Some(ErrorKind::Rejected), None, Some(ErrorKind::Rejected)]);
        assert_eq!(broker.jobs().len(), 2);
    }

    #[tokio::test]
    async fn a_wrong_number_of_verdicts_is_an_error_not_a_panic() {
        async fn forgetful(jobs: Vec<Job>, next: EnqueueNext) -> Result<Vec<EnqueueVerdict>> {
            let mut verdicts = next.run(jobs).await?;
            verdicts.pop();
            Ok(verdicts)
        }
        async fn inventive(jobs: Vec<Job>, next: EnqueueNext) -> Result<Vec<EnqueueVerdict>> {
            let mut verdicts = next.run(jobs).await?;
            verdicts.push(EnqueueVerdict::Enqueued(JobId::new()));
            Ok(verdicts)
        }
        let builder = || Client::builder(RecordingBroker::default());
        for client in [builder().middleware(forgetful), builder().middleware(inventive)] {
            let error = client.build().unwrap().perform_async(Ping(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
            assert!(error.to_string().ends_with("verdicts for 1 job"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_it_changes_is_validated_again_and_only_the_bad_job_fails() {
        async fn spoil_first(mut jobs: Vec<Job>, next: EnqueueNext) -> Result<Vec<EnqueueVerdict>> {
            jobs[0].tags.push(String::new());
            next.run(jobs).await
        }
        let broker = RecordingBroker::default();
        let client = Client::builder(broker.clone()).middleware(spoil_first).build().unwrap();
        let report = client.perform_bulk((0..3).map(Ping)).await.unwrap();
        let failed: Vec<_> = report.failed().map(|(index, _, error)| (index, error.to_string())).collect();
        assert_eq!(failed, [(0, "a tag is empty".to_owned())]);
        assert_eq!(broker.jobs().len(), 2);
    }
}
