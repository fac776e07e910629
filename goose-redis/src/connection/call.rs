//! One call: sent again for as long as it is known to be harmless and its time lasts.
//!
//! Harmless means that the server did not execute it (it said so, or it was never written), or that executing it twice
//! is the same as once. Anything else ends as [`OutcomeUnknown`](goose_core::ErrorKind::OutcomeUnknown).

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use fred::bytes::Bytes;
use goose_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use super::classify::{Fault, Verdict};
use super::keeper::Keeper;
use super::pace::Pace;
use super::wire::{End, Request, Wire};
use super::{Repeat, Reply, Script};
use crate::names;

/// Commands that may run twice: they read, or set what is set already.
const REPEATABLE: &[&str] = &[
    "PING",
    "INFO",
    "SCRIPT",
    "SADD",
    "SREM",
    "SMEMBERS",
    "SCARD",
    "HGET",
    "HMGET",
    "HGETALL",
    "HLEN",
    "HEXISTS",
    "LLEN",
    "LRANGE",
    "ZCARD",
    "ZSCORE",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "TYPE",
    "TIME",
];

/// What is asked of the server.
#[derive(Debug)]
pub(super) struct Call {
    request: Request,
    script: Option<&'static Script>,
    repeat: Repeat,
    /// Which arguments are keys. The first is named in errors, unless another is known to be at fault.
    keys: Range<usize>,
}

impl Call {
    /// The keys must be in one slot, which is given on a cluster.
    pub(super) fn script(script: &'static Script, keys: Vec<Bytes>, args: Vec<Bytes>, slot: Option<u16>) -> Self {
        let mut all = Vec::with_capacity(2 + keys.len() + args.len());
        all.push(Bytes::from_static(script.sha().as_bytes()));
        all.push(keys.len().to_string().into());
        let places = 2..2 + keys.len();
        all.extend(keys);
        all.extend(args);
        let request = Request { slot, ..Request::new("EVALSHA", all) };
        Self { request, script: Some(script), repeat: script.repeat, keys: places }
    }

    pub(super) fn command(name: &'static str, key: Option<Bytes>, args: Vec<Bytes>, slot: Option<u16>) -> Self {
        let keys = 0..usize::from(key.is_some());
        let all = key.into_iter().chain(args).collect();
        let repeat = if REPEATABLE.contains(&name) { Repeat::Always } else { Repeat::Never };
        Self { request: Request { slot, ..Request::new(name, all) }, script: None, repeat, keys }
    }

    pub(super) fn slot(&self) -> Option<u16> {
        self.request.slot
    }

    pub(super) fn repeat(&self) -> Repeat {
        self.repeat
    }

    /// Runs the call on whatever connection the keeper has. `at_risk` is told whether it may have been executed
    /// without an answer.
    pub(super) async fn run(&self, keeper: &Keeper, limit: Duration, at_risk: impl Fn(bool)) -> Result<Reply> {
        let deadline = Instant::now() + limit;
        let mut pace = Pace::resending();
        let (mut lost, mut loaded) = (false, false);
        // Why the last connection was given up: that tells a caller more than that it was.
        let mut reason: Option<Fault> = None;
        loop {
            let fault = match keeper.wire(deadline).await {
                Err(fault) => {
                    return Err(self.error(reason.filter(|_| fault.is_of_our_making()).unwrap_or(fault), lost, None));
                }
                Ok(wire) => {
                    at_risk(true);
                    match wire.send(&self.request, deadline).await {
                        Ok(reply) => return Ok(reply),
                        Err(fault) => {
                            lost |= fault.verdict == Verdict::Lost;
                            at_risk(lost);
                            if fault.kind == ErrorKind::Corrupt {
                                let wrong = self.key_of_another_type(&wire, deadline).await;
                                return Err(self.error(fault, lost, wrong.as_ref()));
                            }
                            self.treat(&wire, fault, deadline).await
                        }
                    }
                }
            };
            let again = match fault.verdict {
                Verdict::NotNow | Verdict::Reconnect | Verdict::NoScript => true,
                Verdict::Lost => self.repeat == Repeat::Always,
                Verdict::Refused | Verdict::Unblocked => false,
            };
            // A script that was given to the server just now is there; only when it is forgotten again at once
            // something is wrong.
            let is_loaded = fault.verdict == Verdict::NoScript && !std::mem::replace(&mut loaded, true);
            let pause = if is_loaded { Duration::ZERO } else { pace.pause() };
            if !again || Instant::now() + pause >= deadline {
                return Err(self.error(reason.filter(|_| fault.is_of_our_making()).unwrap_or(fault), lost, None));
            }
            tracing::debug!(call = %Named { call: self, key: self.keys().first() }, fault = fault.summary(), "sending again");
            if !fault.is_of_our_making() {
                reason = Some(fault);
            }
            sleep(pause).await;
        }
    }

    /// Does what a failure calls for before the call is sent again.
    async fn treat(&self, wire: &Wire, fault: Fault, deadline: Instant) -> Fault {
        match fault.verdict {
            Verdict::NoScript => {
                let Some(script) = self.script else { return fault };
                return load(wire, script, self.request.slot, deadline).await.err().unwrap_or(fault);
            }
            // A connection that does not answer in time is not waited for a second time.
            Verdict::Lost => wire.give_up(End::AtOnce, &fault.summary()),
            Verdict::Reconnect => wire.give_up(End::Gentle, &fault.summary()),
            Verdict::NotNow | Verdict::Refused | Verdict::Unblocked => {}
        }
        fault
    }

    fn keys(&self) -> &[Bytes] {
        self.request.args.get(self.keys.clone()).unwrap_or_default()
    }

    /// The server does not say which of many keys it means; whoever has to mend it wants to know.
    async fn key_of_another_type(&self, wire: &Wire, deadline: Instant) -> Option<Bytes> {
        for key in self.keys() {
            let request = Request { slot: self.request.slot, ..Request::new("TYPE", vec![key.clone()]) };
            let Some(ours) = names::type_of(key) else { continue };
            let found = wire.send(&request, deadline).await.ok()?.into_text().ok()?;
            if found != ours && found != "none" {
                return Some(key.clone());
            }
        }
        None
    }

    fn error(&self, fault: Fault, lost: bool, at_fault: Option<&Bytes>) -> Error {
        let fault = if lost { fault.after_loss() } else { fault };
        fault.into_error(format_args!("cannot run {}", Named { call: self, key: at_fault.or(self.keys().first()) }))
    }
}

/// A call with one of its keys.
struct Named<'a> {
    call: &'a Call,
    key: Option<&'a Bytes>,
}

/// What is done to which key.
impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.call.script {
            Some(script) => write!(f, "the script `{}`", script.name)?,
            None => write!(f, "{}", self.call.request.command)?,
        }
        if let Some(key) = &self.key {
            write!(f, " on {}", key.escape_ascii())?;
        }
        Ok(())
    }
}

/// Gives the server a script, on the node of a slot. Not by `EVAL`: servers evict what came that way.
pub(super) async fn load(
    wire: &Wire,
    script: &Script,
    slot: Option<u16>,
    deadline: Instant,
) -> std::result::Result<(), Fault> {
    let args = vec![Bytes::from_static(b"LOAD"), Bytes::from_static(script.source.as_bytes())];
    let request = Request { slot, ..Request::new("SCRIPT", args) };
    let sent = wire.send(&request, deadline).await;
    // Nothing was executed that matters, whatever became of it.
    sent.map(drop).map_err(|fault| if fault.verdict == Verdict::Lost { fault.harmless() } else { fault })
}
