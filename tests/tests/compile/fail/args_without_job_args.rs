//! The arguments name the job, so they must be `JobArgs`.

use goose_worker::{Worker, broker::Broker};
use serde::Deserialize;

#[derive(Deserialize)]
struct Ping(u32);

async fn ping(_: Ping) {}

fn build(broker: impl Broker) {
    let _ = Worker::builder(broker).handle(ping);
}

fn main() {}
