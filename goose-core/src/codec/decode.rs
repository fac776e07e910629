//! Reading an envelope: every field checked, unknown ones kept.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use super::reader::{Reader, expected};
use super::{VERSION, field};
use crate::{
    Attempts, Backoff, ContentType, Error, ErrorKind, Failure, Job, JobId, JobName, Parked, Payload, Priority,
    QueueName, Result, RetryPolicy, Schedule, Timestamp, UnknownFields,
};

pub(super) fn envelope(bytes: &[u8]) -> Result<Job> {
    let mut reader = Reader::new(bytes);
    if reader.array("envelope")? != 2 {
        return Err(expected("envelope", "a version and a map"));
    }
    let version = reader.uint("version")?;
    if version != VERSION {
        return Err(Error::new(
            if version > VERSION { ErrorKind::TooNew } else { ErrorKind::Decode },
            format!("the envelope has version {version}, this build reads version {VERSION}"),
        ));
    }
    let mut draft = Draft::default();
    let fields = reader.map("fields")?;
    let mut seen = 0_u64;
    for _ in 0..fields {
        let number = reader.uint("field number")?;
        let known = 1_u64.checked_shl(u32::try_from(number).unwrap_or(u32::MAX)).unwrap_or(0);
        if seen & known != 0 {
            return Err(expected("fields", "each field once"));
        }
        seen |= known;
        draft.read(number, &mut reader)?;
    }
    if !reader.is_at_end() {
        return Err(expected("envelope", "nothing after the fields"));
    }
    draft.finish()
}

/// A job while its fields come in.
#[derive(Default)]
struct Draft {
    id: Option<JobId>,
    name: Option<JobName>,
    queue: Option<QueueName>,
    args: Option<Vec<u8>>,
    content_type: ContentType,
    enqueued_at: Option<Timestamp>,
    schedule: Schedule,
    cron_run_at: Option<Timestamp>,
    priority: Priority,
    retry: RetryPolicy,
    attempts: Attempts,
    timeout: Option<Duration>,
    expires_at: Option<Timestamp>,
    deadline: Option<Timestamp>,
    batch_id: Option<JobId>,
    unique_key: Option<String>,
    tags: Vec<String>,
    headers: BTreeMap<String, String>,
    unknown_fields: UnknownFields,
}

impl Draft {
    fn read(&mut self, number: u64, from: &mut Reader<'_>) -> Result<()> {
        match number {
            field::ID => self.id = Some(id(from)?),
            field::NAME => self.name = Some(parsed(from, "name")?),
            field::QUEUE => self.queue = Some(parsed(from, "queue")?),
            field::ARGS => self.args = Some(from.bytes("args")?.to_vec()),
            field::CONTENT_TYPE => self.content_type = content_type(from)?,
            field::ENQUEUED_AT => self.enqueued_at = Some(from.time("enqueued_at")?),
            field::RUN_AT => self.schedule = Schedule::At(from.time("run_at")?),
            field::RUN_IN => self.schedule = Schedule::In(duration(from)?),
            field::CRON_RUN_AT => self.cron_run_at = Some(from.time("cron_run_at")?),
            field::PRIORITY => self.priority = priority(from)?,
            field::MAX_RETRIES => self.retry.max_retries = from.uint32("max_retries")?,
            field::BACKOFF => self.retry.backoff = backoff(from)?,
            field::RETRY_QUEUE => self.retry.retry_queue = Some(parsed(from, "retry_queue")?),
            field::SKIP_DEAD_QUEUE => self.retry.skip_dead_queue = from.uint("skip_dead_queue")? != 0,
            field::RETRY_COUNT => self.attempts.retry_count = from.uint32("retry_count")?,
            field::FIRST_FAILED_AT => self.attempts.first_failed_at = Some(from.time("first_failed_at")?),
            field::LAST_RETRIED_AT => self.attempts.last_retried_at = Some(from.time("last_retried_at")?),
            field::FAILURES => self.attempts.failures = failures(from)?,
            field::PARKED => self.attempts.parked = Some(parked(from)?),
            field::TIMEOUT => self.timeout = Some(duration(from)?),
            field::EXPIRES_AT => self.expires_at = Some(from.time("expires_at")?),
            field::DEADLINE => self.deadline = Some(from.time("deadline")?),
            field::BATCH_ID => self.batch_id = Some(id(from)?),
            field::UNIQUE_KEY => self.unique_key = Some(from.text("unique_key")?.to_owned()),
            field::TAGS => self.tags = tags(from)?,
            field::HEADERS => self.headers = headers(from)?,
            unknown => self.unknown_fields.fields.push((unknown, from.raw()?.to_vec())),
        }
        Ok(())
    }

