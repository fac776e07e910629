//! The names of every queue and exchange, and the addresses of messages.
//!
//! All lie below the prefix: `{prefix}/v1/…`. The version is that of the layout: arguments of queues cannot be changed, so
//! another layout takes other names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goose_core::{JobId, QueueName};

use crate::amqp::Outgoing;
use crate::delay::{LEVELS, Path};
use crate::message::CopyId;

/// Names of everything, below the prefix. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// `{prefix}/v1`.
    root: Arc<str>,
    /// The default exchange, which routes to the queue named by the key.
    default_exchange: Arc<str>,
    /// The exchange of each level: shared by all messages.
    levels: Arc<[Arc<str>]>,
    /// The exchange that leads to the journal and to everything else.
    journal: Arc<str>,
    /// Whether there is a journal.
    is_journaled: Arc<AtomicBool>,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        let root: Arc<str> = format!("{prefix}/v1").into();
        let levels = (0..LEVELS).map(|level| format!("{root}/delay/{level:02}").into()).collect();
        let journal = format!("{root}/journal").into();
        Self { root, default_exchange: "".into(), levels, journal, is_journaled: Arc::default() }
    }

    /// The ready queue of a queue.
    pub(crate) fn ready(&self, queue: &QueueName) -> String {
        format!("{}/queue/{queue}", self.root)
    }

    /// The queue that a ready queue belongs to.
    pub(crate) fn queue_of_ready(&self, ready: &str) -> Option<QueueName> {
        let name = ready.strip_prefix(&*self.root)?.strip_prefix("/queue/")?;
        QueueName::new(name).ok()
    }

    /// The exchange and the queue of a level, both. Levels are counted from 0.
    pub(crate) fn level(&self, level: u32) -> String {
        format!("{}/delay/{level:02}", self.root)
    }

    /// Where what left the cascade is sent to its queue.
    pub(crate) fn due(&self) -> String {
        format!("{}/due", self.root)
    }

    /// Exchange and queue of what could not be routed.
    pub(crate) fn unroutable(&self) -> String {
        format!("{}/unroutable", self.root)
    }

    /// The stream of the control log.
    pub(crate) fn log(&self) -> String {
        format!("{}/log", self.root)
    }

    /// The stream of dead jobs.
    pub(crate) fn dead(&self) -> String {
        format!("{}/dead", self.root)
    }

    /// The stream of the journal, and the exchange through which messages come both there and to their queues.
    pub(crate) fn journal(&self) -> &str {
        &self.journal
    }

    /// Whether there is a journal, as far as is known on this connection.
    pub(crate) fn is_journaled(&self) -> bool {
        self.is_journaled.load(Ordering::Acquire)
    }

    pub(super) fn set_journaled(&self, is_journaled: bool) {
        self.is_journaled.store(is_journaled, Ordering::Release);
    }

    /// Names the messages that go through the journal, see [`CopyId`]. Nothing where there is none.
    pub(crate) fn stamp(&self, messages: &mut [Outgoing]) {
        if self.is_journaled() {
            messages.iter_mut().filter(|message| message.exchange == self.journal).for_each(CopyId::stamp);
        }
    }

    /// The exchange through which a quorum queue sends what it gives up to the dead.
    pub(crate) fn dead_letters(&self) -> String {
        format!("{}/dead-letters", self.root)
    }

    /// The queue of the lease of a job that takes long, see `session::lease`. No two leases have the same number.
    pub(crate) fn lease(&self, job: JobId, number: u32) -> String {
        format!("{}/lease/{job}/{number}", self.root)
    }

    /// Whether a queue is that of a lease.
    pub(crate) fn is_lease(&self, queue: &str) -> bool {
        queue.strip_prefix(&*self.root).is_some_and(|name| name.starts_with("/lease/"))
    }

    /// The routing key of a message for this queue that has come to [`due`](Self::due).
    pub(crate) fn key_when_due(&self, queue: &QueueName) -> String {
        word(queue)
    }

    /// Addresses a message: exchange and routing key for this path to this queue.
    pub(crate) fn address(&self, queue: &QueueName, path: Path) -> (Arc<str>, String) {
        let highest = match path {
            Path::Straight { .. } => None,
            Path::Levels { levels, .. } => levels.checked_ilog2().map(|level| (level, levels)),
        };
        let is_journaled = self.is_journaled();
        let Some((level, levels)) = highest else {
            return if is_journaled {
                (Arc::clone(&self.journal), word(queue))
            } else {
                (Arc::clone(&self.default_exchange), self.ready(queue))
            };
        };
        let exchange = usize::try_from(level).ok().and_then(|level| self.levels.get(level)).filter(|_| !is_journaled);
        let exchange = exchange.unwrap_or(if is_journaled { &self.journal } else { &self.default_exchange });
        (Arc::clone(exchange), routing_key(levels, queue))
    }

    /// The queue that a message is for, by its [`address`](Self::address).
    pub(crate) fn queue_of(&self, exchange: &str, key: &str) -> Option<QueueName> {
        if exchange.is_empty() {
            return self.queue_of_ready(key);
        }
        // The last word, or the only one.
        let address = key.rsplit_once('.').map_or(key, |(_bits, address)| address);
        QueueName::new(address.replace(DOT, ".")).ok()
    }
}

