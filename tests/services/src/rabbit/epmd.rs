//! The name server of Erlang, in this process: nodes ask it where other nodes are.
//!
//! The real one is a daemon for a whole machine that outlives every node. This one ends with the test, leaves those of
//! others alone, and tells a node what a test wants it to believe: a way to another node that can be cut.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Requests and answers, as the Erlang distribution protocol numbers them.
const REGISTER: u8 = 120;
const REGISTERED: u8 = 121;
const REGISTERED_LONG: u8 = 118;
const WHERE_IS: u8 = 122;
const HERE_IS: u8 = 119;
const NAMES: u8 = 110;

/// From this version of the distribution protocol on, a node gets a long number for its life.
const LONG_CREATION: u16 = 6;

#[derive(Debug)]
pub(super) struct Epmd {
    port: u16,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    nodes: BTreeMap<String, Node>,
    /// Told apart by it: a node that comes back before the old one's connection is seen to end, and lives of a node.
    lives: u32,
    is_over: bool,
}

#[derive(Debug, Clone)]
struct Node {
    port: u16,
    life: u32,
    /// What it said about itself: type, protocol, versions.
    about: [u8; 6],
}

impl Epmd {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let table = Arc::<Mutex<Table>>::default();
        let shared = Arc::clone(&table);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if lock(&shared).is_over {
                    break;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(port, &shared, stream));
            }
        });
        Self { port, table }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Says that a node is behind a port, whatever it says itself.
    pub(super) fn say(&self, name: &str, port: u16) {
        // A visible node that speaks the versions of every Erlang since 23.
        let node = Node { port, life: 0, about: [77, 0, 0, 6, 0, 5] };
        lock(&self.table).nodes.insert(name.to_owned(), node);
    }
}

impl Drop for Epmd {
    fn drop(&mut self) {
        lock(&self.table).is_over = true;
        // Wakes the thread that accepts, which then sees that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request; a node that registers is known until its connection ends.
fn serve(port: u16, table: &Mutex<Table>, mut stream: TcpStream) {
    let Ok(request) = read_request(&mut stream) else { return };
    let Some((&kind, request)) = request.split_first() else { return };
    match kind {
        REGISTER => {
            let Some((name, node)) = read_node(request) else { return };
            let node = {
                let mut table = lock(table);
                table.lives += 1;
                let node = Node { life: table.lives, ..node };
                table.nodes.insert(name.clone(), node.clone());
                node
            };
            if stream.write_all(&registered(&node)).is_ok() {
                // Ends with the node.
                let _ = io::copy(&mut stream, &mut io::sink());
            }
            let mut table = lock(table);
            if table.nodes.get(&name).is_some_and(|known| known.life == node.life) {
                table.nodes.remove(&name);
            }
        }
        WHERE_IS => {
            let name = String::from_utf8_lossy(request);
            let node = lock(table).nodes.get(name.as_ref()).cloned();
            let _ = stream.write_all(&node.map_or_else(|| vec![HERE_IS, 1], |node| here_is(&name, &node)));
        }
        NAMES => {
            let mut answer = u32::from(port).to_be_bytes().to_vec();
            for (name, node) in &lock(table).nodes {
                answer.extend(format!("name {name} at port {}\n", node.port).bytes());
            }
            let _ = stream.write_all(&answer);
        }
        _ => {}
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read_request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut request = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut request)?;
    Ok(request)
}

/// Port, type, protocol, two versions, the length of the name, the name.
fn read_node(request: &[u8]) -> Option<(String, Node)> {
    let (port, rest) = request.split_first_chunk()?;
    let (about, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let name = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    let node = Node { port: u16::from_be_bytes(*port), life: 0, about: *about };
    Some((String::from_utf8_lossy(name).into_owned(), node))
}

fn registered(node: &Node) -> Vec<u8> {
    let [_, _, high, low, ..] = node.about;
    if u16::from_be_bytes([high, low]) >= LONG_CREATION {
        return [&[REGISTERED_LONG, 0][..], &node.life.to_be_bytes()].concat();
    }
    // Short ones are 1 to 3.
    let [.., life] = (node.life % 3 + 1).to_be_bytes();
    vec![REGISTERED, 0, 0, life]
}

fn here_is(name: &str, node: &Node) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap_or_default().to_be_bytes();
    // The last two: no further information.
    [&[HERE_IS, 0][..], &node.port.to_be_bytes(), &node.about, &length, name.as_bytes(), &[0, 0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;

    /// A registration: the connection must be held, and the answer.
    fn register(epmd: &Epmd, name: &str, port: u16, highest: u16) -> (TcpStream, Vec<u8>) {
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        let versions = [highest.to_be_bytes(), 5_u16.to_be_bytes()].concat();
        let request =
            [&[REGISTER][..], &port.to_be_bytes(), &[77, 0], &versions, &length, name.as_bytes(), &[0, 0]].concat();
        let mut stream = send(epmd, &request);
        let mut answer = vec![0; if highest >= LONG_CREATION { 6 } else { 4 }];
        stream.read_exact(&mut answer).unwrap();
        (stream, answer)
    }

    fn send(epmd: &Epmd, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", epmd.port())).unwrap();
        let length = u16::try_from(request.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, request].concat()).unwrap();
        stream
    }

    fn ask(epmd: &Epmd, request: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        send(epmd, request).read_to_end(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_node_is_known_for_as_long_as_it_is_connected() {
        let epmd = Epmd::start();
        assert_eq!(ask(&epmd, b"zone"), [HERE_IS, 1]);
        let (first, answer) = register(&epmd, "one", 258, 6);
        assert_eq!(answer, [REGISTERED_LONG, 0, 0, 0, 0, 1]);
        assert_eq!(ask(&epmd, b"zone"), [&[HERE_IS, 0, 1, 2, 77, 0, 0, 6, 0, 5, 0, 3][..], b"one", &[0, 0]].concat());
        assert_eq!(ask(&epmd, b"n")[4..], *b"name one at port 258\n");

        // It comes back before its old connection is seen to end.
        let (second, _) = register(&epmd, "one", 259, 6);
        drop(first);
        let (_third, answer) = register(&epmd, "two", 1, 5);
        assert_eq!(answer, [REGISTERED, 0, 0, 1]);
        assert_eq!(ask(&epmd, b"zone")[2..4], [1, 3]);
        drop(second);
        eventually("it is forgotten", || ask(&epmd, b"zone") == [HERE_IS, 1]);
    }

    #[test]
    fn it_says_what_it_was_told_to() {
        let epmd = Epmd::start();
        epmd.say("far", 7);
        assert_eq!(ask(&epmd, b"zfar")[..4], [HERE_IS, 0, 0, 7]);
        let port = epmd.port();
        drop(epmd);
        eventually("it is gone", || TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
