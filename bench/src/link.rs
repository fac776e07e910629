//! A link that takes its time: what goes in comes out later, however much is on its way.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// Starts a link to a server; returns the URL of its near end. It lasts as long as the program.
///
/// Threads and not tasks: timers of a runtime have a resolution of a millisecond, which is what is to be measured.
pub(crate) fn to(url: &str, one_way: Duration) -> Result<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if !matches!(scheme, "redis" | "amqp") {
        return Err("only a plain redis:// or amqp:// server can be reached through the link".into());
    }
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
    let server = rest.split('/').next().unwrap_or(rest).to_owned();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    let near = format!("{scheme}://{user}127.0.0.1:{}", listener.local_addr()?.port());
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Ok(far) = TcpStream::connect(&server)
                && let (Ok(client2), Ok(far2)) = (client.try_clone(), far.try_clone())
            {
                let _ = (client.set_nodelay(true), far.set_nodelay(true));
                carry(client, far, one_way);
                carry(far2, client2, one_way);
            }
        }
    });
    Ok(near)
}

/// One direction: bytes, and when they are to arrive.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, on_the_way) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..n].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        let (_alive, never) = mpsc::channel::<()>();
        while let Ok((due, bytes)) = on_the_way.recv() {
            let _ = never.recv_timeout(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
