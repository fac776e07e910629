//! Who hears of events: the log, metrics, hooks, and whoever the application adds.

use std::sync::Arc;

use goose_core::{Event, Observer};

use crate::engine::caught;

/// All observers of a worker, called one after another. One that panics is reported and does no harm.
#[derive(Debug, Clone)]
pub(crate) struct Observers(Arc<[Arc<dyn Observer>]>);

impl Observers {
    pub(crate) fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self(observers.into())
    }
}

impl Observer for Observers {
    fn observe(&self, event: &Event<'_>) {
        for observer in &*self.0 {
            if let Err(panic) = caught(|| observer.observe(event)) {
                // Its `Debug` is the application's, too.
                let _ = caught(|| tracing::error!(event = event.name(), panic, ?observer, "an observer panicked"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::{Job, JobName, Payload, QueueName};
    use std::sync::Mutex;

    #[derive(Debug)]
    struct Panics;
    impl Observer for Panics {
        fn observe(&self, _: &Event<'_>) {
            panic!("no");
        }
    }

    #[derive(Debug, Default)]
    struct Names(Mutex<Vec<&'static str>>);
    impl Observer for Names {
        fn observe(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(event.name());
        }
    }

    #[test]
    fn one_that_panics_does_not_keep_events_from_the_next() {
        let names = Arc::new(Names::default());
        let observers = Observers::new(vec![Arc::new(Panics), Arc::clone(&names) as _]);
        let job = Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![]));
        observers.observe(&Event::Expired { job: &job });
        observers.observe(&Event::Fenced { job: &job });
        assert_eq!(*names.0.lock().unwrap(), ["expired", "fenced"]);
    }
}
