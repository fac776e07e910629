//! Noticing that the file was deleted or replaced while it is open.
//!
//! The system keeps a deleted file for whoever has it open: this process goes on storing jobs that nobody else will ever
//! see, and that are gone when it ends. Nothing can be done about it from here, but it must not go unnoticed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::options::Place;

/// How often to look.
const EVERY: Duration = Duration::from_secs(3);

/// The file under its name, as it was when it was opened.
#[derive(Debug)]
pub(super) struct FileWatch {
    opened: Option<(PathBuf, Identity)>,
    last_look: Instant,
}

/// What tells one file from another: device and inode.
type Identity = (u64, u64);

impl FileWatch {
    /// Begins with the file that was opened just now.
    pub(super) fn start(place: &Place) -> Self {
        let Place::File(path) = place else { return Self { opened: None, last_look: Instant::now() } };
        // In full, for the process may change its folder.
        let opened = path.canonicalize().ok().and_then(|path| identity(&path).map(|identity| (path, identity)));
        Self { opened, last_look: Instant::now() }
    }

    /// The path, once, when it leads to another file or to none.
    pub(super) fn find_lost(&mut self) -> Option<PathBuf> {
        if self.last_look.elapsed() < EVERY {
            return None;
        }
        self.last_look = Instant::now();
        self.opened.take_if(|(path, opened)| is_lost(path, *opened)).map(|(path, _)| path)
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Elsewhere a file that is open cannot be deleted.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}

fn is_lost(path: &Path, opened: Identity) -> bool {
    match identity(path) {
        Some(now) => now != opened,
        // Not to be seen for another reason, such as rights that were taken away, is no news.
        None => path.try_exists().is_ok_and(|exists| !exists),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    /// As if the next look were due.
    fn look(watch: &mut FileWatch) -> Option<PathBuf> {
        watch.last_look -= EVERY;
        watch.find_lost()
    }

    #[test]
    fn a_file_that_is_deleted_or_replaced_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (path, other) = (folder.join("jobs.db"), folder.join("other.db"));
        for replace in [false, true] {
            fs::write(&path, "one").unwrap();
            let mut watch = FileWatch::start(&Place::File(path.clone()));
            fs::write(&path, "written again, and the same file").unwrap();
            assert_eq!(look(&mut watch), None);
            if replace {
                fs::write(&other, "two").unwrap();
                fs::rename(&other, &path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            assert_eq!(watch.find_lost(), None, "not before it is time");
            assert_eq!(look(&mut watch), Some(path.clone()));
            assert_eq!(look(&mut watch), None);
        }
        assert_eq!(look(&mut FileWatch::start(&Place::Memory)), None);
    }
}
