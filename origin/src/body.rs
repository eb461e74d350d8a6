//! Request bodies: read within bounds, and never left half-read on a connection that goes on.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// What a request without any use for a body may send, and what is read of one that is refused.
pub const DRAINED_BYTES_MAX: usize = 64 * 1024;

/// A body that was read, and its share of the memory that bodies may take.
#[derive(Debug)]
pub struct Received {
    /// The whole body.
    pub bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads a body of at most so many bytes, as long as there is memory for it.
pub async fn receive(
    mut body: Body,
    bytes_max: usize,
    memory: &Arc<Semaphore>,
) -> Result<Received> {
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(Error::TooLarge(bytes_max));
    }
    let mut bytes = BytesMut::new();
    let mut share: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ended_early())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            return Err(Error::TooLarge(bytes_max));
        }
        // Counted as it arrives: a client that announces much and sends little takes little.
        let more = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let more = Arc::clone(memory)
            .try_acquire_many_owned(more)
            .map_err(|_| Error::Unavailable("no memory for another body".into()))?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Received {
        bytes: bytes.freeze(),
        _share: share,
    })
}

/// What a body without its end is refused with.
pub fn ended_early() -> Error {
    Error::Malformed("The body ended early.".into())
}

/// Reads a body to its end and forgets it.
pub async fn drain(mut body: Body) -> Result<()> {
    let too_large = Error::TooLarge(DRAINED_BYTES_MAX);
    if body.size_hint().lower() > DRAINED_BYTES_MAX as u64 {
        return Err(too_large);
    }
    let mut drained = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ended_early())?;
        drained += frame.data_ref().map_or(0, Bytes::len);
        if drained > DRAINED_BYTES_MAX {
            return Err(too_large);
        }
    }
    Ok(())
}

/// What a handler has left unread of a body, once it is done with it.
#[derive(Clone, Debug, Default)]
pub struct Leftover(Arc<Mutex<Option<Body>>>);

impl Leftover {
    /// A body that comes back here when it is dropped.
    pub fn lend(&self, body: Body) -> Body {
        Body::new(Lent {
            body,
            owner: self.clone(),
        })
    }

    /// The unread rest, if there is one.
    pub fn take(&self) -> Option<Body> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        body.filter(|body| !body.is_end_stream())
    }
}

struct Lent {
    body: Body,
    owner: Leftover,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        *self.owner.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(100))
    }

    #[tokio::test]
    async fn a_body_within_its_bound_is_read_whole() {
        let received = receive(Body::from("hello"), 5, &memory())
            .await
            .expect("read");
        assert_eq!(received.bytes, "hello");
    }

    #[tokio::test]
    async fn a_body_over_its_bound_is_too_large_with_and_without_announcement() {
        let chunks = futures_util::stream::iter([Ok::<_, axum::Error>("hel"), Ok("lo!")]);
        for body in [Body::from("hello!"), Body::from_stream(chunks)] {
            let error = receive(body, 5, &memory()).await.expect_err("refused");
            assert!(matches!(error, Error::TooLarge(5)));
        }
    }

    #[tokio::test]
    async fn bodies_share_a_bounded_memory_and_give_it_back() {
        let memory = memory();
        let first = receive(Body::from(vec![b' '; 80]), 100, &memory)
            .await
            .expect("read");
        let error = receive(Body::from(vec![b' '; 30]), 100, &memory)
            .await
            .expect_err("refused");
        assert!(matches!(error, Error::Unavailable(_)));
        drop(first);
        assert_eq!(memory.available_permits(), 100);
    }

    #[tokio::test]
    async fn what_a_handler_leaves_unread_comes_back() {
        let leftover = Leftover::default();
        drop(leftover.lend(Body::from("unread")));
        let rest = leftover
            .take()
            .expect("the rest")
            .collect()
            .await
            .expect("read");
        assert_eq!(rest.to_bytes(), "unread");

        let body = leftover.lend(Body::from("read"));
        body.collect().await.expect("read");
        assert!(leftover.take().is_none());
    }
}
