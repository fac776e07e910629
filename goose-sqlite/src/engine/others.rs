//! Noticing what other processes write.
//!
//! A commit of another process changes a counter in shared memory, `PRAGMA data_version`. Reading it takes about 2 µs;
//! waking up to do so takes 50 and more on an idle machine. So a waiting engine looks by the clock for a moment and
//! then asks to be told of writes to the log ([`LogWatch`]), where the operating system can. The news comes a
//! little before the commit can be seen: the looks after it come after 1, 2, 4, … ms.

use std::time::{Duration, Instant};

use super::Engine;
use super::log_watch::LogWatch;
use crate::options::Place;

/// How often to look by the clock: others' jobs must start within 20 ms.
const POLL: Duration = Duration::from_millis(14);

/// How many looks by the clock come before news is asked for: that costs a little with each write, which is wasted
/// while there is work. Because they are few, they may be close together.
const CALM: u32 = 3;
const POLL_UNTIL_CALM: Duration = Duration::from_millis(5);

/// The first look after news, and the longest time between two of them, in case news was missed: a commit that took
/// longer to reach the disk than all looks after its news.
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(250);

/// What is known of other processes' writes.
#[derive(Debug)]
pub(super) struct Others {
    /// The counter at the last look.
    data_version: i64,
    last_look: Instant,
    /// How many looks there were since something was done, or, once those are more than [`CALM`], since the last news.
    looks: u32,
    every: Duration,
    /// Whether there can be other processes.
    is_shared: bool,
    log: Option<LogWatch>,
}

impl Others {
    /// Begins to watch, on the thread that will look.
    pub(super) fn watch(place: &Place) -> Self {
        let log = match place {
            Place::File(path) => LogWatch::start(path, std::thread::current()),
            Place::Memory => None,
        };
        let is_shared = matches!(place, Place::File(_));
        Self { data_version: 0, last_look: Instant::now(), looks: 0, every: POLL, is_shared, log }
    }

    /// Something was done: more will come soon, look by the clock.
    pub(super) fn is_busy(&mut self) {
        self.looks = 0;
    }

    /// Decides when to look next.
    fn schedule(&mut self) {
        self.every = POLL;
        let Some(log) = &mut self.log else { return };
        if self.looks < CALM {
            self.every = POLL_UNTIL_CALM;
            return;
        }
        let has_news = log.has_news();
        let Some(only_now) = log.arm() else { return };
        if has_news || only_now {
            self.looks = CALM;
        }
        self.every = (FIRST * 2_u32.saturating_pow(self.looks - CALM)).min(LONGEST);
    }
}

impl Engine {
    /// How long until it is time to look, for an engine somebody waits on.
    pub(super) fn until_next_poll(&mut self) -> Duration {
        if !self.others.is_shared {
            return Duration::MAX;
        }
        self.others.schedule();
        self.others.every.saturating_sub(self.others.last_look.elapsed())
    }

    /// Looks, when it is time to and somebody waits.
    pub(super) fn notice_other_processes(&mut self) {
        let is_due = self.others.is_shared && self.others.last_look.elapsed() >= self.others.every;
        if !is_due || self.hungry().next().is_none() {
            return;
        }
        self.others.last_look = Instant::now();
        self.others.looks = self.others.looks.saturating_add(1);
        let read = || self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0));
        match read() {
            Ok(version) if version == self.others.data_version => {}
            Ok(version) => {
                self.others.data_version = version;
                self.look = true;
            }
            // Whoever waits is told by the claim that fails next.
            Err(_) => self.look = true,
        }
    }
}
