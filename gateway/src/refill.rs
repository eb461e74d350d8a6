//! Fetching again what a purge took out and many ask for, before they ask.
//!
//! Each key is asked for as a client would, on a connection in memory to the proxy itself: policy, origins, coalescing and the
//! race rule are those of every request. A refill of a key that is purged once more is a fill like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::mpsc;

use crate::policy::key::Key;

/// Keys that one purge may have fetched again.
pub const REFILL_MAX: usize = 1_000;
/// Keys that wait to be fetched at most; more are not fetched.
const QUEUE_MAX: usize = 4 * REFILL_MAX;
/// Bytes between the proxy and the refill, which throws them away.
const PIPE_BYTES: usize = 16 * 1024;
/// One fetch may take this long.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The bytes before the status in an answer's first line.
const VERSION: &str = "HTTP/1.1 ";

tokio::task_local! {
    static REFILLING: ();
}

/// Whether the request at hand is a refill's: it needs no client's token.
pub fn is_refilling() -> bool {
    REFILLING.try_with(|()| ()).is_ok()
}

/// Where purges leave the keys to be fetched again.
pub struct Refills {
    queue: mpsc::Sender<Arc<Key>>,
    waiting: AtomicUsize,
    done: AtomicU64,
    failed: AtomicU64,
}

/// Refills so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct RefillStats {
    /// Keys that wait or are being fetched.
    pub waiting: usize,
    /// Keys that were answered with 2xx or 3xx.
    pub done: u64,
    /// Keys that were not.
    pub failed: u64,
}

impl Refills {
    /// Queues keys to be fetched, in this order. Returns how many: those that find the queue full are left to the clients.
    pub fn add(&self, keys: Vec<Arc<Key>>) -> usize {
        let mut added = 0;
        for key in keys {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            if self.queue.try_send(key).is_err() {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                break;
            }
            added += 1;
        }
        added
    }

    /// What became of them so far.
    pub fn stats(&self) -> RefillStats {
        RefillStats {
            waiting: self.waiting.load(Ordering::Relaxed),
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// Fetches what purges leave behind, some keys at once.
pub struct RefillService<A> {
    app: Arc<A>,
    refills: Arc<Refills>,
    queue: Mutex<Option<mpsc::Receiver<Arc<Key>>>>,
    concurrency: usize,
}

impl<A> RefillService<A> {
    /// A service that asks this proxy, `concurrency` keys at once, and the queue it works on.
    pub fn new(app: Arc<A>, concurrency: usize) -> (Self, Arc<Refills>) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let refills = Arc::new(Refills {
            queue: sender,
            waiting: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let service = Self {
            app,
            refills: Arc::clone(&refills),
            queue: Mutex::new(Some(receiver)),
            concurrency,
        };
        (service, refills)
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> BackgroundService for RefillService<A> {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(queue) = self.queue.lock().take() else {
            return;
        };
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..self.concurrency {
            workers.spawn(work(
                Arc::clone(&self.app),
                Arc::clone(&queue),
                Arc::clone(&self.refills),
                shutdown.clone(),
            ));
        }
        let _ = shutdown.changed().await;
    }
}

async fn work<A: ServerApp + Send + Sync + 'static>(
    app: Arc<A>,
    queue: Arc<tokio::sync::Mutex<mpsc::Receiver<Arc<Key>>>>,
    refills: Arc<Refills>,
    shutdown: ShutdownWatch,
) {
    loop {
        let next = queue.lock().await.recv().await;
        let Some(key) = next else {
            return;
        };
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, fetch(&app, &key, &shutdown)).await;
        let status = fetched.ok().flatten();
        if status.is_some_and(|status| (200..400).contains(&status)) {
            refills.done.fetch_add(1, Ordering::Relaxed);
        } else {
            refills.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%key, status, "a refill was not answered");
        }
        refills.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks the proxy for a key; the status of its answer, if that came whole.
async fn fetch<A: ServerApp + Send + Sync + 'static>(
    app: &Arc<A>,
    key: &Key,
    shutdown: &ShutdownWatch,
) -> Option<u16> {
    let (mut client, server) = duplex(PIPE_BYTES);
    let ask = async {
        client.write_all(request(key).as_bytes()).await.ok()?;
        let mut answer = Vec::with_capacity(PIPE_BYTES);
        let mut status = None;
        while client.read_buf(&mut answer).await.ok()? > 0 {
            status = status.or_else(|| status_of(&answer));
            if status.is_some() {
                answer.clear();
            }
        }
        status
    };
    let serve = REFILLING.scope((), app.process_new(Box::new(server), shutdown));
    // The connection closes after its one answer, which ends both.
    let (_, status) = tokio::join!(serve, ask);
    status
}

fn request(key: &Key) -> String {
    let query = key.query();
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    format!(
        "GET {}{mark}{query} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        key.path(),
        key.host()
    )
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let digits = answer.get(VERSION.len()..VERSION.len() + 3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refill_asks_for_the_canonical_target_of_its_key() {
        let key = Key::new("http", "shop.test", "/reviews", Some("product_id=2"));
        assert_eq!(
            request(&key),
            "GET /reviews?product_id=2 HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"
        );
        let key = Key::new("http", "shop.test", "/", None);
        assert!(request(&key).starts_with("GET / HTTP/1.1\r\n"));
    }

    #[test]
    fn a_status_is_read_as_soon_as_it_is_there() {
        assert_eq!(status_of(b"HTTP/1.1 20"), None);
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
    }
}