    fn finish(self) -> Result<Job> {
        let missing = |what: &str| expected(what, "a value");
        let args = self.args.ok_or_else(|| missing("args"))?;
        Ok(Job {
            id: self.id.ok_or_else(|| missing("id"))?,
            name: self.name.ok_or_else(|| missing("name"))?,
            queue: self.queue.ok_or_else(|| missing("queue"))?,
            args: Payload { content_type: self.content_type, bytes: args },
            enqueued_at: self.enqueued_at.ok_or_else(|| missing("enqueued_at"))?,
            schedule: self.schedule,
            cron_run_at: self.cron_run_at,
            priority: self.priority,
            retry: self.retry,
            attempts: self.attempts,
            timeout: self.timeout,
            expires_at: self.expires_at,
            deadline: self.deadline,
            batch_id: self.batch_id,
            unique_key: self.unique_key,
            tags: self.tags,
            headers: self.headers,
            unknown_fields: self.unknown_fields,
        })
    }
}

fn parsed<T: FromStr<Err = Error>>(from: &mut Reader<'_>, what: &str) -> Result<T> {
    from.text(what)?.parse().map_err(|error| expected(what, "a valid name").with_source(error))
}

fn id(from: &mut Reader<'_>) -> Result<JobId> {
    let bytes = from.bytes("id")?;
    bytes.try_into().map(JobId::from_bytes).map_err(|_| expected("id", "16 bytes"))
}

fn duration(from: &mut Reader<'_>) -> Result<Duration> {
    from.uint("duration").map(Duration::from_nanos)
}

fn content_type(from: &mut Reader<'_>) -> Result<ContentType> {
    if from.is_text() {
        return Ok(ContentType::Other(from.text("content type")?.to_owned()));
    }
    match from.uint("content type")? {
        field::content_type::MESSAGE_PACK => Ok(ContentType::MessagePack),
        field::content_type::JSON => Ok(ContentType::Json),
        _ => Err(expected("content type", "a known number or a text")),
    }
}

fn priority(from: &mut Reader<'_>) -> Result<Priority> {
    match from.uint("priority")? {
        0 => Ok(Priority::Normal),
        field::FRONT => Ok(Priority::Front),
        _ => Err(expected("priority", "0 or 1")),
    }
}

fn backoff(from: &mut Reader<'_>) -> Result<Backoff> {
    let parameters = from.array("backoff")?.checked_sub(1).ok_or_else(|| expected("backoff", "a kind"))?;
    let backoff = match (from.uint("kind of backoff")?, parameters) {
        (field::backoff::ANCESTOR, 0) => Backoff::Ancestor,
        (field::backoff::FIXED, 1) => Backoff::Fixed(duration(from)?),
        (field::backoff::EXPONENTIAL, 3) => {
            Backoff::Exponential { base: duration(from)?, cap: duration(from)?, jitter: from.float("jitter")? }
        }
        (field::backoff::LIST, _) => Backoff::List((0..parameters).map(|_| duration(from)).collect::<Result<_>>()?),
        _ => return Err(expected("backoff", "a known kind with its parameters")),
    };
    Ok(backoff)
}

fn failures(from: &mut Reader<'_>) -> Result<Vec<Failure>> {
    let count = from.array("failures")?;
    (0..count)
        .map(|_| {
            if from.array("failure")? != 3 {
                return Err(expected("failure", "a time, an attempt and an error"));
            }
            Ok(Failure::new(from.time("failure time")?, from.uint32("attempt")?, from.text("error")?))
        })
        .collect()
}

fn parked(from: &mut Reader<'_>) -> Result<Parked> {
    if from.array("parked")? != 2 {
        return Err(expected("parked", "a time and a number"));
    }
    Ok(Parked::new(from.time("parked since")?, from.uint32("parked times")?))
}

fn tags(from: &mut Reader<'_>) -> Result<Vec<String>> {
    let count = from.array("tags")?;
    (0..count).map(|_| from.text("tag").map(str::to_owned)).collect()
}

fn headers(from: &mut Reader<'_>) -> Result<BTreeMap<String, String>> {
    let count = from.map("headers")?;
    (0..count).map(|_| Ok((from.text("header name")?.to_owned(), from.text("header value")?.to_owned()))).collect()
}
