//! What is measured: throughput, each figure beside the probe's.

use std::sync::Arc;
use std::time::Duration;

use goose_client::Client;
use goose_core::broker::Broker;
use goose_worker::{Pool, Worker};

use crate::Result;
use crate::broker::{At, connect, open};
use crate::cost::{Cost, Stretch};
use crate::jobs::{Counter, NoOp};
use crate::latency;
use crate::link;
use crate::options::Options;
use crate::probe::Probe;
use crate::report::{Figure, Report};

/// How many jobs one call of the probe's bulk takes; as many as the broker's.
const BULK_CALL: u32 = 300;

/// What the slow link adds in each direction.
const ONE_WAY: Duration = Duration::from_millis(1);

/// What the worker behind the slow link may hold: enough for what it runs during one round trip.
const HELD_OVER_LINK: u32 = 1000;

/// What a throughput figure is of.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Callers that enqueue one job after the other.
    Callers(u32),
    Bulk,
    /// A worker that runs so many at once, and holds so many more.
    Drain {
        running: u32,
        held: u32,
    },
}

/// Everything a scenario needs.
struct Bench<'a> {
    options: &'a Options,
    report: Report,
    broker: Arc<dyn Broker>,
    probe: Option<Probe>,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let opened = open(options).await?;
    let probe = Probe::of(&opened.at, options.bare).await?;
    let report = Report { broker: options.broker.to_string(), json: options.json };
    let bench = Bench { options, report, broker: Arc::clone(&opened.broker), probe };
    bench.report.head();
    for callers in [1, 25, 100] {
        bench.throughput("enqueue, one job a call", callers, Work::Callers(callers)).await?;
    }
    bench.throughput("enqueue, bulk", 1, Work::Bulk).await?;
    for in_flight in [25, 100, 1000] {
        // In flight: running and held together, as many as the probe claims.
        let work = Work::Drain { running: in_flight - in_flight / 2, held: in_flight / 2 };
        bench.throughput("drain", in_flight, work).await?;
    }
    for (name, measure) in latency::ALL {
        if bench.wants(name) {
            let (mut p50, mut p99) = (Vec::new(), Vec::new());
            for _ in 0..options.rounds.get() {
                let (median, tail) = measure(&bench.broker).await?;
                p50.push(median);
                p99.push(tail);
            }
            for (percentile, values) in [("p50", p50), ("p99", p99)] {
                let scenario = format!("{name} {percentile}");
                bench.report.say(&Figure { scenario, in_flight: 1, unit: "ms", values, raws: Vec::new() });
            }
        }
    }
    bench.over_link(&opened.at).await?;
    opened.broker.close().await?;
    Ok(())
}

impl Bench<'_> {
    fn wants(&self, scenario: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| scenario.contains(only.as_str()))
    }

    /// A worker with 25 hands behind a link of one millisecond each way.
    async fn over_link(&self, at: &At) -> Result<()> {
        let name = "drain, 1 ms link each way";
        let Some(url) = at.url().filter(|_| self.wants(name)) else { return Ok(()) };
        let near = at.by(link::to(url, ONE_WAY)?);
        let report = Report { broker: self.report.broker.clone(), json: self.report.json };
        let (broker, probe) = (connect(&near).await?, Probe::of(&near, self.options.bare).await?);
        let bench = Bench { options: self.options, report, broker, probe };
        bench.throughput(name, 25, Work::Drain { running: 25, held: HELD_OVER_LINK }).await?;
        bench.broker.close().await?;
        Ok(())
    }

    async fn throughput(&self, name: &str, in_flight: u32, work: Work) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let jobs = if matches!(work, Work::Callers(1)) { self.options.jobs / 20 } else { self.options.jobs };
        let (mut costs, mut raws) = (Vec::new(), Vec::new());
        for _ in 0..self.options.rounds.get() {
            costs.push(self.goose(work, jobs).await?);
            if let Some(probe) = self.probe.as_ref().filter(|_| !self.options.alone) {
                raws.push(raw(probe, work, jobs).await?);
            }
        }
        let say = |part: &str, unit, value: fn(&Cost) -> Option<f64>| {
            let scenario = format!("{name}{part}");
            let values: Vec<f64> = costs.iter().filter_map(value).collect();
            let raws: Vec<f64> = raws.iter().filter_map(value).collect();
            self.report.say(&Figure { scenario, in_flight, unit, values, raws });
        };
        say("", "jobs/s", |cost| Some(cost.rate));
        if self.options.cpu {
            say(", client cpu", "us/job", |cost| Some(cost.client));
            say(", server cpu", "us/job", |cost| cost.server);
        }
        Ok(())
    }

    async fn goose(&self, work: Work, jobs: u32) -> Result<Cost> {
        let (broker, probe) = (&self.broker, self.probe.as_ref());
        if matches!(work, Work::Drain { .. }) {
            bulk(broker, jobs).await?;
        }
        let stretch = Stretch::begin(probe).await?;
        let cost = match work {
            Work::Callers(callers) => {
                one_by_one(broker, callers, jobs).await?;
                stretch.end(probe, jobs).await?
            }
            Work::Bulk => {
                bulk(broker, jobs).await?;
                stretch.end(probe, jobs).await?
            }
            Work::Drain { running, held } => {
                let counter = Counter::up_to(jobs.into());
                let counts = counter.clone();
                let handler = move |_: NoOp| {
                    counts.add();
                    std::future::ready(())
                };
                let pool = Pool::queue("default").concurrency(running.try_into()?).prefetch(held.try_into()?);
                let worker = Worker::builder(Arc::clone(broker)).pool(pool).handle(handler).start().await?;
                counter.is_full().await;
                let cost = stretch.end(probe, jobs).await?;
                worker.stop().await?;
                cost
            }
        };
        purge(broker).await?;
        Ok(cost)
    }
}

async fn raw(probe: &Probe, work: Work, jobs: u32) -> Result<Cost> {
    if matches!(work, Work::Drain { .. }) {
        probe.enqueue(probe.bulk_callers(), BULK_CALL, jobs).await?;
    }
    let stretch = Stretch::begin(Some(probe)).await?;
    match work {
        Work::Callers(callers) => probe.enqueue(callers, 1, jobs).await?,
        Work::Bulk => probe.enqueue(probe.bulk_callers(), BULK_CALL, jobs).await?,
        Work::Drain { running, held } => probe.drain(running + held).await?,
    }
    let cost = stretch.end(Some(probe), jobs).await?;
    probe.clear().await?;
    Ok(cost)
}

async fn purge(broker: &Arc<dyn Broker>) -> Result<()> {
    if let Some(enqueued) = broker.enqueued_jobs() {
        for queue in enqueued.queues().await? {
            enqueued.purge(&queue).await?;
        }
    }
    Ok(())
}

async fn one_by_one(broker: &Arc<dyn Broker>, callers: u32, jobs: u32) -> Result<()> {
    let client = Client::new(Arc::clone(broker));
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let client = client.clone();
        let share = jobs / callers + u32::from(caller < jobs % callers);
        tasks.spawn(async move {
            for _ in 0..share {
                client.perform_async(NoOp::new()).await?;
            }
            Ok::<(), goose_core::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn bulk(broker: &Arc<dyn Broker>, jobs: u32) -> Result<()> {
    let client = Client::new(Arc::clone(broker));
    let report = client.perform_bulk((0..jobs).map(|_| NoOp::new())).await?;
    if let Some((_, _, error)) = report.failed().next() {
        return Err(format!("a bulk enqueue failed in part: {error:#}").into());
    }
    Ok(())
}
