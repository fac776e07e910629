//! Counts what a process warns of, so that a storm of warnings is noticed. How jobs end does not count: those of the lab
//! fail because they are told to.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::Result;
use crate::ledger::now;

/// The number of warnings and errors since it was installed.
#[derive(Debug, Clone, Default)]
pub struct WarningCount {
    count: Arc<AtomicU64>,
    shows: bool,
}

impl WarningCount {
    /// From now on all of this process's log goes here; with `GOOSE_LAB_LOG` set, warnings are also shown.
    ///
    /// # Errors
    /// The log goes somewhere else already.
    pub fn install() -> Result<Self> {
        let log = Self { count: Arc::default(), shows: std::env::var_os("GOOSE_LAB_LOG").is_some() };
        tracing::subscriber::set_global_default(log.clone())?;
        Ok(log)
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Subscriber for WarningCount {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN && metadata.target() != "goose_worker::log"
    }

    fn event(&self, event: &Event<'_>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.shows {
            let (pid, at) = (std::process::id(), now().as_millis());
            let mut line = Line(format!("{at} {pid} {}:", event.metadata().target()));
            event.record(&mut line);
            #[expect(clippy::print_stderr, reason = "asked for")]
            {
                eprintln!("{}", line.0);
            }
        }
    }

    // Spans are not enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}
