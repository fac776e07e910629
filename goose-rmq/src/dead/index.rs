//! What is known of the dead without their jobs: all that lists, sizes and searches by id need.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use goose_core::{Clock, JobId, QueueName, SystemClock, Timestamp};

use super::death::Death;
use super::note::{Known, Note};
use crate::log::Text;
use crate::stream::{Entry, Fold};

/// Who took dead jobs to replay them and has not said anything for so long has died. They can be had again then.
const LAPSES: Duration = Duration::from_secs(60);

/// The dead, by their places in the stream: in the order of their deaths.
#[derive(Debug)]
pub(crate) struct Index {
    deaths: BTreeMap<u64, Dead>,
    places: HashMap<JobId, u64>,
    /// Those that somebody is replaying.
    claims: HashMap<u64, Claim>,
    /// Names are shared by all deaths of a queue.
    queues: BTreeMap<QueueName, u64>,
    /// When the last one died.
    last_died_at: Timestamp,
}

/// One of them.
#[derive(Debug, Clone)]
struct Dead {
    id: JobId,
    queue: QueueName,
    died_at: Timestamp,
    is_job: bool,
}

#[derive(Debug, Clone)]
struct Claim {
    by: JobId,
    /// When it is over if nothing comes of it.
    lapses_at: Instant,
}

impl Claim {
    fn new(by: JobId, made_at: Timestamp) -> Self {
        // One that was made long ago, as who reads the stream from its beginning finds it, has lapsed. Clocks differ a little.
        let is_old = SystemClock.now().since(made_at) > LAPSES * 2;
        Self { by, lapses_at: Instant::now() + if is_old { Duration::ZERO } else { LAPSES } }
    }

    fn has_lapsed(&self) -> bool {
        Instant::now() >= self.lapses_at
    }
}

/// A dead job as it is shown to those who look for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) id: JobId,
    pub(super) died_at: Timestamp,
    pub(super) is_job: bool,
    /// Who has taken it and given up.
    lapsed: Option<JobId>,
}

impl Place {
    /// As notes name it.
    pub(super) fn known(&self) -> Known {
        Known(self.offset, self.lapsed.map(Text))
    }
}

impl Fold for Index {
    fn empty() -> Self {
        Self {
            deaths: BTreeMap::new(),
            places: HashMap::new(),
            claims: HashMap::new(),
            queues: BTreeMap::new(),
            last_died_at: Timestamp::EPOCH,
        }
    }

    fn fold(&mut self, entry: &Entry) -> u64 {
        match Note::of(entry) {
            Some(note) => self.note(&note),
            None => {
                self.died(entry.offset, Death::of(entry));
                1
            }
        }
    }
}

impl Index {
    fn died(&mut self, offset: u64, death: Death) {
        // A job that is among the dead and dies again has run in between, or its burial was told twice.
        if let Some(before) = self.places.get(&death.id).copied() {
            self.remove(before);
        }
        let queue = match self.queues.get_key_value(&death.queue) {
            Some((queue, _)) => queue.clone(),
            None => death.queue,
        };
        *self.queues.entry(queue.clone()).or_default() += 1;
        // The server does not tell when a queue gave a message up: not before what stands before it.
        let died_at = death.died_at.unwrap_or(self.last_died_at);
        self.last_died_at = died_at;
        self.places.insert(death.id, offset);
        self.deaths.insert(offset, Dead { id: death.id, queue, died_at, is_job: death.is_job });
    }

    fn remove(&mut self, offset: u64) -> bool {
        let Some(dead) = self.deaths.remove(&offset) else { return false };
        self.claims.remove(&offset);
        self.places.remove(&dead.id);
        if let Some(count) = self.queues.get_mut(&dead.queue) {
            *count -= 1;
            if *count == 0 {
                self.queues.remove(&dead.queue);
            }
        }
        true
    }

