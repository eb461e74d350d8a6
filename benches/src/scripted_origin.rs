//! An origin that answers as a function says, at the moment the function says.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::answer;

/// A request without a body.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The target of its first line.
    pub target: String,
    /// The value of `If-None-Match`.
    pub if_none_match: Option<String>,
}

/// The two halves of an answer; `pause` is waited for in between.
pub struct Reply<P> {
    /// Status line and fields, with the empty line.
    pub head: String,
    /// The body.
    pub body: String,
    /// What the body waits for.
    pub pause: P,
}

/// A running origin; ended when dropped.
pub struct ScriptedOrigin {
    /// Where it serves.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl ScriptedOrigin {
    /// Serves what a script answers.
    ///
    /// # Errors
    /// No port.
    pub async fn start<S, F, P>(script: S) -> Result<Self>
    where
        S: Fn(Asked) -> F + Send + Sync + 'static,
        F: Future<Output = Reply<P>> + Send,
        P: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let script = Arc::new(script);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let script = Arc::clone(&script);
                tokio::spawn(async move {
                    // The gateway may close a connection whenever it likes.
                    let _ = serve(stream, &*script).await;
                });
            }
        });
        Ok(Self { address, accepting })
    }
}

impl Drop for ScriptedOrigin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<F, P>(mut stream: TcpStream, script: &(impl Fn(Asked) -> F + Sync)) -> Result<()>
where
    F: Future<Output = Reply<P>> + Send,
    P: Future<Output = ()> + Send,
{
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = answer::head_end(&buffer) {
                break end;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let asked = read(&String::from_utf8_lossy(&buffer[..end]));
        buffer.drain(..end);
        let reply = script(asked).await;
        stream.write_all(reply.head.as_bytes()).await?;
        reply.pause.await;
        stream.write_all(reply.body.as_bytes()).await?;
    }
}

fn read(head: &str) -> Asked {
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    Asked {
        target: head.split(' ').nth(1).unwrap_or_default().to_owned(),
        if_none_match: field("if-none-match"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_tells_its_target_and_its_condition() {
        let asked = read("GET /a?b=1 HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"7\"\r\n\r\n");
        assert_eq!(asked.target, "/a?b=1");
        assert_eq!(asked.if_none_match.as_deref(), Some("\"7\""));
    }
}
