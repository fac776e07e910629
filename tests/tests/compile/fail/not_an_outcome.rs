//! A handler may not return just anything.

use goose_worker::{JobArgs, Worker, broker::Broker};
use serde::Deserialize;

#[derive(Deserialize)]
struct Ping(u32);
impl JobArgs for Ping {
    const NAME: &'static str = "ping";
}

async fn ping(_: Ping) -> u32 {
    5
}

fn build(broker: impl Broker) {
    let _ = Worker::builder(broker).handle(ping);
}

fn main() {}