    /// Answers how many it changed.
    fn note(&mut self, note: &Note) -> u64 {
        let mut changed = 0;
        match note {
            Note::Claim { deaths, by, at } => {
                for known in deaths {
                    if self.is_as(known) {
                        self.claims.insert(known.0, Claim::new(by.0, Timestamp::from_millis(*at)));
                        changed += 1;
                    }
                }
            }
            Note::Replayed { deaths, by } => {
                for offset in deaths {
                    changed += u64::from(self.is_with(*offset, by.0) && self.remove(*offset));
                }
            }
            Note::Unclaim { deaths, by } => {
                for offset in deaths {
                    changed += u64::from(self.is_with(*offset, by.0) && self.claims.remove(offset).is_some());
                }
            }
            Note::Remove { deaths } => {
                for known in deaths {
                    changed += u64::from(self.is_as(known) && self.remove(known.0));
                }
            }
            Note::RemoveAll { up_to, before, lapsed } => {
                for known in lapsed {
                    if self.is_as(known) {
                        self.claims.remove(&known.0);
                    }
                }
                let before = before.map_or(Timestamp::MAX, Timestamp::from_millis);
                let is_meant = |(offset, dead): &(&u64, &Dead)| {
                    !self.claims.contains_key(offset) && (dead.died_at < before || before == Timestamp::MAX)
                };
                let meant: Vec<u64> =
                    self.deaths.range(..=*up_to).filter(is_meant).map(|(offset, _)| *offset).collect();
                for offset in meant {
                    changed += u64::from(self.remove(offset));
                }
            }
            Note::Unknown => {}
        }
        changed
    }

    /// Whether what the author of a note knew is still so.
    fn is_as(&self, known: &Known) -> bool {
        let by = self.claims.get(&known.0).map(|claim| claim.by);
        self.deaths.contains_key(&known.0) && by == known.1.as_ref().map(|by| by.0)
    }

    pub(super) fn is_with(&self, offset: u64, by: JobId) -> bool {
        self.claims.get(&offset).is_some_and(|claim| claim.by == by)
    }

    /// As a place, unless somebody is replaying it.
    fn place(&self, offset: u64, dead: &Dead) -> Option<Place> {
        let lapsed = match self.claims.get(&offset) {
            Some(claim) if !claim.has_lapsed() => return None,
            claim => claim.map(|claim| claim.by),
        };
        Some(Place { offset, id: dead.id, died_at: dead.died_at, is_job: dead.is_job, lapsed })
    }

    pub(super) fn size(&self) -> u64 {
        let under_way = self.claims.values().filter(|claim| !claim.has_lapsed()).count();
        u64::try_from(self.deaths.len() - under_way).unwrap_or(u64::MAX)
    }

    pub(super) fn sizes(&self) -> Vec<(QueueName, u64)> {
        let mut sizes = self.queues.clone();
        for offset in self.claims.iter().filter(|(_, claim)| !claim.has_lapsed()).map(|(offset, _)| offset) {
            if let Some(count) = self.deaths.get(offset).and_then(|dead| sizes.get_mut(&dead.queue)) {
                *count -= 1;
            }
        }
        sizes.into_iter().collect()
    }

    pub(super) fn of(&self, id: JobId) -> Option<Place> {
        let offset = *self.places.get(&id)?;
        self.place(offset, self.deaths.get(&offset)?)
    }

    /// The next ones behind a place.
    pub(super) fn after(&self, offset: Option<u64>, limit: usize) -> Vec<Place> {
        let from = offset.map_or(0, |offset| offset.saturating_add(1));
        self.deaths.range(from..).filter_map(|(offset, dead)| self.place(*offset, dead)).take(limit).collect()
    }

    /// The last place, and the claims that have lapsed; `None` if there are no dead.
    pub(super) fn all(&self) -> Option<(u64, Vec<Known>)> {
        let (last, _) = self.deaths.last_key_value()?;
        let lapsed = self.claims.iter().filter(|(_, claim)| claim.has_lapsed());
        Some((*last, lapsed.map(|(offset, claim)| Known(*offset, Some(Text(claim.by)))).collect()))
    }

