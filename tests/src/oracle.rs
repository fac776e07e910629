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

/// Judges a run by its ledger and by what is left.
#[must_use]
pub fn judge(entries: &[Entry], left: &Leftovers) -> Findings {
    let mut findings =
        Findings { still_claimed: left.claimed, complaints: left.complaints.clone(), ..Findings::default() };
    let mut acknowledged: HashMap<JobId, Timestamp> = HashMap::new();
    let mut finished = HashSet::new();
    let mut faults: HashMap<u32, Timestamp> = HashMap::new();
    let mut outages: Vec<(Timestamp, Timestamp)> = Vec::new();
    let mut starts: HashMap<(JobId, u32), Vec<(u32, Timestamp)>> = HashMap::new();
    let mut ends: HashMap<(JobId, u32, u32), Timestamp> = HashMap::new();
    for entry in entries {
        match entry {
            Entry::Acknowledged { id, at } => drop(acknowledged.entry(*id).or_insert(*at)),
            Entry::Finished { id, pid, attempt, at } => {
                finished.insert(*id);
                ends.entry((*id, *attempt, *pid)).or_insert(*at);
            }
            Entry::Outage { from, to, .. } => outages.push((*from, *to)),
            Entry::Started { id, pid, attempt, at } => starts.entry((*id, *attempt)).or_default().push((*pid, *at)),
            Entry::Fault { pid, at, .. } => {
                let last = faults.entry(*pid).or_insert(*at);
                *last = (*last).max(*at);
            }
        }
    }
    let hurt_since =
        |pid: &u32, at: &Timestamp| faults.get(pid).is_some_and(|fault| fault.saturating_add(GRACE) >= *at);
    // An outage explains what had begun when it was over, and may not have been settled when it began: the answer to
    // its settlement was lost, or the enqueue was repeated because its own answer was.
    let ran_into_outage = |id: JobId, attempt: u32, pid: u32, start: Timestamp| {
        let end = ends.get(&(id, attempt, pid));
        outages.iter().any(|(from, to)| {
            start <= to.saturating_add(GRACE) && end.is_none_or(|end| end.saturating_add(GRACE) >= *from)
        })
    };
    // Where jobs are handed back and counted by copies, one of any job that was there may have been stored when the answer to
    // it was lost; then there are two, and the second start is later.
    let may_be_copied = |id: JobId, second: Timestamp| {
        let was_there = |to: &Timestamp| acknowledged.get(&id).is_none_or(|at| *at <= to.saturating_add(GRACE));
        left.keeps_copies && outages.iter().any(|(from, to)| was_there(to) && second >= *from)
    };
    let mut starts: Vec<_> = starts.into_iter().collect();
    starts.sort_unstable_by_key(|(of, _)| *of);
    let mut copied = HashSet::new();
    for ((id, attempt), mut starts) in starts {
        starts.sort_by_key(|(_, at)| *at);
        // A copy that is explained goes its own way, through all its attempts.
        let is_copied = left.keeps_copies && copied.contains(&id);
        // Each start but the last must have been cut short by a fault.
        let again = starts.len() - 1;
        for (n, (pid, at)) in starts[..again].iter().enumerate() {
            if hurt_since(pid, at) {
                findings.doubled_by_fault += 1;
                copied.insert(id);
            } else if is_copied || ran_into_outage(id, attempt, *pid, *at) || may_be_copied(id, starts[n + 1].1) {
                findings.doubled_by_outage += 1;
                copied.insert(id);
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
mod tests {
    use super::*;

    fn started(id: JobId, pid: u32, attempt: u32, millis: i64) -> Entry {
        Entry::Started { id, pid, attempt, at: Timestamp::from_millis(millis) }
    }

    fn finished(id: JobId, pid: u32, attempt: u32) -> Entry {
        Entry::Finished { id, pid, attempt, at: Timestamp::EPOCH }
    }

    fn killed(pid: u32, millis: i64) -> Entry {
        Entry::Fault { pid, what: "killed".to_owned(), at: Timestamp::from_millis(millis) }
    }

    #[test]
    fn a_job_that_neither_ran_nor_is_there_is_lost() {
        let [ran, waits, lost] = [(); 3].map(|()| JobId::new());
        let mut entries = [ran, waits, lost].map(|id| Entry::Acknowledged { id, at: Timestamp::EPOCH }).to_vec();
        // Started is not enough.
        entries.extend([started(ran, 1, 1, 1), finished(ran, 1, 1), started(lost, 1, 1, 1)]);
        let left = Leftovers { present: [waits].into(), ..Leftovers::default() };
        let findings = judge(&entries, &left);
        assert_eq!((findings.acknowledged, findings.ran, findings.present), (3, 1, 1));
        assert_eq!(findings.lost, [lost]);
        assert!(!findings.is_clean());
        assert!(findings.to_string().starts_with("chaos: acknowledged=3 ran=1 lost=1 doubled_without_fault=0 "));
        assert!(findings.to_string().ends_with(&format!("\nlost: {lost}")));
    }

    #[test]
    fn a_second_start_needs_a_fault_of_the_first_worker_after_its_start() {
        let doubled = |faults: &[Entry]| {
            let id = JobId::new();
            let mut entries = vec![
                Entry::Acknowledged { id, at: Timestamp::EPOCH },
                started(id, 1, 1, 1_000),
                started(id, 2, 1, 9_000),
            ];
            entries.push(finished(id, 2, 1));
            entries.extend_from_slice(faults);
            let findings = judge(&entries, &Leftovers::default());
            (findings.doubled_by_fault, findings.doubled_without_fault.len(), findings.is_clean())
        };
        assert_eq!(doubled(&[]), (0, 1, false));
        assert_eq!(doubled(&[killed(1, 1_500)]), (1, 0, true));
        // The wrong worker, and a fault that was over long before.
        assert_eq!(doubled(&[killed(2, 1_500)]), (0, 1, false));
        assert_eq!(doubled(&[killed(1, 500)]), (0, 1, false));
    }

    #[test]
    fn an_outage_explains_what_was_not_settled_before_it_and_had_begun_before_its_end() {
        let doubled = |start: i64, end: Option<i64>| {
            let id = JobId::new();
            let mut entries = vec![started(id, 1, 1, start), started(id, 2, 1, 90_000)];
            entries.extend(end.map(|end| Entry::Finished { id, pid: 1, attempt: 1, at: Timestamp::from_millis(end) }));
            let (from, to) = (Timestamp::from_millis(10_000), Timestamp::from_millis(12_000));
            entries.push(Entry::Outage { what: "killed".to_owned(), from, to });
            let findings = judge(&entries, &Leftovers::default());
            (findings.doubled_by_outage, findings.doubled_without_fault.len())
        };
        assert_eq!(doubled(9_000, None), (1, 0));
        assert_eq!(doubled(9_000, Some(9_900)), (1, 0));
        assert_eq!(doubled(12_100, Some(12_200)), (1, 0));
        assert_eq!(doubled(9_000, Some(9_100)), (0, 1));
        assert_eq!(doubled(13_000, Some(13_100)), (0, 1));
    }

    #[test]
    fn a_copy_that_an_outage_explains_is_followed_through_its_attempts_where_there_are_copies() {
        let doubled = |keeps_copies| {
            let id = JobId::new();
            let entries = [
                started(id, 1, 1, 10_500),
                started(id, 2, 1, 13_000),
                started(id, 2, 2, 20_000),
                started(id, 2, 2, 21_000),
                Entry::Outage {
                    what: "killed".to_owned(),
                    from: Timestamp::from_millis(10_000),
                    to: Timestamp::from_millis(12_000),
                },
            ];
            let findings = judge(&entries, &Leftovers { keeps_copies, ..Leftovers::default() });
            (findings.doubled_by_outage, findings.doubled_without_fault.len())
        };
        assert_eq!(doubled(true), (2, 0));
        assert_eq!(doubled(false), (1, 1));
    }

    #[test]
    fn another_attempt_is_no_double_run() {
        let id = JobId::new();
        let entries = [started(id, 1, 1, 1), finished(id, 1, 1), started(id, 1, 2, 2), finished(id, 1, 2)];
        let findings = judge(&entries, &Leftovers::default());
        assert!(findings.is_clean());
        assert_eq!(findings.unacknowledged, 1);
    }

    #[test]
    fn a_claim_that_nobody_holds_and_data_that_contradict_themselves_are_not_clean() {
        let left = Leftovers { claimed: 1, ..Leftovers::default() };
        assert!(!judge(&[], &left).is_clean());
        let left = Leftovers { complaints: vec!["2 are 3".to_owned()], ..Leftovers::default() };
        assert!(!judge(&[], &left).is_clean());
        assert!(judge(&[], &left).to_string().ends_with("complaints=1\ncomplaint: 2 are 3"));
    }

    #[test]
    fn where_there_are_copies_an_outage_explains_two_of_what_was_there_before_its_end() {
        let job = JobId::new();
        let of = |acknowledged: i64, second: i64, keeps_copies| {
            let entries = [
                Entry::Acknowledged { id: job, at: Timestamp::from_millis(acknowledged) },
                Entry::Outage {
                    what: "killed".to_owned(),
                    from: Timestamp::from_millis(10_000),
                    to: Timestamp::from_millis(20_000),
                },
                started(job, 1, 1, 30_000),
                started(job, 2, 1, second),
            ];
            let findings = judge(&entries, &Leftovers { keeps_copies, ..Leftovers::default() });
            (findings.doubled_by_outage, findings.doubled_without_fault.len())
        };
        assert_eq!(of(5_000, 30_001, true), (1, 0));
        assert_eq!(of(5_000, 30_001, false), (0, 1), "it keeps none");
        assert_eq!(of(25_000, 30_001, true), (0, 1), "it was not there");
    }
}
