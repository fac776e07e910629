//! A thread of our own with a small runtime on it, where every connection lives.
//!
//! Handlers may block every thread of the caller's runtime for half a minute; heartbeats and answers must go on. So
//! nothing here runs on the caller's runtime: callers only await the end of what runs over there, which works on any
//! runtime. It also makes closing simple: when this runtime is dropped, all tasks, timers and sockets go with it.

use std::future::Future;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A runtime on a thread of its own. Dropping it ends both, without waiting.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: Handle,
    stop: watch::Sender<bool>,
    /// Closed by the thread as the last thing it does.
    ended: watch::Receiver<()>,
}

impl Runtime {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, mut stopped) = watch::channel(false);
        let (alive, ended) = watch::channel(());
        thread::Builder::new().name("goose-rmq".into()).spawn(move || {
            // An error means that the sender is gone, which is an end too.
            let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
            // Does not wait for name look-ups that may be stuck on its helper threads.
            runtime.shutdown_background();
            drop(alive);
        })?;
        Ok(Self { handle, stop, ended })
    }

    /// Runs a future over there. Dropping the handle does not end it.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the thread and all that runs on it, and waits for that.
    pub(crate) async fn shut_down(&self) {
        self.stop.send_replace(true);
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_needs_no_runtime_of_the_caller_and_ends_with_all_its_tasks() {
        struct Canary(mpsc::Sender<()>);
        impl Drop for Canary {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let runtime = Runtime::start().unwrap();
        let (tx, dropped) = mpsc::channel();
        let canary = Canary(tx);
        runtime.spawn(async move {
            let _canary = canary;
            std::future::pending::<()>().await;
        });
        let other = Builder::new_current_thread().build().unwrap();
        let answer = other.block_on(runtime.spawn(async {
            // Needs timers, which only the owned runtime has here.
            tokio::time::sleep(Duration::from_millis(1)).await;
            7
        }));
        assert_eq!(answer.unwrap(), 7);
        other.block_on(runtime.shut_down());
        dropped.recv_timeout(Duration::from_secs(1)).expect("the task was dropped with the runtime");
        assert!(other.block_on(runtime.spawn(async {})).unwrap_err().is_cancelled());
    }

    #[test]
    fn dropping_it_inside_one_of_its_own_tasks_does_not_deadlock() {
        let runtime = Runtime::start().unwrap();
        let mut ended = runtime.ended.clone();
        let handle = runtime.handle.clone();
        handle.spawn(async move { drop(runtime) });
        let other = Builder::new_current_thread().enable_time().build().unwrap();
        let end = other.block_on(async { tokio::time::timeout(Duration::from_secs(5), ended.changed()).await });
        assert!(end.expect("it ends in time").is_err(), "the thread let go of its end");
    }
}
