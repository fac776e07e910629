//! A handler takes the arguments and the context, nothing else.

use goose_worker::{Context, JobArgs, Worker, broker::Broker};
use serde::Deserialize;

#[derive(Deserialize)]
#[allow(dead_code)]
struct Ping(u32);
impl JobArgs for Ping {
    const NAME: &'static str = "ping";
}

async fn ping(_: Ping, _: Context, _: u32) {}

fn build(broker: impl Broker) {
    let _ = Worker::builder(broker).handle(ping);
}

fn main() {}
