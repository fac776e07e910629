//! Every key of this broker. Nothing else makes up a key, and no script builds one.
//!
//! All keys of a queue carry the queue's name in braces, so that a cluster keeps them on one node.
//! `docs/brokers/redis.md` describes what each holds.

use fred::bytes::Bytes;
use goose_core::QueueName;

/// The keys of one installation, told apart from others by its prefix.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
}

/// The keys of one queue, made once and shared.
#[derive(Debug, Clone)]
pub(crate) struct QueueKeys {
    /// HASH: job id → stored job, in whatever state.
    pub(crate) jobs: Bytes,
    /// LIST: those in line, the head first.
    pub(crate) ready: Bytes,
    /// ZSET: those that wait for their time, by due time in ms.
    pub(crate) scheduled: Bytes,
    /// ZSET: the dead, by time of death in µs.
    pub(crate) dead: Bytes,
    /// HASH: dead job id → cause and words.
    pub(crate) epitaphs: Bytes,
    /// ZSET: sessions, by the end of their lease in ms.
    pub(crate) leases: Bytes,
    /// HASH: job id → how often in a row it was taken from a dead session; sparse.
    pub(crate) recoveries: Bytes,
    /// HASH: counters.
    pub(crate) meta: Bytes,
    /// ZSET: the wake marker, one member at most.
    pub(crate) wake: Bytes,
    base: String,
}

impl Names {
    pub(crate) fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// SET: every queue that ever held a job.
    pub(crate) fn queues(&self) -> Bytes {
        format!("{}:queues", self.prefix).into()
    }

    /// SET: every queue that ever had a session, so that dead ones are found also where nobody works any more.
    pub(crate) fn served(&self) -> Bytes {
        format!("{}:served", self.prefix).into()
    }

    /// A key that nothing uses, and in the same slot HASH: the layout of all others.
    pub(crate) fn probe(&self) -> [Bytes; 2] {
        ["unused", "about"].map(|kind| format!("{}:{{about}}:{kind}", self.prefix).into())
    }

    pub(crate) fn queue(&self, queue: &QueueName) -> QueueKeys {
        QueueKeys::under(format!("{}:{{{queue}}}", self.prefix))
    }
}

impl QueueKeys {
    fn under(base: String) -> Self {
        let key = |kind: &str| Bytes::from(format!("{base}:{kind}"));
        Self {
            jobs: key("jobs"),
            ready: key("ready"),
            scheduled: key("scheduled"),
            dead: key("dead"),
            epitaphs: key("epitaphs"),
            leases: key("leases"),
            recoveries: key("recoveries"),
            meta: key("meta"),
            wake: key("wake"),
            base,
        }
    }

    /// HASH: job id → claim token, for what a session holds; the empty field says that it lives.
    pub(crate) fn claims(&self, session: &str) -> Bytes {
        format!("{}:claims:{session}", self.base).into()
    }
}

/// The type of a key of ours, as `TYPE` tells it.
pub(crate) fn type_of(key: &[u8]) -> Option<&'static str> {
    let key = std::str::from_utf8(key).ok()?;
    let kind = match key.rsplit_once("}:") {
        Some((_, kind)) => kind.split(':').next()?,
        None => key.rsplit(':').next()?,
    };
    match kind {
        "jobs" | "epitaphs" | "recoveries" | "meta" | "claims" | "about" => Some("hash"),
        "ready" => Some("list"),
        "scheduled" | "dead" | "leases" | "wake" => Some("zset"),
        "queues" | "served" => Some("set"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_queue_share_its_tag() {
        let keys = Names::new("goose").queue(&QueueName::new("mail").unwrap());
        for key in [&keys.jobs, &keys.ready, &keys.wake, &keys.claims("0123")] {
            assert!(key.starts_with(b"goose:{mail}:"), "{key:?}");
        }
    }

    #[test]
    fn every_key_has_a_type() {
        let names = Names::new("a:b");
        let k = names.queue(&QueueName::new("mail").unwrap());
        for hash in [&k.jobs, &k.epitaphs, &k.recoveries, &k.meta, &k.claims("0123")] {
            assert_eq!(type_of(hash), Some("hash"), "{hash:?}");
        }
        for zset in [&k.scheduled, &k.dead, &k.leases, &k.wake] {
            assert_eq!(type_of(zset), Some("zset"), "{zset:?}");
        }
        assert_eq!(type_of(&k.ready), Some("list"));
        assert_eq!((type_of(&names.queues()), type_of(&names.served())), (Some("set"), Some("set")));
        assert_eq!(type_of(b"whatever"), None);
    }
}
