//! Asks the server again and again whether it still hears us: as long as it does, it has given our jobs to nobody.

use std::sync::Arc;
use std::time::Instant;

use goose_core::{Error, ErrorKind};
use tokio::sync::mpsc::UnboundedSender;

use super::shared::Shared;
use super::wires::Event;
use crate::amqp::Channel;

/// How often the server is asked while it waits for a sign of life.
const PROBES_PER_HEARTBEAT: u32 = 4;

/// Runs until the channel is over.
pub(super) async fn serve(
    session: Arc<Shared>,
    channel: Arc<dyn Channel>,
    generation: u64,
    tell: UnboundedSender<(u64, Event)>,
) {
    let heartbeat = session.heartbeat();
    loop {
        let asked = Instant::now();
        // What counts is when the question was asked: the server has heard us since then.
        let silence = asked.saturating_duration_since(session.state().renewed);
        if silence > heartbeat {
            let words = format!("this process was silent for {silence:?}, longer than the server waits for it");
            let _ = tell.send((generation, Event::Failed(Error::new(ErrorKind::Unavailable, words))));
            return;
        }
        if let Err(error) = channel.round_trip().await {
            let _ = tell.send((generation, Event::Failed(error)));
            return;
        }
        {
            let mut state = session.state();
            if state.generation != generation {
                return;
            }
            state.renewed = asked;
        }
        tokio::time::sleep((heartbeat / PROBES_PER_HEARTBEAT).saturating_sub(asked.elapsed())).await;
    }
}
