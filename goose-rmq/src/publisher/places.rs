//! What is under way to each place, so that one that says nothing holds nobody else up.
//!
//! A place is a queue, or an exchange of the cascade. A queue that has lost its majority takes messages in and says nothing. Its
//! messages would fill the window of its channel, and the next one under an id that is still without a word would stop the
//! channel altogether. So what cannot go out is set aside, each place for itself, and the others go on; and what a
//! place has that is stuck does not count in the window.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::request::Request;
use crate::amqp::Outgoing;

/// A place is stuck when something is under way to it and nothing was heard of any for so long. It is sent nothing more then.
pub(super) const STUCK: Duration = Duration::from_secs(1);

/// When so many places are known, those with nothing under way are forgotten.
const KNOWN: usize = 1_024;

/// All places with something under way or set aside, and some more.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: HashMap<Arc<str>, Place>,
    /// Those where something is set aside, the longest first.
    waiting: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Place {
    /// Under way, without what was given up.
    live: usize,
    /// When there was word on something last, or since when something is under way.
    heard: Instant,
    /// Something was given up, and there was no word on anything since: one at a time is sent, to see.
    is_doubtful: bool,
    aside: VecDeque<Request>,
}

impl Place {
    fn is_stuck(&self, now: Instant) -> bool {
        self.live > 0 && now.saturating_duration_since(self.heard) >= STUCK
    }

    fn takes_more(&self, now: Instant) -> bool {
        self.live == 0 || !(self.is_doubtful || self.is_stuck(now))
    }
}

/// The queue that takes it in or refuses it, or the exchange behind which there are some.
pub(super) fn place(message: &Outgoing) -> &str {
    if message.exchange.is_empty() { &message.routing_key } else { &message.exchange }
}

impl Places {
    /// Whether a message may go out, as far as its place is concerned.
    fn takes(&self, message: &Outgoing, now: Instant) -> bool {
        self.known.get(place(message)).is_none_or(|place| place.aside.is_empty() && place.takes_more(now))
    }

    /// A message goes out; returns its place.
    pub(super) fn sent(&mut self, message: &Outgoing, now: Instant) -> Arc<str> {
        let (name, place) = self.entry(place(message), now);
        if place.live == 0 {
            place.heard = now;
        }
        place.live += 1;
        name
    }

    /// There is word on a message, or none will come any more. `is_late` if it was given up before.
    pub(super) fn heard(&mut self, place: &str, is_late: bool, now: Instant) {
        let Some(place) = self.known.get_mut(place) else { return };
        (place.heard, place.is_doubtful) = (now, false);
        if !is_late {
            place.live = place.live.saturating_sub(1);
        }
    }

    /// A message had no word in time.
    pub(super) fn gave_up(&mut self, place: &str) {
        let Some(place) = self.known.get_mut(place) else { return };
        place.is_doubtful = true;
        place.live = place.live.saturating_sub(1);
    }

    /// Nothing is under way any more.
    pub(super) fn begin_again(&mut self) {
        for place in self.known.values_mut() {
            (place.live, place.is_doubtful) = (0, false);
        }
    }

    /// How many are under way to places that are stuck.
    pub(super) fn stuck(&self, now: Instant) -> usize {
        self.known.values().filter(|place| place.is_stuck(now)).map(|place| place.live).sum()
    }

    /// When the next place will be stuck.
    pub(super) fn stuck_at(&self, now: Instant) -> Option<Instant> {
        let live = self.known.values().filter(|place| place.live > 0 && !place.is_stuck(now));
        live.map(|place| place.heard + STUCK).min()
    }

    fn set_aside(&mut self, request: Request, now: Instant) {
        let (name, place) = self.entry(place(&request.message), now);
        place.aside.push_back(request);
        if place.aside.len() == 1 {
            self.waiting.push_back(name);
        }
    }

    /// Takes one back that is older than what is set aside; gives it back if nothing is there.
    fn put_first(&mut self, request: Request) -> Option<Request> {
        match self.known.get_mut(place(&request.message)) {
            Some(place) if !place.aside.is_empty() => {
                place.aside.push_front(request);
                None
            }
            _ => Some(request),
        }
    }

    /// The first that is set aside and for which this holds, of each place only the first.
    fn take_first(&mut self, mut may: impl FnMut(&Request, bool) -> bool, now: Instant) -> Option<Request> {
        let index = self.waiting.iter().position(|name| {
            let place = self.known.get(name);
            place.is_some_and(|place| place.aside.front().is_some_and(|request| may(request, place.takes_more(now))))
        })?;
        let name = self.waiting.get(index)?;
        let aside = &mut self.known.get_mut(name)?.aside;
        let request = aside.pop_front();
        if aside.is_empty() {
            self.waiting.remove(index);
        }
        request
    }

    /// The first that are set aside, one of each place.
    pub(super) fn first_aside(&self) -> impl Iterator<Item = &Request> {
        self.waiting.iter().filter_map(|name| self.known.get(name)?.aside.front())
    }

    /// Takes out the first of a place that has waited long enough.
    pub(super) fn take_expired(&mut self, is_over: impl Fn(&Request) -> bool, now: Instant) -> Option<Request> {
        self.take_first(|request, _| is_over(request), now)
    }

