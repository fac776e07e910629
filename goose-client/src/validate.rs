//! What a job must satisfy before a broker sees it.

use std::time::Duration;

use goose_core::{Error, ErrorKind, Job, Result, Schedule, Timestamp};

const MAX_TAGS: usize = 50;
const MAX_TAG_LEN: usize = 200;
const MAX_HEADERS: usize = 50;
const MAX_HEADER_NAME_LEN: usize = 128;
const MAX_HEADER_VALUE_LEN: usize = 8 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_TIMEOUT: Duration = DAY.saturating_mul(366);
/// Later than this is a mistake (seconds taken for milliseconds), and brokers may add delays to it.
const MAX_TIME: Timestamp = Timestamp::from_millis(253_402_300_799_999);
const MAX_DELAY: Duration = DAY.saturating_mul(36_525);

/// Checks everything about a job that its types leave open.
pub(crate) fn job(job: &Job, max_size: usize) -> Result<()> {
    job.retry.backoff.validate()?;
    times(job)?;
    labels(job)?;
    size(job, max_size)
}

fn times(job: &Job) -> Result<()> {
    match job.timeout {
        Some(Duration::ZERO) => return invalid("timeout is zero, leave it out for no timeout".to_owned()),
        Some(timeout) if timeout > MAX_TIMEOUT => {
            return invalid(format!("timeout {timeout:?} is longer than 366 days, leave it out for no timeout"));
        }
        Some(_) | None => {}
    }
    match job.schedule {
        Schedule::In(delay) if delay > MAX_DELAY => {
            return invalid(format!("delay {delay:?} is longer than 100 years"));
        }
        Schedule::At(time) if time > MAX_TIME => {
            return invalid(format!("run time lies after the year 9999: {} ms", time.as_millis()));
        }
        _ => {}
    }
    let runs_at = job.run_at().unwrap_or(job.enqueued_at);
    for (what, limit) in [("expires", job.expires_at), ("has its deadline", job.deadline)] {
        if let Some(limit) = limit.filter(|limit| *limit <= runs_at) {
            return invalid(format!("job {what} at {limit}, which is not after {runs_at}, when it may run"));
        }
    }
    Ok(())
}

fn labels(job: &Job) -> Result<()> {
    if job.tags.len() > MAX_TAGS {
        return invalid(format!("job has {} tags, the limit is {MAX_TAGS}", job.tags.len()));
    }
    for tag in &job.tags {
        if tag.is_empty() {
            return invalid("a tag is empty".to_owned());
        }
        if tag.len() > MAX_TAG_LEN {
            return invalid(format!("a tag has {} bytes, the limit is {MAX_TAG_LEN}", tag.len()));
        }
    }
    if job.headers.len() > MAX_HEADERS {
        return invalid(format!("job has {} headers, the limit is {MAX_HEADERS}", job.headers.len()));
    }
    for (name, value) in &job.headers {
        if name.is_empty() {
            return invalid("a header has an empty name".to_owned());
        }
        if name.len() > MAX_HEADER_NAME_LEN {
            let length = name.len();
            return invalid(format!("a header name has {length} bytes, the limit is {MAX_HEADER_NAME_LEN}"));
        }
        if value.len() > MAX_HEADER_VALUE_LEN {
            let length = value.len();
            return invalid(format!("header {name:?} has {length} bytes, the limit is {MAX_HEADER_VALUE_LEN}"));
        }
    }
    Ok(())
}

fn size(job: &Job, max_size: usize) -> Result<()> {
    let labels = job.tags.iter().map(String::len).sum::<usize>()
        + job.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let size = job.args.bytes.len() + labels + job.name.as_str().len() + job.queue.as_str().len();
    if size <= max_size {
        return Ok(());
    }
    let hint = "store large data elsewhere and enqueue where it is, or raise `ClientBuilder::max_job_size`";
    Err(Error::new(ErrorKind::TooLarge, format!("job {} has {size} bytes, the limit is {max_size}; {hint}", job.name)))
}

