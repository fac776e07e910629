//! Compares the ledger with what is left in the broker: is anything lost, doubled, or claimed by nobody?

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::broker::capability::{JobFilter, Page, require};
use goose_core::{ErrorKind, JobId, Timestamp};

use crate::Result;
use crate::ledger::Entry;

/// How long after a fault a start may still be put down to it: a process that was stopped between looking at its claim
/// and writing its line writes it when it goes on.
const GRACE: Duration = Duration::from_millis(250);

/// What the oracle found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Ids whose enqueue returned `Ok`.
    pub acknowledged: usize,
    /// Acknowledged ids that ran to the end at least once.
    pub ran: usize,
    /// Acknowledged ids that did not, but are still there in some state.
    pub present: usize,
    /// Acknowledged ids that neither ran nor are there.
    pub lost: Vec<JobId>,
    /// Ids of which an attempt was started again although nothing had been done to the worker that started it first.
    pub doubled_without_fault: Vec<JobId>,
    /// How many attempts were started again after their worker was hurt.
    pub doubled_by_fault: usize,
    /// How many attempts of workers that were not hurt were started again around an outage of the broker.
    pub doubled_by_outage: usize,
    /// Ids that ran without having been acknowledged. Right only where a producer was killed.
    pub unacknowledged: usize,
    /// Jobs that are still claimed although every worker has ended.
    pub still_claimed: u64,
    /// What the broker finds wrong with its own data.
    pub complaints: Vec<String>,
}

impl Findings {
    /// Whether every invariant held.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled_without_fault.is_empty() && self.is_in_order()
    }

    /// Whether the broker is in order, whatever it may have lost: nothing is claimed any more, and its data do not
    /// contradict themselves.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.still_claimed == 0 && self.complaints.is_empty()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lost, doubled) = (self.lost.len(), self.doubled_without_fault.len());
        write!(f, "chaos: acknowledged={} ran={} lost={lost}", self.acknowledged, self.ran)?;
        write!(f, " doubled_without_fault={doubled} doubled_by_fault={}", self.doubled_by_fault)?;
        write!(f, " doubled_by_outage={}", self.doubled_by_outage)?;
        write!(f, " present={} unacknowledged={}", self.present, self.unacknowledged)?;
        write!(f, " still_claimed={} complaints={}", self.still_claimed, self.complaints.len())?;
        for (what, ids) in [("lost", &self.lost), ("doubled", &self.doubled_without_fault)] {
            for id in ids.iter().take(20) {
                write!(f, "\n{what}: {id}")?;
            }
        }
        for complaint in &self.complaints {
            write!(f, "\ncomplaint: {complaint}")?;
        }
        Ok(())
    }
}

/// What is left in a broker after a run.
#[derive(Debug, Clone, Default)]
pub struct Leftovers {
    /// Jobs that wait in a queue, wait for their time, or are dead.
    pub present: HashSet<JobId>,
    /// How many jobs are claimed.
    pub claimed: u64,
    /// Whether a job may be there twice under one id, so that a second copy has retries of its own.
    pub keeps_copies: bool,
    /// What the broker finds wrong with its own data.
    pub complaints: Vec<String>,
}

impl Leftovers {
    /// Looks through everything a broker holds.
    ///
    /// # Errors
    /// The broker lacks a capability, or what it answers.
    pub async fn of(broker: &dyn Broker) -> Result<Self> {
        let all = JobFilter::default();
        let mut present = HashSet::new();
        let enqueued = require(broker, "enqueued jobs", broker.enqueued_jobs())?;
        for queue in enqueued.queues().await? {
            let mut page = Some(Page::first(Page::MAX));
            while let Some(this) = page {
                let Some(paged) = if_shown(enqueued.find(&queue, &all, this).await)? else { break };
                present.extend(paged.items.iter().map(|job| job.id));
                page = paged.next.map(|cursor| Page::after(Page::MAX, cursor));
            }
        }
        let scheduled = require(broker, "scheduled jobs", broker.scheduled_jobs())?;
        let mut page = Some(Page::first(Page::MAX));
        while let Some(this) = page {
            let Some(paged) = if_shown(scheduled.find(&all, this).await)? else { break };
            present.extend(paged.items.iter().map(|scheduled| scheduled.job.id));
            page = paged.next.map(|cursor| Page::after(Page::MAX, cursor));
        }
        let dead = require(broker, "dead jobs", broker.dead_jobs())?;
        let mut page = Some(Page::first(Page::MAX));
        while let Some(this) = page {
            let paged = dead.find(&all, this).await?;
            present.extend(paged.items.iter().map(|dead| dead.id));
            page = paged.next.map(|cursor| Page::after(Page::MAX, cursor));
        }
        let statistics = require(broker, "statistics", broker.statistics())?;
        let claimed = statistics.queues().await?.iter().map(|counts| counts.running).sum();
        Ok(Self { present, claimed, keeps_copies: false, complaints: Vec::new() })
    }
}

