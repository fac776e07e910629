//! A handler takes at least the arguments.

use goose_worker::{JobArgs, Worker, broker::Broker};
use serde::Deserialize;

#[derive(Deserialize)]
#[allow(dead_code)]
struct Ping(u32);
impl JobArgs for Ping {
    const NAME: &'static str = "ping";
}

async fn ping() {}

fn build(broker: impl Broker) {
    let _ = Worker::builder(broker).handle(ping);
}

fn main() {}
