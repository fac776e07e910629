//! The jobs of the suite: numbered, so that a failure can name them.

use std::time::Duration;

use goose_core::broker::Delivery;
use goose_core::{Job, JobName, Payload, QueueName, Schedule};

use super::failure::{Checked, Failure};

/// The name of every job that does not need another one. Uses the whole alphabet of punctuation.
pub(crate) const NAME: &str = "conformance/numbered:job_v1.0-a";

/// A job whose arguments are a number, as a MessagePack `uint 64`.
pub(crate) fn numbered(queue: &QueueName, number: u64) -> Checked<Job> {
    let mut bytes = vec![0xcf];
    bytes.extend(number.to_be_bytes());
    Ok(Job::new(JobName::new(NAME)?, queue.clone(), Payload::message_pack(bytes)))
}

/// Jobs numbered from 0.
pub(crate) fn numbered_from_zero(queue: &QueueName, count: u64) -> Checked<Vec<Job>> {
    (0..count).map(|number| numbered(queue, number)).collect()
}

/// A numbered job that waits for a while first.
pub(crate) fn delayed(queue: &QueueName, number: u64, delay: Duration) -> Checked<Job> {
    let mut job = numbered(queue, number)?;
    job.schedule = Schedule::In(delay);
    Ok(job)
}

/// The number of a numbered job.
pub(crate) fn number(job: &Job) -> Checked<u64> {
    match job.args.bytes.split_first() {
        Some((0xcf, number)) => number.try_into().map(u64::from_be_bytes).ok(),
        _ => None,
    }
    .ok_or_else(|| Failure::new(format!("the arguments of job {} came back changed: {:?}", job.id, job.args.bytes)))
}

/// The numbers of deliveries, in order.
pub(crate) fn numbers(deliveries: &[Delivery]) -> Checked<Vec<u64>> {
    deliveries.iter().map(|delivery| number(&delivery.job)).collect()
}
