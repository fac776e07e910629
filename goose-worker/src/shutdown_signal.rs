//! Waiting for whoever runs the process to say that it should stop.

use std::future::Future;
use std::io;
use std::sync::mpsc;

use tokio::sync::oneshot;

/// Waits for ctrl-C (SIGINT) or SIGTERM, which is what `docker stop`, Kubernetes and systemd send; to be given to
/// [`WorkerBuilder::run_until`](crate::WorkerBuilder::run_until).
///
/// ```no_run
/// # use goose_worker::{JobArgs, Worker};
/// # #[derive(serde::Deserialize)]
/// # struct Ping(u32);
/// # impl JobArgs for Ping { const NAME: &'static str = "ping"; }
/// # async fn example(broker: impl goose_worker::broker::Broker) -> goose_worker::Result<()> {
/// let worker = Worker::builder(broker).handle(|Ping(n)| async move { println!("{n}") });
/// worker.run_until(goose_worker::shutdown_signal()).await
/// # }
/// ```
///
/// From the call on, not only once it is awaited, the two do not end the process by themselves:
/// - The first of them completes the future.
/// - **A further ctrl-C ends the process at once**, with exit code 130, whatever it is doing: for people who do not want
///   to wait for the grace period. Jobs that run then are recovered by other workers, as after a crash.
/// - A further SIGTERM changes nothing: the stop is under way, and has its bounds.
/// - When the future was dropped, nobody waits for them, and they end the process at once, with 130 or 143.
///
/// This works while handlers block every thread of the runtime, too, as far as it is up to the process: it
/// listens on a thread of its own. Where that cannot be had, an error goes to the log and the signals end the process as they
/// always do. On systems other than Unix there is ctrl-C alone.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    let (tell, told) = oneshot::channel();
    if let Err(error) = listen(tell) {
        tracing::error!(error = %error, "cannot listen for ctrl-C and SIGTERM, they end the process without a graceful stop");
    }
    async {
        if told.await.is_err() {
            std::future::pending().await
        }
    }
}

/// Starts the thread. Returns when signals cannot be missed any more.
fn listen(tell: oneshot::Sender<()>) -> io::Result<()> {
    let (ready, is_ready) = mpsc::channel();
    let body = move || {
        let begun = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
            let signals = runtime.block_on(async { Signals::new() })?;
            Ok((runtime, signals))
        });
        match begun {
            Ok((runtime, signals)) => {
                let _ = ready.send(Ok(()));
                runtime.block_on(follow(signals, tell));
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    };
    std::thread::Builder::new().name("goose-signals".to_owned()).spawn(body)?;
    is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that listens has ended")))
}

async fn follow(mut signals: Signals, tell: oneshot::Sender<()>) {
    let first = signals.next().await;
    if tell.send(()).is_err() {
        end(first);
    }
    loop {
        let further = signals.next().await;
        if further == Signal::Interrupt {
            end(further);
        }
    }
}

/// As the signal would have, had nobody listened, and with the code that shells give to such an end.
#[expect(clippy::disallowed_methods, reason = "whoever presses ctrl-C twice does not want to wait for destructors")]
fn end(signal: Signal) -> ! {
    std::process::exit(signal as i32)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    Interrupt = 128 + 2,
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    Terminate = 128 + 15,
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Signal {
        // The two never end: what they answer is always a signal.
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) -> Signal {
        self.0.recv().await;
        Signal::Interrupt
    }
}
