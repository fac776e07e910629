//! A whole run: producers, workers and faults, until every acknowledged job is accounted for.

mod rabbit;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use goose_core::QueueName;

use crate::Result;
use crate::brokers::Kind;
use crate::child::Process;
use crate::fault::{Fault, Step, Targets, plan};
use crate::lab::{Lab, PATIENCE, PREFIX};
use crate::ledger::{Entry, now};
use crate::oracle::Findings;
use crate::servers::Servers;

/// What to run.
#[derive(Debug, Clone)]
pub struct Run {
    /// On which broker.
    pub broker: Kind,
    /// How many jobs, at least: a producer that is killed leaves some that were stored and not acknowledged.
    pub jobs: u64,
    /// What the faults and the mix of jobs are made from.
    pub seed: u64,
    /// How many worker processes.
    pub workers: usize,
    /// How many jobs each worker runs at once.
    pub concurrency: u64,
    /// How many faults.
    pub faults: usize,
    /// The lease of the workers: short ones make a run short.
    pub lease: Duration,
    /// A limit for the whole run.
    pub deadline: Duration,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            broker: Kind::Sqlite,
            jobs: 20_000,
            seed: 1,
            workers: 2,
            concurrency: 25,
            faults: 6,
            lease: Duration::from_secs(2),
            deadline: Duration::from_secs(240),
        }
    }
}

/// Plays a run and judges it. `tell` hears of each step.
///
/// # Errors
/// The lab itself fails, or the run does not end in time.
pub async fn play(run: &Run, mut tell: impl FnMut(&str)) -> Result<Findings> {
    let mut scene = Scene::set(run).await?;
    let targets = match run.broker {
        Kind::Sqlite => Targets::Processes,
        Kind::Redis(_) | Kind::Rabbit(_) | Kind::RabbitCluster => Targets::ProcessesAndServers,
    };
    for step in plan(run.seed, run.faults, run.jobs, run.workers, run.lease, targets) {
        scene.until_finished(step.after).await?;
        tell(&format!("after {} jobs: {:?}, victim {}", step.after, step.fault, step.victim));
        scene.hurt(step).await?;
    }
    scene.until_all_accounted_for().await?;
    tell("every acknowledged job is accounted for, stopping the workers");
    for worker in scene.workers.drain(..) {
        worker.stop(PATIENCE).await?;
    }
    let findings = scene.lab.judge().await?;
    // What there is to find out why.
    let suspects: Vec<_> = findings.lost.iter().chain(&findings.doubled_without_fault).take(5).collect();
    for entry in scene.lab.entries()? {
        let is_of_interest = match entry {
            Entry::Fault { .. } | Entry::Outage { .. } => true,
            Entry::Acknowledged { id, .. } | Entry::Started { id, .. } | Entry::Finished { id, .. } => {
                suspects.contains(&id)
            }
        };
        if !suspects.is_empty() && is_of_interest {
            tell(&entry.to_string());
        }
    }
    Ok(findings)
}

/// The processes of a run.
struct Scene<'a> {
    run: &'a Run,
    lab: Lab,
    workers: Vec<Process>,
    producer: Process,
    began: Instant,
}

impl<'a> Scene<'a> {
    async fn set(run: &'a Run) -> Result<Self> {
        let lab = Lab::new(run.broker)?;
        let producer = lab.producer(&[("jobs", run.jobs), ("seed", run.seed)])?;
        let mut scene = Self { run, lab, workers: Vec::new(), producer, began: Instant::now() };
        for _ in 0..run.workers {
            let worker = scene.start_worker().await?;
            scene.workers.push(worker);
        }
        Ok(scene)
    }

    async fn start_worker(&self) -> Result<Process> {
        let lease = u64::try_from(self.run.lease.as_millis())?;
        self.lab.worker(&[("concurrency", self.run.concurrency), ("lease-ms", lease)]).await
    }

    fn time_left(&self) -> Duration {
        self.run.deadline.saturating_sub(self.began.elapsed())
    }

    async fn until_finished(&mut self, count: u64) -> Result<()> {
        let finished =
            |entries: &[Entry]| entries.iter().filter(|entry| matches!(entry, Entry::Finished { .. })).count();
        let count = usize::try_from(count)?;
        let left = self.time_left();
        self.lab.until(left, &format!("{count} finished jobs"), |entries| finished(entries) >= count).await
    }

