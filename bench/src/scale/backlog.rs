//! What a job costs with many in line, and with few.

use std::time::{Duration, Instant};

use goose_client::{Client, JobId};
use goose_core::broker::Broker;
use goose_core::broker::capability::EnqueuedJobs;
use goose_redis::RedisBroker;

use super::{MILLION, Stage, client, consumer, fill, take};
use crate::Result;
use crate::cost::Stretch;
use crate::report::{Figure, median};

const SMALL: u32 = 10_000;
/// How many jobs go in and out for a figure. So few that they do not make the server double its table of jobs, which it
/// does when there are 2^20 of them: that cost belongs to a job that comes in, whatever the size.
const SAMPLE: u32 = 40_000;
/// How many are asked for by id.
const BY_ID: usize = 300;
const AT_ONCE: u32 = 100;

/// Microseconds.
#[derive(Default)]
struct Costs {
    enqueue: Vec<f64>,
    enqueue_took: Vec<f64>,
    take: Vec<f64>,
    take_took: Vec<f64>,
    find: Vec<f64>,
    prioritise: Vec<f64>,
    delete: Vec<f64>,
}

/// Returns how long it takes to enqueue a million jobs.
pub(super) async fn measure(stage: &Stage<'_>) -> Result<Duration> {
    let broker = stage.broker().await?;
    let client = client(&broker);
    let large = if stage.options.ten_million { 10 * MILLION } else { MILLION };
    let before = stage.redis()?.memory().await?;
    let ids = fill(&client, SMALL).await?;
    let small_costs = costs(stage, &broker, &client, &ids).await?;

    stage.redis()?.slow_calls().await?;
    let began = Instant::now();
    let ids = fill(&client, large - SMALL).await?;
    let filled_in = began.elapsed() / (large / MILLION);
    stage.say_longest(&format!("enqueue {large} jobs")).await?;
    let held = f64::from(u32::try_from(stage.held(&broker).await?)?);
    stage.say("memory per job in line", 1, "bytes", (stage.redis()?.memory().await? - before) / held);

    let large_costs = costs(stage, &broker, &client, &ids).await?;
    let compare = |what: &str, in_flight, unit, of: fn(&Costs) -> &Vec<f64>| {
        let scenario = format!("{what}, {large} in line");
        let raws = median(of(&small_costs)).into_iter().collect();
        let values = median(of(&large_costs)).into_iter().collect();
        stage.report.say(&Figure { scenario, in_flight, unit, values, raws });
    };
    compare("enqueue, server cpu", 1, "us/job", |costs| &costs.enqueue);
    compare("enqueue, all in all", 1, "us/job", |costs| &costs.enqueue_took);
    compare("fetch and settle, server cpu", AT_ONCE, "us/job", |costs| &costs.take);
    compare("fetch and settle, all in all", AT_ONCE, "us/job", |costs| &costs.take_took);
    compare("find by id", 1, "us", |costs| &costs.find);
    compare("prioritise by id", 1, "us", |costs| &costs.prioritise);
    compare("delete by id", 1, "us", |costs| &costs.delete);
    stage.say_longest(&format!("with {large} jobs in line")).await?;
    broker.close().await?;
    stage.clear();
    Ok(filled_in)
}

impl Stage<'_> {
    async fn held(&self, broker: &RedisBroker) -> Result<u64> {
        let queue = "default".parse()?;
        Ok(EnqueuedJobs::size(broker, &queue).await?)
    }
}

async fn costs(stage: &Stage<'_>, broker: &RedisBroker, client: &Client, ids: &[JobId]) -> Result<Costs> {
    let mut costs = Costs::default();
    let probe = Some(&stage.probe);
    let consumer = consumer(broker).await?;
    for _ in 0..stage.options.rounds.get() {
        let stretch = Stretch::begin(probe).await?;
        fill(client, SAMPLE).await?;
        let cost = stretch.end(probe, SAMPLE).await?;
        costs.enqueue.extend(cost.server);
        costs.enqueue_took.push(1e6 / cost.rate);
        let stretch = Stretch::begin(probe).await?;
        take(&*consumer, SAMPLE, AT_ONCE).await?;
        let cost = stretch.end(probe, SAMPLE).await?;
        costs.take.extend(cost.server);
        costs.take_took.push(1e6 / cost.rate);
    }
    consumer.stop().await?;
    // Those at the end of the line are still there.
    for id in ids.iter().rev().take(BY_ID) {
        let began = Instant::now();
        broker.find_by_id(*id).await?;
        costs.find.push(micros(began));
        let began = Instant::now();
        broker.prioritise(*id).await?;
        costs.prioritise.push(micros(began));
        let began = Instant::now();
        broker.delete(*id).await?;
        costs.delete.push(micros(began));
    }
    Ok(costs)
}

fn micros(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e6
}
