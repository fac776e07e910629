//! The raw probe over Redis.
//!
//! By default it runs the broker's own scripts, so that what is left is the framework: envelopes, handlers, engine.
//! With `--bare` it runs the bare steps of a job instead, without lease, fence and counters: the floor of any queue that
//! keeps what it claims.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fred::bytes::Bytes;
use fred::prelude::*;
use fred::types::scripts::Script;
use fred::types::{ClusterHash, CustomCommand, InfoKind};

use crate::Result;

/// The arguments of a job, with what the broker's scripts read in front.
const VALUE: [u8; 209] = *b"\0ab\0\0\0\0\0\0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// The scripts of the probe, and what goes into them.
#[derive(Debug, Clone, Copy)]
struct Steps {
    enqueue: &'static str,
    fetch: &'static str,
    settle: &'static str,
    enqueue_keys: &'static [&'static str],
    fetch_keys: &'static [&'static str],
    settle_keys: &'static [&'static str],
    is_bare: bool,
}

const SAME: Steps = Steps {
    enqueue: include_str!("../../../goose-redis/src/scripts/enqueue.lua"),
    fetch: include_str!("../../../goose-redis/src/scripts/fetch.lua"),
    settle: include_str!("../../../goose-redis/src/scripts/settle.lua"),
    enqueue_keys: &["jobs", "ready", "scheduled", "wake", "meta"],
    fetch_keys: &["jobs", "ready", "scheduled", "wake", "meta", "recoveries", "claims"],
    settle_keys: &["claims", "jobs", "ready", "scheduled", "dead", "epitaphs", "recoveries", "meta", "wake"],
    is_bare: false,
};

const BARE: Steps = Steps {
    enqueue: "redis.call('HSET', KEYS[1], unpack(ARGV)) \
        local ids = {} for i = 1, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end \
        redis.call('RPUSH', KEYS[2], unpack(ids)) return #ids",
    fetch: "local ids = redis.call('LPOP', KEYS[2], ARGV[1]) if not ids then return {} end \
        local values = redis.call('HMGET', KEYS[1], unpack(ids)) redis.call('SADD', KEYS[3], unpack(ids)) \
        local out = {} for i = 1, #ids do out[#out + 1] = ids[i] out[#out + 1] = values[i] end return out",
    settle: "redis.call('SREM', KEYS[3], unpack(ARGV)) return redis.call('HDEL', KEYS[1], unpack(ARGV))",
    enqueue_keys: &["jobs", "ready", "claims"],
    fetch_keys: &["jobs", "ready", "claims"],
    settle_keys: &["jobs", "ready", "claims"],
    is_bare: true,
};

pub(crate) struct RedisProbe {
    client: Client,
    steps: Steps,
    enqueue: Arc<Script>,
    fetch: Arc<Script>,
    settle: Arc<Script>,
    fetches: Arc<AtomicU32>,
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{{probe}}:{name}")).collect()
}

impl Steps {
    fn enqueue_args(self, jobs: std::ops::Range<u32>) -> Vec<Bytes> {
        let count = (!self.is_bare).then(|| Bytes::from(jobs.len().to_string()));
        let pairs = jobs.flat_map(|n| [Bytes::from(format!("{n:016}")), Bytes::from_static(&VALUE)]);
        count.into_iter().chain(pairs).collect()
    }

    fn fetch_args(self, want: u32, token: &str) -> Vec<String> {
        let want = want.to_string();
        if self.is_bare {
            return vec![want];
        }
        // The lease, since nobody waits for due jobs here no watch for them, and how many small jobs are read at a time.
        vec![want.clone(), token.to_owned(), "6000".to_owned(), "0".to_owned(), "64".to_owned(), want]
    }

    /// What to settle of the answer to a fetch; nothing when it was empty.
    fn settle_args(self, found: Vec<Value>, token: &str) -> Option<Vec<Value>> {
        if self.is_bare {
            return (!found.is_empty()).then(|| found.into_iter().step_by(2).collect());
        }
        let ids = found.into_iter().nth(3)?.into_array().into_iter().nth(1)?.into_bytes()?;
        let mut names = Vec::with_capacity(ids.len() / 16 * 37);
        for (place, id) in ids.chunks(16).enumerate() {
            names.extend_from_slice(id);
            names.extend_from_slice(token.as_bytes());
            names.extend_from_slice(format!("{:04}", place + 1).as_bytes());
        }
        Some(vec![Value::Bytes(names.into())])
    }
}

