//! A check that the keys say what they should: every job in one place, every counter right.

use fred::bytes::Bytes;
use goose_core::{Error, ErrorKind, QueueName, Result};

use crate::RedisBroker;
use crate::broker::Inner;
use crate::connection::Lane;
use crate::names::QueueKeys;
use crate::scripts::CONSISTENCY;

/// How often a queue is looked at again because sessions came or went meanwhile.
const ATTEMPTS: usize = 20;

/// The numbers of `consistency.lua`.
struct Numbers {
    jobs: i64,
    entries: i64,
    leftovers: i64,
    scheduled: i64,
    dead: i64,
    epitaphs: i64,
    claimed: i64,
    running: i64,
}

impl RedisBroker {
    /// Says, in sentences, what in the queues contradicts itself; an empty list is good news.
    ///
    /// It counts and reads no job, so it is cheap at any size and may be asked while workers go on: each queue
    /// is looked at in one step.
    ///
    /// ```no_run
    /// # async fn f(broker: goose_redis::RedisBroker) -> goose_core::Result<()> {
    /// let complaints = broker.check_consistency().await?;
    /// assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the server cannot be asked, or sessions come and go faster than it can be.
    pub async fn check_consistency(&self) -> Result<Vec<String>> {
        let inner = &self.inner;
        let mut names: Vec<QueueName> = inner.queue_names().await?;
        names.extend(inner.served_queues(Lane::Data).await?);
        names.sort();
        names.dedup();
        let mut complaints = Vec::new();
        for name in names {
            let numbers = look(inner, &inner.names.queue(&name)).await?;
            complaints.extend(numbers.complaints().into_iter().map(|complaint| format!("queue {name}: {complaint}")));
        }
        Ok(complaints)
    }
}

async fn look(inner: &Inner, keys: &QueueKeys) -> Result<Numbers> {
    for _ in 0..ATTEMPTS {
        let everyone = vec![Bytes::from_static(b"0"), Bytes::from_static(b"-1")];
        let sessions = inner.link.command(Lane::Data, "ZRANGE", Some(keys.leases.clone()), everyone).await?;
        let sessions: Vec<Bytes> =
            sessions.into_array()?.into_iter().map(|session| session.into_bytes()).collect::<Result<_>>()?;
        let fixed = [&keys.jobs, &keys.ready, &keys.scheduled, &keys.dead, &keys.epitaphs, &keys.meta, &keys.leases];
        let claims = sessions.iter().map(|session| keys.claims(&String::from_utf8_lossy(session)));
        let all = fixed.into_iter().cloned().chain(claims).collect();
        let reply = inner.link.eval(Lane::Data, &CONSISTENCY, all, sessions).await?.into_array()?;
        let numbers: Vec<i64> = reply.into_iter().map(|number| number.into_int()).collect::<Result<_>>()?;
        if let [jobs, entries, leftovers, scheduled, dead, epitaphs, claimed, running] = numbers[..] {
            return Ok(Numbers { jobs, entries, leftovers, scheduled, dead, epitaphs, claimed, running });
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "workers come and go too fast to be counted; ask again"))
}

impl Numbers {
    fn complaints(&self) -> Vec<String> {
        let Self { jobs, entries, leftovers, scheduled, dead, epitaphs, claimed, running } = self;
        let mut complaints = Vec::new();
        let ready = entries - leftovers;
        if *leftovers < 0 || ready < 0 {
            complaints.push(format!("{leftovers} of {entries} entries in line count as leftovers"));
        }
        if *jobs != ready + scheduled + dead + claimed {
            complaints.push(format!(
                "{jobs} jobs are stored, but {ready} are in line, {scheduled} scheduled, {claimed} claimed and {dead} dead"
            ));
        }
        if running != claimed {
            complaints.push(format!("{running} jobs count as running, {claimed} are claimed"));
        }
        if epitaphs != dead {
            complaints.push(format!("{epitaphs} causes of death are stored for {dead} dead jobs"));
        }
        complaints
    }
}
