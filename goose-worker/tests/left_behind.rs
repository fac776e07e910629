//! A stop that must leave a job behind says which one.

#![expect(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use goose_sqlite::SqliteBroker;
use goose_worker::{Client, JobArgs, Worker};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Stubborn;
impl JobArgs for Stubborn {
    const NAME: &'static str = "stubborn";
}

/// What the log says.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Waits for a warning with these words; without the fields of spans around it.
    async fn warning(&self, words: &str) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let text = String::from_utf8(self.0.lock().clone()).unwrap();
            if let Some(line) = text.lines().find(|line| line.contains("WARN") && line.contains(words)) {
                return line.to_owned();
            }
            assert!(Instant::now() < until, "no {words:?} in {text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// It blocks its thread in a poll, so nothing can cut it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_does_not_yield_is_named_and_named_again_when_it_ends_too_late() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let broker = SqliteBroker::in_memory().await.unwrap();
    let id = Client::new(broker.clone()).perform_async(Stubborn).await.unwrap();
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let handler = move |_: Stubborn| {
        begin.send(()).unwrap();
        let _ = released.lock().recv();
        std::future::ready(())
    };
    let worker = Worker::builder(broker).grace_period(Duration::ZERO).handle(handler).start().await.unwrap();
    tokio::task::spawn_blocking(move || begun.recv()).await.unwrap().unwrap();
    worker.stop().await.unwrap();
    let named = format!("job.id={id} job.name=stubborn");
    let line = lines.warning("the handler does not yield").await;
    assert!(line.contains(&named), "{line}");
    drop(release);
    let line = lines.warning("a job ended after its worker had stopped, it will run again").await;
    // The id alone: no dump of the whole job.
    assert!(line.ends_with(&named.replace("stubborn", "\"stubborn\"")) && !line.contains("Settlement"), "{line}");
}
