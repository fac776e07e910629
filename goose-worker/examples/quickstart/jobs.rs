//! The jobs of this program: where its two processes meet.

use std::path::{Path, PathBuf};

use goose_worker::JobArgs;
use serde::{Deserialize, Serialize};

/// The queue that all of them wait in.
pub(crate) const QUEUE: &str = "quickstart";

/// Count one file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CountFile {
    path: RawPath,
}

impl CountFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: RawPath::from(path) }
    }

    pub(crate) fn into_path(self) -> PathBuf {
        self.path.into_path()
    }
}

impl JobArgs for CountFile {
    const NAME: &'static str = "count-file";
}

/// Fail twice, then work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flaky;

impl JobArgs for Flaky {
    const NAME: &'static str = "flaky";
}

/// Fail every time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hopeless;

impl JobArgs for Hopeless {
    const NAME: &'static str = "hopeless";
}

/// A path as bytes: names of files need not be UTF-8, and serde's own form of a path refuses those that are not.
#[derive(Debug, Serialize, Deserialize)]
struct RawPath(Vec<u8>);

#[cfg(unix)]
impl RawPath {
    fn from(path: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        Self(path.as_os_str().as_bytes().to_vec())
    }

    fn into_path(self) -> PathBuf {
        use std::os::unix::ffi::OsStringExt;
        std::ffi::OsString::from_vec(self.0).into()
    }
}

#[cfg(not(unix))]
impl RawPath {
    fn from(path: &Path) -> Self {
        Self(path.to_string_lossy().into_owned().into_bytes())
    }

    fn into_path(self) -> PathBuf {
        String::from_utf8_lossy(&self.0).into_owned().into()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn names_that_are_not_utf_8_survive_the_queue() {
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/a/\xff\xfe b"));
        let bytes = serde_json::to_vec(&CountFile::new(path)).unwrap();
        assert_eq!(serde_json::from_slice::<CountFile>(&bytes).unwrap().into_path(), path);
    }
}
