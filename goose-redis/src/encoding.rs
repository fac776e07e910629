//! The stored form of a job: nine bytes that scripts read, then the envelope that they do not.

use fred::bytes::{BufMut, Bytes, BytesMut};
use goose_core::broker::Receipt;
use goose_core::broker::capability::ScheduledKind;
use goose_core::{Error, ErrorKind, Job, JobId, Result, Timestamp, codec};

/// What stands before the envelope.
///
/// | byte | what |
/// |---|---|
/// | 0 | kind of waiting in the low bits; bit 7: drop the job where others are buried |
/// | 1–2 | generation: an entry of the ready list with another one is a leftover |
/// | 3–8 | ready since, ms, as the client estimates the server's clock |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) skip_dead_queue: bool,
    pub(crate) generation: [u8; 2],
    pub(crate) since: Timestamp,
}

/// Why a job waits for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Scheduled,
    Retry,
    Snoozed,
}

const HEADER: usize = 9;
const SKIP_DEAD_QUEUE: u8 = 0x80;

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Scheduled => 0,
            Self::Retry => 1,
            Self::Snoozed => 2,
        }
    }

    pub(crate) fn public(self) -> ScheduledKind {
        match self {
            Self::Scheduled => ScheduledKind::Scheduled,
            Self::Retry => ScheduledKind::Retry,
            Self::Snoozed => ScheduledKind::Snoozed,
        }
    }
}

/// A job as it is stored.
pub(crate) fn encode(job: &Job, kind: Kind, since: Timestamp) -> Bytes {
    let generation = generation();
    raw(Header { kind, skip_dead_queue: job.retry.skip_dead_queue, generation, since }, &codec::encode(job))
}

/// Any bytes, as if they were an envelope.
pub(crate) fn raw(header: Header, envelope: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(HEADER + envelope.len());
    value.put_u8(header.kind.byte() | if header.skip_dead_queue { SKIP_DEAD_QUEUE } else { 0 });
    value.put_slice(&header.generation);
    let [_, _, millis @ ..] = header.since.as_millis().to_be_bytes();
    value.put_slice(&millis);
    value.put_slice(envelope);
    value.freeze()
}

/// A generation that differs from the last one with all likelihood: the last bytes of a fresh id are random.
pub(crate) fn generation() -> [u8; 2] {
    let [.., a, b] = *JobId::new().as_bytes();
    [a, b]
}

/// The header of a stored job and its envelope.
pub(crate) fn split(value: &[u8]) -> Result<(Header, &[u8])> {
    let Some((header, envelope)) = value.split_at_checked(HEADER) else {
        return Err(Error::new(ErrorKind::Decode, format!("the stored job has {} bytes, too few", value.len())));
    };
    let kind = match header[0] & !SKIP_DEAD_QUEUE {
        1 => Kind::Retry,
        2 => Kind::Snoozed,
        _ => Kind::Scheduled,
    };
    let millis = header[3..].iter().fold(0_i64, |millis, byte| (millis << 8) | i64::from(*byte));
    let header = Header {
        kind,
        skip_dead_queue: header[0] & SKIP_DEAD_QUEUE != 0,
        generation: [header[1], header[2]],
        since: Timestamp::from_millis(millis),
    };
    Ok((header, envelope))
}

/// The job in a stored value.
pub(crate) fn decode(value: &[u8]) -> Result<(Header, Job)> {
    let (header, envelope) = split(value)?;
    Ok((header, codec::decode(envelope)?))
}

/// The id of a member of a list or set.
pub(crate) fn id(bytes: &[u8]) -> Result<JobId> {
    bytes.get(..16).and_then(|id| id.try_into().ok()).map(JobId::from_bytes).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a key of this broker holds something that is no job id; was it edited by hand?")
    })
}

/// What a receipt of this broker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: JobId,
    /// The number of the fetch that made the claim, unique within the process.
    pub(crate) fetch: u64,
    /// The place within that fetch, from 1.
    pub(crate) place: u16,
    /// Which queue of the consumer's set.
    pub(crate) queue: u16,
}

impl Claim {
    pub(crate) fn receipt(self) -> Receipt {
        let bytes = u128::from_be_bytes(*self.id.as_bytes());
        let high = u64::try_from(bytes >> 64).unwrap_or(0);
        let low = u64::try_from(bytes & u128::from(u64::MAX)).unwrap_or(0);
        Receipt::new([high, low, self.fetch, (u64::from(self.place) << 16) | u64::from(self.queue)])
    }

    /// `None` for a receipt that is none of ours.
    pub(crate) fn of(receipt: &Receipt) -> Option<Self> {
        let [high, low, fetch, rest] = receipt.words();
        let id = JobId::from_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes());
        let queue = u16::try_from(rest & 0xFFFF).ok()?;
        let place = u16::try_from(rest >> 16).ok()?;
        Some(Self { id, fetch, place, queue })
    }

    /// The token as the claims hash holds it.
    pub(crate) fn token(self) -> String {
        format!("{}{:04}", fetch_token(self.fetch), self.place)
    }
}

/// How long the name of a claim is, as `settle.lua` cuts it: the id, and the token with the number of the fetch, a dot
/// and the place.
pub(crate) const NAME: usize = 16 + 21;

impl Claim {
    /// Writes id and token.
    pub(crate) fn write_name(self, to: &mut BytesMut) {
        to.put_slice(self.id.as_bytes());
        for shift in (0..16).rev() {
            to.put_u8(b"0123456789abcdef"[usize::try_from(self.fetch >> (shift * 4) & 0xF).unwrap_or(0)]);
        }
        to.put_u8(b'.');
        for unit in [1000, 100, 10, 1] {
            to.put_u8(b'0' + u8::try_from(self.place / unit % 10).unwrap_or(0));
        }
    }
}

impl Claim {
    /// The claim that a token of a queue's claims hash stands for.
    pub(crate) fn from_token(id: JobId, token: &str, queue: usize) -> Option<Self> {
        let (fetch, place) = token.split_once('.')?;
        let queue = u16::try_from(queue).ok()?;
        Some(Self { id, fetch: u64::from_str_radix(fetch, 16).ok()?, place: place.parse().ok()?, queue })
    }
}

/// The part of a token that all claims of one fetch share; sorts by the number of the fetch.
pub(crate) fn fetch_token(fetch: u64) -> String {
    format!("{fetch:016x}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::{JobName, Payload, QueueName};

    #[test]
    fn stored_jobs_and_receipts_read_back() {
        let mut job = Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![1]));
        job.retry.skip_dead_queue = true;
        let since = Timestamp::from_millis(1_767_225_600_123);
        let (header, read) = decode(&encode(&job, Kind::Retry, since)).unwrap();
        assert_eq!((header.kind, header.skip_dead_queue, header.since, read), (Kind::Retry, true, since, job.clone()));
        let claim = Claim { id: job.id, fetch: u64::MAX - 1, place: 1000, queue: 7 };
        assert_eq!(Claim::of(&claim.receipt()), Some(claim));
        let mut name = BytesMut::new();
        claim.write_name(&mut name);
        assert_eq!((&name[..16], &name[16..NAME]), (&job.id.as_bytes()[..], claim.token().as_bytes()));
        assert_eq!(split(b"short").unwrap_err().kind(), ErrorKind::Decode);
    }
}
