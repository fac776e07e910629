//! A client turns the arguments into bytes, so they must be `Serialize`.

use goose_worker::{Client, JobArgs};

struct Ping(u32);
impl JobArgs for Ping {
    const NAME: &'static str = "ping";
}

async fn enqueue(client: Client) {
    let _ = client.perform_async(Ping(1)).await;
}

fn main() {}
