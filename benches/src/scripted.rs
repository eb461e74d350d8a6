//! An origin that answers what a measurement says, on threads of its own, and counts what it was asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::answer::head_end;

/// A request as far as an origin's script looks at it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The target of the request line.
    pub target: &'a str,
    /// The whole head.
    pub head: &'a str,
    /// How many requests came before this one.
    pub number: u64,
}

/// A whole answer as bytes; nothing means that the connection is closed instead.
pub type Answered = Option<Vec<u8>>;

type Script = dyn Fn(&Asked<'_>) -> Answered + Send + Sync;

/// An origin that runs while this is held.
pub struct Scripted {
    address: SocketAddr,
    asked: Arc<AtomicU64>,
    open: watch::Sender<bool>,
    _runtime: Runtime,
}

struct Shared {
    script: Box<Script>,
    asked: Arc<AtomicU64>,
    open: watch::Receiver<bool>,
}

impl Scripted {
    /// Serves on a free port.
    ///
    /// # Errors
    /// No port, or no threads.
    pub fn start(script: impl Fn(&Asked<'_>) -> Answered + Send + Sync + 'static) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let asked = Arc::new(AtomicU64::new(0));
        let (open, held) = watch::channel(true);
        let shared = Arc::new(Shared {
            script: Box::new(script),
            asked: Arc::clone(&asked),
            open: held,
        });
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self {
            address,
            asked,
            open,
            _runtime: runtime,
        })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Holds every answer back, or lets them go.
    pub fn hold(&self, held: bool) {
        self.open.send_replace(!held);
    }

    /// Ends it from within a runtime.
    pub fn stop(self) {
        self._runtime.shutdown_background();
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = head_end(&buffer) {
                break end;
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let number = shared.asked.fetch_add(1, Ordering::SeqCst);
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let mut open = shared.open.clone();
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        let target = head.split(' ').nth(1).unwrap_or_default();
        let asked = Asked {
            target,
            head: &head,
            number,
        };
        match (shared.script)(&asked) {
            Some(answer) if stream.write_all(&answer).await.is_ok() => {}
            Some(_) | None => return,
        }
    }
}

/// A 200 with these fields, each with its line end, and this body.
pub fn ok(fields: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=86400\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}
