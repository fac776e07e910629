//! Finding the files below a folder, without loading the whole tree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Result;

/// Walks a folder depth first and yields regular files. Symbolic links are not followed, so loops end; build
/// output and version control are left out.
#[derive(Debug)]
pub(crate) struct Files {
    folders: Vec<PathBuf>,
    current: Option<fs::ReadDir>,
    /// Files that must not be opened, see [`Files::below`].
    except: Vec<PathBuf>,
    unreadable: Vec<String>,
}

impl Files {
    /// The files below `dir`.
    ///
    /// `except` are the files of the job queue itself. A process that opens a SQLite file by other means and closes it
    /// again loses SQLite's locks on it: that is how POSIX locks work.
    pub(crate) fn below(dir: &Path, except: Vec<PathBuf>) -> Result<Self> {
        let cannot_read = |error: io::Error| format!("cannot read the folder {}: {error}", dir.display());
        let dir = dir.canonicalize().map_err(cannot_read)?;
        let current = fs::read_dir(&dir).map_err(cannot_read)?;
        Ok(Self { folders: Vec::new(), current: Some(current), except, unreadable: Vec::new() })
    }

    /// What could not be looked into so far, with the reasons.
    pub(crate) fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// Looks at one entry: a file comes out, a folder waits for its turn.
    fn visit(&mut self, entry: &fs::DirEntry) -> Option<PathBuf> {
        let path = entry.path();
        // The type of the entry itself, not of what a link points to.
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) => {
                self.unreadable.push(format!("{}: {error}", path.display()));
                return None;
            }
        };
        if kind.is_dir() && entry.file_name() != "target" && entry.file_name() != ".git" {
            self.folders.push(path);
            return None;
        }
        (kind.is_file() && !self.except.contains(&path)).then_some(path)
    }

    fn open_next_folder(&mut self) -> bool {
        while let Some(folder) = self.folders.pop() {
            match fs::read_dir(&folder) {
                Ok(entries) => {
                    self.current = Some(entries);
                    return true;
                }
                Err(error) => self.unreadable.push(format!("{}: {error}", folder.display())),
            }
        }
        false
    }
}

impl Iterator for Files {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        loop {
            match self.current.as_mut().and_then(Iterator::next) {
                Some(Ok(entry)) => {
                    if let Some(file) = self.visit(&entry) {
                        return Some(file);
                    }
                }
                Some(Err(error)) => self.unreadable.push(format!("an entry: {error}")),
                None if self.open_next_folder() => {}
                None => return None,
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn loops_end_and_only_regular_files_come_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for path in ["a/b", "target/debug", ".git"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let odd_name = std::ffi::OsStr::from_bytes(b"a/b/\xff");
        for path in ["top".as_ref(), odd_name, "target/debug/x".as_ref(), ".git/x".as_ref(), "jobs.db".as_ref()] {
            fs::write(root.join(path), "x").unwrap();
        }
        symlink(&root, root.join("a/loop")).unwrap();
        symlink(root.join("a/self"), root.join("a/self")).unwrap();

        let mut found: Vec<PathBuf> = Files::below(&root, vec![root.join("jobs.db")]).unwrap().collect();
        found.sort();
        assert_eq!(found, [root.join(odd_name), root.join("top")]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Files::below(Path::new("no/such/folder"), Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the folder no/such/folder: "), "{error}");
    }
}
