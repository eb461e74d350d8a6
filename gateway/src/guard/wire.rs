//! One connection below a session: what came before there is one, what leaves in one write, and the date it leaves under.
//!
//! Nothing is allocated while a connection is idle. Its first bytes are held until a session reads them; what a session
//! writes is collected until it is flushed, so that a head and a small body are one packet.
//!
//! Pingora puts the present into every header it writes as its `Date`, also of what was made long ago (RFC 9110 section
//! 6.6.1). All dates of the preferred form have one length, so the right one is put over it here.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Connection;
use super::frames::Frames;
use super::framing::Framing;

/// Bytes that are read of a request before there is a session: most are shorter as a whole.
const FIRST_BYTES_MAX: usize = 4 * 1024;

/// Bytes that are read and dropped of a client that was refused and sends on: closed before it has read its refusal, a
/// socket would take that back.
const REFUSED_BYTES_MAX: usize = 1024 * 1024;

/// The bytes of a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) const DATE_BYTES: usize = 29;

/// A connection.
pub(super) struct Wire {
    stream: Stream,
    connection: Arc<Connection>,
    /// What came and no session has read.
    held: Bytes,
    /// What was written and is not sent.
    unsent: BytesMut,
    unsent_max: usize,
    refused: Option<Refused>,
    /// How far its frames have come, over HTTP/2.
    frames: Option<Frames>,
}

/// The end of a connection whose client was refused before there was a request.
struct Refused {
    /// The refusal is sent, and nothing follows it.
    is_told: bool,
    /// Bytes of its client that are still dropped.
    left: usize,
}

impl Wire {
    /// Collects at most about `unsent_max` bytes before it sends them.
    pub(super) fn new(stream: Stream, connection: Arc<Connection>, unsent_max: usize) -> Self {
        Self {
            stream,
            connection,
            held: Bytes::new(),
            unsent: BytesMut::new(),
            unsent_max,
            refused: None,
            frames: None,
        }
    }

    /// From the first byte on, what is read are the frames of HTTP/2.
    pub(super) fn follow_frames(&mut self) {
        self.frames = Some(Frames::new());
    }

    /// Waits until so many bytes have come, and holds them for the session; false when there will not be as many. This is
    /// where a request can be looked at as bytes, before anything is spent on it.
    pub(super) async fn first_bytes(&mut self, count: usize) -> bool {
        std::future::poll_fn(|cx| self.poll_first_bytes(cx, count)).await
    }

    /// Waits for the rest of a header that has begun, or for as much of it as is held at most: one that drips costs no
    /// session. Ends early where nothing more is to come, and where a session has something to refuse.
    pub(super) async fn header(&mut self) {
        let mut framing = Framing::new((self.connection.terms.header_max)());
        let mut known = 0;
        while self.held.len() < FIRST_BYTES_MAX && !has_empty_line(&self.held) {
            let is_clear = framing.read(&self.held[known..]).is_ok();
            known = self.held.len();
            if !is_clear || !self.first_bytes(known + 1).await {
                return;
            }
        }
    }

    fn poll_first_bytes(&mut self, cx: &mut Context<'_>, count: usize) -> Poll<bool> {
        while self.held.len() < count {
            let mut room = [MaybeUninit::uninit(); FIRST_BYTES_MAX];
            let mut buf = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(false);
            }
            self.held = if self.held.is_empty() {
                Bytes::copy_from_slice(buf.filled())
            } else {
                [&self.held, buf.filled()].concat().into()
            };
        }
        Poll::Ready(true)
    }

    /// Sends what was collected, and `more` behind it; how many bytes of `more` went with it.
    fn poll_send(&mut self, cx: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while !self.unsent.is_empty() {
            let pieces = [IoSlice::new(&self.unsent), IoSlice::new(more)];
            let stream = Pin::new(&mut self.stream);
            let sent = if more.is_empty() {
                stream.poll_write(cx, &self.unsent)
            } else {
                stream.poll_write_vectored(cx, &pieces)
            };
            let sent = ready!(self.connection.watch_write(sent))?;
            let own = sent.min(self.unsent.len());
            self.unsent.advance(own);
            if own < sent {
                self.unsent = BytesMut::new();
                return Poll::Ready(Ok(sent - own));
            }
        }
        self.unsent = BytesMut::new(); // an idle connection keeps no room
        if more.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sent = Pin::new(&mut self.stream).poll_write(cx, more);
        self.connection.watch_write(sent)
    }

    /// Looks at what is read; what is not to be read on is answered, if it gets an answer, and is an error.
    fn watch(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        if let Some(frames) = &mut self.frames {
            self.connection.watch_frames(frames, bytes);
        }
        match self.connection.watch_read(bytes) {
            Ok(()) => return Poll::Ready(Ok(())),
            Err(None) => return Poll::Ready(Err(malformed())),
            Err(Some(refusal)) => self.unsent.extend_from_slice(refusal),
        }
        self.held = Bytes::new();
        self.refused = Some(Refused {
            is_told: false,
            left: REFUSED_BYTES_MAX,
        });
        self.poll_end_refused(cx)
    }

    /// Sends the refusal, then drops what comes until the client closes too; an error in the end. The time for the header
    /// bounds it.
    fn poll_end_refused(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(refused) = &self.refused {
            let (is_told, left) = (refused.is_told, refused.left);
            if !is_told {
                ready!(self.poll_send(cx, &[]))?;
                ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            }
            let mut room = [MaybeUninit::uninit(); FIRST_BYTES_MAX];
            let mut buf = ReadBuf::uninit(&mut room);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut buf);
            let length = buf.filled().len();
            self.refused = Some(Refused {
                is_told: true,
                left: left.saturating_sub(length),
            });
            ready!(read)?;
            if length == 0 || length >= left {
                break;
            }
        }
        Poll::Ready(Err(malformed()))
    }

    /// Collects a header under the date that waits for it, if this is one.
    fn collect_dated(&mut self, bytes: &[u8]) -> bool {
        let mut next = self.connection.next_date.lock();
        if let Some(date) = *next
            && let Some(at) = date_of_final_header(bytes)
        {
            *next = None;
            let start = self.unsent.len() + at;
            self.unsent.extend_from_slice(bytes);
            self.unsent[start..start + DATE_BYTES].copy_from_slice(&date);
            return true;
        }
        false
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed request")
}

