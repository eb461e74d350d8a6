//! An origin that answers what a measurement says, when it says so, on a thread of its own, and counts what it was asked.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::answer::head_end;

/// A request without a body.
#[derive(Debug)]
pub struct Asked {
    /// The target of the request line.
    pub target: String,
    /// How many requests came before this one.
    pub number: u64,
    head: String,
}

impl Asked {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What an answer waits for.
pub type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer in its two halves.
pub struct Reply {
    /// Status line and fields, with the empty line.
    pub head: String,
    /// What is waited for between head and body.
    pub pause: Option<Pause>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A 200 that may be kept for a day, with these fields, each with its line end, and this body.
    pub fn ok(fields: &str, body: Vec<u8>) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=86400\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        Self {
            head,
            pause: None,
            body,
        }
    }
}

/// An origin that runs while this is held.
pub struct Scripted {
    address: SocketAddr,
    asked: Arc<AtomicU64>,
    open: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

struct Shared<S> {
    script: S,
    asked: Arc<AtomicU64>,
    open: watch::Receiver<bool>,
}

impl Scripted {
    /// Serves on a free port; where the script gives no reply, the connection is closed instead.
    ///
    /// # Errors
    /// No port, or no thread.
    pub fn start<S, F>(script: S) -> Result<Self>
    where
        S: Fn(Asked) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Reply>> + Send + 'static,
    {
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
            script,
            asked: Arc::clone(&asked),
            open: held,
        });
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    // The gateway may close a connection whenever it likes.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Ok(Self {
            address,
            asked,
            open,
            runtime: Some(runtime),
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
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime may not wait for another one's end.
            runtime.shutdown_background();
        }
    }
}

async fn serve<S, F>(mut stream: TcpStream, shared: &Shared<S>) -> Result<()>
where
    S: Fn(Asked) -> F,
    F: Future<Output = Option<Reply>>,
{
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = head_end(&buffer) {
                break end;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let asked = Asked {
            target: head.split(' ').nth(1).unwrap_or_default().to_owned(),
            number: shared.asked.fetch_add(1, Ordering::SeqCst),
            head,
        };
        shared.open.clone().wait_for(|open| *open).await?;
        let Some(reply) = (shared.script)(asked).await else {
            return Ok(());
        };
        match reply.pause {
            None => {
                let whole = [reply.head.as_bytes(), &reply.body].concat();
                stream.write_all(&whole).await?;
            }
            Some(pause) => {
                stream.write_all(reply.head.as_bytes()).await?;
                pause.await;
                stream.write_all(&reply.body).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_tells_its_fields() {
        let asked = Asked {
            target: "/".into(),
            number: 0,
            head: "GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"7\"\r\n\r\n".into(),
        };
        assert_eq!(asked.field("if-none-match"), Some("\"7\""));
        assert_eq!(asked.field("range"), None);
    }
}
