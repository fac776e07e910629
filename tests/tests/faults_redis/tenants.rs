//! Several installations on one server: told apart by prefix or by database, they see nothing of each other.

use goose_client::Client;
use goose_core::broker::Broker;
use goose_redis::{RedisBroker, RedisOptions};

use crate::stage::{Chore, PATIENCE, Stage, all_done, ready};
use crate::{Outcome, Played, ensure};

pub(crate) async fn tenants_see_nothing_of_each_other() -> Outcome {
    let stage = Stage::new();
    let options = || RedisOptions::new(stage.server.url());
    let url = format!("{}/3", stage.server.url());
    let tenants: [RedisBroker; 4] = [
        options().prefix("shop").open().await?,
        options().prefix("shop:two").open().await?,
        options().prefix("shop").database(1).open().await?,
        RedisOptions::new(url).prefix("shop").open().await?,
    ];
    let mut ids = Vec::new();
    for (n, tenant) in tenants.iter().enumerate() {
        let client = Client::new(tenant.clone());
        ids.push(client.perform_bulk((0..=n).map(|_| Chore::default())).await?.into_result()?);
        client.job(Chore::default()).queue(format!("only-{n}")).enqueue().await?;
    }
    for (n, tenant) in tenants.iter().enumerate() {
        ensure!(ready(tenant).await? == n as u64 + 1, "tenant {n} sees {} jobs", ready(tenant).await?);
        let enqueued = tenant.enqueued_jobs().ok_or("no enqueued jobs")?;
        let queues: Vec<String> = enqueued.queues().await?.iter().map(ToString::to_string).collect();
        ensure!(queues == ["default".to_owned(), format!("only-{n}")], "tenant {n} sees {queues:?}");
        for (other, ids) in ids.iter().enumerate() {
            ensure!(enqueued.find_by_id(ids[0]).await?.is_some() == (n == other), "tenant {n} finds a job of {other}");
        }
    }
    // One of them works, and another clears up: the rest is untouched.
    let worker = stage.worker(&tenants[1]).queue("default").queue("only-1").start().await?;
    stage.have_run(PATIENCE, &ids[1]).await?;
    for (n, tenant) in tenants.iter().enumerate() {
        let workers = tenant.statistics().ok_or("no statistics")?.workers().await?.len();
        ensure!(workers == usize::from(n == 1), "tenant {n} sees {workers} workers");
    }
    worker.stop().await?;
    all_done(&tenants[1]).await?;
    ensure!(stage.runs.count() == 3, "{} jobs ran", stage.runs.count());
    let default = goose_core::QueueName::default();
    tenants[2].enqueued_jobs().ok_or("no enqueued jobs")?.purge(&default).await?;
    ensure!(
        ready(&tenants[2]).await? == 0 && ready(&tenants[0]).await? == 1 && ready(&tenants[3]).await? == 4,
        "purged"
    );
    for database in ["0", "1", "3"] {
        let keys = stage.server.ask_in(database, &["KEYS", "*"]);
        let is_ours = |key: &str| key.starts_with("shop:");
        ensure!(!keys.is_empty() && keys.lines().all(is_ours), "database {database} has {keys}");
    }
    Ok(Played::Done)
}
