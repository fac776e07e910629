//! A million jobs that are due in the same second.

use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::{Clock, SystemClock};

use super::{MILLION, PORTION, Stage, client, consumer, take};
use crate::Result;
use crate::cost::Stretch;
use crate::jobs::NoOp;

const CONSUMERS: u32 = 2;
const AT_ONCE: u32 = 500;

pub(super) async fn measure(stage: &Stage<'_>, filled_in: Duration) -> Result<()> {
    let name = "a million due at once";
    if !stage.wants(name) {
        return Ok(());
    }
    let broker = stage.broker().await?;
    let client = client(&broker);
    // Scheduling takes longer than enqueuing.
    let due = SystemClock.now().saturating_add(filled_in * 3 + Duration::from_secs(5));
    for _ in 0..MILLION / PORTION {
        let jobs = (0..PORTION).map(|_| client.job(NoOp::new()).run_at(due).build());
        let jobs = jobs.collect::<std::result::Result<Vec<_>, _>>()?;
        client.enqueue_jobs(jobs).await?.into_result()?;
    }
    let left = due.since(SystemClock.now());
    if left.is_zero() {
        return Err("scheduling a million jobs took longer than foreseen; try again on a quieter machine".into());
    }
    stage.say_longest("schedule a million jobs").await?;
    tokio::time::sleep(left).await;

    let probe = Some(&stage.probe);
    let stretch = Stretch::begin(probe).await?;
    let broker = Arc::new(broker);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONSUMERS {
        let broker = Arc::clone(&broker);
        tasks.spawn(async move {
            let consumer = consumer(&broker).await?;
            let disorder = take(&*consumer, MILLION / CONSUMERS, AT_ONCE).await?;
            consumer.stop().await?;
            Ok::<u32, goose_core::BoxError>(disorder)
        });
    }
    let mut disorder = 0;
    while let Some(done) = tasks.join_next().await {
        disorder += done??;
    }
    let cost = stretch.end(probe, MILLION).await?;
    stage.say(name, AT_ONCE * CONSUMERS, "jobs/s", cost.rate);
    stage.say(&format!("{name}, out of order"), AT_ONCE * CONSUMERS, "jobs", f64::from(disorder));
    if let Some(server) = cost.server {
        stage.say(&format!("{name}, server cpu"), AT_ONCE * CONSUMERS, "us/job", server);
    }
    stage.say_longest(name).await?;
    broker.close().await?;
    stage.clear();
    Ok(())
}
