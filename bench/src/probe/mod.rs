//! The raw probe: what the same client crate costs on the same server without Goose.

mod redis;
mod rmq;

pub(crate) use redis::RedisProbe;
pub(crate) use rmq::RmqProbe;

use crate::Result;
use crate::broker::At;

/// A probe of the broker that is measured.
pub(crate) enum Probe {
    Redis(RedisProbe),
    Rmq(Box<RmqProbe>),
}

impl Probe {
    /// The probe for a server, if there is one; `bare` is for Redis.
    pub(crate) async fn of(at: &At, bare: bool) -> Result<Option<Self>> {
        Ok(Some(match at {
            At::Sqlite => return Ok(None),
            At::Redis { url } => Self::Redis(RedisProbe::connect(url, bare).await?),
            At::Rmq { url, queue_type, pid, .. } => {
                Self::Rmq(Box::new(RmqProbe::connect(url, *queue_type, *pid).await?))
            }
        }))
    }

    /// Processor time of the server so far, where it can be known.
    pub(crate) async fn server_seconds(&self) -> Result<Option<f64>> {
        match self {
            Self::Redis(probe) => probe.server_seconds().await.map(Some),
            Self::Rmq(probe) => probe.server_seconds(),
        }
    }

    /// How many callers enqueue in bulk: Redis is never without a call. RabbitMQ keeps the order of messages only on
    /// one channel, and a bulk has an order.
    pub(crate) fn bulk_callers(&self) -> u32 {
        match self {
            Self::Redis(_) => 2,
            Self::Rmq(_) => 1,
        }
    }

    /// So many callers, so many jobs a call.
    pub(crate) async fn enqueue(&self, callers: u32, batch: u32, jobs: u32) -> Result<()> {
        match self {
            Self::Redis(probe) => probe.enqueue(callers, batch, jobs).await,
            Self::Rmq(probe) => probe.enqueue(callers, batch, jobs).await,
        }
    }

    /// Takes everything out again, with so many in flight.
    pub(crate) async fn drain(&self, in_flight: u32) -> Result<()> {
        match self {
            Self::Redis(probe) => probe.drain(in_flight).await,
            Self::Rmq(probe) => probe.drain(in_flight).await,
        }
    }

    /// Removes what was enqueued.
    pub(crate) async fn clear(&self) -> Result<()> {
        match self {
            Self::Redis(probe) => probe.clear().await,
            Self::Rmq(probe) => probe.clear().await,
        }
    }
}
