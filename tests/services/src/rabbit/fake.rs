//! A server that lets everybody connect and does nothing more: enough for what a client says of itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Speaks the beginning and the end of AMQP 0.9.1. Its threads end with the process or with their connections.
#[derive(Debug)]
pub struct FakeRabbit {
    port: u16,
}

/// Class and method of what a connection says on channel 0.
const START: [u8; 4] = [0, 10, 0, 10];
const START_OK: [u8; 4] = [0, 10, 0, 11];
const TUNE: [u8; 4] = [0, 10, 0, 30];
const OPEN: [u8; 4] = [0, 10, 0, 40];
const OPEN_OK: [u8; 4] = [0, 10, 0, 41];
const CLOSE: [u8; 4] = [0, 10, 0, 50];
const CLOSE_OK: [u8; 4] = [0, 10, 0, 51];

impl FakeRabbit {
    /// One on a free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is none of its business.
                thread::spawn(move || drop(serve(stream)));
            }
        });
        Self { port }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    // `AMQP` and the version.
    stream.read_exact(&mut [0; 8])?;
    let mechanisms = [&5_u32.to_be_bytes()[..], b"PLAIN"].concat();
    let locales = [&5_u32.to_be_bytes()[..], b"en_US"].concat();
    // Version 0-9, and no properties.
    say(&mut stream, START, &[&[0, 9, 0, 0, 0, 0][..], &mechanisms, &locales].concat())?;
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut body = vec![0; usize::try_from(length).unwrap_or(0) + 1];
        stream.read_exact(&mut body)?;
        match body.first_chunk() {
            // 2,047 channels, frames of 128 KiB, no heartbeats.
            Some(&START_OK) => say(&mut stream, TUNE, &[0x07, 0xff, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00])?,
            Some(&OPEN) => say(&mut stream, OPEN_OK, &[0])?,
            Some(&CLOSE) => return say(&mut stream, CLOSE_OK, &[]),
            _ => {}
        }
    }
}

fn say(stream: &mut TcpStream, method: [u8; 4], arguments: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(method.len() + arguments.len()).unwrap_or(0);
    // A method frame on channel 0.
    stream.write_all(&[&[1, 0, 0][..], &length.to_be_bytes(), &method, arguments, &[0xce]].concat())
}
