//! Signals to a real worker process, which is this program once more.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed expectation is how a test reports, lines are how the process is followed"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use goose_sqlite::SqliteBroker;
use goose_worker::{Client, JobArgs, Worker, shutdown_signal};
use libtest_mimic::{Arguments, Trial};
use serde::{Deserialize, Serialize};

/// Longer than anything takes, and far shorter than the grace period of the process.
const LIMIT: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    if let Some(role) = std::env::args().nth(1).and_then(|word| word.strip_prefix("role=").map(str::to_owned)) {
        return process::run(&role);
    }
    let trial = |name: &str, body: fn()| {
        Trial::test(name, move || {
            body();
            Ok(())
        })
        .with_ignored_flag(!cfg!(unix))
    };
    let trials = vec![
        trial("an_idle_worker_stops_at_the_first_signal", an_idle_worker_stops_at_the_first_signal),
        trial("a_running_job_may_end", a_running_job_may_end),
        trial("a_second_ctrl_c_ends_the_process_at_once", a_second_ctrl_c_ends_the_process_at_once),
        trial("ctrl_c_twice_ends_a_process_whose_runtime_is_blocked", ctrl_c_twice_ends_a_blocked_process),
        trial("a_signal_nobody_waits_for_ends_the_process", a_signal_nobody_waits_for_ends_the_process),
        trial("a_signal_during_the_start_is_not_lost", a_signal_during_the_start_is_not_lost),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// What the process does, by its role.
mod process {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Wait;
    impl JobArgs for Wait {
        const NAME: &'static str = "wait";
    }

    pub(super) fn run(role: &str) -> ExitCode {
        // One thread, so that one handler can block the whole runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work(role));
        println!("stopped");
        ExitCode::SUCCESS
    }

    async fn work(role: &str) {
        let signal = shutdown_signal();
        if role == "slow start" {
            // Not awaited yet.
            println!("starting");
            line_of_input();
        }
        if role == "dropped" {
            drop(signal);
            println!("ready");
            return std::future::pending().await;
        }
        let broker = SqliteBroker::in_memory().await.unwrap();
        if role != "idle" && role != "slow start" {
            Client::new(broker.clone()).perform_async(Wait).await.unwrap();
        }
        let blocks = role == "blocked";
        let handler = move |_: Wait| async move {
            println!("running");
            if blocks {
                loop {
                    std::thread::park();
                }
            }
            tokio::task::spawn_blocking(line_of_input).await.unwrap();
            println!("done");
        };
        let told = async {
            println!("ready");
            signal.await;
            println!("stopping");
        };
        Worker::builder(broker).grace_period(GRACE).handle(handler).run_until(told).await.unwrap();
    }

    fn line_of_input() {
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
}

/// The process, seen from here. It is killed when this is dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(format!("role={role}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, lines }
    }

    /// Waits for this line.
    fn says(&self, word: &str) {
        let until = Instant::now() + LIMIT;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line == word => return,
                Ok(_) => {}
                Err(error) => panic!("the process does not say {word:?}: {error}"),
            }
        }
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Ends what it waits for.
    fn give_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// How it ended; until then something is done again and again.
    fn ended(&mut self, mut meanwhile: impl FnMut(&Self)) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the process does not end");
            meanwhile(self);
            // What comes is not of interest, the pause is.
            let _ = self.lines.recv_timeout(Duration::from_millis(20));
        }
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.ended(|_| {}).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn an_idle_worker_stops_at_the_first_signal() {
    for signal in ["INT", "TERM"] {
        let mut process = Process::start("idle");
        process.says("ready");
        process.signal(signal);
        process.says("stopped");
        assert_eq!(process.exit_code(), Some(0), "{signal}");
    }
}

fn a_running_job_may_end() {
    for signal in ["INT", "TERM"] {
        let mut process = Process::start("busy");
        process.says("running");
        process.signal(signal);
        process.says("stopping");
        process.give_input();
        process.says("done");
        process.says("stopped");
        assert_eq!(process.exit_code(), Some(0), "{signal}");
    }
}

fn a_second_ctrl_c_ends_the_process_at_once() {
    for first in ["INT", "TERM"] {
        let mut process = Process::start("busy");
        process.says("running");
        process.signal(first);
        process.says("stopping");
        // This one changes nothing; if it did, the exit code would tell.
        process.signal("TERM");
        process.signal("INT");
        assert_eq!(process.exit_code(), Some(130), "{first}");
    }
}

fn ctrl_c_twice_ends_a_blocked_process() {
    let mut process = Process::start("blocked");
    process.says("running");
    // Two signals that come at once may be one.
    let status = process.ended(|process| process.signal("INT"));
    assert_eq!(status.code(), Some(130));
}

fn a_signal_nobody_waits_for_ends_the_process() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut process = Process::start("dropped");
        process.says("ready");
        process.signal(signal);
        assert_eq!(process.exit_code(), Some(code));
    }
}

fn a_signal_during_the_start_is_not_lost() {
    let mut process = Process::start("slow start");
    process.says("starting");
    process.signal("TERM");
    process.give_input();
    process.says("stopped");
    assert_eq!(process.exit_code(), Some(0));
}
