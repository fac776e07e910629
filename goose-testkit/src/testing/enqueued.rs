//! What waits in a broker, with its arguments decoded.

use std::any::type_name;

use goose_client::{ContentType, Job, JobArgs, Payload, Result, Timestamp};
use goose_core::broker::Broker;
use goose_core::broker::capability::{JobFilter, Page, require};
use goose_core::{Error, ErrorKind};
use serde::de::DeserializeOwned;

/// A job that waits, in a queue or for its time.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Enqueued<A> {
    /// Its arguments.
    pub args: A,
    /// Everything else.
    pub job: Job,
    /// When it is due, for jobs that wait for their time: scheduled, to be retried, snoozed.
    pub due_at: Option<Timestamp>,
}

/// All jobs with these arguments that wait: those in queues first, queue by queue in the order in which they will run,
/// then those that wait for their time, by time.
///
/// Running and dead jobs do not wait.
///
/// ```
/// # use goose_client::JobArgs;
/// # use goose_testkit::testing::{TestBroker, enqueued};
/// # #[derive(Debug, serde::Serialize, serde::Deserialize)] struct Ping(u8);
/// # impl JobArgs for Ping { const NAME: &'static str = "ping"; }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> goose_client::Result<()> {
/// let test = TestBroker::new().await?;
/// test.client().job(Ping(3)).queue("pings").tag("vip").enqueue().await?;
/// let pings = enqueued::<Ping>(&test).await?;
/// assert_eq!((pings[0].args.0, pings[0].job.queue.as_str()), (3, "pings"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Unsupported`] when the broker cannot list jobs, [`ErrorKind::Decode`] for arguments that are not
/// those of `A`, and what the broker answers.
pub async fn enqueued<A: JobArgs + DeserializeOwned>(broker: &dyn Broker) -> Result<Vec<Enqueued<A>>> {
    let waiting = waiting(broker, &JobFilter::default().name(A::NAME)).await?;
    let decode = |(job, due_at): (Job, _)| Ok(Enqueued { args: decode(&job.args)?, job, due_at });
    waiting.into_iter().map(decode).collect()
}

/// All waiting jobs that pass a filter, with their due times.
pub(super) async fn waiting(broker: &dyn Broker, filter: &JobFilter) -> Result<Vec<(Job, Option<Timestamp>)>> {
    let mut waiting = Vec::new();
    let enqueued = require(broker, "enqueued jobs", broker.enqueued_jobs())?;
    for queue in enqueued.queues().await? {
        let mut page = Some(Page::first(Page::MAX));
        while let Some(this) = page {
            let paged = enqueued.find(&queue, filter, this).await?;
            waiting.extend(paged.items.into_iter().map(|job| (job, None)));
            page = paged.next.map(|cursor| Page::after(Page::MAX, cursor));
        }
    }
    let scheduled = require(broker, "scheduled jobs", broker.scheduled_jobs())?;
    let mut page = Some(Page::first(Page::MAX));
    while let Some(this) = page {
        let paged = scheduled.find(filter, this).await?;
        waiting.extend(paged.items.into_iter().map(|scheduled| (scheduled.job, Some(scheduled.due_at))));
        page = paged.next.map(|cursor| Page::after(Page::MAX, cursor));
    }
    Ok(waiting)
}

/// Arguments as a worker would get them.
pub(super) fn decode<A: DeserializeOwned>(payload: &Payload) -> Result<A> {
    let failed = || Error::new(ErrorKind::Decode, format!("cannot decode arguments as {}", type_name::<A>()));
    match &payload.content_type {
        ContentType::MessagePack => rmp_serde::from_slice(&payload.bytes).map_err(|error| failed().with_source(error)),
        ContentType::Json => serde_json::from_slice(&payload.bytes).map_err(|error| failed().with_source(error)),
        other => Err(failed().with_source(format!("content type {other:?} is not known to the test kit"))),
    }
}
