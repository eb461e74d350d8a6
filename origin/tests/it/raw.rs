//! Bytes in, bytes out: for requests that no client library would send.

use std::{net::SocketAddr, time::Duration};

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::DEADLINE;

/// A connection, and what has come over it and was not yet read.
pub(crate) struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: StatusCode,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    /// A field's value, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    /// Whether the connection is at its end.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection").eq_ignore_ascii_case("close")
    }
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.expect("a connection"),
            read: Vec::new(),
        }
    }

    /// Sends bytes; a server that has hung up in the meantime is not an error.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Reads one answer. `to_head`: the request was a HEAD, whose answer has no body.
    pub(crate) async fn answer_to(&mut self, to_head: bool) -> RawAnswer {
        timeout(DEADLINE, self.read_answer(to_head))
            .await
            .expect("an answer in time")
    }

    /// Reads one answer to something other than a HEAD.
    pub(crate) async fn answer(&mut self) -> RawAnswer {
        self.answer_to(false).await
    }

    /// Whether the server closes the connection, saying nothing more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match timeout(DEADLINE, self.stream.read_to_end(&mut rest)).await {
            Ok(Ok(read)) => read == 0,
            // Reset: closed with our bytes unread.
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_silent_for(&mut self, wait: Duration) -> bool {
        let mut byte = [0; 1];
        timeout(wait, self.stream.peek(&mut byte)).await.is_err()
    }

    async fn read_answer(&mut self, to_head: bool) -> RawAnswer {
        let end = loop {
            if let Some(at) = self
                .read
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at + 4;
            }
            self.read_more().await;
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).expect("a head of text");
        let status = head
            .split(' ')
            .nth(1)
            .expect("a status")
            .parse()
            .expect("a status");
        let mut answer = RawAnswer {
            status,
            head,
            body: Vec::new(),
        };
        let length = answer.field("content-length").parse().unwrap_or(0);
        if !to_head && answer.status != StatusCode::NOT_MODIFIED {
            while self.read.len() < length {
                self.read_more().await;
            }
            answer.body = self.read.drain(..length).collect();
        }
        answer
    }

    async fn read_more(&mut self) {
        let read = self.stream.read_buf(&mut self.read).await.expect("bytes");
        assert!(
            read > 0,
            "the server hung up after {:?}",
            String::from_utf8_lossy(&self.read)
        );
    }
}
