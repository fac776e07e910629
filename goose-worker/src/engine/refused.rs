//! Ends that the broker does not take: kept apart, and told again one by one, slowly and for ever.

use std::time::Duration;

use goose_core::Backoff;
use goose_core::broker::Settlement;
use tokio::time::Instant;

use super::ended::Report;

/// How many there may be before the settler takes no more ends, and hands begin to wait.
pub(crate) const MOST: usize = 1024;

/// The pause when the worker stops: there is little time left.
const HURRIED_PAUSE: Duration = Duration::from_millis(100);

/// All such ends of a pool. Each holds a claim, which nobody else can take while this session lives.
#[derive(Debug, Default)]
pub(crate) struct Refused(Vec<RefusedEnd>);

/// One of them.
#[derive(Debug)]
pub(crate) struct RefusedEnd {
    pub(crate) settlement: Settlement,
    pub(crate) report: Report,
    refusals: u32,
    due: Instant,
}

impl Refused {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps an end that was refused just now.
    pub(crate) fn add(&mut self, settlement: Settlement, report: Report) {
        let mut end = RefusedEnd { settlement, report, refusals: 0, due: Instant::now() };
        end.put_off(false);
        self.0.push(end);
    }

    /// When the next end is to be told again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.iter().map(|end| end.due).min()
    }

    /// An end that is to be told again now, and its place.
    pub(crate) fn due(&mut self) -> Option<(usize, &mut RefusedEnd)> {
        let now = Instant::now();
        self.0.iter_mut().enumerate().find(|(_, end)| end.due <= now)
    }

    /// Takes an end out: the broker has taken it at last, or the session is gone.
    pub(crate) fn remove(&mut self, place: usize) -> RefusedEnd {
        self.0.swap_remove(place)
    }

    /// Makes all ends due, for the worker stops.
    pub(crate) fn hurry(&mut self) {
        let now = Instant::now();
        self.0.iter_mut().for_each(|end| end.due = now);
    }
}

impl RefusedEnd {
    /// It was refused again: half a second at first, at most thirty.
    pub(crate) fn put_off(&mut self, hurried: bool) {
        let pauses =
            Backoff::Exponential { base: Duration::from_millis(350), cap: Duration::from_secs(20), jitter: 0.5 };
        let pause = if hurried { HURRIED_PAUSE } else { pauses.delay(self.refusals) };
        self.refusals = self.refusals.saturating_add(1);
        self.due = Instant::now() + pause;
    }
}

#[cfg(test)]
mod tests {
    use goose_core::broker::{Receipt, Verdict};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_half_a_minute_and_end_when_there_is_hurry() {
        let mut refused = Refused::default();
        refused.add(Settlement::new(Receipt::new([1; 4]), Verdict::Release), Report::Unwound);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            assert!(refused.due().is_none());
            let pause = refused.next_due().unwrap() - Instant::now();
            pauses.push(pause.as_secs_f64());
            tokio::time::advance(pause).await;
            refused.due().unwrap().1.put_off(false);
        }
        assert!((0.35..=0.6).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| (20.0..=30.1).contains(pause)), "{pauses:?}");
        refused.hurry();
        let (place, end) = refused.due().unwrap();
        end.put_off(true);
        assert_eq!(refused.next_due(), Some(Instant::now() + HURRIED_PAUSE));
        refused.remove(place);
        assert!(refused.is_empty() && refused.next_due().is_none());
    }
}
