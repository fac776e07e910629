//! The arguments come as bytes, so they must be `Deserialize`.

use goose_worker::{JobArgs, Worker, broker::Broker};

struct Ping(u32);
impl JobArgs for Ping {
    const NAME: &'static str = "ping";
}

async fn ping(_: Ping) {}

fn build(broker: impl Broker) {
    let _ = Worker::builder(broker).handle(ping);
}

fn main() {}