/// A broker that cannot show what waits holds nothing as far as the oracle knows: there every job must run, or be dead.
fn if_shown<T>(answer: goose_core::Result<T>) -> Result<Option<T>> {
    match answer {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

/// A handler was called.
struct Start {
    pid: u32,
    at: Timestamp,
    /// The job had been taken from a session that ended without a word.
    is_recovered: bool,
}

/// Judges a run by its ledger and by what is left.
#[must_use]
pub fn judge(entries: &[Entry], left: &Leftovers) -> Findings {
    let mut findings =
        Findings { still_claimed: left.claimed, complaints: left.complaints.clone(), ..Findings::default() };
    let mut acknowledged: HashMap<JobId, Timestamp> = HashMap::new();
    let mut doubted: HashSet<JobId> = HashSet::new();
    let mut finished = HashSet::new();
    let mut faults: HashMap<u32, Timestamp> = HashMap::new();
    let mut outages: Vec<(Timestamp, Timestamp)> = Vec::new();
    let mut starts: HashMap<(JobId, u32), Vec<Start>> = HashMap::new();
    let mut ends: HashMap<(JobId, u32, u32), Timestamp> = HashMap::new();
    for entry in entries {
        match entry {
            Entry::Acknowledged { id, at } => drop(acknowledged.entry(*id).or_insert(*at)),
            Entry::Doubted { id, .. } => drop(doubted.insert(*id)),
            Entry::Finished { id, pid, attempt, at } => {
                finished.insert(*id);
                ends.entry((*id, *attempt, *pid)).or_insert(*at);
            }
            Entry::Outage { from, to, .. } => outages.push((*from, *to)),
            Entry::Started { id, pid, attempt, recoveries, at } => {
                let start = Start { pid: *pid, at: *at, is_recovered: *recoveries > 0 };
                starts.entry((*id, *attempt)).or_default().push(start);
            }
            Entry::Fault { pid, at, .. } => {
                let last = faults.entry(*pid).or_insert(*at);
                *last = (*last).max(*at);
            }
        }
    }
    let hurt_since =
        |start: &Start| faults.get(&start.pid).is_some_and(|fault| fault.saturating_add(GRACE) >= start.at);
    // An outage explains what had begun when it was over, and may not have been settled when it began: the answer to
    // its settlement was lost, or the enqueue was repeated because its own answer was.
    let ran_into_outage = |id: JobId, attempt: u32, start: &Start| {
        let end = ends.get(&(id, attempt, start.pid));
        outages.iter().any(|(from, to)| {
            start.at <= to.saturating_add(GRACE) && end.is_none_or(|end| end.saturating_add(GRACE) >= *from)
        })
    };
    // Where jobs are handed back and counted by copies, an outage may leave two messages of one job that run one after the
    // other, undisturbed. The ledger knows of which: their enqueue was in doubt and repeated, or a session lost its
    // connection while it had the job, and what was recovered from it is a copy.
    let may_be_copied = |id: JobId, first: &Start, second: &Start| {
        let was_there = |to: &Timestamp| acknowledged.get(&id).is_none_or(|at| *at <= to.saturating_add(GRACE));
        let is_told = doubted.contains(&id) || first.is_recovered || second.is_recovered;
        let both_after = |from: &Timestamp| first.at.saturating_add(GRACE) >= *from && second.at >= *from;
        left.keeps_copies && is_told && outages.iter().any(|(from, to)| was_there(to) && both_after(from))
    };
    let mut starts: Vec<_> = starts.into_iter().collect();
    starts.sort_unstable_by_key(|(of, _)| *of);
    // How often what happened to a job explains one more message of it.
    let mut copies: HashMap<JobId, usize> = HashMap::new();
    for ((id, attempt), mut starts) in starts {
        starts.sort_by_key(|start| start.at);
        let copies = copies.entry(id).or_default();
        let mut of_copies = 0;
        // Each start but the last must have been cut short by a fault.
        for pair in starts.windows(2) {
            let [first, second] = pair else { continue };
            if hurt_since(first) {
                findings.doubled_by_fault += 1;
                *copies += 1;
            } else if ran_into_outage(id, attempt, first) || may_be_copied(id, first, second) {
                findings.doubled_by_outage += 1;
                *copies += 1;
            } else if left.keeps_copies && of_copies < *copies {
                // A copy that is explained goes its own way, through all its attempts.
                findings.doubled_by_outage += 1;
                of_copies += 1;
            } else {
                findings.doubled_without_fault.push(id);
            }
        }
    }
    findings.acknowledged = acknowledged.len();
    findings.unacknowledged = finished.iter().filter(|id| !acknowledged.contains_key(id)).count();
    for id in acknowledged.into_keys() {
        if finished.contains(&id) {
            findings.ran += 1;
        } else if left.present.contains(&id) {
            findings.present += 1;
        } else {
            findings.lost.push(id);
        }
    }
    findings.lost.sort_unstable();
    findings.doubled_without_fault.sort_unstable();
    findings.doubled_without_fault.dedup();
    findings
}

#[cfg(test)]
mod tests;
