//! A server that answers what it is told to, for answers that a real one gives only in bad moments.

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::resp::read_command;

/// Answers the commands that a client sends of its own accord, and leaves the rest to a test.
#[derive(Debug)]
pub struct Fake {
    port: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

/// What `INFO` says.
const INFO: &str = "redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\nmaxmemory_policy:noeviction\r\ncluster_enabled:0\r\n";

impl Fake {
    /// `answer` gets every `EVALSHA` of scripts with the given number of keys or more, in the order in which they come,
    /// with the connection's number. It answers in the words of the protocol; `None` says nothing.
    pub fn start(answer: impl FnMut(usize, &[String]) -> Option<String> + Send + 'static) -> Self {
        Self::saying(INFO.to_owned(), answer)
    }

    /// One that says it is of some version, and otherwise as good as any.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        Self::saying(INFO.replace("7.0.15", version), |_, _| None)
    }

    fn saying(info: String, answer: impl FnMut(usize, &[String]) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let answer = Arc::new(Mutex::new(answer));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::clone(&streams);
        let info: Arc<str> = info.into();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                open.lock().expect("no panic").extend(stream.try_clone());
                let (answer, info) = (Arc::clone(&answer), Arc::clone(&info));
                thread::spawn(move || {
                    let Ok(mut out) = stream.try_clone() else { return };
                    let mut reader = BufReader::new(stream);
                    while let Ok(Some(words)) = read_command(&mut reader) {
                        let command = words[0].to_uppercase();
                        let reply = match command.as_str() {
                            "EVALSHA" if words.iter().any(|word| word.contains("unused")) => Some(":1\r\n".to_owned()),
                            "EVALSHA" => (answer.lock().expect("no panic"))(number, &words),
                            "INFO" => Some(format!("${}\r\n{info}\r\n", info.len())),
                            "CLIENT" if words[1] == "ID" => Some(":1\r\n".to_owned()),
                            "BZPOPMIN" => Some("*-1\r\n".to_owned()),
                            _ => Some("+OK\r\n".to_owned()),
                        };
                        if let Some(reply) = reply
                            && out.write_all(reply.as_bytes()).is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, streams }
    }

    /// Closes every connection.
    pub fn hang_up(&self) {
        for stream in self.streams.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// Listens and answers every connection with some bytes that are not of the protocol, or with nothing at all.
#[must_use]
pub fn stranger(says: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(says);
            open.push(stream);
        }
    });
    port
}
