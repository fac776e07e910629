//! The raw probe: what the same client crate and the bare steps of a job cost on the same server without Goose. No lease, no
//! fence, no counters, no envelope: the floor that the broker is measured against.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fred::prelude::*;
use fred::types::scripts::Script;
use fred::types::{ClusterHash, CustomCommand, InfoKind};

use crate::Result;

const ENQUEUE: &str = "redis.call('HSET', KEYS[1], unpack(ARGV)) \
    local ids = {} for i = 1, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end \
    redis.call('RPUSH', KEYS[2], unpack(ids)) return #ids";
const FETCH: &str = "local ids = redis.call('LPOP', KEYS[2], ARGV[1]) if not ids then return {} end \
    local values = redis.call('HMGET', KEYS[1], unpack(ids)) redis.call('SADD', KEYS[3], unpack(ids)) \
    local out = {} for i = 1, #ids do out[#out + 1] = ids[i] out[#out + 1] = values[i] end return out";
const SETTLE: &str = "redis.call('SREM', KEYS[3], unpack(ARGV)) return redis.call('HDEL', KEYS[1], unpack(ARGV))";

pub(crate) struct Probe {
    client: Client,
    enqueue: Arc<Script>,
    fetch: Arc<Script>,
    settle: Arc<Script>,
}

/// A call that took long.
pub(crate) struct SlowCall {
    pub(crate) millis: f64,
    /// Its first words.
    pub(crate) words: String,
}

fn keys() -> Vec<String> {
    ["jobs", "ready", "claimed"].map(|key| format!("{{probe}}:{key}")).to_vec()
}

impl Probe {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let client = Builder::from_config(Config::from_url(url)?).build()?;
        client.init().await?;
        let load = async |source: &str| -> Result<Arc<Script>> {
            let script = Script::from_lua(source);
            script.load(&client).await?;
            Ok(Arc::new(script))
        };
        let (enqueue, fetch, settle) = (load(ENQUEUE).await?, load(FETCH).await?, load(SETTLE).await?);
        Ok(Self { client, enqueue, fetch, settle })
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
            tasks.spawn(async move {
                loop {
                    let first = next.fetch_add(batch, Ordering::Relaxed);
                    if first >= jobs {
                        return Ok::<(), Error>(());
                    }
                    let pair = |n: u32| [format!("{n:016}"), "x".repeat(200)];
                    let args: Vec<String> = (first..(first + batch).min(jobs)).flat_map(pair).collect();
                    let _: i64 = script.evalsha(&client, keys(), args).await?;
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
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (client, fetch, settle) = (self.client.clone(), Arc::clone(&self.fetch), Arc::clone(&self.settle));
            tasks.spawn(async move {
                loop {
                    let part = vec![(in_flight / 2).max(1).to_string()];
                    let found: Vec<Value> = fetch.evalsha(&client, keys(), part).await?;
                    if found.is_empty() {
                        return Ok::<(), Error>(());
                    }
                    let ids: Vec<Value> = found.into_iter().step_by(2).collect();
                    let _: i64 = settle.evalsha(&client, keys(), ids).await?;
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
        let _: i64 = self.client.del(keys()).await?;
        Ok(())
    }
}