/// Whether a header may end in these bytes.
fn has_empty_line(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"\n\r\n").is_some()
}

/// Where the value of `Date` starts, if these bytes start with the header of a final answer that has one of full length.
fn date_of_final_header(bytes: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"date: ";
    let is_final =
        bytes.starts_with(b"HTTP/1.") && bytes.get(9).is_some_and(|digit| *digit != b'1');
    if !is_final {
        return None;
    }
    let mut start = 0;
    while start < bytes.len() {
        let rest = &bytes[start..];
        let line = &rest[..rest.iter().position(|byte| *byte == b'\r')?];
        if line.is_empty() {
            return None;
        }
        if line.len() == NAME.len() + DATE_BYTES && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            return Some(start + NAME.len());
        }
        start += line.len() + 2;
    }
    None
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refused.is_some() {
            return self.poll_end_refused(cx);
        }
        if !self.held.is_empty() {
            let count = self.held.len().min(buf.remaining());
            let piece = self.held.split_to(count);
            ready!(self.watch(cx, &piece))?;
            buf.put_slice(&piece);
            if self.held.is_empty() {
                self.held = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let mut clock = self.connection.clock.lock();
        match &read {
            Poll::Pending => clock.read_waits(Instant::now),
            Poll::Ready(_) => clock.read_moves(buf.filled().len() - before, Instant::now),
        }
        drop(clock);
        ready!(self.watch(cx, &buf.filled()[before..]))?;
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.collect_dated(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.unsent.len() + bytes.len() <= self.unsent_max {
            self.unsent.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        self.poll_send(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &[]))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &[]))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // What a session left behind leaves if there is room for it now.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = self.poll_send(&mut cx, &[]);
    }
}

// The rest of what Pingora asks a connection is the connection's own affair.

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        if let Err(error) = tokio::io::AsyncWriteExt::flush(self).await {
            tracing::debug!(%error, "a connection ended before its last bytes were sent");
        }
        self.stream.shutdown().await;
    }
}

impl Peek for Wire {}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Wire {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wire").field(&self.stream).finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::guard::tests::connection;

    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NOW: &str = "Mon, 07 Nov 1994 10:00:00 GMT";

    fn answer(status: &str, date: &str) -> String {
        format!("HTTP/1.1 {status}\r\nX: date: \r\nDate: {date}\r\nA: b\r\n\r\nDate: {date}\r\n")
    }

    /// What comes out when the pieces are written over a pipe that takes so many bytes at once.
    async fn written(room: usize, unsent_max: usize, date: &str, pieces: &[String]) -> String {
        let (near, mut far) = tokio::io::duplex(room);
        let connection = connection();
        connection.set_date(date.as_bytes());
        let mut wire = Wire::new(Box::new(near), connection, unsent_max);
        let write = async move {
            for piece in pieces {
                wire.write_all(piece.as_bytes()).await.unwrap();
            }
            AsyncWriteExt::shutdown(&mut wire).await.unwrap();
            drop(wire);
        };
        let mut out = String::new();
        let (_, read) = tokio::join!(write, far.read_to_string(&mut out));
        read.unwrap();
        out
    }

