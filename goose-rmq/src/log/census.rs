//! Asking who is there. Sessions do not beat: they answer when somebody wants to know, and so an idle system is silent.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use goose_core::broker::capability::LiveWorker;
use goose_core::{ErrorKind, JobId, QueueName, Result};

use super::said::{Said, SessionSaid, Text};
use super::{Log, State};

/// Who has not answered by then is gone, until it says that it is not. A process answers within a round trip; a busy
/// machine may take its time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// What sessions have of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Holdings {
    /// Handed out.
    pub(crate) running: u64,
    /// Sent by the server, and not handed out: ready.
    pub(crate) held: u64,
    /// Being sent from there to somewhere else.
    pub(crate) moving: u64,
}

impl Log {
    /// The open sessions, the oldest first.
    pub(crate) async fn workers(&self) -> Result<Vec<LiveWorker>> {
        let mut sessions = self.census().await?;
        sessions.sort_by_key(SessionSaid::started_at);
        let worker = |session: SessionSaid| {
            let running = session.queues.iter().map(|holding| holding.running).sum();
            let (worker, started_at) = (session.worker(), session.started_at());
            LiveWorker::new(
                worker,
                session.queues.into_iter().map(|holding| holding.queue.0).collect(),
                started_at,
                running,
            )
        };
        Ok(sessions.into_iter().map(worker).collect())
    }

    /// What the open sessions have of each queue.
    pub(crate) async fn holdings(&self) -> Result<BTreeMap<QueueName, Holdings>> {
        let mut holdings: BTreeMap<QueueName, Holdings> = BTreeMap::new();
        for said in self.census().await?.into_iter().flat_map(|session| session.queues) {
            let sum = holdings.entry(said.queue.0).or_default();
            sum.running += said.running;
            sum.held += said.held;
            sum.moving += said.moving;
        }
        Ok(holdings)
    }

    pub(super) async fn open_sessions(&self) -> Result<HashSet<JobId>> {
        Ok(self.census().await?.into_iter().map(|session| session.id.0).collect())
    }

    async fn census(&self) -> Result<Vec<SessionSaid>> {
        self.catch_up().await?;
        if self.stream.state().content.sessions.is_empty() {
            return Ok(Vec::new());
        }
        let asked = match self.say(Said::Census).await {
            Ok(offset) => offset,
            // The server takes in nothing at present, so nobody could answer. What is known has to do.
            Err(error) if error.kind() == ErrorKind::Blocked => return Ok(self.stream.state().sessions()),
            Err(error) => return Err(error),
        };
        let mut progress = self.stream.progress();
        let all_answered = async {
            while !self.stream.state().silent_since(asked).is_empty() {
                if progress.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(ANSWERS_WITHIN, all_answered).await.is_err() {
            let silent = self.stream.state().silent_since(asked);
            tracing::info!(sessions = silent.len(), "sessions do not answer and are taken for dead");
            self.say(Said::Left { sessions: silent.into_iter().map(Text).collect() }).await?;
        }
        Ok(self.stream.state().sessions())
    }
}

impl State {
    fn sessions(&self) -> Vec<SessionSaid> {
        self.content.sessions.values().map(|(_, session)| session.clone()).collect()
    }

    /// Those who have said nothing since that entry.
    fn silent_since(&self, offset: u64) -> Vec<JobId> {
        let silent = self.content.sessions.iter().filter(|(_, (heard, _))| *heard <= offset);
        silent.map(|(id, _)| *id).collect()
    }
}
