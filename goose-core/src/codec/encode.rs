//! Writing an envelope: fields in the order of their numbers, those at their empty value left out.

use std::time::Duration;

use rmp::encode as mp;
use rmp::encode::ByteBuf;

use super::{VERSION, field};
use crate::{Attempts, Backoff, ContentType, Job, Priority, RetryPolicy, Schedule, Timestamp};

/// Writing into memory cannot fail; this says so to the type system once.
#[expect(clippy::needless_pass_by_value, reason = "takes the result off the caller's hands, as a semicolon would")]
fn sure<T>(result: Result<T, mp::ValueWriteError<std::convert::Infallible>>) {
    if let Err(mp::ValueWriteError::InvalidMarkerWrite(never) | mp::ValueWriteError::InvalidDataWrite(never)) = result {
        match never {}
    }
}

pub(super) fn envelope(job: &Job) -> Vec<u8> {
    let mut fields = Fields { out: ByteBuf::with_capacity(160 + job.args.bytes.len()), count: 0 };
    identity(&mut fields, job);
    retry_policy(&mut fields, &job.retry);
    attempts(&mut fields, &job.attempts);
    limits(&mut fields, job);
    extras(&mut fields, job);
    for (number, value) in &job.unknown_fields.fields {
        fields.start(*number).as_mut_vec().extend_from_slice(value);
    }
    fields.finish()
}

/// The fields written so far, behind a gap for the header whose length depends on their number.
struct Fields {
    out: ByteBuf,
    count: u32,
}

impl Fields {
    fn start(&mut self, number: u64) -> &mut ByteBuf {
        self.count += 1;
        sure(mp::write_uint(&mut self.out, number));
        &mut self.out
    }

    fn uint(&mut self, number: u64, value: u64) {
        sure(mp::write_uint(self.start(number), value));
    }

    fn time(&mut self, number: u64, time: Timestamp) {
        sure(mp::write_sint(self.start(number), time.as_millis()));
    }

    fn maybe_time(&mut self, number: u64, time: Option<Timestamp>) {
        if let Some(time) = time {
            self.time(number, time);
        }
    }

    fn text(&mut self, number: u64, text: &str) {
        sure(mp::write_str(self.start(number), text));
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        sure(mp::write_bin(self.start(number), bytes));
    }

    fn duration(&mut self, number: u64, duration: Duration) {
        self.uint(number, nanos(duration));
    }

    fn finish(self) -> Vec<u8> {
        let mut envelope = ByteBuf::with_capacity(self.out.as_slice().len() + 8);
        sure(mp::write_array_len(&mut envelope, 2));
        sure(mp::write_uint(&mut envelope, VERSION));
        sure(mp::write_map_len(&mut envelope, self.count));
        let mut envelope = envelope.into_vec();
        envelope.extend_from_slice(self.out.as_slice());
        envelope
    }
}

