//! Attempts to connect, of which one that hangs does not hold up the next.

use std::pin::Pin;
use std::time::Duration;

use fred::types::config::Server;
use tokio::time::{Instant, sleep};

use super::Topology;
use super::classify::Fault;
use super::config::Setup;
use super::pace::about;
use super::wire::{CONNECT_LIMIT, Router, Wire};

/// How long an attempt is waited for at least. Then another server is asked: this one may hang, or know a primary that does.
const HASTE: Duration = Duration::from_millis(400);

type Opened = Result<(Wire, Router), Fault>;
type Attempt<'a> = Pin<Box<dyn Future<Output = Opened> + Send + 'a>>;

/// The attempts of one keeper.
///
/// On a slow link a connection takes its time. So the first attempt that is not waited for goes on as the patient one,
/// beside those that follow.
pub(super) struct Attempts<'a> {
    setup: &'a Setup,
    role: &'static str,
    patient: Option<Attempt<'a>>,
    /// How long an attempt is waited for.
    haste: Duration,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(setup: &'a Setup, role: &'static str) -> Self {
        Self { setup, role, patient: None, haste: HASTE }
    }

    /// Tries to connect by asking one server; `None` when there is no answer soon.
    pub(super) async fn next(&mut self, first: Server) -> Option<Opened> {
        let (setup, role, begun) = (self.setup, self.role, Instant::now());
        let mut hasty: Attempt<'a> = Box::pin(async move { Wire::open(setup, role, &first).await });
        let earlier = async {
            match &mut self.patient {
                Some(patient) => patient.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            opened = &mut hasty => {
                if opened.is_ok() {
                    self.patient = None;
                    self.haste = (begun.elapsed() * 4).clamp(HASTE, CONNECT_LIMIT);
                }
                Some(opened)
            }
            opened = earlier => {
                self.patient = None;
                if opened.is_ok() && setup.topology != Topology::Standalone {
                    // It began long ago, when another server may have been the primary: one that hung, and goes on now as
                    // if it still were. So it is asked for again, and given more time, for the link may be slow.
                    self.haste = (self.haste * 2).min(CONNECT_LIMIT);
                    return None;
                }
                Some(opened)
            }
            () = sleep(about(self.haste)) => {
                self.patient.get_or_insert(hasty);
                None
            }
        }
    }
}
