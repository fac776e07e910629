//! One entry of the list: a name, what it needs, and the steps.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::BoxFuture;
use goose_core::broker::capability;

use super::failure::{Checked, Failure};
use super::report::Outcome;
use super::stage::Stage;
use super::{Harness, Skip};

/// A promise of the broker contract and the steps that check it.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [&'static str],
    /// How many recovery deadlines its steps may take one after another.
    pub(crate) recoveries: u32,
    /// Whether it judges how fast something is.
    pub(crate) is_timed: bool,
    pub(crate) steps: fn(Stage) -> BoxFuture<'static, Checked>,
}

impl Scenario {
    /// `battery::what_must_hold`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The capabilities it needs, by their names in [`capability::ALL`].
    #[must_use]
    pub fn needs(&self) -> &'static [&'static str] {
        self.needs
    }

    /// Whether it measures how long something takes. Whoever runs scenarios side by side should run these alone.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.is_timed
    }

    /// Runs it in a fresh namespace, unless the harness skips it.
    pub async fn run(&self, harness: &Arc<dyn Harness>) -> Outcome {
        if let Some(Skip { reason, .. }) = harness.skips().into_iter().find(|skip| skip.scenario == self.name) {
            return Outcome::Skipped(reason);
        }
        let started = Instant::now();
        let stage = Stage::new(Arc::clone(harness));
        let played = tokio::time::timeout(self.deadline(harness), self.play(&stage)).await;
        let played = played.unwrap_or_else(|_| {
            let (waited, what) = (started.elapsed(), stage.waiting_for());
            Err(Failure::new(format!("not finished after {waited:.1?}; it was waiting for {what}")))
        });
        let cleared = tokio::time::timeout(harness.patience(), stage.clear()).await;
        let cleared = cleared.unwrap_or_else(|_| Err(Failure::new("closing the handles took too long")));
        match played.and(cleared) {
            Ok(()) => Outcome::Passed(started.elapsed()),
            Err(failure) => Outcome::Failed(failure),
        }
    }

    async fn play(&self, stage: &Stage) -> Checked {
        self.check_capabilities(stage).await?;
        (self.steps)(stage.clone()).await
    }

    /// A missing capability is no excuse by itself: the harness has to say so.
    async fn check_capabilities(&self, stage: &Stage) -> Checked {
        if self.needs.is_empty() {
            return Ok(());
        }
        let process = stage.process().await?;
        for power in capability::ALL.iter().filter(|power| self.needs.contains(&power.name)) {
            if !(power.is_supported)(process.broker()) {
                return Err(Failure::new(format!(
                    "broker {:?} does not support {}; if that is meant, let `Harness::skips` name {:?} with the reason",
                    process.broker().name(),
                    power.name,
                    self.name
                )));
            }
        }
        Ok(())
    }

    /// A limit for steps that hang; slowness is judged by the steps themselves.
    fn deadline(&self, harness: &Arc<dyn Harness>) -> Duration {
        harness.patience() * 6 + harness.recovery_deadline() * self.recoveries
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// Writes a battery: its functions, once each, with what they need. `#[timed]` marks those that judge how fast
/// something is.
macro_rules! battery {
    ($battery:literal: $($(#[$timed:ident])? $steps:ident $(needs $($need:literal),+)? $(takes $recoveries:literal recoveries)?;)+) => {
        pub(in crate::conformance) const SCENARIOS: &[$crate::conformance::Scenario] = &[$(
            $crate::conformance::Scenario {
                name: concat!($battery, "::", stringify!($steps)),
                needs: &[$($($need),+)?],
                recoveries: 0 $(+ $recoveries)?,
                is_timed: {
                    const MARKS: &[&str] = &[$(stringify!($timed))?];
                    !MARKS.is_empty()
                },
                steps: |stage| Box::pin($steps(stage)),
            }
        ),+];
    };
}

pub(crate) use battery;
