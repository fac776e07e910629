//! The numbers of the envelope's fields. A number, once given, is never given again.

pub(super) const ID: u64 = 1;
pub(super) const NAME: u64 = 2;
pub(super) const QUEUE: u64 = 3;
pub(super) const ARGS: u64 = 4;
pub(super) const CONTENT_TYPE: u64 = 5;
pub(super) const ENQUEUED_AT: u64 = 6;
pub(super) const RUN_AT: u64 = 7;
pub(super) const RUN_IN: u64 = 8;
pub(super) const CRON_RUN_AT: u64 = 9;
pub(super) const PRIORITY: u64 = 10;
pub(super) const MAX_RETRIES: u64 = 11;
pub(super) const BACKOFF: u64 = 12;
pub(super) const RETRY_QUEUE: u64 = 13;
pub(super) const SKIP_DEAD_QUEUE: u64 = 14;
pub(super) const RETRY_COUNT: u64 = 15;
pub(super) const FIRST_FAILED_AT: u64 = 16;
pub(super) const LAST_RETRIED_AT: u64 = 17;
pub(super) const FAILURES: u64 = 18;
pub(super) const PARKED: u64 = 19;
pub(super) const TIMEOUT: u64 = 20;
pub(super) const EXPIRES_AT: u64 = 21;
pub(super) const DEADLINE: u64 = 22;
pub(super) const BATCH_ID: u64 = 23;
pub(super) const UNIQUE_KEY: u64 = 24;
pub(super) const TAGS: u64 = 25;
pub(super) const HEADERS: u64 = 26;

/// The kinds of [`Backoff`](crate::Backoff), first element of field 12.
pub(super) mod backoff {
    pub(in super::super) const ANCESTOR: u64 = 0;
    pub(in super::super) const FIXED: u64 = 1;
    pub(in super::super) const EXPONENTIAL: u64 = 2;
    pub(in super::super) const LIST: u64 = 3;
}

/// The numbers that stand for known [`ContentType`](crate::ContentType)s in field 5; others are text.
pub(super) mod content_type {
    pub(in super::super) const MESSAGE_PACK: u64 = 0;
    pub(in super::super) const JSON: u64 = 1;
}

/// The value of field 10 for [`Priority::Front`](crate::Priority::Front).
pub(super) const FRONT: u64 = 1;
