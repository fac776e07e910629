//! As much of AMQP 0-9-1 as it takes to see whether a server is there.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How a client begins: the protocol and its version.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

/// A frame of a method, on channel 0.
const METHOD_ON_0: [u8; 3] = [1, 0, 0];

/// Class 10, method 10.
const CONNECTION_START: [u8; 4] = [0, 10, 0, 10];

/// Whether a server on a port of 127.0.0.1 says what AMQP servers say first.
pub(super) fn answers(port: u16) -> bool {
    ask(port).unwrap_or(false)
}

fn ask(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(GREETING)?;
    // Between them is the length of the frame.
    let mut start = [0; 11];
    stream.read_exact(&mut start)?;
    Ok(start.starts_with(&METHOD_ON_0) && start.ends_with(&CONNECTION_START))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stranger;

    #[test]
    fn only_a_server_of_the_protocol_counts() {
        assert!(answers(stranger(&[1, 0, 0, 0, 0, 2, 0, 0, 10, 0, 10, 0, 9])));
        // What a server of another version of the protocol answers.
        assert!(!answers(stranger(b"AMQP\x00\x01\x00\x00 and more")));
        assert!(!answers(crate::free_port()));
    }
}
