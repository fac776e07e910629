//! The stored form of a job: a versioned MessagePack envelope.
//!
//! `docs/wire-format.md` describes it byte by byte. Three promises hold for ever:
//! - an envelope that was ever written stays readable (golden bytes in `tests/codec.rs`);
//! - fields of a newer version survive a round trip through this one unread;
//! - no input makes [`decode`] panic, recurse deeply, or allocate more than a few times its length.
//!
//! The arguments travel inside as opaque bytes. Whoever wants to change how they look (compress, encrypt)
//! does so before the job gets here.

mod decode;
mod encode;
mod field;
mod reader;

use crate::{Job, Result};

/// The envelope version this build writes, and the newest it reads.
pub const VERSION: u64 = 1;

/// The stored form of a job.
///
/// ```
/// use goose_core::{codec, Job, JobName, Payload, QueueName};
///
/// let job = Job::new(JobName::new("send-email")?, QueueName::default(), Payload::message_pack(vec![0x90]));
/// assert_eq!(codec::decode(&codec::encode(&job))?, job);
/// # Ok::<(), goose_core::Error>(())
/// ```
#[must_use]
pub fn encode(job: &Job) -> Vec<u8> {
    encode::envelope(job)
}

/// The job in an envelope.
///
/// # Errors
/// [`ErrorKind::Decode`](crate::ErrorKind::Decode) when the bytes are not an envelope,
/// [`ErrorKind::TooNew`](crate::ErrorKind::TooNew) when it has a version this build does not know.
pub fn decode(envelope: &[u8]) -> Result<Job> {
    decode::envelope(envelope)
}
