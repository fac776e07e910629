//! Nothing depends on the caller's runtime.

use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::*;
use goose_services::{Server, eventually};

/// Handlers may block every thread of a worker's runtime; its heartbeats go on.
#[test]
fn heartbeats_go_on_while_every_thread_of_the_callers_runtime_is_blocked() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let link = runtime.block_on(connect(server.url()));
    let beats = Arc::new(AtomicUsize::new(0));
    let beating = {
        let (link, beats) = (Arc::clone(&link), Arc::clone(&beats));
        async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            loop {
                ticks.tick().await;
                link.eval(Lane::Beat, &COUNT_ALWAYS, key("beats"), Vec::new()).await.unwrap();
                beats.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    link.spawn(Box::pin(beating));
    let (blocked, is_blocked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    for _ in 0..2 {
        let (blocked, released) = (blocked.clone(), Arc::clone(&released));
        runtime.spawn(async move {
            blocked.send(()).unwrap();
            // Blocks the thread, as a handler that knows nothing of async does.
            let _ = released.lock().unwrap().recv();
        });
    }
    for _ in 0..2 {
        is_blocked.recv_timeout(Duration::from_secs(5)).unwrap();
    }
    // Proof that the runtime really is stuck.
    let (ran, did_run) = mpsc::channel();
    runtime.spawn(async move { ran.send(()).unwrap() });
    let before = beats.load(Ordering::Relaxed);
    assert!(did_run.recv_timeout(Duration::from_secs(3)).is_err(), "the runtime was to be blocked");
    let during = beats.load(Ordering::Relaxed) - before;
    assert!(during >= 20, "{during} beats in 3 s, one each 100 ms was due");
    drop(release);
    did_run.recv_timeout(Duration::from_secs(5)).unwrap();
    runtime.block_on(link.close());
}

/// Awaits a future with nothing but the standard library.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

#[test]
fn it_works_without_any_runtime_of_the_caller() {
    let mut server = Server::start();
    let link = block_on(connect(server.url()));
    assert_eq!(block_on(count(&*link, "n")).unwrap(), 1);
    let mut waiter = block_on(link.waiter()).unwrap();
    assert_eq!(block_on(waiter.wait(&key("marker"), Duration::from_millis(20))).unwrap(), None);
    server.restart();
    // Healing and waiting for it need timers, which are not ours here either.
    eventually("the loss is noticed", || link.health().reconnects > 0);
    assert_eq!(block_on(count(&*link, "n")).unwrap(), 1);
    block_on(waiter.close());
    block_on(link.close());
}
