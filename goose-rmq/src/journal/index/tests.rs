//! The index without a server.

use std::time::Duration;

use goose_core::{Job, JobName, Payload};

use super::super::note::Kept;
use super::*;
use crate::amqp::Table;
use crate::delay::Path;
use crate::stream::NewEntry;

const NOW: i64 = 1_000_000;

/// A journal as the server keeps it, and an index that reads it from some place on.
#[derive(Default)]
struct Kit(Vec<Entry>);

impl Kit {
    fn add(&mut self, id: String, headers: Table, body: Vec<u8>) -> u64 {
        let offset = self.0.len() as u64;
        self.0.push(Entry { offset, id: Some(id), headers, body });
        offset
    }

    fn come(&mut self, job: &Job, copy: i64, rank: Rank, ready_at: i64) -> u64 {
        let ready_at = Timestamp::from_millis(ready_at);
        let mut ticket = Ticket::due(ready_at, Path::NOW);
        (ticket.rank, ticket.copy, ticket.hold) = (rank, Some(CopyId(copy)), Duration::ZERO);
        self.add(job.id.to_string(), ticket.headers(), codec::encode(job))
    }

    fn say(&mut self, new: NewEntry) -> u64 {
        self.add(new.id, new.headers, new.body.to_vec())
    }

    fn keep(&mut self, begin: u64, offset: u64) -> u64 {
        let entry = &self.0[usize::try_from(offset).unwrap()];
        let first = Kept::of(entry).map_or(offset, |kept| kept.first);
        let again = Kept { begin, first }.entry(entry.headers.clone(), entry.body.clone());
        self.say(again)
    }

    fn index(&self, from: u64) -> Index {
        let mut index = Index::empty();
        for entry in self.0.iter().filter(|entry| entry.offset >= from) {
            index.fold(entry);
        }
        index.settle(&HashSet::from([worker()]), Timestamp::from_millis(NOW));
        index
    }
}

/// A session that is open.
fn worker() -> JobId {
    "0190163d-8694-739b-aea5-966c26f8ad90".parse().unwrap()
}

fn queue() -> QueueName {
    QueueName::default()
}

fn job() -> Job {
    Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1]))
}

fn jobs<const N: usize>() -> [Job; N] {
    [(); N].map(|()| job())
}

fn ids(index: &Index) -> Vec<JobId> {
    index.of_queue(&queue(), None).map(|place| place.id).collect()
}

fn ended(copies: &[i64]) -> NewEntry {
    Note::Ended { copies: copies.iter().copied().map(CopyId).collect() }.entry()
}

#[test]
fn what_waits_is_in_the_order_in_which_it_will_run() {
    let (mut kit, [normal, second, older, newer, again, due, early]) = (Kit::default(), jobs());
    kit.come(&normal, 1, Rank::Normal, 9);
    kit.come(&second, 2, Rank::Normal, 5);
    kit.come(&older, 3, Rank::Front, 10);
    kit.come(&newer, 4, Rank::Front, 10);
    kit.come(&early, 5, Rank::Due, NOW + 1);
    kit.come(&due, 6, Rank::Due, NOW);
    kit.come(&again, 7, Rank::Again, 900);
    let index = kit.index(0);
    assert_eq!(ids(&index), [&again, &newer, &older, &due, &normal, &second].map(|job| job.id));
    assert_eq!(index.of_later(None).map(|place| place.id).collect::<Vec<_>>(), [early.id]);
    assert!(index.scheduled(early.id).is_some() && index.ready(early.id).is_none());
    assert!(index.scheduled(due.id).is_none() && index.ready(due.id).is_some() && index.delayed(due.id).is_some());
    let key = index.ready(older.id).unwrap().key();
    let rest: Vec<_> = index.of_queue(&queue(), Some(key)).map(|place| place.id).collect();
    assert_eq!(rest, [&due, &normal, &second].map(|job| job.id), "behind a key");
}

