//! One event, and its line.

use std::fmt;
use std::str::FromStr;

use goose_core::{BoxError, JobId, Timestamp};

use crate::Result;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An enqueue of this job returned `Ok`.
    Acknowledged {
        /// The job.
        id: JobId,
        /// When it was written down, a little later.
        at: Timestamp,
    },
    /// An enqueue of this job failed, and nobody knows whether it is stored: it may be there twice when it is enqueued again.
    Doubted {
        /// The job.
        id: JobId,
        /// When it was written down, a little later.
        at: Timestamp,
    },
    /// A handler was called.
    Started {
        /// The job.
        id: JobId,
        /// The worker's process.
        pid: u32,
        /// Which attempt, from 1. A second start of one attempt is a double run.
        attempt: u32,
        /// How often it was taken from dead workers.
        recoveries: u32,
        /// When.
        at: Timestamp,
    },
    /// A handler came to its end, whatever it returned.
    Finished {
        /// The job.
        id: JobId,
        /// The worker's process.
        pid: u32,
        /// Which attempt, from 1.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// A process was hurt on purpose. Written when it is over: after the kill, after the process goes on.
    Fault {
        /// Whose.
        pid: u32,
        /// What was done; spaces become dashes.
        what: String,
        /// When it was over.
        at: Timestamp,
    },
    /// The broker was hurt on purpose. Written when it is over.
    Outage {
        /// What was done; spaces become dashes.
        what: String,
        /// From when on acknowledged writes may be gone, or answers lost.
        from: Timestamp,
        /// When it was over.
        to: Timestamp,
    },
}

impl Entry {
    /// The job it is about, if it is about one.
    #[must_use]
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::Acknowledged { id, .. }
            | Self::Doubted { id, .. }
            | Self::Started { id, .. }
            | Self::Finished { id, .. } => Some(*id),
            Self::Fault { .. } | Self::Outage { .. } => None,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged { id, at } => write!(f, "acknowledged {id} {}", at.as_millis()),
            Self::Doubted { id, at } => write!(f, "doubted {id} {}", at.as_millis()),
            Self::Started { id, pid, attempt, recoveries, at } => {
                write!(f, "started {id} {pid} {attempt} {recoveries} {}", at.as_millis())
            }
            Self::Finished { id, pid, attempt, at } => write!(f, "finished {id} {pid} {attempt} {}", at.as_millis()),
            Self::Fault { pid, what, at } => write!(f, "fault {} {pid} {}", one_word(what), at.as_millis()),
            Self::Outage { what, from, to } => {
                write!(f, "outage {} {} {}", one_word(what), from.as_millis(), to.as_millis())
            }
        }
    }
}

/// As the columns of a line are told apart by spaces.
fn one_word(what: &str) -> String {
    what.replace(' ', "-")
}

impl FromStr for Entry {
    type Err = BoxError;

    fn from_str(line: &str) -> Result<Self> {
        let at = |millis: &str| Ok::<_, BoxError>(Timestamp::from_millis(millis.parse()?));
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["acknowledged", id, millis] => Ok(Self::Acknowledged { id: id.parse()?, at: at(millis)? }),
            ["doubted", id, millis] => Ok(Self::Doubted { id: id.parse()?, at: at(millis)? }),
            ["started", id, pid, attempt, recoveries, millis] => {
                let (id, pid, attempt, recoveries) = (id.parse()?, pid.parse()?, attempt.parse()?, recoveries.parse()?);
                Ok(Self::Started { id, pid, attempt, recoveries, at: at(millis)? })
            }
            ["finished", id, pid, attempt, millis] => {
                Ok(Self::Finished { id: id.parse()?, pid: pid.parse()?, attempt: attempt.parse()?, at: at(millis)? })
            }
            ["fault", what, pid, millis] => {
                Ok(Self::Fault { what: what.to_owned(), pid: pid.parse()?, at: at(millis)? })
            }
            ["outage", what, from, to] => Ok(Self::Outage { what: what.to_owned(), from: at(from)?, to: at(to)? }),
            _ => Err(format!("{line:?} is not a line of a ledger").into()),
        }
    }
}
