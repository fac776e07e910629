//! Everything that is a handler.

use std::sync::Arc;
use std::time::Duration;

use goose_worker::{Context, Job, JobArgs, Next, Outcome, Worker, WorkerBuilder, broker::Broker};
use serde::Deserialize;

macro_rules! jobs {
    ($($name:ident),+) => {$(
        #[derive(Deserialize)]
        struct $name(u32);
        impl JobArgs for $name {
            const NAME: &'static str = stringify!($name);
        }
    )+};
}
jobs!(A, B, C, D, E, F, G, H);

struct MailError;
impl From<MailError> for Box<dyn std::error::Error + Send + Sync> {
    fn from(_: MailError) -> Self {
        "mail".into()
    }
}

async fn plain(A(_): A) {}
async fn with_context(B(n): B, cx: Context) -> Result<(), std::io::Error> {
    if n == cx.attempt() { Ok(()) } else { Err(std::io::Error::other("no")) }
}
async fn own_error(C(n): C) -> Result<Outcome, MailError> {
    if n > 3 { Err(MailError) } else { Ok(Outcome::Snooze(Duration::from_secs(1))) }
}
async fn boxed(D(_): D) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let _number: u32 = "7".parse()?;
    Ok(())
}
fn blocking(E(_): E) -> Outcome {
    Outcome::Done
}
fn blocking_with_context(F(_): F, cx: Context) -> Result<(), &'static str> {
    if cx.is_cancelled() { Err("cut") } else { Ok(()) }
}
async fn timing(job: Arc<Job>, cx: Context, next: Next) -> Outcome {
    next.run(job, cx).await
}

fn build<B: Broker>(broker: B) -> WorkerBuilder {
    let captured = String::from("prefix");
    Worker::builder(broker)
        .middleware(timing)
        .state(5_u64)
        .handle(plain)
        .handle(with_context)
        .handle(own_error)
        .handle(boxed)
        .handle(move |G(n): G| {
            let captured = captured.clone();
            async move { println!("{captured} {n}") }
        })
        .handle(|H(_): H, cx: Context| async move { cx.state::<u64>().map(drop) })
        .handle_blocking(blocking)
        .handle_blocking(blocking_with_context)
}

fn main() {
    let _ = build::<Arc<dyn Broker>>;
}