/// Stands for the dots of a queue name in a routing key, where a dot separates words. It is in no queue name, so that two
/// names never meet; and it is one byte, so that the longest name of all dots still fits into the 255 bytes of a key.
const DOT: &str = "/";

/// The one word of a queue in routing keys. Letters, digits, `_`, `-` and dots are all there is in queue names, so `*` and
/// `#` need no cover.
fn word(queue: &QueueName) -> String {
    queue.as_str().replace('.', DOT)
}

/// One word of `0` or `1` for each level, the highest first, and the word of the queue.
fn routing_key(levels: u32, queue: &QueueName) -> String {
    let mut key = String::with_capacity(2 * 32 + queue.as_str().len());
    for level in (0..LEVELS).rev() {
        key.push(if levels >> level & 1 == 1 { '1' } else { '0' });
        key.push('.');
    }
    key + &word(queue)
}

/// What a level takes in: all messages whose word for it is this one.
pub(super) fn pattern_of_level(level: u32, bit: char) -> String {
    let above = usize::try_from(LEVELS - 1 - level).unwrap_or(0);
    format!("{}{bit}.#", "*.".repeat(above))
}

/// What the exchange of the journal sends to the exchange of a level: all messages whose highest level it is. They have a word for
/// each level below and one for their queue, other than the messages that are not delayed, which have just the one.
pub(super) fn pattern_of_highest_level(level: u32) -> String {
    let above = usize::try_from(LEVELS - 1 - level).unwrap_or(0);
    format!("{}1.*.#", "0.".repeat(above))
}

/// What the exchange of the journal sends to a ready queue: what is not delayed.
pub(super) fn key_of_queue(queue: &QueueName) -> String {
    word(queue)
}

