//! The process that runs the jobs.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use goose_worker::client::{Clock, SystemClock};
use goose_worker::{Context, Outcome, Worker, shutdown_signal};
use sha2::{Digest, Sha256};

use crate::Result;
use crate::jobs::{CountFile, Flaky, Hopeless, QUEUE};
use crate::place::Address;
use crate::results::{Finding, Results};

/// Runs jobs until the producer closes our standard input, or is gone: that closes it, too.
pub(crate) async fn run(address: &Address, results: &Path) -> Result<()> {
    let broker = address.open().await?;
    let worker = Worker::builder(broker.clone())
        .queue(QUEUE)
        .concurrency(8)
        .state(Results::open(results)?)
        .handle_blocking(count_file)
        .handle(flaky)
        .handle(hopeless)
        .start()
        .await?;
    told_to_stop().await;
    worker.stop().await?;
    broker.close().await?;
    Ok(())
}

/// Reading a file blocks its thread, so this is a plain function, which the worker calls on a thread for such things.
///
/// The result is written first and the job is settled after that: in between, a crash makes the job run again.
fn count_file(job: CountFile, cx: Context) -> Result<Outcome> {
    let attempt = Attempt::starting(cx);
    let path = job.into_path();
    let shown = path.display().to_string();
    match count(&path) {
        Ok(Counts { lines, words, bytes, sha256 }) => {
            attempt.found(Finding::Counted { path: shown, lines, words, bytes, sha256 })?;
            Ok(Outcome::Done)
        }
        // Trying again would not help: the file is gone, or not ours to read.
        Err(error) => {
            let discarded = format!("cannot read {shown}: {error}");
            attempt.found(Finding::Unreadable { path: shown, reason: error.to_string() })?;
            Ok(Outcome::Discard(discarded))
        }
    }
}

/// An error is a failed attempt; the job's retry policy says what follows.
async fn flaky(_: Flaky, cx: Context) -> Result<()> {
    let number = cx.attempt();
    if number < 3 {
        return Err(format!("attempt {number} of a flaky job").into());
    }
    Attempt::starting(cx).found(Finding::Worked { attempt: number })
}

async fn hopeless(_: Hopeless) -> Result<()> {
    Err("this never works".into())
}

/// Remembers when an attempt started, and writes down what it found.
struct Attempt {
    cx: Context,
    waited: Duration,
}

impl Attempt {
    fn starting(cx: Context) -> Self {
        let waited = SystemClock.now().since(cx.job().enqueued_at);
        Self { cx, waited }
    }

    fn found(&self, finding: Finding) -> Result<()> {
        self.cx.state::<Results>()?.add(self.cx.job_id(), self.waited, finding)
    }
}

struct Counts {
    lines: u64,
    words: u64,
    bytes: u64,
    sha256: String,
}

/// Reads a file once, piece by piece: it may be larger than the memory.
fn count(path: &Path) -> io::Result<Counts> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let mut counts = Counts { lines: 0, words: 0, bytes: 0, sha256: String::new() };
    let mut hash = Sha256::new();
    let mut in_word = false;
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            counts.sha256 = format!("{:x}", hash.finalize());
            return Ok(counts);
        }
        hash.update(piece);
        for byte in piece {
            counts.lines += u64::from(*byte == b'\n');
            let is_blank = byte.is_ascii_whitespace();
            counts.words += u64::from(!is_blank && !in_word);
            in_word = !is_blank;
        }
        let length = piece.len();
        counts.bytes += u64::try_from(length).unwrap_or(u64::MAX);
        reader.consume(length);
    }
}

/// Waits for the end of standard input. Ctrl-C reaches every process of a terminal; here it means the same.
async fn told_to_stop() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        _ = io::copy(&mut io::stdin(), &mut io::sink());
        _ = tell.send(());
    });
    tokio::select! {
        _ = told => {}
        () = shutdown_signal() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_across_the_pieces_of_a_large_file_are_counted_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "seven letters\n".repeat(20_000) + "no newline at the end";
        std::fs::write(file.path(), &text).unwrap();
        let counts = count(file.path()).unwrap();
        let length = u64::try_from(text.len()).unwrap();
        assert_eq!((counts.lines, counts.words, counts.bytes), (20_000, 40_005, length));
        assert_eq!(counts.sha256, format!("{:x}", Sha256::digest(&text)));
    }
}