#[test]
fn what_runs_does_not_wait_until_its_session_is_gone_or_has_lost_it() {
    let (mut kit, [one, two, three]) = (Kit::default(), jobs());
    for (copy, job) in (1..).zip([&one, &two, &three]) {
        kit.come(job, copy, Rank::Normal, 0);
    }
    let began = |by, copy| Note::Began { by, copies: vec![CopyId(copy)] }.entry();
    kit.say(began(worker(), 1));
    kit.say(began(JobId::new(), 2));
    kit.say(began(worker(), 3));
    let index = kit.index(0);
    assert!(index.is_running(one.id) && !index.is_running(two.id));
    assert_eq!(ids(&index), [two.id], "its session is not open");
    kit.say(Note::Back { copies: vec![CopyId(3)] }.entry());
    kit.say(ended(&[1]));
    let index = kit.index(0);
    assert_eq!(ids(&index), [two.id, three.id]);
    assert_eq!((index.jobs.len(), index.copies.len(), index.running.len()), (2, 2, 0));
}

#[test]
fn a_late_word_about_one_message_does_not_hit_the_next_one() {
    let (mut kit, [one]) = (Kit::default(), jobs());
    kit.come(&one, 1, Rank::Normal, 0);
    kit.come(&one, 2, Rank::Again, 7);
    kit.say(ended(&[1]));
    // Its confirm was lost, and it is stored twice.
    kit.come(&one, 2, Rank::Again, 7);
    let index = kit.index(0);
    assert_eq!(index.ready(one.id).unwrap().copy, CopyId(2));
    assert_eq!((ids(&index).len(), index.copies.len()), (1, 1));
}

#[test]
fn what_is_gone_from_a_queue_is_taken_out_up_to_a_place_and_a_time() {
    let (mut kit, [one, two, late, running, after]) = (Kit::default(), jobs());
    kit.come(&one, 1, Rank::Normal, 0);
    kit.come(&two, 2, Rank::Due, 10);
    kit.come(&late, 3, Rank::Due, 30);
    let up_to = kit.come(&running, 4, Rank::Normal, 0);
    kit.say(Note::Began { by: worker(), copies: vec![CopyId(4)] }.entry());
    kit.come(&after, 5, Rank::Normal, 0);
    kit.say(Note::Gone { queue: Some(queue()), up_to, due: 20 }.entry());
    let index = kit.index(0);
    assert_eq!(ids(&index), [late.id, after.id]);
    assert!(index.is_running(running.id));
    kit.say(Note::Gone { queue: None, up_to: 90, due: 20 }.entry());
    assert_eq!(ids(&kit.index(0)), [after.id]);
}

/// Whoever reads only what is left knows as much as who has read everything, of what was said again in time.
#[test]
fn what_is_said_again_outlives_the_beginning() {
    let (mut kit, [one, two, three, four, five]) = (Kit::default(), jobs());
    let places: Vec<u64> =
        (1..).zip([&one, &two, &three, &four]).map(|(n, job)| kit.come(job, n, Rank::Normal, 0)).collect();
    assert_eq!(kit.index(0).older_than(1).len(), 4 - 1);
    let begin = kit.say(Note::Begin.entry());
    // All of it happens while things are said again.
    kit.say(ended(&[1]));
    kit.come(&five, 5, Rank::Normal, 0);
    let again = kit.keep(begin, places[0]);
    kit.keep(begin, places[1]);
    kit.come(&two, 6, Rank::Again, 3);
    kit.keep(begin, places[2]);
    kit.say(ended(&[3]));
    kit.keep(begin, places[3]);
    kit.say(Note::End { begin }.entry());
    let expected = [two.id, four.id, five.id];
    for from in 0..=begin {
        assert_eq!(ids(&kit.index(from)), expected, "read from {from}");
    }
    let index = kit.index(0);
    assert!(index.begun.is_none(), "what has ended is forgotten");
    let place = index.ready(four.id).unwrap();
    assert_eq!((place.first, place.offset > again), (3, true), "it is fetched from where it stands last");
    // It is said again a second time.
    let begin = kit.say(Note::Begin.entry());
    kit.keep(begin, place.offset);
    assert_eq!(kit.index(begin).ready(four.id).unwrap().first, 3, "and keeps its place in the order");
}

#[test]
fn what_was_cut_off_is_forgotten_and_nothing_is_left_of_it() {
    let (mut kit, [one, two]) = (Kit::default(), jobs());
    let place = kit.come(&one, 1, Rank::Normal, 0);
    kit.come(&two, 2, Rank::Due, NOW + 9);
    let mut index = kit.index(0);
    assert_eq!((index.forget_up_to(place), index.forget_up_to(place)), (1, 0));
    assert_eq!(index.forget_up_to(9), 1);
    assert!(index.copies.is_empty() && index.queues.is_empty() && index.later.is_empty());
}
