//! The ledger: one file that every process of a run appends to, one line per event.
//!
//! It is what the oracle trusts, so it must survive what the lab does to its writers. Each event is one `write` to a
//! file opened for appending, which the system does not interleave with others; a writer that is killed in the middle
//! leaves a torn line. Lines therefore begin *and* end with a line break: a torn one spoils nobody else's, and reads
//! as if its event had not happened, which is on the safe side: an id counts as acknowledged only when its line is whole.

mod entry;
mod tail;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use goose_core::{Clock, SystemClock, Timestamp};

pub use entry::Entry;
pub use tail::Tail;

use crate::Result;

/// A ledger open for writing.
#[derive(Debug)]
pub struct Ledger(File);

impl Ledger {
    /// Opens a ledger, creating it if it is not there.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self(OpenOptions::new().append(true).create(true).open(path)?))
    }

    /// Writes one event.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(&self, entry: &Entry) -> Result<()> {
        self.record_all(std::slice::from_ref(entry))
    }

    /// Writes events in one piece.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record_all(&self, entries: &[Entry]) -> Result<()> {
        let lines: String = entries.iter().map(|entry| format!("\n{entry}\n")).collect();
        Ok((&self.0).write_all(lines.as_bytes())?)
    }
}

/// The time that is written into ledgers. All processes of a run share one host and its clock.
#[must_use]
pub fn now() -> Timestamp {
    SystemClock.now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::JobId;
    use std::io::Seek;

    #[test]
    fn what_is_written_is_read_back_and_torn_lines_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let (id, pid, at) = (JobId::new(), 17, Timestamp::from_millis(99));
        let entries = [
            Entry::Acknowledged { id, at },
            Entry::Doubted { id, at },
            Entry::Started { id, pid, attempt: 2, recoveries: 1, at },
            Entry::Finished { id, pid, attempt: 2, at },
            Entry::Fault { pid, what: "killed".to_owned(), at },
            Entry::Outage { what: "node-paused".to_owned(), from: at, to: Timestamp::from_millis(100) },
        ];
        let ledger = Ledger::open(&path).unwrap();
        ledger.record_all(&entries[..2]).unwrap();
        // A writer that was killed in the middle of a line.
        (&ledger.0).write_all(format!("\nacknowledged {}", &id.to_string()[..20]).as_bytes()).unwrap();
        ledger.record_all(&entries[2..]).unwrap();
        (&ledger.0).write_all(b"\nstarted").unwrap();

        let mut tail = Tail::of(&path);
        assert_eq!(tail.read().unwrap(), entries);
        assert_eq!(tail.torn(), 1);
        assert_eq!(tail.read().unwrap(), []);
        // What looked unfinished may be finished later.
        (&ledger.0).write_all(format!(" {id} 1 1 0 5\n").as_bytes()).unwrap();
        let late = Entry::Started { id, pid: 1, attempt: 1, recoveries: 0, at: Timestamp::from_millis(5) };
        assert_eq!(tail.read().unwrap(), [late]);
        // A line has as many columns as there are spaces.
        ledger.record(&Entry::Fault { pid, what: "cut off".to_owned(), at }).unwrap();
        assert_eq!(tail.read().unwrap(), [Entry::Fault { pid, what: "cut-off".to_owned(), at }]);
        assert!((&ledger.0).stream_position().is_ok());
    }

    #[test]
    fn writers_do_not_mix_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let ledger = Ledger::open(&path).unwrap();
                    for _ in 0..500 {
                        ledger.record(&Entry::Acknowledged { id: JobId::new(), at: now() }).unwrap();
                    }
                });
            }
        });
        let mut tail = Tail::of(&path);
        assert_eq!((tail.read().unwrap().len(), tail.torn()), (2_000, 0));
    }
}
