//! What work costs: processor time of this process and of the server.

use std::time::Instant;

use crate::Result;
use crate::probe::Probe;

/// The kernel counts in hundredths of a second.
const TICK: f64 = 0.01;

/// A stretch of work.
pub(crate) struct Stretch {
    began: Instant,
    client: f64,
    server: Option<f64>,
}

/// How fast it went, and at what price.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Jobs per second.
    pub(crate) rate: f64,
    /// Microseconds of this process per job.
    pub(crate) client: f64,
    /// Microseconds of the server per job, where there is one.
    pub(crate) server: Option<f64>,
}

impl Stretch {
    pub(crate) async fn begin(probe: Option<&Probe>) -> Result<Self> {
        let server = match probe {
            Some(probe) => probe.server_seconds().await?,
            None => None,
        };
        Ok(Self { began: Instant::now(), client: seconds_of("self")?, server })
    }

    pub(crate) async fn end(self, probe: Option<&Probe>, jobs: u32) -> Result<Cost> {
        let (took, client) = (self.began.elapsed().as_secs_f64(), seconds_of("self")? - self.client);
        let server = match (probe, self.server) {
            (Some(probe), Some(before)) => probe.server_seconds().await?.map(|now| now - before),
            _ => None,
        };
        let per_job = |seconds: f64| seconds * 1e6 / f64::from(jobs);
        Ok(Cost { rate: f64::from(jobs) / took, client: per_job(client), server: server.map(per_job) })
    }
}

/// User and system time of a process so far; `self` is this one.
pub(crate) fn seconds_of(process: &str) -> Result<f64> {
    let line = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in the second field may have spaces in it; it ends with the last parenthesis.
    let fields: Vec<&str> = line.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) * TICK),
        _ => Err(format!("cannot read the processor time of a process from /proc/{process}/stat").into()),
    }
}