fn invalid(message: String) -> Result<()> {
    Err(Error::new(ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::{Backoff, JobName, Payload, QueueName};

    fn sample() -> Job {
        let args = Payload::message_pack(vec![0; 100]);
        let mut job = Job::new(JobName::new("sample").unwrap(), QueueName::default(), args);
        job.enqueued_at = Timestamp::from_millis(1_767_225_600_000);
        job
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Job), message: &str) {
        let mut changed = sample();
        change(&mut changed);
        let error = job(&changed, 1024).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, message));
    }

    #[test]
    fn accepts_limits_themselves() {
        let mut changed = sample();
        changed.timeout = Some(MAX_TIMEOUT);
        changed.schedule = Schedule::In(MAX_DELAY);
        changed.tags = vec!["t".repeat(MAX_TAG_LEN); MAX_TAGS];
        changed.headers = (0..MAX_HEADERS).map(|n| (format!("h{n}"), "v".repeat(100))).collect();
        changed.headers.insert("h0".into(), "v".repeat(MAX_HEADER_VALUE_LEN));
        job(&changed, 1024 * 1024).unwrap();
        changed.schedule = Schedule::At(MAX_TIME);
        job(&changed, 1024 * 1024).unwrap();
    }

    #[test]
    fn refuses_numbers_that_cannot_work() {
        refused(|job| job.timeout = Some(Duration::ZERO), "timeout is zero, leave it out for no timeout");
        refused(
            |job| job.timeout = Some(DAY * 367),
            "timeout 31708800s is longer than 366 days, leave it out for no timeout",
        );
        refused(|job| job.schedule = Schedule::In(DAY * 36_526), "delay 3155846400s is longer than 100 years");
        refused(
            |job| job.schedule = Schedule::At(Timestamp::MAX),
            "run time lies after the year 9999: 9223372036854775807 ms",
        );
        refused(
            |job| job.retry.backoff = Backoff::exponential(Duration::from_secs(2), Duration::from_secs(1)),
            "backoff cap 1s is below its base 2s",
        );
    }

    #[test]
    fn refuses_jobs_that_end_before_they_begin() {
        refused(
            |job| {
                job.schedule = Schedule::In(Duration::from_secs(60));
                job.expires_at = Some(job.enqueued_at.saturating_add(Duration::from_secs(60)));
            },
            "job expires at 2026-01-01T00:01:00.000Z, which is not after 2026-01-01T00:01:00.000Z, when it may run",
        );
        refused(
            |job| job.deadline = Some(Timestamp::EPOCH),
            "job has its deadline at 1970-01-01T00:00:00.000Z, which is not after 2026-01-01T00:00:00.000Z, \
             when it may run",
        );
    }

    #[test]
    fn refuses_too_many_and_too_long_labels() {
        refused(|job| job.tags = vec!["t".into(); 51], "job has 51 tags, the limit is 50");
        refused(|job| job.tags = vec![String::new()], "a tag is empty");
        refused(|job| job.tags = vec!["t".repeat(201)], "a tag has 201 bytes, the limit is 200");
        refused(
            |job| job.headers = (0..51).map(|n| (n.to_string(), String::new())).collect(),
            "job has 51 headers, the limit is 50",
        );
        refused(|job| job.headers = [(String::new(), "v".into())].into(), "a header has an empty name");
        refused(
            |job| job.headers = [("n".repeat(129), String::new())].into(),
            "a header name has 129 bytes, the limit is 128",
        );
        refused(
            |job| job.headers = [("trace".into(), "v".repeat(8193))].into(),
            "header \"trace\" has 8193 bytes, the limit is 8192",
        );
    }

    #[test]
    fn size_counts_arguments_and_labels() {
        let mut changed = sample();
        changed.tags = vec!["t".repeat(10)];
        changed.headers.insert("n".repeat(10), "v".repeat(10));
        // 100 of arguments, 30 of labels, 6 and 7 of names.
        job(&changed, 143).unwrap();
        let error = job(&changed, 142).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(
            error.to_string(),
            "job sample has 143 bytes, the limit is 142; store large data elsewhere and enqueue where it is, or raise `ClientBuilder::max_job_size`"
        );
    }
}
