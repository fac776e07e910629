//! Middleware decides whether the rest runs, so it takes `Next`.

use std::sync::Arc;

use goose_worker::{Context, Job, Outcome, Worker, broker::Broker};

async fn log(_: Arc<Job>, _: Context) -> Outcome {
    Outcome::Done
}

fn build(broker: impl Broker) {
    let _ = Worker::builder(broker).middleware(log);
}

fn main() {}