/// What the exchange of due jobs sends to a queue.
pub(super) fn pattern_of_queue(queue: &QueueName) -> String {
    format!("#.{}", word(queue))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::delay::{Precision, path};

    /// As topic exchanges match: `*` is one word, `#` any number of them.
    fn matches(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => (0..=key.len()).any(|skip| matches(rest, &key[skip..])),
            (["*", pattern @ ..], [_, key @ ..]) => matches(pattern, key),
            ([word, pattern @ ..], [other, key @ ..]) => word == other && matches(pattern, key),
            _ => false,
        }
    }

    fn is_match(pattern: &str, key: &str) -> bool {
        matches(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>())
    }

    fn levels(levels: u32) -> Path {
        Path::Levels { levels, hold: Duration::ZERO, goes_on: false }
    }

    /// Walks a message through the cascade as the server would: the levels whose queues it lies in, in order.
    fn walk(names: &Names, queue: &QueueName, path: Path) -> Vec<u32> {
        let (exchange, key) = names.address(queue, path);
        let mut at = (0..LEVELS).rev().find(|level| names.level(*level) == *exchange);
        let mut hops = Vec::new();
        while let Some(level) = at {
            let [held, passed] = ['1', '0'].map(|bit| is_match(&pattern_of_level(level, bit), &key));
            assert_ne!(held, passed, "level {level} either holds {key} or lets it pass");
            hops.extend(held.then_some(level));
            at = level.checked_sub(1);
        }
        hops
    }

    #[test]
    fn the_default_exchange_leads_straight_to_the_ready_queue() {
        let names = Names::new("shop");
        let queue = QueueName::new("mail.high").unwrap();
        let straight = names.address(&queue, Path::Straight { hold: Duration::ZERO });
        assert_eq!(straight, ("".into(), "shop/v1/queue/mail.high".to_owned()));
        assert_eq!(names.queue_of(&straight.0, &straight.1), Some(queue));
        assert_eq!(names.level(7), "shop/v1/delay/07");
        assert_eq!(names.queue_of_ready("other/v1/queue/mail"), None);
    }

    #[test]
    fn names_that_are_no_queues_of_jobs_are_not_taken_for_some_whatever_the_prefix() {
        for prefix in ["goose", "shop.eu", "a.b.c"] {
            let names = Names::new(prefix);
            let mail = QueueName::new("mail.to").unwrap();
            for name in [names.log(), names.dead(), names.unroutable(), names.lease(JobId::new(), 7)] {
                assert_eq!(names.queue_of("", &name), None, "{name}");
            }
            for path in [Path::NOW, levels(5)] {
                let (exchange, key) = names.address(&mail, path);
                assert_eq!(names.queue_of(&exchange, &key), Some(mail.clone()), "{key}");
            }
        }
    }

    #[test]
    fn names_and_keys_fit_however_long_the_queue() {
        let longest = [".".repeat(120), "x".repeat(120)].map(|name| QueueName::new(name).unwrap());
        let names = Names::new(&"p".repeat(60));
        for queue in &longest {
            for (exchange, key) in [levels(u32::MAX), levels(1)].map(|path| names.address(queue, path)) {
                assert!(key.len() <= 255 && exchange.len() <= 255, "{} bytes: {key}", key.len());
            }
            assert!(names.ready(queue).len() <= 255 && pattern_of_queue(queue).len() <= 255);
        }
        assert!(pattern_of_level(0, '0').len() <= 255);
    }

    #[test]
    fn a_queue_gets_what_is_for_it_and_for_nobody_else() {
        let queues = ["a", "1", "0", "b.a", "a.b", ".a", "a.", "..", ".", "a-b", "a_b", "1.1"];
        let queues = queues.map(|name| QueueName::new(name).unwrap());
        let names = Names::new("goose");
        for to in &queues {
            let (_, key) = names.address(to, levels(0b1011));
            assert_eq!(names.queue_of("x", &key).as_ref(), Some(to));
            let got: Vec<_> = queues.iter().filter(|queue| is_match(&pattern_of_queue(queue), &key)).collect();
            assert_eq!(got, [to]);
        }
    }

    #[test]
    fn the_exchange_of_the_journal_leads_where_the_others_do() {
        let names = Names::new("goose");
        names.set_journaled(true);
        let queues = ["a", "1", "0", "b.a", "1.1", "0.1"].map(|name| QueueName::new(name).unwrap());
        for to in &queues {
            for levels in [0, 1, 0b1011, 1 << 31, u32::MAX] {
                let hold = Duration::ZERO;
                let path = if levels == 0 { Path::NOW } else { Path::Levels { levels, hold, goes_on: false } };
                let (exchange, key) = names.address(to, path);
                assert_eq!((&*exchange, names.queue_of(&exchange, &key).as_ref()), ("goose/v1/journal", Some(to)));
                let straight: Vec<_> = queues.iter().filter(|queue| is_match(&key_of_queue(queue), &key)).collect();
                let through: Vec<_> =
                    (0..LEVELS).filter(|level| is_match(&pattern_of_highest_level(*level), &key)).collect();
                match levels.checked_ilog2() {
                    None => assert_eq!((straight, through), (vec![to], vec![])),
                    Some(highest) => assert_eq!((straight, through), (vec![], vec![highest])),
                }
            }
        }
        assert!(pattern_of_highest_level(0).len() <= 255);
    }

    #[test]
    fn only_messages_of_the_journal_are_named_each_by_another_name() {
        let names = Names::new("goose");
        let message = |exchange: &str| Outgoing {
            exchange: exchange.into(),
            routing_key: "a".to_owned(),
            message_id: "1".to_owned(),
            priority: 0,
            headers: Default::default(),
            body: Arc::from(&b"x"[..]),
        };
        let mut messages = [message("goose/v1/journal"), message("goose/v1/journal"), message("")];
        names.stamp(&mut messages);
        assert!(messages.iter().all(|message| CopyId::of(message).is_none()));
        names.set_journaled(true);
        names.stamp(&mut messages);
        let copies: Vec<_> = messages.iter().map(CopyId::of).collect();
        assert!(copies[0].is_some() && copies[0] != copies[1] && copies[2].is_none(), "{copies:?}");
    }

    proptest! {
        #[test]
        fn a_message_lies_in_the_levels_of_its_delay(bits in 0_u32..37, low in any::<u64>(), queue in "[a-z01.]{1,9}") {
            let names = Names::new("goose");
            let queue = QueueName::new(queue).unwrap();
            let delay = Duration::from_millis((1 << bits) | (low & ((1 << bits) - 1)));
            let path = path(delay, Precision::Exact, Duration::from_millis(2));
            let expected: Vec<u32> = match path {
                Path::Straight { .. } => Vec::new(),
                Path::Levels { levels, .. } => (0..LEVELS).rev().filter(|level| levels >> level & 1 == 1).collect(),
            };
            prop_assert_eq!(walk(&names, &queue, path), expected);
        }
    }
}
