//! Who is dead: what this process has seen of late sessions, on its own monotonic clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fred::bytes::Bytes;
use goose_core::QueueName;

/// How often a lease is renewed while it lasts.
pub(crate) const BEATS_PER_LEASE: u32 = 6;

/// How long others may take to connect again after an outage, at the longest.
const RECONNECTED: Duration = Duration::from_secs(2);

/// How many queues of others are looked at in one turn, and how many beats pass between turns. Nobody is in a hurry
/// there: jobs wait only where nobody works. But all workers look, so each must look at little.
const OTHERS: usize = 10;
const BEATS_PER_TURN: u32 = 10;

/// A session as others see it: its id, and the end of its lease.
pub(crate) type Sighting = (Bytes, i64);

/// What the server of a queue answered when it was asked who is late there. When it did not answer, there is no look.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) queue: QueueName,
    pub(crate) at: Instant,
    pub(crate) late: Vec<Sighting>,
}

/// Finds the dead among the late.
///
/// A session is dead when the end of its lease is past on the server's clock *and* has not moved during two
/// beats of ours. The second condition makes it immune to a server clock that jumps. When we were held up
/// ourselves, or the server was away, everybody's lease may be over: everything seen is forgotten then. And when the server
/// was away, or all that took longer than a lease, everybody gets the time to connect again and to say that they live. It
/// is known of each queue for itself: of several servers one may be away while the others answer.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    contacts: HashMap<QueueName, Contact>,
    /// Beats since the last turn among the queues of others.
    beats: u32,
    /// Where to go on among them.
    position: usize,
    /// Those in which somebody is late: looked at with every beat until nobody is.
    suspects: Vec<QueueName>,
}

/// What is known of one queue.
#[derive(Debug)]
struct Contact {
    last_look: Instant,
    /// Calls have failed since then.
    missed_some: bool,
    /// Nobody is dead before this.
    quiet_until: Instant,
    /// The late sessions, and when each was seen like that for the first time.
    seen: HashMap<Sighting, Instant>,
}

impl Watch {
    /// Starts its turns at a place of its own, so that not all workers look at the same queues.
    pub(crate) fn new(seed: usize) -> Self {
        Self { position: seed, ..Self::default() }
    }

    /// Whether it is time for a turn; the first beat is one.
    pub(crate) fn is_turn(&mut self) -> bool {
        let is_turn = self.beats.is_multiple_of(BEATS_PER_TURN);
        self.beats = self.beats.wrapping_add(1);
        is_turn
    }

    /// Adds some of the queues, in turn, to those to look at.
    pub(crate) fn suspect_some_of(&mut self, queues: &[QueueName]) {
        let Some(start) = self.position.checked_rem(queues.len()) else { return };
        self.position = start + OTHERS;
        for queue in queues.iter().cycle().skip(start).take(queues.len().min(OTHERS)) {
            if !self.suspects.contains(queue) {
                self.suspects.push(queue.clone());
            }
        }
    }

    /// The queues of others to look at with this beat.
    pub(crate) fn suspects(&self) -> &[QueueName] {
        &self.suspects
    }

    /// Some calls of this beat have failed: those servers that do not answer may be away.
    pub(crate) fn missed_some(&mut self) {
        self.contacts.values_mut().for_each(|contact| contact.missed_some = true);
    }

    /// Takes the looks of one beat; returns the sessions that are dead.
    pub(crate) fn look(&mut self, looks: Vec<Look>, lease: Duration) -> Vec<(QueueName, Sighting)> {
        let mut dead = Vec::new();
        for Look { queue, at, late } in looks {
            // Nobody is late there any more. A queue of our own is looked at all the same.
            if late.is_empty() && self.is_suspect(&queue) {
                self.contacts.remove(&queue);
                continue;
            }
            // What is new to us may be on a server that was away until just now: the other queues know.
            if !self.contacts.contains_key(&queue) {
                let quiet_until = self.contacts.values().map(|contact| contact.quiet_until).max().unwrap_or(at);
                let contact = Contact { last_look: at, missed_some: false, quiet_until, seen: HashMap::new() };
                self.contacts.insert(queue.clone(), contact);
            }
            let Some(contact) = self.contacts.get_mut(&queue) else { continue };
            dead.extend(contact.look(late, at, lease).into_iter().map(|sighting| (queue.clone(), sighting)));
        }
        // One that does not answer is asked until it does when somebody is late there; the others have their next turn.
        self.suspects.retain(|queue| self.contacts.contains_key(queue));
        dead
    }

