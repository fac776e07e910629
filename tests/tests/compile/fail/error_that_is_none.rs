//! The error of a handler must be an error.

use goose_worker::{JobArgs, Worker, broker::Broker};
use serde::Deserialize;

#[derive(Deserialize)]
struct Ping(u32);
impl JobArgs for Ping {
    const NAME: &'static str = "ping";
}

struct Oops;

async fn ping(_: Ping) -> Result<(), Oops> {
    Err(Oops)
}

fn build(broker: impl Broker) {
    let _ = Worker::builder(broker).handle(ping);
}

fn main() {}
