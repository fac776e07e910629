//! Deletions as text that is short: a snapshot may hold a million of them.
//!
//! Each is 24 bytes, which are 32 letters of base64: the id, when it was deleted (ms since the epoch, 6 bytes) and until
//! which day that is remembered (2 bytes, rounded up).

use std::collections::HashMap;
use std::time::Duration;

use goose_core::{JobId, Timestamp};

use super::content::Deletion;

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const DAY: i64 = 86_400_000;

/// What all of the time fields can hold: the year 10889.
const LATEST: i64 = (1 << 48) - 1;

/// The letters of one deletion.
const LENGTH: usize = 32;

/// The end of the day.
pub(super) fn whole_days(time: Timestamp) -> Timestamp {
    let past = time.as_millis().rem_euclid(DAY);
    let left = u64::try_from((DAY - past) % DAY).unwrap_or(0);
    time.saturating_add(Duration::from_millis(left))
}

pub(super) fn pack<'a>(deletions: impl IntoIterator<Item = (&'a JobId, &'a Deletion)>) -> String {
    let mut text = String::new();
    for (id, Deletion { at, until }) in deletions {
        let mut bytes = [0; 24];
        let at = at.as_millis().clamp(0, LATEST).to_be_bytes();
        let day = u16::try_from(whole_days(*until).as_millis().max(0) / DAY).unwrap_or(u16::MAX).to_be_bytes();
        bytes[..16].copy_from_slice(id.as_bytes());
        bytes[16..22].copy_from_slice(&at[2..]);
        bytes[22..].copy_from_slice(&day);
        for three in bytes.chunks_exact(3) {
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            for shift in [18, 12, 6, 0] {
                let letter = usize::try_from(bits >> shift & 63).unwrap_or(0);
                text.push(char::from(LETTERS[letter]));
            }
        }
    }
    text
}

/// What is not readable is left out.
pub(super) fn unpack(text: &str, into: &mut HashMap<JobId, Deletion>) {
    for letters in text.as_bytes().chunks_exact(LENGTH) {
        let mut bytes = Vec::with_capacity(24);
        for four in letters.chunks_exact(4) {
            let value = |letter: &u8| LETTERS.iter().position(|known| known == letter);
            let bits =
                four.iter().try_fold(0_u32, |bits, letter| Some(bits << 6 | u32::try_from(value(letter)?).ok()?));
            let Some(bits) = bits else { break };
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
        }
        let Ok([a, b, c, d, e, f, high, low]) = <[u8; 8]>::try_from(bytes.get(16..).unwrap_or_default()) else {
            continue;
        };
        let Ok(id) = <[u8; 16]>::try_from(&bytes[..16]) else { continue };
        let at = Timestamp::from_millis(i64::from_be_bytes([0, 0, a, b, c, d, e, f]));
        let until = Timestamp::from_millis(i64::from(u16::from_be_bytes([high, low])) * DAY);
        into.insert(JobId::from_bytes(id), Deletion { at, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_are_short_and_read_back() {
        let time = Timestamp::from_millis;
        let mut all = HashMap::new();
        for at in [0, 1, 1_767_225_600_123, LATEST] {
            all.insert(JobId::new(), Deletion { at: time(at), until: time(20_454 * DAY) });
        }
        all.insert(JobId::new(), Deletion { at: time(5), until: time(65_535 * DAY) });
        let text = pack(&all);
        assert_eq!(text.len(), all.len() * LENGTH);
        let mut read = HashMap::new();
        unpack(&text, &mut read);
        assert_eq!(read, all);
        // What does not fit is remembered for too long rather than too short.
        let text = pack([(&JobId::new(), &Deletion { at: time(i64::MAX), until: time(3 * DAY + 1) })]);
        let mut read = HashMap::new();
        unpack(&text, &mut read);
        assert_eq!(read.into_values().next(), Some(Deletion { at: time(LATEST), until: time(4 * DAY) }));
        for nonsense in ["", "AAAA", &"!".repeat(LENGTH)] {
            let mut read = HashMap::new();
            unpack(nonsense, &mut read);
            assert!(read.is_empty(), "{nonsense}");
        }
    }

    #[test]
    fn days_are_rounded_up() {
        for (given, day) in [(0, 0), (1, DAY), (DAY - 1, DAY), (DAY, DAY), (DAY + 1, 2 * DAY)] {
            assert_eq!(whole_days(Timestamp::from_millis(given)).as_millis(), day);
        }
    }
}
