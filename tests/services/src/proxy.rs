//! A link between client and server that can be damaged while it is in use.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How many chunks may be on their way in one direction.
const ON_THE_WAY: usize = 256;

/// How often what is held looks whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Nothing.
    Pass = 0,
    /// Both directions are swallowed; the connections stay open.
    Swallow = 1,
    /// The next answer is swallowed, and its connection cut.
    CutAnswer = 2,
    /// New connections are closed at once.
    Refuse = 3,
    /// Nothing arrives, not even that a connection was closed. When this ends, all of it does: a link that was down for a while.
    Hold = 4,
}

/// A proxy in front of a server. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: u16,
    mode: AtomicU8,
    delay_ms: AtomicU64,
    /// Bytes a second and direction; zero for any number.
    rate: AtomicU64,
    /// Connections are numbered; those below this one are swallowed for good.
    deaf_below: AtomicU64,
    /// Of those below this one answers are swallowed for good.
    mute_below: AtomicU64,
    accepted: AtomicU64,
    /// The numbers of those that are open.
    open: Mutex<BTreeSet<u64>>,
    over: AtomicBool,
    cut: AtomicU64,
    /// Every so many answers one is cut in the middle; zero for none.
    cut_every: AtomicU64,
    answers: AtomicU64,
    /// An answer that holds these bytes is swallowed, and its connection cut.
    needle: Mutex<Option<Vec<u8>>>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// In front of the server on a port of 127.0.0.1.
    #[must_use]
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            server,
            mode: AtomicU8::new(0),
            delay_ms: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            deaf_below: AtomicU64::new(0),
            mute_below: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            open: Mutex::new(BTreeSet::new()),
            over: AtomicBool::new(false),
            cut: AtomicU64::new(0),
            cut_every: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            needle: Mutex::new(None),
            streams: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.over.load(Ordering::Relaxed) {
                    break;
                }
                if accepting.mode() != Mode::Refuse {
                    accepting.serve(client);
                }
            }
        });
        Self { port, shared }
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What happens to bytes at present.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shared.mode()
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// The connections that are open now swallow everything for good, in both directions, and stay open. New ones are
    /// as good as ever.
    pub fn swallow_open(&self) {
        self.shared.deaf_below.store(self.shared.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// The same for answers alone: requests still get through to the server.
    pub fn swallow_answers(&self) {
        self.shared.mute_below.store(self.shared.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// How many of the connections that swallow for good are still open: nobody has noticed.
    #[must_use]
    pub fn unnoticed(&self) -> usize {
        let (deaf, mute) = (&self.shared.deaf_below, &self.shared.mute_below);
        let below = deaf.load(Ordering::SeqCst).max(mute.load(Ordering::SeqCst));
        self.shared.open.lock().expect("no panic").range(..below).count()
    }

    /// How many connections were ever made.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes get through in a second, on each connection and in each direction; zero for any number.
    pub fn rate(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    /// How long every byte is on its way, in each direction. Bytes follow each other: it is not time per chunk.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Of so many answers one arrives half and is followed by the end of the connection; zero for none.
    pub fn cut_every(&self, answers: u64) {
        self.shared.cut_every.store(answers, Ordering::SeqCst);
    }

    /// The next answer that holds these bytes is swallowed, and its connection cut.
    pub fn cut_answer_with(&self, needle: &[u8]) {
        *self.shared.needle.lock().expect("no panic") = Some(needle.to_vec());
    }

    /// How many answers were cut off.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.shared.cut.load(Ordering::SeqCst)
    }

    /// Closes every connection.
    pub fn reset(&self) {
        self.shared.close_all();
    }

    /// Resets every connection, in both directions: RST, not FIN. What is on its way is lost.
    pub fn abort(&self) {
        for stream in self.shared.streams.lock().expect("no panic").drain(..) {
            // Fails for those that have ended already.
            let _ = rustix::net::connect_unspec(&stream);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.close_all();
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port)));
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            1 => Mode::Swallow,
            2 => Mode::CutAnswer,
            3 => Mode::Refuse,
            4 => Mode::Hold,
            _ => Mode::Pass,
        }
    }

    fn close_all(&self) {
        for stream in self.streams.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn serve(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (Ok(client2), Ok(server2)) = (client.try_clone(), server.try_clone()) else { return };
        if let (Ok(a), Ok(b)) = (client.try_clone(), server.try_clone()) {
            self.streams.lock().expect("no panic").extend([a, b]);
        }
        let number = self.accepted.fetch_add(1, Ordering::SeqCst);
        self.open.lock().expect("no panic").insert(number);
        for (from, to, is_answer) in [(client, server, false), (server2, client2, true)] {
            let (chunks, on_the_way) = sync_channel(ON_THE_WAY);
            let Ok(from2) = from.try_clone() else { return };
            let (shared, ended) = (Arc::clone(self), Arc::clone(self));
            thread::spawn(move || shared.take_in(number, from, is_answer, &chunks));
            thread::spawn(move || {
                pass_on(&on_the_way, &to);
                let _ = (from2.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                if !is_answer {
                    ended.open.lock().expect("no panic").remove(&number);
                }
            });
        }
    }

    /// Whether this answer is to be cut.
    fn is_due(&self, answer: &[u8]) -> bool {
        let every = self.cut_every.load(Ordering::SeqCst);
        if every > 0 && self.answers.fetch_add(1, Ordering::SeqCst) % every == every - 1 {
            return true;
        }
        let mut needle = self.needle.lock().expect("no panic");
        let found = needle.as_ref().is_some_and(|needle| answer.windows(needle.len()).any(|part| part == needle));
        if found {
            *needle = None;
        }
        found
    }

    /// Reads one direction of a connection until it ends or is cut.
    fn take_in(&self, number: u64, mut from: TcpStream, is_answer: bool, chunks: &SyncSender<(Instant, Vec<u8>)>) {
        let mut buffer = vec![0; 64 * 1024];
        let mut free_at = Instant::now();
        loop {
            let read = from.read(&mut buffer);
            while self.mode() == Mode::Hold && !self.over.load(Ordering::Relaxed) {
                crate::rest(LOOK_AGAIN);
            }
            let Ok(n @ 1..) = read else { return };
            let is_mute = is_answer && number < self.mute_below.load(Ordering::SeqCst);
            if is_mute || number < self.deaf_below.load(Ordering::SeqCst) {
                continue;
            }
            match self.mode() {
                Mode::Swallow => continue,
                Mode::CutAnswer if is_answer => {
                    self.mode.store(Mode::Pass as u8, Ordering::SeqCst);
                    self.cut.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Mode::Pass | Mode::CutAnswer | Mode::Refuse | Mode::Hold => {}
            }
            let is_cut = is_answer && self.is_due(&buffer[..n]);
            let passed = if is_cut { n / 2 } else { n };
            let now = Instant::now();
            if let Some(nanos) = (passed as u64 * 1_000_000_000).checked_div(self.rate.load(Ordering::SeqCst)) {
                free_at = free_at.max(now) + Duration::from_nanos(nanos);
            }
            let arrival = free_at.max(now) + Duration::from_millis(self.delay_ms.load(Ordering::SeqCst));
            if chunks.send((arrival, buffer[..passed].to_vec())).is_err() {
                break;
            }
            if is_cut {
                self.cut.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
    }
}

/// Writes what is on its way when its time has come.
fn pass_on(on_the_way: &Receiver<(Instant, Vec<u8>)>, mut to: &TcpStream) {
    for (arrival, chunk) in on_the_way {
        let wait = arrival.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            crate::rest(wait);
        }
        if to.write_all(&chunk).is_err() {
            return;
        }
    }
}
