//! The fetches of a session that are on their way: more than one where jobs keep coming.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use goose_core::{BoxFuture, Result};

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

/// A call, which answers what it found, and the identity of the session that asked.
type Call<'a> = BoxFuture<'a, (String, Result<Found>)>;

/// The calls of a session that are on their way.
pub(crate) struct Calls<'a> {
    inner: &'a Inner,
    session: &'a Session,
    /// How many jobs each may bring, the first one first.
    under_way: VecDeque<(usize, Call<'a>)>,
    /// The last answer brought all that it might: there are more.
    is_flowing: bool,
    /// The most calls at once. On a cluster a fetch of several queues is several calls already.
    most: usize,
}

impl<'a> Calls<'a> {
    pub(crate) fn of(inner: &'a Inner, session: &'a Session) -> Self {
        let is_one_call = session.queues.len() == 1 || !inner.link.topology().is_cluster();
        let most = if is_one_call { UNDER_WAY } else { 1 };
        Self { inner, session, under_way: VecDeque::new(), is_flowing: false, most }
    }

    pub(crate) fn are_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Asks for what is wanted and not on its way yet; when that `must` be, also for nothing. Answers whether it still must:
    /// there may be no room for one more call.
    pub(crate) fn begin(&mut self, mut must: bool) -> bool {
        while self.under_way.len() < self.most {
            let coming: usize = self.under_way.iter().map(|(want, _)| want).sum();
            let mut missing = self.session.wanted().saturating_sub(coming).min(MOST);
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
            let call = async move {
                let id = session.id();
                (id, fetch(inner, session, missing).await)
            };
            self.under_way.push_back((missing, Box::pin(call)));
        }
        must
    }

    /// The next answer. Never comes when no call is on its way.
    pub(crate) async fn answer(&mut self) -> (String, Result<Found>) {
        let (n, answer) = poll_fn(|cx| {
            for (n, (_, call)) in self.under_way.iter_mut().enumerate() {
                if let Poll::Ready(answer) = call.as_mut().poll(cx) {
                    return Poll::Ready((n, answer));
                }
            }
            Poll::Pending
        })
        .await;
        let want = self.under_way.remove(n).map_or(0, |(want, _)| want);
        self.is_flowing = want > 0 && answer.1.as_ref().is_ok_and(|found| found.deliveries.len() >= want);
        answer
    }
}