    /// As if a minute had passed.
    #[cfg(test)]
    pub(super) fn lapse(&mut self) {
        self.claims.values_mut().for_each(|claim| claim.lapses_at = Instant::now());
    }

    /// Forgets what the server has cut off, and says how many.
    pub(super) fn forget_up_to(&mut self, offset: u64) -> usize {
        let gone: Vec<u64> = self.deaths.range(..=offset).map(|(offset, _)| *offset).collect();
        gone.iter().filter(|offset| self.remove(**offset)).count()
    }
}

#[cfg(test)]
mod tests {
    use goose_core::broker::{DeathCause, DeathReason};

    use super::*;
    use crate::amqp::Table;

    #[derive(Debug)]
    struct Fixture {
        index: Index,
        next: u64,
    }

    impl Fixture {
        fn new() -> Self {
            Self { index: Index::empty(), next: 0 }
        }

        fn add(&mut self, headers: Table, body: Vec<u8>) -> u64 {
            let entry = Entry { offset: self.next, id: Some(format!("entry-{}", self.next)), headers, body };
            self.next += 1;
            self.index.fold(&entry)
        }

        fn die(&mut self, id: JobId, queue: &str, died_at: i64) -> u64 {
            let reason = DeathReason::new(DeathCause::Buried, "");
            let queue = QueueName::new(queue).unwrap();
            let died_at = Some(Timestamp::from_millis(died_at));
            self.add(Death { id, queue, died_at, reason, is_job: true }.headers(), Vec::new());
            self.next - 1
        }

        fn note(&mut self, note: &Note) -> u64 {
            let entry = note.entry();
            self.add(entry.headers, entry.body.to_vec())
        }

        fn claim(&mut self, deaths: Vec<Known>, by: JobId) -> u64 {
            self.note(&Note::Claim { deaths, by: Text(by), at: SystemClock.now().as_millis() })
        }

        fn ids(&self) -> Vec<JobId> {
            self.index.after(None, 100).into_iter().map(|place| place.id).collect()
        }

        fn lapse(&mut self) {
            self.index.lapse();
        }
    }

    fn ids<const N: usize>() -> [JobId; N] {
        [(); N].map(|()| JobId::new())
    }

    #[test]
    fn the_first_to_claim_has_it_and_it_is_seen_by_nobody_else() {
        let (mut dead, [a, b, one, two]) = (Fixture::new(), ids());
        let places: Vec<Known> = [a, b].map(|id| Known(dead.die(id, "q", 1), None)).into();
        assert_eq!(dead.claim(places.clone(), one), 2);
        assert_eq!(dead.claim(places.clone(), two), 0, "they are taken");
        assert_eq!(dead.note(&Note::Remove { deaths: places.clone() }), 0);
        assert_eq!((dead.index.size(), dead.ids(), dead.index.of(a)), (0, vec![], None));
        assert_eq!(dead.index.sizes(), [(QueueName::new("q").unwrap(), 0)]);
        assert_eq!(dead.note(&Note::Replayed { deaths: vec![0, 1], by: Text(two) }), 0, "not by somebody else");
        assert_eq!(dead.note(&Note::Unclaim { deaths: vec![1], by: Text(one) }), 1);
        assert_eq!(dead.note(&Note::Replayed { deaths: vec![0, 1], by: Text(one) }), 1);
        assert_eq!((dead.index.size(), dead.ids()), (1, vec![b]));
        assert_eq!(dead.claim(vec![Known(1, None)], two), 1, "it can be had again");
    }