    /// When somebody may have been seen for long enough to be dead. To wait for the next beat could take nearly one more.
    pub(crate) fn next_verdict(&self, now: Instant, lease: Duration) -> Option<Instant> {
        let verdicts = self.contacts.values().filter_map(|contact| {
            let oldest =
                contact.seen.values().filter(|since| contact.verdict(**since, lease) > contact.last_look).min()?;
            Some(contact.verdict(*oldest, lease))
        });
        verdicts.filter(|verdict| *verdict > now).min()
    }

    fn is_suspect(&self, queue: &QueueName) -> bool {
        self.suspects.contains(queue)
    }
}

impl Contact {
    fn look(&mut self, late: Vec<Sighting>, at: Instant, lease: Duration) -> Vec<Sighting> {
        let interval = lease / BEATS_PER_LEASE;
        let since_last = at.saturating_duration_since(self.last_look);
        if since_last > interval * 5 / 2 {
            self.seen.clear();
            let quiet = match () {
                () if since_last > lease => lease.max(RECONNECTED),
                () if self.missed_some => RECONNECTED,
                () => Duration::ZERO,
            };
            self.quiet_until = self.quiet_until.max(at + quiet);
        }
        (self.last_look, self.missed_some) = (at, false);
        let mut before = std::mem::take(&mut self.seen);
        let mut dead = Vec::new();
        // Many may be late at once, when a whole data centre is gone.
        for sighting in late {
            let since = before.remove(&sighting).unwrap_or(at);
            if at >= self.verdict(since, lease) {
                dead.push(sighting.clone());
            }
            self.seen.insert(sighting, since);
        }
        dead
    }

    /// From when on a session is dead that has been late since then: a little less than two beats, for they are not exactly
    /// one interval apart.
    fn verdict(&self, since: Instant, lease: Duration) -> Instant {
        self.quiet_until.max(since + lease / BEATS_PER_LEASE * 7 / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(6);
    const BEAT: Duration = Duration::from_secs(1);

    fn name(queue: &str) -> QueueName {
        QueueName::new(queue).unwrap()
    }

    fn late(end: i64) -> Sighting {
        (Bytes::from_static(b"0123"), end)
    }

    fn look(queue: &str, at: Instant, late: &[Sighting]) -> Look {
        Look { queue: name(queue), at, late: late.to_vec() }
    }

    /// Looks at one queue.
    fn at_a(watch: &mut Watch, at: Instant, sightings: &[Sighting], lease: Duration) -> Vec<Sighting> {
        let dead = watch.look(vec![look("a", at, sightings)], lease);
        dead.into_iter().map(|(queue, sighting)| (queue == name("a")).then_some(sighting).unwrap()).collect()
    }

    #[test]
    fn dead_is_who_was_late_and_silent_for_two_beats_of_ours() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut looks = |beat: u32, end| at_a(&mut watch, start + BEAT * beat, &[late(end)], LEASE);
        assert!(looks(0, 1).is_empty());
        assert!(looks(1, 1).is_empty());
        assert_eq!(looks(2, 1), [late(1)]);
        // It beat in between, though late.
        assert!(looks(3, 2).is_empty());
        // We were held up, and others may have been, too.
        assert!(looks(8, 2).is_empty());
        assert!(looks(9, 2).is_empty());
        assert_eq!(looks(10, 2), [late(2)]);
    }

    /// Busy machines are late with their beats: that must not cost another one.
    #[test]
    fn the_time_of_the_next_verdict_is_known() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(at_a(&mut watch, start, &[], LEASE).is_empty());
        assert_eq!(watch.next_verdict(start, LEASE), None);
        assert!(at_a(&mut watch, start + BEAT, &[late(1)], LEASE).is_empty());
        assert!(at_a(&mut watch, start + BEAT * 2, &[late(1), late(2)], LEASE).is_empty());
        let first = start + BEAT + BEAT * 7 / 4;
        assert_eq!(watch.next_verdict(start + BEAT * 2, LEASE), Some(first));
        // A look that failed is made with the next beat, not at once again.
        assert_eq!(watch.next_verdict(first, LEASE), None);
        assert_eq!(at_a(&mut watch, first, &[late(1), late(2)], LEASE), [late(1)]);
        assert_eq!(watch.next_verdict(first, LEASE), Some(first + BEAT));
        // After an outage nobody is dead before the others could connect again.
        let back = first + LEASE * 2;
        assert!(at_a(&mut watch, back, &[late(1)], LEASE).is_empty());
        assert_eq!(watch.next_verdict(back, LEASE), Some(back + LEASE));
    }