    /// Takes out everything that is set aside.
    pub(super) fn take_aside(&mut self) -> Vec<Request> {
        self.waiting.clear();
        self.known.values_mut().flat_map(|place| place.aside.drain(..)).collect()
    }

    pub(super) fn is_anything_aside(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn entry(&mut self, name: &str, now: Instant) -> (Arc<str>, &mut Place) {
        let known = self.known.get_key_value(name).map(|(name, _)| Arc::clone(name));
        let name = known.unwrap_or_else(|| {
            if self.known.len() >= KNOWN {
                self.known.retain(|_, place| place.live > 0 || place.is_doubtful || !place.aside.is_empty());
            }
            name.into()
        });
        let new = || Place { live: 0, heard: now, is_doubtful: false, aside: VecDeque::new() };
        let place = self.known.entry(Arc::clone(&name)).or_insert_with(new);
        (name, place)
    }
}

impl Actor {
    /// The next message that may go out. Never one under an id that is under way, for what comes back is told by its id.
    /// `look_aside` is false once there is nothing aside that may.
    pub(super) fn next_to_send(&mut self, look_aside: &mut bool, now: Instant) -> Option<Request> {
        let ids: &HashSet<Arc<str>> = &self.ids;
        let is_free = |request: &Request| !ids.contains(request.message.message_id.as_str());
        if *look_aside {
            let request = self.places.take_first(|request, takes_more| takes_more && is_free(request), now);
            *look_aside = request.is_some();
            if request.is_some() {
                return request;
            }
        }
        while let Some(request) = self.queue.pop_front() {
            if self.places.takes(&request.message, now) && is_free(&request) {
                return Some(request);
            }
            self.places.set_aside(request, now);
        }
        None
    }

    /// Whether the window is full of what can be expected to end soon.
    pub(super) fn is_window_full(&self, now: Instant) -> bool {
        let (live, window) = (self.flights.len() - self.stragglers, self.pace.window());
        live >= window && live.saturating_sub(self.places.stuck(now)) >= window
    }

    /// Lets one go out again before all others of its place.
    pub(super) fn put_first(&mut self, request: Request) {
        if let Some(request) = self.places.put_first(request) {
            self.queue.push_front(request);
        }
    }

    pub(super) fn is_anything_waiting(&self) -> bool {
        !self.queue.is_empty() || self.places.is_anything_aside()
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::batch;
    use super::*;
    use crate::amqp::Table;

    fn request(exchange: &str, key: &str) -> Request {
        let message = Outgoing {
            exchange: exchange.into(),
            routing_key: key.to_owned(),
            message_id: "1".to_owned(),
            priority: 0,
            headers: Table::new(),
            body: Arc::from(*b"x"),
        };
        batch(vec![message]).0.pop().unwrap()
    }

    #[test]
    fn a_place_without_a_word_is_stuck_and_the_others_are_not() {
        let (mut places, now) = (Places::default(), Instant::now());
        let (a, b) = (request("", "a"), request("delay", "b"));
        for request in [&a, &a, &b] {
            assert!(places.takes(&request.message, now));
            places.sent(&request.message, now);
        }
        assert_eq!((places.stuck(now), places.stuck_at(now)), (0, Some(now + STUCK)));
        let half = now + STUCK / 2;
        places.heard("delay", false, half);
        let later = now + STUCK;
        assert_eq!((places.stuck(later), places.stuck_at(later)), (2, None));
        assert!(!places.takes(&a.message, later) && places.takes(&b.message, later));
        // Any word will do.
        places.heard("a", false, later);
        assert!(places.takes(&a.message, later));
        // One that was given up: one at a time, until there is word.
        places.gave_up("a");
        assert!(places.takes(&a.message, later));
        places.sent(&a.message, later);
        assert!(!places.takes(&a.message, later));
        places.heard("a", true, later);
        assert!(places.takes(&a.message, later) && places.known["a"].live == 1);
    }

    #[test]
    fn what_is_aside_keeps_its_order_and_no_place_waits_for_another() {
        let (mut places, now) = (Places::default(), Instant::now());
        for key in ["a", "b", "a"] {
            places.set_aside(request("", key), now);
        }
        assert!(!places.takes(&request("", "b").message, now), "it would overtake");
        assert!(places.put_first(request("", "c")).is_some());
        assert!(places.put_first(request("", "b")).is_none());
        let keys = |places: &mut Places, without: &str| {
            let all =
                std::iter::from_fn(|| places.take_first(|request, _| request.message.routing_key != without, now));
            all.map(|request| request.message.routing_key.clone()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&mut places, "a"), ["b", "b"]);
        assert_eq!(places.first_aside().count(), 1);
        assert_eq!(keys(&mut places, "b"), ["a", "a"]);
        assert!(!places.is_anything_aside());
    }

    #[test]
    fn places_are_not_kept_for_ever() {
        let (mut places, now) = (Places::default(), Instant::now());
        for n in 0..3 * KNOWN {
            let place = places.sent(&request("", &n.to_string()).message, now);
            places.heard(&place, false, now);
        }
        assert!(places.known.len() <= KNOWN, "{}", places.known.len());
    }
}