/// Durations travel as nanoseconds; 584 years are enough for anyone.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Lengths travel as 32 bits. Longer lists cannot arise: the client limits jobs to far less.
fn len(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn identity(fields: &mut Fields, job: &Job) {
    fields.bytes(field::ID, job.id.as_bytes());
    fields.text(field::NAME, job.name.as_str());
    fields.text(field::QUEUE, job.queue.as_str());
    fields.bytes(field::ARGS, &job.args.bytes);
    match &job.args.content_type {
        ContentType::MessagePack => {}
        ContentType::Json => fields.uint(field::CONTENT_TYPE, field::content_type::JSON),
        ContentType::Other(media_type) => fields.text(field::CONTENT_TYPE, media_type),
    }
    fields.time(field::ENQUEUED_AT, job.enqueued_at);
    match job.schedule {
        Schedule::Now => {}
        Schedule::At(time) => fields.time(field::RUN_AT, time),
        Schedule::In(delay) => fields.duration(field::RUN_IN, delay),
    }
    fields.maybe_time(field::CRON_RUN_AT, job.cron_run_at);
    if job.priority == Priority::Front {
        fields.uint(field::PRIORITY, field::FRONT);
    }
}

fn retry_policy(fields: &mut Fields, policy: &RetryPolicy) {
    // Always written: a default that changes one day must not change jobs that are already stored.
    fields.uint(field::MAX_RETRIES, policy.max_retries.into());
    let out = fields.start(field::BACKOFF);
    match &policy.backoff {
        Backoff::Ancestor => {
            sure(mp::write_array_len(out, 1));
            sure(mp::write_uint(out, field::backoff::ANCESTOR));
        }
        Backoff::Fixed(pause) => {
            sure(mp::write_array_len(out, 2));
            sure(mp::write_uint(out, field::backoff::FIXED));
            sure(mp::write_uint(out, nanos(*pause)));
        }
        Backoff::Exponential { base, cap, jitter } => {
            sure(mp::write_array_len(out, 4));
            sure(mp::write_uint(out, field::backoff::EXPONENTIAL));
            sure(mp::write_uint(out, nanos(*base)));
            sure(mp::write_uint(out, nanos(*cap)));
            sure(mp::write_f64(out, *jitter));
        }
        Backoff::List(pauses) => {
            sure(mp::write_array_len(out, len(pauses.len()).saturating_add(1)));
            sure(mp::write_uint(out, field::backoff::LIST));
            for pause in pauses {
                sure(mp::write_uint(out, nanos(*pause)));
            }
        }
    }
    if let Some(queue) = &policy.retry_queue {
        fields.text(field::RETRY_QUEUE, queue.as_str());
    }
    if policy.skip_dead_queue {
        fields.uint(field::SKIP_DEAD_QUEUE, 1);
    }
}

fn attempts(fields: &mut Fields, attempts: &Attempts) {
    if attempts.retry_count > 0 {
        fields.uint(field::RETRY_COUNT, attempts.retry_count.into());
    }
    fields.maybe_time(field::FIRST_FAILED_AT, attempts.first_failed_at);
    fields.maybe_time(field::LAST_RETRIED_AT, attempts.last_retried_at);
    if !attempts.failures.is_empty() {
        let out = fields.start(field::FAILURES);
        sure(mp::write_array_len(out, len(attempts.failures.len())));
        for failure in &attempts.failures {
            sure(mp::write_array_len(out, 3));
            sure(mp::write_sint(out, failure.at.as_millis()));
            sure(mp::write_uint(out, failure.attempt.into()));
            sure(mp::write_str(out, &failure.error));
        }
    }
    if let Some(parked) = attempts.parked {
        let out = fields.start(field::PARKED);
        sure(mp::write_array_len(out, 2));
        sure(mp::write_sint(out, parked.since.as_millis()));
        sure(mp::write_uint(out, parked.times.into()));
    }
}

fn limits(fields: &mut Fields, job: &Job) {
    if let Some(timeout) = job.timeout {
        fields.duration(field::TIMEOUT, timeout);
    }
    fields.maybe_time(field::EXPIRES_AT, job.expires_at);
    fields.maybe_time(field::DEADLINE, job.deadline);
}

fn extras(fields: &mut Fields, job: &Job) {
    if let Some(batch) = &job.batch_id {
        fields.bytes(field::BATCH_ID, batch.as_bytes());
    }
    if let Some(key) = &job.unique_key {
        fields.text(field::UNIQUE_KEY, key);
    }
    if !job.tags.is_empty() {
        let out = fields.start(field::TAGS);
        sure(mp::write_array_len(out, len(job.tags.len())));
        for tag in &job.tags {
            sure(mp::write_str(out, tag));
        }
    }
    if !job.headers.is_empty() {
        let out = fields.start(field::HEADERS);
        sure(mp::write_map_len(out, len(job.headers.len())));
        for (name, value) in &job.headers {
            sure(mp::write_str(out, name));
            sure(mp::write_str(out, value));
        }
    }
}
