//! Jobs run on many threads.

use goose_worker::{JobArgs, Worker, broker::Broker};
use serde::Deserialize;

#[derive(Deserialize)]
struct Ping(u32);
impl JobArgs for Ping {
    const NAME: &'static str = "ping";
}

async fn ping(_: Ping) {
    let local = std::rc::Rc::new(5);
    std::future::ready(()).await;
    drop(local);
}

fn build(broker: impl Broker) {
    let _ = Worker::builder(broker).handle(ping);
}

fn main() {}
