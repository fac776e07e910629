//! Dividing a fetch among the queues of a set.

use super::QueueSet;

/// Says how many jobs of each fetch come from which queue of a set.
///
/// A strict set lets every queue give everything; the broker asks them in order. A weighted set is divided
/// by smooth weighted round robin (the algorithm of nginx's upstream module): over any stretch of fetches, however
/// small each is, a queue of weight *w* gets its *w* parts of the sum, so none starves.
///
/// ```
/// use goose_core::broker::{QueueSet, Shares};
///
/// let mut shares = Shares::of(&QueueSet::weighted([("mail", 3), ("reports", 1)])?);
/// assert_eq!(shares.next(8), [6, 2]);
/// assert_eq!((shares.next(1), shares.next(1), shares.next(2)), (vec![1, 0], vec![1, 0], vec![1, 1]));
/// # Ok::<(), goose_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Shares {
    weights: Vec<i64>,
    credits: Vec<i64>,
    strict: bool,
}

impl Shares {
    /// The shares of a set, with nobody in debt.
    #[must_use]
    pub fn of(set: &QueueSet) -> Self {
        let weights: Vec<i64> = set.iter().map(|(_, weight)| weight.get().into()).collect();
        Self { credits: vec![0; weights.len()], weights, strict: set.is_strict() }
    }

    /// How many of `total` jobs each queue may give, in the order of the set. A weighted set's parts sum up
    /// to `total`; what a queue cannot fill is for the others, in order.
    #[must_use]
    pub fn next(&mut self, total: usize) -> Vec<usize> {
        if self.strict {
            return vec![total; self.weights.len()];
        }
        let sum: i64 = self.weights.iter().sum();
        let whole_rounds = i64::try_from(total).unwrap_or(i64::MAX) / sum.max(1);
        let parts = self.weights.iter().map(|weight| whole_rounds.saturating_mul(*weight));
        let mut parts: Vec<usize> = parts.map(|part| usize::try_from(part).unwrap_or(0)).collect();
        let rest = total.saturating_sub(parts.iter().sum());
        for _ in 0..rest {
            if let Some(next) = self.pick(sum) {
                parts[next] += 1;
            }
        }
        parts
    }

    /// Everyone earns their weight, the richest is served and pays the sum.
    fn pick(&mut self, sum: i64) -> Option<usize> {
        for (credit, weight) in self.credits.iter_mut().zip(&self.weights) {
            *credit += weight;
        }
        // Of equals the first in the set is served, hence the reversal: `max_by_key` prefers the last.
        let richest = (0..self.credits.len()).rev().max_by_key(|i| self.credits[*i])?;
        self.credits[richest] -= sum;
        Some(richest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn single_fetches_starve_nobody() {
        let mut shares = Shares::of(&QueueSet::weighted([("a", 100), ("b", 1)]).unwrap());
        let served: usize = (0..202).map(|_| shares.next(1)[1]).sum();
        assert_eq!(served, 2);
    }

    proptest! {
        #[test]
        fn parts_sum_up_and_follow_the_weights(
            weights in prop::collection::vec(1_u32..1000, 1..8),
            fetches in prop::collection::vec(1_usize..500, 1..50),
        ) {
            let set = QueueSet::weighted(weights.iter().enumerate().map(|(i, w)| (format!("q{i}"), *w))).unwrap();
            let mut shares = Shares::of(&set);
            let mut served = vec![0; weights.len()];
            for total in &fetches {
                let parts = shares.next(*total);
                prop_assert_eq!(parts.iter().sum::<usize>(), *total);
                served.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
            }
            let (all, sum) = (fetches.iter().sum::<usize>() as f64, weights.iter().sum::<u32>() as f64);
            for (got, weight) in served.iter().zip(&weights) {
                let fair = all * f64::from(*weight) / sum;
                prop_assert!((*got as f64 - fair).abs() <= weights.len() as f64, "{got} instead of {fair}");
            }
        }
    }
}
