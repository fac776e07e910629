//! A function that is not async is for handle_blocking.

use goose_worker::{JobArgs, Worker, broker::Broker};
use serde::Deserialize;

#[derive(Deserialize)]
struct Ping(u32);
impl JobArgs for Ping {
    const NAME: &'static str = "ping";
}

fn ping(_: Ping) {}

fn build(broker: impl Broker) {
    let _ = Worker::builder(broker).handle(ping);
}

fn main() {}
