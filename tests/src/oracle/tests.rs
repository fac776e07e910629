//! Small ledgers, and what the oracle makes of them.

use super::*;

fn started(id: JobId, pid: u32, attempt: u32, millis: i64) -> Entry {
    Entry::Started { id, pid, attempt, recoveries: 0, at: Timestamp::from_millis(millis) }
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
        let mut entries =
            vec![Entry::Acknowledged { id, at: Timestamp::EPOCH }, started(id, 1, 1, 1_000), started(id, 2, 1, 9_000)];
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

/// A job that is run twice after an outage, long after it.
fn run_twice(
    acknowledged: i64,
    first: i64,
    recoveries: [u32; 2],
    doubted: Option<i64>,
    keeps_copies: bool,
) -> Findings {
    let id = JobId::new();
    let at = Timestamp::from_millis;
    let start = |pid, recoveries, millis| Entry::Started { id, pid, attempt: 1, recoveries, at: at(millis) };
    let mut entries = vec![
        Entry::Acknowledged { id, at: at(acknowledged) },
        Entry::Outage { what: "cut".to_owned(), from: at(10_000), to: at(20_000) },
        start(1, recoveries[0], first),
        Entry::Finished { id, pid: 1, attempt: 1, at: at(first + 10) },
        start(2, recoveries[1], 40_000),
        Entry::Finished { id, pid: 2, attempt: 1, at: at(40_010) },
    ];
    entries.extend(doubted.map(|millis| Entry::Doubted { id, at: at(millis) }));
    judge(&entries, &Leftovers { keeps_copies, ..Leftovers::default() })
}

#[test]
fn where_there_are_copies_an_outage_explains_those_of_what_was_in_doubt() {
    let is_explained =
        |findings: Findings| (findings.doubled_by_outage, findings.doubled_without_fault.len()) == (1, 0);
    // A session lost the job, and one or both of the messages are of its recovery.
    assert!(is_explained(run_twice(5_000, 30_000, [0, 1], None, true)));
    assert!(is_explained(run_twice(5_000, 30_000, [1, 1], None, true)));
    // Its enqueue was repeated.
    assert!(is_explained(run_twice(15_000, 30_000, [0, 0], Some(14_000), true)));
    assert!(!is_explained(run_twice(5_000, 30_000, [0, 0], None, true)), "nobody had a doubt");
    assert!(!is_explained(run_twice(5_000, 30_000, [0, 1], None, false)), "there are no copies");
    assert!(!is_explained(run_twice(25_000, 30_000, [0, 1], None, true)), "it was not there");
    assert!(!is_explained(run_twice(5_000, 9_000, [0, 1], None, true)), "the first had ended before");
}

#[test]
fn a_kill_may_leave_one_copy_where_there_are_copies_and_no_more() {
    let doubled = |starts: i64, keeps_copies| {
        let id = JobId::new();
        let mut entries = vec![started(id, 1, 1, 1_000), killed(1, 1_500)];
        entries.extend((0..starts).map(|n| started(id, 2, 1, 3_000 + n)));
        let findings = judge(&entries, &Leftovers { keeps_copies, ..Leftovers::default() });
        (findings.doubled_by_fault, findings.doubled_by_outage, findings.doubled_without_fault.len())
    };
    assert_eq!(doubled(2, true), (1, 1, 0));
    assert_eq!(doubled(2, false), (1, 0, 1));
    assert_eq!(doubled(3, true), (1, 1, 1));
}