    async fn hurt(&mut self, step: Step) -> Result<()> {
        if rabbit::hurt(&mut self.lab, step).await? {
            return Ok(());
        }
        match step.fault {
            Fault::KillWorker => {
                self.lab.kill(&mut self.workers[step.victim])?;
                self.workers[step.victim] = self.start_worker().await?;
            }
            Fault::PauseWorker(time) => {
                let victim = &self.workers[step.victim];
                victim.pause()?;
                tokio::time::sleep(time).await;
                victim.resume()?;
                self.lab.note_fault(victim.pid(), "paused")?;
            }
            Fault::KillProducer => {
                if self.producer.ended()?.is_some() {
                    return Ok(());
                }
                self.lab.kill(&mut self.producer)?;
                let in_ledger = count_acknowledged(self.lab.entries()?);
                let rest = self.run.jobs.saturating_sub(in_ledger);
                self.producer = self.lab.producer(&[("jobs", rest), ("seed", self.run.seed + 1)])?;
            }
            Fault::KillServer => {
                let from = now();
                let victim = self.server(step.victim)?;
                self.lab.servers()?.node(victim)?.restart();
                self.lab.servers()?.wait_until_well();
                self.lab.note_outage("killed", from)?;
            }
            Fault::PauseServer(time) => {
                let from = now();
                let victim = self.server(step.victim)?;
                self.lab.servers()?.node(victim)?.pause();
                tokio::time::sleep(time).await;
                self.lab.servers()?.node(victim)?.resume();
                self.lab.servers()?.wait_until_well();
                self.lab.note_outage("paused", from)?;
            }
            Fault::ForgetScripts => ask_all(self.lab.servers()?, &["SCRIPT", "FLUSH"]),
            Fault::CutClients => {
                let from = now();
                ask_all(self.lab.servers()?, &["CLIENT", "KILL", "TYPE", "normal"]);
                self.lab.note_outage("cut", from)?;
            }
        }
        Ok(())
    }

    /// Which server is meant by the number of a victim: one of the primaries, and mostly the one with the jobs.
    fn server(&mut self, victim: usize) -> Result<usize> {
        let servers = self.lab.servers()?;
        let primaries = servers.primaries();
        let with_jobs = servers.primary_of(PREFIX, QueueName::default().as_str());
        let victim = if victim == 0 { with_jobs } else { primaries.get(victim % primaries.len().max(1)).copied() };
        Ok(victim.or(with_jobs).ok_or("there is no primary")?)
    }

    /// Waits for the producer's end, then until each acknowledged job has finished its last attempt.
    async fn until_all_accounted_for(&mut self) -> Result<()> {
        let status = self.producer.wait(self.time_left()).await?;
        if !status.success() {
            return Err(format!("the producer ended with {status}").into());
        }
        let all_finished = |entries: &[Entry]| {
            let mut missing: HashSet<_> = HashSet::new();
            missing.extend(
                entries.iter().filter_map(|e| if let Entry::Acknowledged { id, .. } = e { Some(*id) } else { None }),
            );
            for entry in entries {
                if let Entry::Finished { id, .. } = entry {
                    missing.remove(id);
                }
            }
            missing.is_empty()
        };
        let left = self.time_left();
        let finished = self.lab.until(left, "every acknowledged job to finish", all_finished).await;
        if let (Err(error), Kind::Rabbit(_) | Kind::RabbitCluster) = (&finished, self.run.broker) {
            // Whether the rest is still there.
            let mut queues = self.lab.rabbit_queues();
            queues.retain(|queue| queue.messages > 0);
            return Err(format!("{error}; {queues:?}").into());
        }
        finished?;
        // Jobs that failed once wait for their second attempt.
        let left = self.time_left();
        self.lab.until_idle(left).await
    }
}

/// Asks every server that holds data; the answers do not matter.
fn ask_all(servers: &Servers, words: &[&str]) {
    for node in servers.nodes() {
        let _ = node.try_ask(words);
    }
}

fn count_acknowledged(entries: &[Entry]) -> u64 {
    let acknowledged = entries.iter().filter(|entry| matches!(entry, Entry::Acknowledged { .. }));
    u64::try_from(acknowledged.count()).unwrap_or(u64::MAX)
}
