//! The link against real servers: what heals, what is refused, what is never done twice, and that it ends.

mod calls;
mod close;
mod cluster;
mod damage;
mod heal;
mod independence;
mod sentinel;
mod settings;
mod wait;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use fred::bytes::Bytes;
use goose_core::Result;
use tokio::task::JoinHandle;

use super::{Lane, Link, Repeat, Reply, Script, open};
use crate::options::RedisOptions;

/// Not to be sent twice: the count shows how often it ran.
static COUNT: Script = Script::new("count", "return redis.call('INCR', KEYS[1])", Repeat::Never);
/// The same, marked as one that may.
static COUNT_ALWAYS: Script = Script::new("count_always", "return redis.call('INCRBY', KEYS[1], 1)", Repeat::Always);
/// Answers what it is given.
static ECHO: Script = Script::new("echo", "return {1, ARGV[1]}", Repeat::Always);
static SCRIPTS: &[&Script] = &[&COUNT, &COUNT_ALWAYS, &ECHO];

async fn connect(url: impl Into<String>) -> Arc<dyn Link> {
    connect_with(RedisOptions::new(url)).await
}

async fn connect_with(options: RedisOptions) -> Arc<dyn Link> {
    open(&options, SCRIPTS).await.expect("a link")
}

fn key(name: &str) -> Vec<Bytes> {
    vec![Bytes::from(name.to_owned())]
}

/// Counts a key up and answers the count.
async fn count(link: &dyn Link, name: &str) -> Result<i64> {
    link.eval(Lane::Data, &COUNT, key(name), Vec::new()).await?.into_int()
}

/// A count on its way while the test does something else.
fn begin_count(link: &Arc<dyn Link>, name: &'static str) -> JoinHandle<Result<i64>> {
    let link = Arc::clone(link);
    tokio::spawn(async move { count(&*link, name).await })
}

/// A call that the link's thread has taken up, and sent if there was a connection.
async fn begun<'a, T>(
    link: &dyn Link,
    call: impl Future<Output = T> + Send + 'a,
) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    let mut call: Pin<Box<dyn Future<Output = T> + Send + 'a>> = Box::pin(call);
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // Tasks begin in the order in which they came.
    link.spawn(Box::pin(async {})).await.unwrap();
    call
}