    #[test]
    fn what_a_dead_process_had_can_be_had_again_by_one() {
        let (mut dead, [a, one, two, three]) = (Fixture::new(), ids());
        let place = dead.die(a, "q", 1);
        dead.claim(vec![Known(place, None)], one);
        dead.lapse();
        let known = dead.index.of(a).unwrap().known();
        assert_eq!(known, Known(place, Some(Text(one))));
        assert_eq!(dead.claim(vec![known.clone()], two), 1);
        assert_eq!(dead.claim(vec![known], three), 0, "two saw it lapse, the first has it");
        assert_eq!(dead.note(&Note::Replayed { deaths: vec![place], by: Text(one) }), 0, "it has lost it");
        // As a reader finds it who comes much later.
        let mut later = Fixture::new();
        later.die(a, "q", 1);
        later.note(&Note::Claim { deaths: vec![Known(0, None)], by: Text(one), at: 1_000 });
        assert_eq!(later.index.size(), 1);
    }

    #[test]
    fn a_second_death_takes_the_place_of_the_first() {
        let (mut dead, [a, b, one]) = (Fixture::new(), ids());
        let place = dead.die(a, "q", 1);
        dead.die(b, "q", 2);
        // Replayed, and dead again before the replay was noted.
        dead.claim(vec![Known(place, None)], one);
        dead.die(a, "r", 3);
        assert_eq!(dead.note(&Note::Replayed { deaths: vec![place], by: Text(one) }), 0);
        assert_eq!((dead.index.size(), dead.ids()), (2, vec![b, a]));
        let names: Vec<_> = dead.index.sizes().into_iter().map(|(queue, n)| (queue.to_string(), n)).collect();
        assert_eq!(names, [("q".to_owned(), 1), ("r".to_owned(), 1)]);
    }

    #[test]
    fn removing_all_spares_what_came_later_or_is_being_replayed() {
        let (mut dead, [a, b, c, d, one]) = (Fixture::new(), ids());
        for (id, died_at) in [(a, 10), (b, 5), (c, 20)] {
            dead.die(id, "q", died_at);
        }
        assert_eq!(dead.note(&Note::RemoveAll { up_to: 2, before: Some(10), lapsed: vec![] }), 1);
        assert_eq!(dead.ids(), [a, c], "the one that died before that time");
        let (up_to, lapsed) = dead.index.all().unwrap();
        dead.claim(vec![Known(0, None)], one);
        dead.die(d, "q", 30);
        assert_eq!(dead.note(&Note::RemoveAll { up_to, before: None, lapsed }), 1);
        assert_eq!(dead.ids(), [d]);
        dead.lapse();
        let (up_to, lapsed) = dead.index.all().unwrap();
        assert_eq!(dead.note(&Note::RemoveAll { up_to, before: None, lapsed }), 2);
        assert_eq!((dead.index.size(), dead.index.all()), (0, None));
        assert!(dead.index.queues.is_empty() && dead.index.places.is_empty() && dead.index.claims.is_empty());
    }

    #[test]
    fn pages_go_on_behind_a_place_that_is_gone() {
        let (mut dead, all) = (Fixture::new(), ids::<5>());
        for id in all {
            dead.die(id, "q", 1);
        }
        let first = dead.index.after(None, 2);
        assert_eq!(first.iter().map(|place| place.id).collect::<Vec<_>>(), all[..2]);
        dead.note(&Note::Remove { deaths: vec![first[1].known(), Known(2, None)] });
        let second = dead.index.after(Some(first[1].offset), 2);
        assert_eq!(second.iter().map(|place| place.id).collect::<Vec<_>>(), all[3..]);
        assert_eq!(dead.index.forget_up_to(3), 2, "the first and the fourth");
        assert_eq!(dead.ids(), all[4..]);
    }

    #[test]
    fn a_death_without_a_time_is_not_before_the_one_that_stands_before_it() {
        let mut dead = Fixture::new();
        dead.die(JobId::new(), "q", 77);
        dead.add(Table::new(), b"given up".to_vec());
        assert_eq!(dead.index.after(None, 2)[1].died_at, Timestamp::from_millis(77));
    }
}
