//! What size costs: a million jobs in line, a million due at once, ten thousand workers.
//!
//! Where a figure is compared with that of a small backlog, the small one stands in the place of the probe.

mod backlog;
mod due;
mod workers;

use std::process::{Command, Stdio};
use std::sync::Arc;

use goose_client::{Client, JobId};
use goose_core::broker::{Broker, Consumer, ConsumerOptions, QueueSet, Settlement, Verdict};
use goose_redis::{RedisBroker, RedisOptions};
use goose_services::Server;

use crate::Result;
use crate::broker::start;
use crate::jobs::NoOp;
use crate::options::Options;
use crate::probe::{Probe, RedisProbe};
use crate::report::{Figure, Report};

/// What counts as large.
const MILLION: u32 = 1_000_000;

/// How many jobs are made at a time, to keep this process small.
const PORTION: u32 = 20_000;

/// Everything a step needs.
struct Stage<'a> {
    options: &'a Options,
    report: Report,
    server: Server,
    probe: Probe,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let server = start(&["--slowlog-log-slower-than", "500", "--slowlog-max-len", "20000"])?;
    // The slow log counts the time in which the server waits for a processor. Where we may, it need not wait.
    let priority = ["-n", "-10", "-p", &server.pid().to_string()].map(str::to_owned);
    let first = Command::new("renice").args(priority).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !first.is_ok_and(|status| status.success()) {
        eprintln!("the server has no priority here; the longest calls are those of a server that waits, too");
    }
    let probe = Probe::Redis(RedisProbe::connect(&server.url(), false).await?);
    let report = Report { broker: options.broker.to_string(), json: options.json };
    let stage = Stage { options, report, server, probe };
    stage.report.head();
    let filled_in = backlog::measure(&stage).await?;
    due::measure(&stage, filled_in).await?;
    workers::measure(&stage).await
}

impl Stage<'_> {
    fn wants(&self, scenario: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| scenario.contains(only.as_str()))
    }

    async fn broker(&self) -> Result<RedisBroker> {
        Ok(RedisOptions::new(self.server.url()).open().await?)
    }

    /// What only a probe of Redis can tell.
    fn redis(&self) -> Result<&RedisProbe> {
        match &self.probe {
            Probe::Redis(probe) => Ok(probe),
            Probe::Rmq(_) => Err("the scale is that of Redis".into()),
        }
    }

    /// Empties the server for the next step.
    fn clear(&self) {
        self.server.ask(&["FLUSHALL"]);
    }

    fn say(&self, scenario: &str, in_flight: u32, unit: &'static str, value: f64) {
        let scenario = scenario.to_owned();
        self.report.say(&Figure { scenario, in_flight, unit, values: vec![value], raws: Vec::new() });
    }

    /// The longest call since the last question, and what the long ones take as a rule, for the machine may have been
    /// busy with others. The worst of those over the limit are named on the
    /// error output.
    async fn say_longest(&self, of: &str) -> Result<()> {
        let mut calls = self.redis()?.slow_calls().await?;
        // Ours, not the broker's.
        calls.retain(|call| !["SLOWLOG", "FLUSHALL", "INFO"].iter().any(|word| call.words.starts_with(word)));
        let longest = calls.iter().map(|call| call.millis).fold(0.0, f64::max);
        self.say(&format!("{of}, longest call"), 1, "ms", longest);
        let mut long: Vec<f64> = calls.iter().map(|call| call.millis).collect();
        long.sort_by(f64::total_cmp);
        let rule = long.get(long.len() * 9 / 10).copied().unwrap_or(0.0);
        self.say(&format!("{of}, long calls, p90"), 1, "ms", rule);
        calls.sort_by(|a, b| b.millis.total_cmp(&a.millis));
        for call in calls.iter().filter(|call| call.millis > 5.0).take(3) {
            eprintln!("{of}: {:.1} ms in {}", call.millis, call.words);
        }
        Ok(())
    }
}

/// Enqueues jobs; returns the id of one in a hundred.
async fn fill(client: &Client, jobs: u32) -> Result<Vec<JobId>> {
    let mut some = Vec::new();
    for first in (0..jobs).step_by(usize::try_from(PORTION)?) {
        let portion = PORTION.min(jobs - first);
        let ids = client.perform_bulk((0..portion).map(|_| NoOp::new())).await?.into_result()?;
        some.extend(ids.into_iter().step_by(100));
    }
    Ok(some)
}

async fn consumer(broker: &RedisBroker) -> Result<Box<dyn Consumer>> {
    let queues = QueueSet::one("default".parse()?);
    Ok(broker.consume(ConsumerOptions::new(queues, 100)).await?)
}

/// Claims and ends so many jobs, some at a time; returns how many were not in the order of their ids.
async fn take(consumer: &dyn Consumer, jobs: u32, at_once: u32) -> Result<u32> {
    let (mut left, mut last, mut disorder) = (jobs, None, 0);
    while left > 0 {
        let deliveries = consumer.fetch(usize::try_from(left.min(at_once))?).await?;
        left -= u32::try_from(deliveries.len())?;
        for delivery in &deliveries {
            disorder += u32::from(last.is_some_and(|last| last > delivery.job.id));
            last = Some(delivery.job.id);
        }
        let done = |receipt| Settlement::new(receipt, Verdict::Done);
        let ends: Vec<Settlement> = deliveries.into_iter().map(|delivery| done(delivery.receipt)).collect();
        for answer in consumer.settle(&ends).await {
            answer?;
        }
    }
    Ok(disorder)
}

fn client(broker: &RedisBroker) -> Client {
    Client::new(Arc::new(broker.clone()) as Arc<dyn Broker>)
}