    /// However many there are, each gets its turn, and one that is suspected is not let go of in between.
    #[test]
    fn every_queue_of_others_is_looked_at_in_turn_and_suspects_with_every_beat() {
        let others: Vec<QueueName> = (0..25).map(|n| name(&format!("q{n}"))).collect();
        let (mut watch, start) = (Watch::new(0xFFFF), Instant::now());
        let mut dead = Vec::new();
        for beat in 0..BEATS_PER_TURN * 3 {
            if watch.is_turn() {
                watch.suspect_some_of(&others);
            }
            assert!(watch.suspects.len() <= OTHERS + 1, "{:?}", watch.suspects);
            let at = start + BEAT * beat;
            let late_in = |queue: &QueueName| if *queue == others[7] { vec![late(1)] } else { Vec::new() };
            let looks = watch.suspects().iter().map(|queue| Look { queue: queue.clone(), at, late: late_in(queue) });
            dead.extend(watch.look(looks.collect(), LEASE));
        }
        assert!(dead.len() > 1, "it was looked at until somebody would have recovered it");
        watch.suspect_some_of(&[]);
    }

    /// When a server comes back, some connect again a little before the others. Meanwhile beats fail, at once or late.
    #[test]
    fn after_an_outage_of_a_lease_nobody_is_dead_for_another() {
        for failed_beats in [0, 12] {
            let (mut watch, start) = (Watch::default(), Instant::now());
            assert!(at_a(&mut watch, start, &[], LEASE).is_empty());
            for _ in 0..failed_beats {
                watch.missed_some();
                assert!(watch.look(Vec::new(), LEASE).is_empty());
            }
            let back = start + LEASE * 2;
            for beat in 0..6 {
                assert!(at_a(&mut watch, back + BEAT * beat, &[late(1)], LEASE).is_empty(), "{beat}");
            }
            assert_eq!(at_a(&mut watch, back + LEASE, &[late(1)], LEASE), [late(1)]);
        }
    }

    /// Short leases do not make connecting quicker.
    #[test]
    fn after_an_outage_everybody_has_the_time_to_connect_again_however_short_the_lease_is() {
        let lease = LEASE / 60;
        for gap in [lease * 20, lease * 9 / 10, lease / 2] {
            let (mut watch, start) = (Watch::default(), Instant::now());
            assert!(at_a(&mut watch, start, &[], lease).is_empty());
            watch.missed_some();
            let back = start + gap;
            for step in 0..119 {
                let at = back + lease * step / 6;
                assert!(at_a(&mut watch, at, &[late(1)], lease).is_empty(), "{gap:?}, {step}");
                // This one is new to us, and on the same server.
                let other = look("b", at, &[late(1)]);
                assert!(watch.look(vec![other], lease).is_empty(), "{gap:?}, {step}");
            }
            let both = ["a", "b"].map(|queue| look(queue, back + RECONNECTED, &[late(1)]));
            assert_eq!(watch.look(both.to_vec(), lease).len(), 2, "{gap:?}");
        }
    }

    /// In a cluster one node may be away while the others answer.
    #[test]
    fn an_outage_of_one_queue_gives_time_to_its_sessions_and_to_no_others() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let looks = |at, queues: &[&str]| queues.iter().map(|queue| look(queue, at, &[late(1)])).collect::<Vec<_>>();
        watch.suspect_some_of(&[name("suspect"), name("never-answers")]);
        assert!(watch.look(looks(start, &["own", "away", "suspect"]), LEASE).is_empty());
        assert_eq!(watch.suspects(), [name("suspect")]);
        for beat in 1..12 {
            let dead = watch.look(looks(start + BEAT * beat, &["own"]), LEASE);
            assert_eq!(dead.len(), usize::from(beat >= 2), "{beat}");
            assert_eq!(watch.suspects(), [name("suspect")], "is asked until it answers");
        }
        for beat in 12..18 {
            let dead = watch.look(looks(start + BEAT * beat, &["own", "away", "suspect"]), LEASE);
            assert_eq!(dead, [(name("own"), late(1))], "{beat}");
        }
        let dead = watch.look(looks(start + BEAT * 18, &["own", "away", "suspect"]), LEASE);
        assert_eq!(dead.len(), 3, "{dead:?}");
        assert!(watch.look(vec![look("suspect", start + BEAT * 19, &[])], LEASE).is_empty());
        assert!(watch.suspects().is_empty() && !watch.contacts.contains_key(&name("suspect")));
    }

    /// One answer that is lost on the way is no outage.
    #[test]
    fn a_beat_that_fails_puts_nothing_off() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(at_a(&mut watch, start, &[], LEASE).is_empty());
        assert!(at_a(&mut watch, start + BEAT * 4, &[], LEASE).is_empty());
        assert!(at_a(&mut watch, start + BEAT * 6, &[late(1)], LEASE).is_empty());
        watch.missed_some();
        assert!(watch.look(Vec::new(), LEASE).is_empty());
        assert_eq!(at_a(&mut watch, start + BEAT * 8, &[late(1)], LEASE), [late(1)]);
    }
}
