//! The fetches of a session that are on their way: more than one where jobs keep coming.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use goose_core::{BoxFuture, ErrorKind, Result};

use crate::broker::Inner;
use crate::fetch::{Found, fetch};
use crate::session::Session;

/// The most jobs of one script call. Twice as many in half as many calls are slower: the server is idle while they are
/// read, and who reads them while they come.
const MOST: usize = 250;

/// How many calls may be on their way at once: the server works on one while the jobs of another are read and begun.
const UNDER_WAY: usize = 3;

/// The fewest jobs that are worth a further call, and so many that they are better asked for in two.
const FEW: usize = 8;
const MANY: usize = 32;

/// A call, how many jobs it may bring, and since when it is on its way.
struct Call<'a> {
    want: usize,
    since: Instant,
    answer: BoxFuture<'a, Result<Found>>,
}

/// The calls of a session that are on their way.
pub(crate) struct Calls<'a> {
    inner: &'a Inner,
    session: &'a Session,
    /// The first one first.
    under_way: VecDeque<Call<'a>>,
    /// The last answer brought all that it might: there are more.
    is_flowing: bool,
    /// The most calls at once. On a cluster a fetch of several queues is several calls already.
    most: usize,
    pace: Pace,
}

/// How many jobs to ask for in one call: fewer after an answer that did not come in time, for the link may be too slow for
/// large jobs, and more again when answers are quick.
#[derive(Debug)]
struct Pace {
    at_most: usize,
    /// How long a call may take. An answer is quick when it comes within a quarter of that.
    limit: Duration,
}

impl Pace {
    fn new(limit: Duration) -> Self {
        Self { at_most: MOST, limit }
    }

    /// Several calls at once would take each other's share of the link.
    fn is_slow(&self) -> bool {
        self.at_most < MOST
    }

    /// Nobody knows what came of a call. That it broke early says nothing of the link's pace.
    fn failed(&mut self, want: usize, after: Duration) {
        let fewer = (want / 2).max(1);
        if fewer < self.at_most && after >= self.limit * 3 / 4 {
            self.at_most = fewer;
            tracing::warn!(
                asked_for = want,
                now = fewer,
                "no answer to a fetch in time, asking for fewer jobs at once"
            );
        }
    }

    fn answered(&mut self, want: usize, brought: usize, after: Duration) {
        if self.is_slow() && brought > 0 && brought >= want && after <= self.limit / 4 {
            self.at_most = (self.at_most * 2).min(MOST);
        }
    }
}

impl<'a> Calls<'a> {
    pub(crate) fn of(inner: &'a Inner, session: &'a Session) -> Self {
        let is_one_call = session.queues.len() == 1 || !inner.link.topology().is_cluster();
        let most = if is_one_call { UNDER_WAY } else { 1 };
        let pace = Pace::new(inner.options.command_timeout);
        Self { inner, session, under_way: VecDeque::new(), is_flowing: false, most, pace }
    }

    /// Whether each call asks all queues, so that one worker can be relied on to wake at the time of the next due job.
    pub(crate) fn are_of_all_queues(&self) -> bool {
        self.most > 1
    }

    pub(crate) fn are_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Asks for what is wanted and not on its way yet; when that `must` be, also for nothing. Answers whether it still must:
    /// there may be no room for one more call.
    pub(crate) fn begin(&mut self, mut must: bool) -> bool {
        while self.under_way.len() < if self.pace.is_slow() { 1 } else { self.most } {
            let coming: usize = self.under_way.iter().map(|call| call.want).sum();
            let mut missing = self.session.wanted().saturating_sub(coming).min(self.pace.at_most);
            let is_worth_it = match self.under_way.len() {
                0 => missing > 0,
                _ => self.is_flowing && missing >= FEW,
            };
            if !must && !is_worth_it {
                break;
            }
            if self.under_way.is_empty() && self.is_flowing && self.most > 1 && missing >= MANY {
                missing = missing.div_ceil(2);
            }
            must = false;
            let (inner, session) = (self.inner, self.session);
            let answer = Box::pin(fetch(inner, session, missing));
            self.under_way.push_back(Call { want: missing, since: Instant::now(), answer });
        }
        must
    }

    /// The next answer. Never comes when no call is on its way.
    pub(crate) async fn answer(&mut self) -> Result<Found> {
        let (n, answer) = poll_fn(|cx| {
            for (n, call) in self.under_way.iter_mut().enumerate() {
                if let Poll::Ready(answer) = call.answer.as_mut().poll(cx) {
                    return Poll::Ready((n, answer));
                }
            }
            Poll::Pending
        })
        .await;
        let (want, after) =
            self.under_way.remove(n).map_or_else(Default::default, |call| (call.want, call.since.elapsed()));
        let brought = answer.as_ref().map_or(0, |found| found.deliveries.len());
        match &answer {
            Ok(_) => self.pace.answered(want, brought, after),
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => self.pace.failed(want, after),
            Err(_) => {}
        }
        self.is_flowing = want > 0 && brought >= want;
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_are_asked_for_after_a_time_out_and_more_after_quick_answers() {
        let (limit, mut pace) = (Duration::from_secs(10), Pace::new(Duration::from_secs(10)));
        pace.failed(25, limit / 2);
        assert!(!pace.is_slow(), "a broken connection is no slow one");
        for fewer in [12, 6, 3, 1, 1] {
            pace.failed((fewer * 2).max(2), limit);
            assert_eq!((pace.at_most, pace.is_slow()), (fewer, true));
        }
        pace.answered(1, 1, limit / 2);
        pace.answered(1, 0, Duration::ZERO);
        assert_eq!(pace.at_most, 1, "an answer that took long, and an empty one, say nothing");
        for more in [2, 4, 8, 16, 32, 64, 128, MOST, MOST] {
            pace.answered(pace.at_most, pace.at_most, limit / 8);
            assert_eq!(pace.at_most, more);
        }
        assert!(!pace.is_slow());
    }
}
