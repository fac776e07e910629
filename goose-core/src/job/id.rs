//! Job ids: UUID version 7, so that they sort by creation time and tell it.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Clock, Error, ErrorKind, SystemClock, Timestamp, random};

/// A UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 12 bits that count within the
/// millisecond (method 3 of section 6.2), 62 random bits. Ids made by one process never go backwards.
///
/// ```
/// use goose_core::JobId;
///
/// let (a, b) = (JobId::new(), JobId::new());
/// assert!(a < b);
/// assert_eq!(a.to_string().parse::<JobId>()?, a);
/// # Ok::<(), goose_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId([u8; 16]);

/// Milliseconds and counter of the last id of this process, as one 60-bit number.
static LAST: AtomicU64 = AtomicU64::new(0);

impl JobId {
    /// A new id, later than every id this process made before.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default value would promise to be the same each time")]
    pub fn new() -> Self {
        let now = u64::try_from(SystemClock.now().as_millis()).unwrap_or(0) & 0xFFFF_FFFF_FFFF;
        let floor = now << 12;
        let previous = LAST
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(floor.max(last.wrapping_add(1))))
            .unwrap_or(floor);
        let sequence = floor.max(previous.wrapping_add(1));
        let (millis, counter) = (sequence >> 12, sequence & 0xFFF);
        let high = (millis << 16) | 0x7000 | counter;
        let low = (random::bits() >> 2) | (1 << 63);
        Self::from_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }

    /// An id from its 16 bytes. Any bytes are taken: ids of other makers are none of our business.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, most significant first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The millisecond the id was made in, on its maker's clock.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        let [a, b, c, d, e, f, ..] = self.0;
        Timestamp::from_millis(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

impl FromStr for JobId {
    type Err = Error;

    /// Reads the hyphenated form, in either case.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Error::new(ErrorKind::InvalidInput, format!("{shown:?} is not a job id, expected a hyphenated UUID"))
        })
    }
}

fn parse(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    let mut groups = text.split('-');
    let mut at = 0;
    for width in [8, 4, 4, 4, 12] {
        let group = groups.next().filter(|group| group.len() == width)?;
        for pair in 0..width / 2 {
            let digits = group.get(pair * 2..pair * 2 + 2)?;
            // `from_str_radix` would also take a sign.
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            bytes[at] = u8::from_str_radix(digits, 16).ok()?;
            at += 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_rise_and_tell_their_time() {
        let before = SystemClock.now();
        let ids: Vec<JobId> = (0..50_000).map(|_| JobId::new()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids[0].created_at() >= before);
        // The counter borrows from the future when one millisecond has too few numbers; not by much.
        assert!(ids[49_999].created_at().since(SystemClock.now()).as_millis() < 1000);
    }

    #[test]
    fn threads_never_make_the_same_id() {
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| (0..5000).map(|_| JobId::new()).collect::<Vec<_>>())).collect();
        let ids: BTreeSet<JobId> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        assert_eq!(ids.len(), 20_000);
    }

    #[test]
    fn version_and_variant_are_those_of_rfc_9562() {
        let text = JobId::new().to_string();
        assert_eq!(&text[14..15], "7", "{text}");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
        // The example of RFC 9562, appendix A.6.
        let id: JobId = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F".parse().unwrap();
        assert_eq!(id.created_at().to_string(), "2022-02-22T19:22:22.000Z");
        assert_eq!(id.to_string(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }

    #[test]
    fn nonsense_is_refused_without_echoing_all_of_it() {
        for text in ["", "017f22e2", "017f22e279b07cc398c4dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c0739+f"] {
            assert_eq!(text.parse::<JobId>().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let error = "z".repeat(1_000_000).parse::<JobId>().unwrap_err();
        assert!(error.to_string().len() < 120, "{error}");
    }
}