    /// What is held after `header` of a request that came in these pieces, the connection still open.
    async fn held(pieces: &[&str]) -> Option<usize> {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut wire = Wire::new(Box::new(near), connection(), 0);
        let hear = async {
            let has_begun = wire.first_bytes(1).await;
            wire.header().await;
            (has_begun, wire.held.len())
        };
        let tell = async {
            for piece in pieces {
                far.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased; // each piece is heard before the next one is told
            (has_begun, length) = hear => has_begun.then_some(length),
            () = tell => None,
            () = tokio::time::sleep(Duration::from_secs(1)) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_waits_for_a_header_and_for_no_more() {
        const LINES: &str = "GET / HTTP/1.1\r\nHost: a\r\n";
        let whole = LINES.len() + 2;
        assert_eq!(held(&[LINES]).await, None);
        assert_eq!(held(&[LINES, "\r"]).await, None);
        assert_eq!(held(&[LINES, "\r", "\n"]).await, Some(whole));
        assert_eq!(held(&["G", &LINES[1..], "\r\n"]).await, Some(whole));
        assert_eq!(held(&["\r\n", LINES, "\r\n"]).await, Some(whole + 2));
        let with_body = format!("{LINES}\r\nbody");
        assert_eq!(held(&[&with_body]).await, Some(whole + 4));
        // What a session refuses is not waited for.
        assert_eq!(held(&["GET / HTTP/1.1\nHost: a\n\n"]).await, Some(24));
        assert_eq!(held(&["GET /a b "]).await, Some(9));
        let long = "x".repeat(FIRST_BYTES_MAX);
        assert_eq!(held(&["GET ", &long]).await, Some(4 + FIRST_BYTES_MAX));
    }

    #[tokio::test]
    async fn the_header_gets_its_own_date_however_it_is_cut_and_the_body_stays() {
        let body = "y".repeat(300);
        let expected = answer("200 OK", NOW).replacen(NOW, THEN, 1) + &body;
        for room in 1..80 {
            for unsent_max in [0, 10, 200, 10_000] {
                let pieces = [answer("200 OK", NOW), body.clone()];
                assert_eq!(written(room, unsent_max, THEN, &pieces).await, expected);
            }
        }
    }

    #[tokio::test]
    async fn an_interim_answer_is_left_alone_and_only_one_final_one_is_changed() {
        let pieces = [
            answer("103 Early Hints", NOW),
            answer("200 OK", NOW),
            answer("200 OK", NOW),
        ];
        let out = written(4096, 4096, THEN, &pieces).await;
        let expected = [
            pieces[0].clone(),
            pieces[1].replacen(NOW, THEN, 1),
            pieces[2].clone(),
        ];
        assert_eq!(out, expected.concat());
    }

    #[tokio::test]
    async fn without_a_date_of_the_preferred_form_nothing_is_changed() {
        let other = "Sunday, 06-Nov-94 08:49:37 GMT";
        let whole = [answer("200 OK", NOW)];
        assert_eq!(written(4096, 4096, other, &whole).await, whole[0]);
        let cut = ["HTTP/1.1 200 OK\r\nDa".to_owned()];
        assert_eq!(written(4096, 4096, THEN, &cut).await, cut[0]);
    }

    #[tokio::test]
    async fn what_came_before_the_session_is_read_by_it_in_whatever_pieces() {
        let (near, mut far) = tokio::io::duplex(64);
        let connection = connection();
        let mut wire = Wire::new(Box::new(near), connection, 100);
        far.write_all(b"first and ").await.unwrap();
        assert!(wire.first_bytes(1).await);
        assert!(wire.first_bytes(1).await, "it is held until it is read");
        far.write_all(b"sec").await.unwrap();
        assert!(wire.first_bytes(12).await, "more is put behind it");
        far.write_all(b"ond").await.unwrap();
        drop(far);
        let mut read = Vec::new();
        let mut piece = [0; 3];
        loop {
            match wire.read(&mut piece).await.unwrap() {
                0 => break,
                count => read.extend_from_slice(&piece[..count]),
            }
        }
        assert_eq!(read, b"first and second");
        assert!(!wire.first_bytes(1).await, "the end of the stream");
    }

    #[tokio::test]
    async fn small_writes_leave_together_when_they_are_flushed() {
        let (near, mut far) = tokio::io::duplex(4096);
        let connection = connection();
        let mut wire = Wire::new(Box::new(near), connection, 100);
        wire.write_all(b"head ").await.unwrap();
        wire.write_all(b"body").await.unwrap();
        let mut room = [0; 64];
        let nothing = std::future::poll_fn(|cx| {
            Poll::Ready(
                Pin::new(&mut far)
                    .poll_read(cx, &mut ReadBuf::new(&mut room))
                    .is_pending(),
            )
        })
        .await;
        assert!(nothing);
        wire.flush().await.unwrap();
        let count = far.read(&mut room).await.unwrap();
        assert_eq!(&room[..count], b"head body");
        assert_eq!(wire.unsent.capacity(), 0);
    }
}
