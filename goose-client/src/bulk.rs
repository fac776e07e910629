//! Many jobs at once: chunks, and a verdict for each job.

use std::sync::Arc;

use goose_core::{Error, ErrorKind, Job, JobId, Result};

use crate::Client;

/// How many jobs go into one call to the broker: work per call stays bounded.
const CHUNK: usize = 1000;

/// What became of each job of a bulk, in the order they were given.
///
/// ```
/// # async fn example(client: goose_client::Client, jobs: Vec<goose_client::Job>) -> goose_client::Result<()> {
/// let report = client.enqueue_jobs(jobs).await?;
/// for (index, id, error) in report.failed() {
///     eprintln!("job {index} ({id}) is not stored: {error:#}");
/// }
/// // Or, where all or an error is enough:
/// let ids = report.into_result()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "it says which jobs are not stored"]
pub struct BulkReport {
    verdicts: Vec<(JobId, Result<()>)>,
}

impl BulkReport {
    /// How many jobs there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.verdicts.len()
    }

    /// Whether there were no jobs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.verdicts.is_empty()
    }

    /// Whether every job is stored.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.verdicts.iter().all(|(_, verdict)| verdict.is_ok())
    }

    /// The ids of the stored jobs.
    pub fn enqueued(&self) -> impl Iterator<Item = JobId> {
        self.verdicts.iter().filter(|(_, verdict)| verdict.is_ok()).map(|(id, _)| *id)
    }

    /// The jobs that are not stored, or may not be: place, id and error of each.
    pub fn failed(&self) -> impl Iterator<Item = (usize, JobId, &Error)> {
        let verdicts = self.verdicts.iter().enumerate();
        verdicts.filter_map(|(index, (id, verdict))| verdict.as_ref().err().map(|error| (index, *id, error)))
    }

    /// Id and verdict of every job.
    pub fn verdicts(&self) -> impl Iterator<Item = (JobId, Result<(), &Error>)> {
        self.verdicts.iter().map(|(id, verdict)| (*id, verdict.as_ref().copied()))
    }

    /// All ids, if every job is stored.
    ///
    /// # Errors
    /// The first error, with the place of its job. Other jobs may be stored all the same.
    pub fn into_result(self) -> Result<Vec<JobId>> {
        let numbered = self.verdicts.into_iter().enumerate();
        numbered.map(|(index, (id, verdict))| verdict.map(|()| id).map_err(|error| at(index, error))).collect()
    }
}

/// The error of one job of many.
pub(crate) fn at(index: usize, error: Error) -> Error {
    Error::new(error.kind(), format!("cannot enqueue job {index} of the bulk, counted from 0")).with_source(error)
}

/// Enqueues valid jobs. Stops at the first call that fails, because the next would most likely fail as well.
pub(crate) async fn enqueue_in_chunks(client: &Client, jobs: Vec<Job>) -> BulkReport {
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let mut verdicts: Vec<(JobId, Result<()>)> = Vec::with_capacity(ids.len());
    let mut jobs = jobs.into_iter();
    loop {
        let chunk: Vec<Job> = jobs.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return BulkReport { verdicts };
        }
        let start = verdicts.len();
        let end = start + chunk.len();
        match client.hand_over(chunk).await {
            Ok(answers) => {
                verdicts.extend(answers.into_iter().zip(&ids[start..]).map(|(answer, id)| match answer.into_result() {
                    Ok(stored) => (stored, Ok(())),
                    Err(error) => (*id, Err(error)),
                }))
            }
            Err(error) => {
                verdicts.extend(fail_from(&ids[start..], end - start, error));
                return BulkReport { verdicts };
            }
        }
    }
}

/// The verdicts after a failed call: its jobs share its error, those after them were not tried.
fn fail_from(ids: &[JobId], chunk: usize, error: Error) -> impl Iterator<Item = (JobId, Result<()>)> {
    let kind = error.kind();
    // The call may have been stored; what was never sent cannot be.
    let kind_of_rest = if kind == ErrorKind::OutcomeUnknown { ErrorKind::Unavailable } else { kind };
    let error = Arc::new(error);
    ids.iter().enumerate().map(move |(index, id)| {
        let failure = if index < chunk {
            Error::new(kind, format!("cannot enqueue a chunk of {chunk} jobs"))
        } else {
            Error::new(kind_of_rest, "not tried, because an earlier chunk failed")
        };
        (*id, Err(failure.with_source(Arc::clone(&error))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording_broker::{Ping, RecordingBroker};

    #[tokio::test]
    async fn chunks_keep_the_order() {
        let broker = RecordingBroker::default();
        let report = Client::new(broker.clone()).perform_bulk((0..2500).map(Ping)).await.unwrap();
        assert_eq!(broker.sizes_of_calls(), [1000, 1000, 500]);
        assert_eq!(report.len(), 2500);
        assert!(report.is_complete());
        let stored: Vec<JobId> = broker.jobs().iter().map(|job| job.id).collect();
        assert!(report.enqueued().eq(stored.iter().copied()));
        assert_eq!(report.into_result().unwrap(), stored);
    }

    #[tokio::test]
    async fn nothing_is_nothing() {
        let broker = RecordingBroker::default();
        let report = Client::new(broker.clone()).perform_bulk([] as [Ping; 0]).await.unwrap();
        assert!(report.is_empty() && report.is_complete());
        assert_eq!(broker.calls(), 0);
    }

    #[tokio::test]
    async fn one_bad_job_fails_all_before_anything_is_written() {
        let broker = RecordingBroker::default();
        let client = Client::new(broker.clone());
        let mut jobs: Vec<Job> = (0..1500).map(|n| client.job(Ping(n)).build().unwrap()).collect();
        jobs[1200].tags.push(String::new());
        let error = client.enqueue_jobs(jobs).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(format!("{error:#}"), "cannot enqueue job 1200 of the bulk, counted from 0: a tag is empty");
        assert_eq!(broker.calls(), 0);
    }

    #[tokio::test]
    async fn a_failed_call_fails_its_chunk_and_what_follows() {
        let broker = RecordingBroker::default();
        broker.fail_calls_from(1);
        let report = Client::new(broker.clone()).perform_bulk((0..2500).map(Ping)).await.unwrap();
        assert_eq!(broker.calls(), 2);
        assert_eq!((report.enqueued().count(), report.failed().count()), (1000, 1500));
        let texts: Vec<String> = report.failed().map(|(_, _, error)| format!("{error:#}")).collect();
        assert_eq!(texts[0], "cannot enqueue a chunk of 1000 jobs: the broker is away");
        assert_eq!(texts[1000], "not tried, because an earlier chunk failed: the broker is away");
        let (index, _, error) = report.failed().next().unwrap();
        assert_eq!((index, error.kind()), (1000, ErrorKind::Unavailable));
        assert_eq!(report.into_result().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
