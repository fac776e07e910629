//! What to break when: a plan made from a seed, so that a run that failed can be played again.

use std::time::Duration;

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of a worker; another one is started in its place.
    KillWorker,
    /// SIGSTOP of a worker for this long, then SIGCONT.
    PauseWorker(Duration),
    /// SIGKILL of the producer; another one enqueues the rest.
    KillProducer,
    /// SIGKILL of a server, which is started again at once and finds every write it has answered.
    KillServer,
    /// SIGSTOP of a server for this long, then SIGCONT.
    PauseServer(Duration),
    /// Every server forgets its scripts.
    ForgetScripts,
    /// Every server closes every connection.
    CutClients,
}

/// What there is to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// The processes of the lab.
    Processes,
    /// They, and the servers of the broker.
    ProcessesAndServers,
}

/// One step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// After how many finished jobs.
    pub after: u64,
    /// Which worker, or which server where a server is hurt, counted from 0.
    pub victim: usize,
    /// What is done.
    pub fault: Fault,
}

/// A plan of `faults` steps spread over a run of `jobs` jobs on `workers` workers. The same input gives the same plan.
///
/// Pauses of workers are up to twice the lease, so that some are survived and some are not. Those of servers are up to
/// 1.5 s, which is shorter than it takes a replica to step in.
#[must_use]
pub fn plan(seed: u64, faults: usize, jobs: u64, workers: usize, lease: Duration, targets: Targets) -> Vec<Step> {
    let mut random = SplitMix64(seed);
    let kinds = match targets {
        Targets::Processes => 10,
        Targets::ProcessesAndServers => 20,
    };
    let mut steps: Vec<Step> = (0..faults)
        .map(|_| {
            let fault = match random.below(kinds) {
                0..=5 => Fault::KillWorker,
                6 | 7 => Fault::PauseWorker(lease.mul_f64(0.2) + lease.mul_f64(random.below(180) as f64 / 100.0)),
                8 | 9 => Fault::KillProducer,
                10..=13 => Fault::KillServer,
                14..=16 => Fault::PauseServer(Duration::from_millis(100 + random.below(1_400))),
                17 => Fault::ForgetScripts,
                _ => Fault::CutClients,
            };
            // The last tenth is left alone, so that there is something to recover for.
            let after = random.below((jobs * 9 / 10).max(1));
            let victim = usize::try_from(random.below(u64::try_from(workers).unwrap_or(1).max(1))).unwrap_or(0);
            Step { after, victim, fault }
        })
        .collect();
    steps.sort_by_key(|step| step.after);
    steps
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014. Small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// Sixty-four bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below a bound; the slight bias of the remainder does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_values_of_the_generator() {
        let mut random = SplitMix64(1_234_567);
        let bits = [random.bits(), random.bits(), random.bits()];
        assert_eq!(bits, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_seed_is_a_plan() {
        let lease = Duration::from_secs(6);
        let of_seed = |seed| plan(seed, 20, 20_000, 2, lease, Targets::Processes);
        let one = of_seed(1);
        assert_eq!(one, of_seed(1));
        assert_ne!(one, of_seed(2));
        assert!(one.iter().all(|step| step.victim < 2 && step.after < 18_000));
        assert!(one.is_sorted_by_key(|step| step.after));
        assert!(one.iter().any(|step| step.fault == Fault::KillWorker));
    }
    #[test]
    fn servers_are_hurt_only_where_there_are_some() {
        let hurts_servers = |targets| {
            let steps = plan(1, 40, 20_000, 2, Duration::from_secs(6), targets);
            steps.iter().any(|step| matches!(step.fault, Fault::KillServer | Fault::PauseServer(_)))
        };
        assert!(hurts_servers(Targets::ProcessesAndServers));
        assert!(!hurts_servers(Targets::Processes));
    }
}
