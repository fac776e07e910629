//! The arithmetic of delays: how a time becomes a path through the cascade of level queues.
//!
//! Level *k* holds a message for 32 ms · 2^*k*. A delay is a sum of levels, that is a binary number; a message takes one
//! hop (queue, expiry, dead-lettering) for each bit that is set. Delays are rounded *down*, low bits within a tolerance are
//! dropped to save hops, and the session that receives a job early holds it until its time.

use std::time::Duration;

use crate::options::QueueType;

/// The shortest level.
pub(crate) const UNIT: Duration = Duration::from_millis(UNIT_MILLIS);
const UNIT_MILLIS: u64 = 32;

/// How many levels there are. All of them together last 4.36 years; what is longer is sent round again.
pub(crate) const LEVELS: u32 = 32;

/// What is not longer than this goes straight to its queue: a hop would not be done sooner.
const SHORT: u64 = 20;

/// The first round of what is longer than the cascade: 4.09 years in four hops. All levels would be 0.27 years more for
/// 28 hops more.
const FAR: u32 = 0xF000_0000;

/// How exact a delay has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// A time somebody has asked for.
    Exact,
    /// The pause before a retry, which has jitter anyway.
    Rough,
}

impl Precision {
    /// How much earlier than asked a job may arrive to save hops, in milliseconds. Whoever receives it holds it for as long;
    /// so the limits are not about punctuality, they keep sessions from holding many jobs that others could run.
    fn tolerance(self, millis: u64) -> u64 {
        match self {
            Self::Exact => (millis / 1000).clamp(64, 500),
            Self::Rough => (millis / 20).clamp(64, 2000),
        }
    }
}

/// The way of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// So short that it goes to its queue at once and the session holds it, at most this long.
    Straight { hold: Duration },
    /// Through the levels whose bits are set, highest first. `hold` is how early it can arrive, at most. `goes_on` if the
    /// delay is longer than the cascade: then `hold` is the delay that is left.
    Levels { levels: u32, hold: Duration, goes_on: bool },
}

impl Path {
    /// To the queue at once, and nothing to wait for there.
    pub(crate) const NOW: Self = Self::Straight { hold: Duration::ZERO };

    /// How early it can arrive, at most.
    pub(crate) fn hold(self) -> Duration {
        match self {
            Self::Straight { hold } | Self::Levels { hold, .. } => hold,
        }
    }

    /// Whether it has to be sent on its way again when it arrives.
    pub(crate) fn goes_on(self) -> bool {
        matches!(self, Self::Levels { goes_on: true, .. })
    }
}

/// How long one hop takes beyond its time, rather too long than too short: what is early is held, what is late is late.
/// Measured means are 2 ms and 3 ms (`docs/brokers/rabbitmq.md`).
pub(crate) const fn hop(queue_type: QueueType) -> Duration {
    match queue_type {
        QueueType::Classic => Duration::from_millis(4),
        QueueType::Quorum => Duration::from_millis(8),
    }
}

/// The way for a delay. `hop` is how long one hop takes beyond its time.
pub(crate) fn path(delay: Duration, precision: Precision, hop: Duration) -> Path {
    let millis = millis_rounded_up(delay);
    let straight = Path::Straight { hold: Duration::from_millis(millis) };
    if millis <= SHORT {
        return straight;
    }
    let by = |levels: u32, goes_on| {
        let hold = Duration::from_millis(millis.saturating_sub(u64::from(levels) * UNIT_MILLIS));
        Path::Levels { levels, hold, goes_on }
    };
    let Ok(all) = u32::try_from(millis / UNIT_MILLIS) else { return by(FAR, true) };
    let tolerance = u32::try_from(precision.tolerance(millis) / UNIT_MILLIS).unwrap_or(0);
    let levels = compensated(millis, all, tolerance, hop);
    if levels == 0 { straight } else { by(levels, false) }
}

/// Leaves room for what the hops themselves take. Fewer units can mean more hops, so it takes some rounds.
fn compensated(millis: u64, all: u32, tolerance: u32, hop: Duration) -> u32 {
    let hop = millis_rounded_up(hop);
    let mut levels = with_fewer_hops(all, tolerance);
    for _ in 0..8 {
        let hops = u64::from(levels.count_ones());
        if u64::from(levels) * UNIT_MILLIS + hops * hop <= millis {
            break;
        }
        let units = millis.saturating_sub(hops * hop) / UNIT_MILLIS;
        // At least one unit less each round, so that it comes to an end.
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(levels.saturating_sub(1));
        levels = with_fewer_hops(units, tolerance);
    }
    levels
}

/// Drops low bits as long as not more than the tolerance is lost in all.
fn with_fewer_hops(units: u32, tolerance: u32) -> u32 {
    let mut fewer = units;
    while fewer != 0 && units - (fewer & (fewer - 1)) <= tolerance {
        fewer &= fewer - 1;
    }
    fewer
}

