//! Randomness without a dependency: SipHash keyed by the operating system, used as a counter-mode generator.
//!
//! Good enough for identifiers that must not collide and for retry jitter; not for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

thread_local! {
    // `RandomState` takes its key from the operating system, once per thread. Hashing a counter under
    // that key yields numbers no other thread or process repeats.
    static SOURCE: (RandomState, Cell<u64>) = (RandomState::new(), const { Cell::new(0) });
}

/// Sixty-four random bits.
pub(crate) fn bits() -> u64 {
    SOURCE.with(|(key, counter)| {
        let n = counter.get().wrapping_add(1);
        counter.set(n);
        let mut hasher = key.build_hasher();
        hasher.write_u64(n);
        hasher.finish()
    })
}

/// A number in `0.0..1.0`.
pub(crate) fn unit() -> f64 {
    // 32 bits convert to f64 without loss, which is all that jitter needs.
    let [a, b, c, d, ..] = bits().to_le_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_do_not_repeat_within_or_across_threads() {
        let mut seen = HashSet::new();
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| (0..10_000).map(|_| bits()).collect::<Vec<_>>())).collect();
        for thread in threads {
            for number in thread.join().unwrap() {
                assert!(seen.insert(number), "{number} came twice");
            }
        }
    }

    #[test]
    fn unit_covers_its_range_evenly() {
        let samples: Vec<f64> = (0..20_000).map(|_| unit()).collect();
        assert!(samples.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = samples.iter().sum::<f64>() / 20_000.0;
        assert!((0.48..0.52).contains(&mean), "mean {mean}");
    }
}
