//! As much of the protocol as a test needs to talk to a server behind the back of the code under test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A connection that sends one command at a time.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        Self::open_to("127.0.0.1", port)
    }

    pub(crate) fn open_to(host: &str, port: u16) -> io::Result<Self> {
        // A name may stand for several addresses, of which not all are listened on.
        let mut stream = Err(io::ErrorKind::NotFound.into());
        for address in (host, port).to_socket_addrs()? {
            stream = TcpStream::connect_timeout(&address, Duration::from_secs(2));
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The answer as text: elements of arrays on lines of their own, errors with their minus sign.
    pub(crate) fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<String> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&command)?;
        self.read_answer()
    }

    fn read_answer(&mut self) -> io::Result<String> {
        let line = read_line(&mut self.0)?;
        let (kind, rest) = line.split_at(1);
        let length = || rest.parse::<usize>().ok();
        match (kind, length()) {
            ("$", Some(length)) => {
                let mut body = vec![0; length + 2];
                self.0.read_exact(&mut body)?;
                body.truncate(length);
                Ok(String::from_utf8_lossy(&body).into_owned())
            }
            ("*", Some(length)) => {
                let items: io::Result<Vec<_>> = (0..length).map(|_| self.read_answer()).collect();
                Ok(items?.join("\n"))
            }
            ("$" | "*", None) => Ok(String::new()),
            ("-", _) => Ok(line),
            _ => Ok(rest.to_owned()),
        }
    }
}

/// Reads one command as a server gets it; `None` at the end.
pub(crate) fn read_command(reader: &mut impl BufRead) -> io::Result<Option<Vec<String>>> {
    let line = read_line(reader)?;
    let Some(count) = line.strip_prefix('*').and_then(|count| count.parse::<usize>().ok()) else { return Ok(None) };
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let length: usize = read_line(reader)?.trim_start_matches('$').parse().map_err(io::Error::other)?;
        let mut body = vec![0; length + 2];
        reader.read_exact(&mut body)?;
        body.truncate(length);
        words.push(String::from_utf8_lossy(&body).into_owned());
    }
    Ok(Some(words))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}