fn millis_rounded_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const DAY: Duration = Duration::from_secs(86_400);

    fn levels_of(path: Path) -> (u32, Duration, bool) {
        match path {
            Path::Straight { hold } => (0, hold, false),
            Path::Levels { levels, hold, goes_on } => (levels, hold, goes_on),
        }
    }

    /// Levels and hold together are the delay, and the hops have their time.
    fn check(delay: Duration, precision: Precision, hop: Duration) {
        let (levels, hold, goes_on) = levels_of(path(delay, precision, hop));
        let millis = millis_rounded_up(delay);
        let sum = UNIT * levels;
        assert_eq!(sum + hold, Duration::from_millis(millis), "{delay:?}");
        if goes_on {
            assert!(millis >= UNIT_MILLIS << LEVELS, "{delay:?} is not too long for the cascade");
        } else {
            let hops = hop * levels.count_ones();
            assert!(sum + hops <= Duration::from_millis(millis) || levels == 0, "{delay:?} is late by its hops");
            let tolerance = Duration::from_millis(precision.tolerance(millis));
            // What the last round of compensation gave away may be a little more than the hops in the end take.
            let most = tolerance + UNIT * 2 + hop * LEVELS;
            assert!(hold <= most, "{delay:?} would be held for {hold:?}");
        }
    }

    #[test]
    fn short_delays_are_held_and_not_sent_round() {
        for millis in [0, 1, 20, 31, 60] {
            let hold = MS * millis;
            assert_eq!(path(hold, Precision::Exact, MS * 2), Path::Straight { hold }, "{millis}");
        }
        // Half a millisecond is a whole one: nothing becomes due early.
        assert_eq!(path(MS / 2, Precision::Exact, MS).hold(), MS);
        assert!(matches!(path(MS * 200, Precision::Exact, MS * 2), Path::Levels { levels: 4, .. }));
    }

    #[test]
    fn a_delay_begins_at_the_highest_level_that_is_not_too_long() {
        // Two units are within the tolerance, so the two lowest levels only ever come second.
        for k in 2..LEVELS {
            let exactly = Duration::from_millis(UNIT_MILLIS << k);
            let (levels, _, goes_on) = levels_of(path(exactly + MS * 20, Precision::Exact, MS * 2));
            assert_eq!((levels.ilog2(), goes_on), (k, false), "level {k}: {levels:b}");
        }
    }

    #[test]
    fn delays_that_no_32_bit_timer_takes_are_fine() {
        let delay = MS * u32::MAX + DAY;
        let (levels, hold, goes_on) = levels_of(path(delay, Precision::Exact, MS * 2));
        assert!(!goes_on && hold < Duration::from_secs(1));
        assert_eq!(UNIT * levels + hold, delay);
    }

    #[test]
    fn what_is_longer_than_the_cascade_goes_on_and_arrives_in_the_end() {
        let last = Duration::from_millis((UNIT_MILLIS << LEVELS) - 1);
        assert!(!path(last, Precision::Exact, MS * 2).goes_on());
        assert!(path(last + MS, Precision::Exact, MS * 2).goes_on());
        let mut left = DAY * 365 * 100;
        let mut rounds = 0;
        loop {
            check(left, Precision::Exact, MS * 4);
            let path = path(left, Precision::Exact, MS * 4);
            left = path.hold();
            rounds += 1;
            if !path.goes_on() {
                break;
            }
        }
        assert!(left < Duration::from_secs(1) && (24..=26).contains(&rounds), "{rounds} rounds, {left:?} left");
        assert!(path(Duration::MAX, Precision::Rough, MS).goes_on(), "the longest there is");
    }

    #[test]
    fn a_retry_takes_fewer_hops_than_a_time_somebody_asked_for() {
        let hops = |precision| -> u32 {
            (0..1000).map(|i| levels_of(path(MS * (9_000 + 2 * i), precision, MS * 4)).0.count_ones()).sum()
        };
        let (exact, rough) = (hops(Precision::Exact), hops(Precision::Rough));
        assert!(rough + 1000 < exact, "{rough} hops against {exact}");
    }

    proptest! {
        #[test]
        fn levels_and_hold_are_the_delay(
            // Evenly over the magnitudes, to a thousand years.
            bits in 0_u32..45, low in any::<u64>(), nanos in 0_u32..1_000_000, hop in 0_u64..40, rough in any::<bool>(),
        ) {
            let millis = (1 << bits) | (low & ((1 << bits) - 1));
            let precision = if rough { Precision::Rough } else { Precision::Exact };
            check(Duration::from_millis(millis) + Duration::from_nanos(nanos.into()), precision, MS * u32::try_from(hop).unwrap());
        }
    }
}
