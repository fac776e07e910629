//! The way into a node that `door.erl` opens.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a node evaluates when it starts.
pub(super) const PROGRAM: &str = include_str!("door.erl");

/// Nothing that tests ask for takes so long, unless the node hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Door {
    socket: PathBuf,
}

impl Door {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { socket: folder.join("door") }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A new node cannot open where the old one has not closed.
    pub(super) fn clear(&self) {
        let _ = std::fs::remove_file(&self.socket);
    }

    pub(super) fn evaluate(&self, expressions: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Erlang wants the full stop; whoever asks need not think of it.
        let text = format!("{}.", expressions.trim_end().trim_end_matches('.'));
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], text.as_bytes()].concat())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut answer = String::new();
        let mut failed = [0];
        stream.read_exact(&mut failed)?;
        stream.take(u64::from(u32::from_be_bytes(length)) - 1).read_to_string(&mut answer)?;
        if failed == [0] { Ok(answer) } else { Err(io::Error::other(answer)) }
    }
}