impl RedisProbe {
    pub(crate) async fn connect(url: &str, bare: bool) -> Result<Self> {
        let client = Builder::from_config(Config::from_url(url)?).build()?;
        client.init().await?;
        let load = async |source: &str| -> Result<Arc<Script>> {
            let script = Script::from_lua(source);
            script.load(&client).await?;
            Ok(Arc::new(script))
        };
        let steps = if bare { BARE } else { SAME };
        let (enqueue, fetch, settle) =
            (load(steps.enqueue).await?, load(steps.fetch).await?, load(steps.settle).await?);
        Ok(Self { client, steps, enqueue, fetch, settle, fetches: Arc::default() })
    }

    /// Processor time of the server so far.
    pub(crate) async fn server_seconds(&self) -> Result<f64> {
        let info: String = self.client.info(Some(InfoKind::Cpu)).await?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        match (field("used_cpu_sys:"), field("used_cpu_user:")) {
            (Some(system), Some(user)) => Ok(system + user),
            _ => Err("the server does not say its processor time in INFO cpu".into()),
        }
    }

    /// Bytes of the server's memory in use.
    pub(crate) async fn memory(&self) -> Result<f64> {
        let info: String = self.client.info(Some(InfoKind::Memory)).await?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        used.ok_or_else(|| "the server does not say its memory in INFO memory".into())
    }

    /// What the server kept in its slow log since the last question.
    pub(crate) async fn slow_calls(&self) -> Result<Vec<SlowCall>> {
        let command = |words: &[&'static str]| {
            let args: Vec<Value> = words.iter().map(|word| Value::from(*word)).collect();
            (CustomCommand::new_static("SLOWLOG", ClusterHash::FirstKey, false), args)
        };
        let (get, args) = command(&["GET", "20000"]);
        let entries: Vec<Value> = self.client.custom(get, args).await?;
        let (reset, args) = command(&["RESET"]);
        let _: Value = self.client.custom(reset, args).await?;
        let read = |entry: Value| {
            let fields = entry.into_array();
            let millis = f64::from(u32::try_from(fields.get(2)?.as_u64()?).ok()?) / 1000.0;
            let words = fields.get(3)?.clone().into_array();
            let words = words.iter().filter_map(Value::as_bytes).map(|word| word.escape_ascii().to_string());
            Some(SlowCall { millis, words: words.take(5).collect::<Vec<_>>().join(" ") })
        };
        Ok(entries.into_iter().filter_map(read).collect())
    }

    /// So many callers, so many jobs a call.
    pub(crate) async fn enqueue(&self, callers: u32, batch: u32, jobs: u32) -> Result<()> {
        let next = Arc::new(AtomicU32::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let (client, script, next) = (self.client.clone(), Arc::clone(&self.enqueue), Arc::clone(&next));
            let steps = self.steps;
            tasks.spawn(async move {
                loop {
                    let first = next.fetch_add(batch, Ordering::Relaxed);
                    if first >= jobs {
                        return Ok::<(), Error>(());
                    }
                    let args = steps.enqueue_args(first..(first + batch).min(jobs));
                    let _: i64 = script.evalsha(&client, keys(steps.enqueue_keys), args).await?;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Two calls overlap, each with half of what may be in flight.
    pub(crate) async fn drain(&self, in_flight: u32) -> Result<()> {
        if !self.steps.is_bare {
            // A session is there while this field is.
            let description = "x".repeat(100);
            let _: i64 = self.client.hset(keys(&["claims"]).remove(0), ("", description)).await?;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (client, fetch, settle) = (self.client.clone(), Arc::clone(&self.fetch), Arc::clone(&self.settle));
            let (steps, fetches) = (self.steps, Arc::clone(&self.fetches));
            tasks.spawn(async move {
                loop {
                    let token = format!("{:016x}.", fetches.fetch_add(1, Ordering::Relaxed));
                    let args = steps.fetch_args((in_flight / 2).clamp(1, 500), &token);
                    let found: Vec<Value> = fetch.evalsha(&client, keys(steps.fetch_keys), args).await?;
                    let Some(args) = steps.settle_args(found, &token) else { return Ok::<(), Error>(()) };
                    let _: Value = settle.evalsha(&client, keys(steps.settle_keys), args).await?;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Removes what was enqueued.
    pub(crate) async fn clear(&self) -> Result<()> {
        let _: i64 = self.client.del(keys(SAME.fetch_keys)).await?;
        Ok(())
    }
}

/// A call that took long.
pub(crate) struct SlowCall {
    pub(crate) millis: f64,
    /// Its first words.
    pub(crate) words: String,
}
