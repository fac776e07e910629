//! Ten thousand workers that beat, and then die together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::capability::EnqueuedJobs;
use goose_core::broker::{Broker, Consumer};

use super::{Stage, client, consumer, fill, take};
use crate::Result;
use crate::cost::Stretch;

const WORKERS: u32 = 10_000;
/// How many of them start at the same time.
const STARTING: u32 = 50;
const WATCHED_FOR: Duration = Duration::from_secs(15);

pub(super) async fn measure(stage: &Stage<'_>) -> Result<()> {
    let name = "10000 workers";
    if !stage.wants(name) {
        return Ok(());
    }
    let broker = Arc::new(stage.broker().await?);
    fill(&client(&broker), WORKERS).await?;
    let mut sessions: Vec<Box<dyn Consumer>> = Vec::new();
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..STARTING {
        let broker = Arc::clone(&broker);
        starting.spawn(async move {
            let mut sessions = Vec::new();
            for _ in 0..WORKERS / STARTING {
                let session = consumer(&broker).await?;
                // Each holds a job when it dies.
                if session.fetch(1).await?.is_empty() {
                    return Err("a worker got no job".into());
                }
                sessions.push(session);
            }
            Ok::<_, goose_core::BoxError>(sessions)
        });
    }
    while let Some(started) = starting.join_next().await {
        sessions.extend(started??);
    }
    stage.say_longest(&format!("{name} start")).await?;

    let stretch = Stretch::begin(Some(&stage.probe)).await?;
    let began = Instant::now();
    tokio::time::sleep(WATCHED_FOR).await;
    let cost = stretch.end(Some(&stage.probe), 1).await?;
    let share = |micros: f64| micros / 1e4 / began.elapsed().as_secs_f64();
    if let Some(server) = cost.server {
        stage.say(&format!("{name} beat, server"), WORKERS, "% core", share(server));
    }
    stage.say(&format!("{name} beat, client"), WORKERS, "% core", share(cost.client));
    stage.say_longest(&format!("{name} beat")).await?;

    by_id(stage, name).await?;

    let survivor = stage.broker().await?;
    let one = consumer(&survivor).await?;
    broker.abandon().await;
    let died = Instant::now();
    take(&*one, WORKERS, 100).await?;
    stage.say(&format!("{name} die, all jobs run again"), 1, "s", died.elapsed().as_secs_f64());
    stage.say_longest(&format!("{name} die")).await?;
    drop(sessions);
    one.stop().await?;
    survivor.close().await?;
    broker.close().await?;
    stage.clear();
    Ok(())
}

/// One job found, moved and deleted while all those workers are there: none of them must hold it.
async fn by_id(stage: &Stage<'_>, name: &str) -> Result<()> {
    let broker = stage.broker().await?;
    let ids = fill(&client(&broker), 1000).await?;
    let began = Instant::now();
    for id in &ids {
        broker.find_by_id(*id).await?;
        broker.prioritise(*id).await?;
        broker.delete(*id).await?;
    }
    let each = began.elapsed().as_secs_f64() * 1e3 / 3.0 / f64::from(u32::try_from(ids.len())?);
    stage.say(&format!("{name}, find, prioritise or delete by id"), 1, "ms", each);
    stage.say_longest(&format!("{name}, by id")).await?;
    broker.purge(&"default".parse()?).await?;
    broker.close().await?;
    Ok(())
}
