//! Answers leave with the `Date` they were made at (RFC 9110 6.6.1).
//!
//! Pingora puts the present into every header it writes, also of what was made long ago. All dates of the preferred form have
//! one length, so the right one is put over it on its way into the socket's buffer.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
const DATE_BYTES: usize = 29;

/// The date of the next final answer on a connection, if it is not the present.
#[derive(Debug, Clone, Default)]
pub struct NextDate(Arc<Mutex<Option<[u8; DATE_BYTES]>>>);

impl NextDate {
    /// Sets it. What is no date of the preferred form is left to Pingora.
    pub fn set(&self, date: &[u8]) {
        *self.0.lock() = date.try_into().ok();
    }

    /// Forgets it.
    pub fn clear(&self) {
        *self.0.lock() = None;
    }
}

/// A connection that puts the date of each answer right.
pub struct Dated {
    stream: Stream,
    next: NextDate,
    patch: Option<Patch>,
}

impl Dated {
    /// Puts a connection's answers under the dates of `next`.
    pub fn new(stream: Stream, next: NextDate) -> Self {
        Self {
            stream,
            next,
            patch: None,
        }
    }

    /// Begins a patch if a date waits for the header that starts here.
    fn begin(&mut self, bytes: &[u8]) {
        let mut next = self.next.0.lock();
        if self.patch.is_none()
            && let Some(date) = *next
            && let Some(at) = date_of_final_header(bytes)
        {
            self.patch = Some(Patch {
                at,
                date,
                passed: 0,
            });
            *next = None;
        }
    }
}

/// A date and where it belongs, counted from the start of a header of which some bytes have passed.
struct Patch {
    at: usize,
    date: [u8; DATE_BYTES],
    passed: usize,
}

impl Patch {
    /// The bytes that come next, with the date in its place.
    fn over(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for (place, digit) in (self.at..).zip(self.date) {
            let place = place.checked_sub(self.passed);
            if let Some(byte) = place.and_then(|place| bytes.get_mut(place)) {
                *byte = digit;
            }
        }
        bytes
    }

    fn is_over(&self) -> bool {
        self.passed >= self.at + DATE_BYTES
    }
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

impl AsyncWrite for Dated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin(bytes);
        let Some(patch) = &self.patch else {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        };
        let patched = patch.over(bytes);
        let written = Pin::new(&mut self.stream).poll_write(cx, &patched);
        if let Poll::Ready(Ok(count)) = &written
            && let Some(patch) = &mut self.patch
        {
            patch.passed += count;
            if patch.is_over() {
                self.patch = None;
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = pieces.iter().find(|piece| !piece.is_empty());
        self.begin(first.map_or(&[], |piece| piece));
        match first {
            Some(first) if self.patch.is_some() => self.poll_write(cx, first),
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl AsyncRead for Dated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

// The rest of what Pingora asks a connection is the connection's own affair.

#[async_trait]
impl Shutdown for Dated {
    async fn shutdown(&mut self) {
        self.stream.shutdown().await;
    }
}

#[async_trait]
impl Peek for Dated {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.stream.try_peek(buf).await
    }
}

impl UniqueID for Dated {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Dated {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Dated {
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

impl GetProxyDigest for Dated {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Dated {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

impl fmt::Debug for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dated").field(&self.stream).finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NOW: &str = "Mon, 07 Nov 1994 10:00:00 GMT";

    fn answer(status: &str, date: &str) -> String {
        format!("HTTP/1.1 {status}\r\nX: date: \r\nDate: {date}\r\nA: b\r\n\r\nDate: {date}\r\n")
    }

    /// What comes out when the pieces are written over a pipe that takes so many bytes at once.
    async fn written(room: usize, date: &str, pieces: &[String]) -> String {
        let (near, mut far) = tokio::io::duplex(room);
        let next = NextDate::default();
        next.set(date.as_bytes());
        let mut dated = Dated::new(Box::new(near), next);
        let write = async move {
            for piece in pieces {
                dated.write_all(piece.as_bytes()).await.unwrap();
            }
            AsyncWriteExt::shutdown(&mut dated).await.unwrap();
            drop(dated);
        };
        let mut out = String::new();
        let (_, read) = tokio::join!(write, far.read_to_string(&mut out));
        read.unwrap();
        out
    }

    #[tokio::test]
    async fn the_header_gets_its_own_date_however_it_is_cut_and_the_body_stays() {
        let expected = answer("200 OK", NOW).replacen(NOW, THEN, 1);
        for room in 1..80 {
            assert_eq!(
                written(room, THEN, &[answer("200 OK", NOW)]).await,
                expected
            );
        }
    }

    #[tokio::test]
    async fn an_interim_answer_is_left_alone_and_only_one_final_one_is_changed() {
        let pieces = [
            answer("103 Early Hints", NOW),
            answer("200 OK", NOW),
            answer("200 OK", NOW),
        ];
        let out = written(4096, THEN, &pieces).await;
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
        assert_eq!(written(4096, other, &whole).await, whole[0]);
        let cut = ["HTTP/1.1 200 OK\r\nDa".to_owned()];
        assert_eq!(written(4096, THEN, &cut).await, cut[0]);
    }
}
