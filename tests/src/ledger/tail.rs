//! Reading a ledger while others write it.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Entry;
use crate::Result;

/// Reads what has been added since it last looked.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
    torn: u64,
}

impl Tail {
    /// Reads a ledger from its beginning. It need not be there yet.
    pub fn of(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), offset: 0, torn: 0 }
    }

    /// The whole lines that are new.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&mut self) -> Result<Vec<Entry>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // What follows the last line break is not finished, or never will be.
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        self.offset += u64::try_from(text.len())?;
        let mut entries = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.parse() {
                Ok(entry) => entries.push(entry),
                Err(_) => self.torn += 1,
            }
        }
        Ok(entries)
    }

    /// How many lines were torn so far.
    #[must_use]
    pub fn torn(&self) -> u64 {
        self.torn
    }
}
