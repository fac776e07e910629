//! Being told by the operating system that some process has written to the database's log, instead of asking.
//!
//! Linux's inotify reports a write to the `-wal` file. It comes *before* the commit can be seen, because SQLite syncs the
//! file in between and only then publishes the commit in shared memory; so it says when to begin to look closely,
//! not that there is something to see. Nothing here is needed for correctness: whoever gets no news looks by the clock.

use std::path::Path;
use std::thread::Thread;

/// News of writes to one log file, for one thread.
#[derive(Debug)]
pub(super) struct LogWatch(#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "never made"))] imp::Watch);

impl LogWatch {
    /// Watches the log of a database for a thread, which is unparked by news. `None` where that is not possible.
    pub(super) fn start(database: &Path, reader: Thread) -> Option<Self> {
        imp::Watch::start(database, reader).map(Self)
    }

    /// Asks for news of the next write, unless that was done already. `None` when none will come, else whether it was
    /// asked only now: what was written just before may still be on its way then.
    pub(super) fn arm(&mut self) -> Option<bool> {
        self.0.arm()
    }

    /// Whether there was a write since the last time.
    pub(super) fn has_news(&mut self) -> bool {
        self.0.has_news()
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::ffi::OsString;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::Thread;

    use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

    #[derive(Debug)]
    pub(super) struct Watch {
        inotify: Arc<OwnedFd>,
        log: PathBuf,
        armed: bool,
        shared: Arc<Shared>,
    }

    #[derive(Debug, Default)]
    struct Shared {
        news: AtomicBool,
        ended: AtomicBool,
    }

    impl Watch {
        pub(super) fn start(database: &Path, reader: Thread) -> Option<Self> {
            let mut log = OsString::from(database);
            log.push("-wal");
            let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC).ok()?);
            let shared = Arc::new(Shared::default());
            let (events, told) = (Arc::clone(&inotify), Arc::clone(&shared));
            std::thread::Builder::new()
                .name("goose-sqlite-log".to_owned())
                .spawn(move || listen(&events, &told, &reader))
                .ok()?;
            Some(Self { inotify, log: log.into(), armed: false, shared })
        }

        pub(super) fn arm(&mut self) -> Option<bool> {
            if self.armed {
                return Some(false);
            }
            // One event and no more: a busy log must not wake anyone a thousand times a second.
            inotify::add_watch(&self.inotify, &self.log, WatchFlags::MODIFY | WatchFlags::ONESHOT).ok()?;
            self.armed = true;
            Some(true)
        }

        pub(super) fn has_news(&mut self) -> bool {
            let news = self.shared.news.swap(false, Ordering::AcqRel);
            self.armed &= !news;
            news
        }
    }

    impl Drop for Watch {
        /// Ends the listener: taking a watch away is an event too.
        fn drop(&mut self) {
            self.shared.ended.store(true, Ordering::Release);
            if let Ok(watch) = inotify::add_watch(&self.inotify, &self.log, WatchFlags::MODIFY) {
                let _ = inotify::remove_watch(&self.inotify, watch);
            }
        }
    }

    fn listen(inotify: &OwnedFd, shared: &Shared, reader: &Thread) {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = Reader::new(inotify, &mut buffer);
        while !shared.ended.load(Ordering::Acquire) {
            match events.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::MODIFY) => {
                    shared.news.store(true, Ordering::Release);
                    reader.unpark();
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // No more news: whoever waits looks by the clock once it has waited long enough.
                Err(_) => return,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::path::Path;
    use std::thread::Thread;

    #[derive(Debug)]
    pub(super) enum Watch {}

    impl Watch {
        pub(super) fn start(_: &Path, _: Thread) -> Option<Self> {
            None
        }

        pub(super) fn arm(&mut self) -> Option<bool> {
            match *self {}
        }

        pub(super) fn has_news(&mut self) -> bool {
            match *self {}
        }
    }
}
