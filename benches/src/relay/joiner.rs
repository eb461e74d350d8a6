//! Gives a read the answer of the same one that was under way when it came: a cache in front of an origin that does not ask
//! whether anything was written in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::answer::{Head, head_end, is_last_chunk};

/// How long an answer is on its way, so that others join it.
const UNDER_WAY: Duration = Duration::from_millis(40);

type Answer = Arc<[u8]>;
/// The answers to come, by target.
type UnderWay = HashMap<Vec<u8>, watch::Receiver<Option<Answer>>>;

/// The reads that are under way; clones share them.
#[derive(Clone, Default)]
pub(super) struct Joiner {
    under_way: Arc<Mutex<UnderWay>>,
}

/// What is to be done for a read.
enum Part {
    /// Wait for the answer of another.
    Join(watch::Receiver<Option<Answer>>),
    /// Ask, and tell the others.
    Lead(watch::Sender<Option<Answer>>),
}

impl Joiner {
    /// Serves a connection until either side ends it.
    pub(super) async fn serve(&self, mut client: TcpStream, mut server: TcpStream) -> Result<()> {
        let mut rest = Vec::new();
        loop {
            let request = read_message(&mut client, &mut rest, request_length).await?;
            let answer = match readable(&request) {
                Some(target) => self.read(target, &request, &mut server).await?,
                None => exchange(&mut server, &request).await?,
            };
            client.write_all(&answer).await?;
        }
    }

    async fn read(&self, target: &[u8], request: &[u8], server: &mut TcpStream) -> Result<Answer> {
        match self.part(target) {
            Part::Join(mut others) => {
                if let Ok(answer) = others.wait_for(Option::is_some).await
                    && let Some(answer) = &*answer
                {
                    return Ok(Arc::clone(answer));
                }
                exchange(server, request).await
            }
            Part::Lead(tell) => {
                let answer = exchange(server, request).await?;
                sleep(UNDER_WAY).await;
                self.lock().remove(target);
                tell.send_replace(Some(Arc::clone(&answer)));
                Ok(answer)
            }
        }
    }

    fn part(&self, target: &[u8]) -> Part {
        let mut under_way = self.lock();
        match under_way.get(target) {
            // One whose leader has gone without an answer is led anew.
            Some(others) if others.has_changed().is_ok() => Part::Join(others.clone()),
            _ => {
                let (tell, others) = watch::channel(None);
                under_way.insert(target.to_vec(), others);
                Part::Lead(tell)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The target of a request that can be given another's answer: a read without conditions.
fn readable(request: &[u8]) -> Option<&[u8]> {
    let text = std::str::from_utf8(request).ok()?;
    let is_conditional = text.to_ascii_lowercase().contains("\r\nif-");
    let target = text.strip_prefix("GET ")?.split(' ').next()?;
    (!is_conditional).then_some(target.as_bytes())
}

async fn exchange(server: &mut TcpStream, request: &[u8]) -> Result<Answer> {
    server.write_all(request).await?;
    let mut rest = Vec::new();
    let answer = read_message(server, &mut rest, |head| Ok(Head::parse(head)?.length)).await?;
    Ok(answer.into())
}

/// The bytes of a request's body; a chunked one has no length.
fn request_length(head: &[u8]) -> Result<Option<usize>> {
    let text = std::str::from_utf8(head)?.to_ascii_lowercase();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    match field("content-length:") {
        Some(length) => Ok(Some(length.trim().parse()?)),
        None if field("transfer-encoding:").is_some() => Ok(None),
        None => Ok(Some(0)),
    }
}

/// One message, head and body as they come; what comes behind it stays in `rest`.
async fn read_message(
    from: &mut TcpStream,
    rest: &mut Vec<u8>,
    length: impl Fn(&[u8]) -> Result<Option<usize>>,
) -> Result<Vec<u8>> {
    loop {
        if let Some(head) = head_end(rest) {
            let body = length(&rest[..head])?;
            let is_whole = match body {
                Some(body) => rest.len() >= head + body,
                None => is_last_chunk(&rest[head..]),
            };
            if is_whole {
                let end = body.map_or(rest.len(), |body| head + body);
                return Ok(rest.drain(..end).collect());
            }
        }
        ensure!(from.read_buf(rest).await? > 0, "it ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_without_conditions_can_be_joined() {
        assert_eq!(readable(b"GET /a?b HTTP/1.1\r\n\r\n"), Some(&b"/a?b"[..]));
        for other in [
            "POST /a HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1\r\nIf-None-Match: x\r\n\r\n",
        ] {
            assert_eq!(readable(other.as_bytes()), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_read_is_given_the_answer_of_the_one_under_way_and_the_next_one_its_own() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            // Each connection answers with its own number.
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut rest = Vec::new();
                    while read_message(&mut stream, &mut rest, request_length)
                        .await
                        .is_ok()
                    {
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        let joiner = Joiner::default();
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let request = b"GET /a HTTP/1.1\r\n\r\n";
        let (one, other) = tokio::join!(
            joiner.read(b"/a", request, &mut first),
            joiner.read(b"/a", request, &mut second)
        );
        assert_eq!(one.unwrap(), other.unwrap());
        let alone = joiner.read(b"/a", request, &mut second).await.unwrap();
        assert!(alone.ends_with(b"1"));
    }
}
