//! Where the worker leaves its results: one line of JSON per job, in a file that both processes know.
//!
//! At-least-once means that a job whose worker was killed between the result and the settle runs again and
//! leaves a second line. Lines carry the job id, so the reader keeps the first of each: that is all it takes to be
//! idempotent here.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use goose_worker::JobId;
use serde::{Deserialize, Serialize};

use crate::Result;

/// What one job found out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Finding {
    Counted {
        path: String,
        lines: u64,
        words: u64,
        bytes: u64,
        sha256: String,
    },
    Unreadable {
        path: String,
        reason: String,
    },
    /// The flaky job worked in the end.
    Worked {
        attempt: u32,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    job: String,
    /// From the enqueue to the start of the first attempt that left a line.
    waited: Duration,
    finding: Finding,
}

/// The file, to add lines to. Several processes may do so at once.
#[derive(Debug)]
pub(crate) struct Results {
    file: File,
}

impl Results {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        Ok(Self { file })
    }

    /// Adds a line, with a single write, so that lines of two workers never mix.
    ///
    /// It begins with a line break as well: the worker before may have been killed in the middle of its line.
    pub(crate) fn add(&self, job: JobId, waited: Duration, finding: Finding) -> Result<()> {
        let line = serde_json::to_string(&Line { job: job.to_string(), waited, finding })?;
        (&self.file).write_all(format!("\n{line}\n").as_bytes())?;
        Ok(())
    }
}

/// Reads all results, the first of each job. What is not a whole line was being written when its worker was
/// killed; its job was not settled then and has left another line.
pub(crate) fn read(path: &Path) -> Result<HashMap<JobId, (Duration, Finding)>> {
    let mut results = HashMap::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(results),
        Err(error) => return Err(error.into()),
    };
    for line in BufReader::new(file).split(b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(&line?) else { continue };
        results.entry(line.job.parse()?).or_insert((line.waited, line.finding));
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_job_counts_and_a_torn_one_harms_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        assert!(read(&path).unwrap().is_empty());

        let (killed, fine) = (JobId::new(), JobId::new());
        let results = Results::open(&path).unwrap();
        results.add(killed, Duration::from_millis(1), Finding::Worked { attempt: 1 }).unwrap();
        // A worker that is killed in the middle of its line.
        (&results.file).write_all(br#"{"job":"0190"#).unwrap();
        let next = Results::open(&path).unwrap();
        next.add(fine, Duration::from_millis(2), Finding::Worked { attempt: 1 }).unwrap();
        next.add(killed, Duration::from_millis(9), Finding::Worked { attempt: 2 }).unwrap();

        let read = read(&path).unwrap();
        assert_eq!(read.len(), 2);
        assert!(matches!(read[&killed], (waited, Finding::Worked { attempt: 1 }) if waited.as_millis() == 1));
    }
}
