//! A link whose connections end when the test wants.

use tokio::sync::Notify;

use super::*;

/// Makes connections: the first opens no channel and says nothing about it, as the library does when a call comes while its
/// connection ends.
#[derive(Debug, Default)]
struct Server {
    connections: Mutex<u32>,
    asked: Arc<Notify>,
}

#[derive(Debug)]
struct Fake {
    is_first: bool,
    asked: Arc<Notify>,
}

impl Connect for Server {
    fn connect(&self, _: Role) -> BoxFuture<'_, Result<Arc<dyn Connection>>> {
        let mut connections = self.connections.lock();
        *connections += 1;
        let fake = Fake { is_first: *connections == 1, asked: Arc::clone(&self.asked) };
        Box::pin(async { Ok(Arc::new(fake) as Arc<dyn Connection>) })
    }
}

impl Connection for Fake {
    fn open_channel(&self) -> BoxFuture<'_, Result<Arc<dyn Channel>>> {
        self.asked.notify_one();
        if self.is_first {
            return Box::pin(std::future::pending());
        }
        Box::pin(async { Err(Error::new(ErrorKind::Full, "an answer of the second connection")) })
    }

    fn next_event(&self) -> BoxFuture<'_, ConnectionEvent> {
        Box::pin(async {
            if !self.is_first {
                return std::future::pending().await;
            }
            self.asked.notified().await;
            ConnectionEvent::Over(Error::new(ErrorKind::Unavailable, "broken"))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn cut(&self) {}
}

#[tokio::test]
async fn whoever_waits_for_a_channel_of_a_dying_connection_gets_one_of_the_next() {
    let (server, hour) = (Arc::new(Server::default()), Duration::from_secs(3600));
    let link = Link::open(server, Role::Control, hour, 1, &Handle::current()).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), link.channel()).await;
    assert_eq!(answer.expect("it waits for ever").unwrap_err().message(), "an answer of the second connection");
}
