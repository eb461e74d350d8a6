//! pingora-cache's `Storage` over our store: translation of types, nothing else.

use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use pingora_cache::key::CacheHashKey;
use pingora_cache::storage::{
    HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget,
    PurgeType, Storage,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta};
use rustc_hash::FxHashMap;

use super::length::Length;
use super::refresh::Pinned;
use crate::policy::freshness::Left;
use crate::policy::key::Key;
use crate::policy::stale::{self, Failure};
use crate::purge::{Scope, Sequence};
use crate::refusals::Refusals;
use crate::store::{
    Body, BodyReader, FillWriter, Freshness, Head, NewFill, Object, Renewed, Store, Unkept,
};

/// What the response filter decided, on its way to the store as an extension of the metadata.
#[derive(Clone)]
pub(super) struct FillPlan {
    pub(super) key: Arc<Key>,
    pub(super) freshness: Freshness,
    pub(super) tags: Vec<Box<str>>,
    /// The purge number when the origin request began.
    pub(super) began: Sequence,
    /// Whether it may be given in other codings too.
    pub(super) encodable: bool,
    /// Where it is said if the store does not keep it.
    pub(super) fate: Fate,
}

/// Why the store does not keep a response, once that is known; for the request that brings it.
#[derive(Clone, Default)]
pub(super) struct Fate(Arc<OnceLock<Unkept>>);

impl Fate {
    pub(super) fn unkept(&self) -> Option<&'static str> {
        self.0.get().map(|unkept| unkept.as_str())
    }
}

/// The stored entry a hit came from, as an extension of the metadata.
#[derive(Clone)]
pub(super) struct Stored(pub(super) Arc<Object>);

/// The entry that was found for a request.
pub(super) fn stored(session: &Session) -> Option<&Stored> {
    session.cache.maybe_cache_meta()?.extensions().get()
}

/// The store as Pingora's state machine sees it.
pub(super) struct CacheStorage {
    store: Arc<Store>,
    refusals: Arc<Refusals>,
    /// Fills whose own request has not yet fetched its reader: a purge may already have hidden them from lookups.
    begun: Mutex<FxHashMap<u64, Arc<Object>>>,
    /// How long what is stale is served while no origin can be reached.
    pub(super) unreachable: Length,
}

impl CacheStorage {
    pub(super) fn new(store: Arc<Store>, refusals: Arc<Refusals>, unreachable: Duration) -> Self {
        Self {
            store,
            refusals,
            begun: Mutex::default(),
            unreachable: Length::new(unreachable),
        }
    }

    fn hit(&self, object: Arc<Object>) -> (CacheMeta, HitHandler) {
        let reader = BodyReader::new(&object);
        (
            meta_of(object, self.unreachable.get()),
            Box::new(Hit { reader }),
        )
    }
}

#[async_trait]
impl Storage for CacheStorage {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let variance = key.get_variance_key();
        let found = self
            .store
            .lookup(&key.primary_bin(), key.primary_key(), variance);
        let pinned = || key.extensions.get::<Pinned>()?.find(variance);
        Ok(found.or_else(pinned).map(|object| self.hit(object)))
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        tag: Option<&[u8]>,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let Some(id) = tag
            .and_then(|tag| tag.try_into().ok())
            .map(u64::from_be_bytes)
        else {
            return self.lookup(key, trace).await;
        };
        let object = self.begun.lock().remove(&id);
        Ok(object.map(|object| self.hit(object)))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<MissHandler> {
        let plan = meta
            .extensions()
            .get::<FillPlan>()
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "a fill without a plan"))?;
        let writer = self.store.begin_fill(NewFill {
            key: Arc::clone(&plan.key),
            variance: key.get_variance_key().copied().or_else(|| meta.variance()),
            head: head_of(meta),
            freshness: plan.freshness,
            tags: plan.tags.clone(),
            began: plan.began,
            encodable: plan.encodable,
        });
        if let Some(unkept) = writer.unkept() {
            let _ = plan.fate.0.set(unkept);
        }
        let object = Arc::clone(writer.object());
        let tag = object.id.to_be_bytes();
        self.begun.lock().insert(object.id, object);
        Ok(Box::new(Miss {
            writer: Some(writer),
            tag,
            storage: self,
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _: PurgeType,
        _: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let purged = self.store.purge(&[Scope::Key(target.key().primary_bin())]);
        Ok(if purged.objects == 0 {
            PurgeOutcome::NotFound
        } else {
            PurgeOutcome::Purged(None)
        })
    }

    async fn update_meta(
        &'static self,
        _: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<bool> {
        let (Some(plan), Some(stored)) = (
            meta.extensions().get::<FillPlan>(),
            meta.extensions().get::<Stored>(),
        ) else {
            return Ok(false);
        };
        let renewed = Renewed {
            head: head_of(meta),
            freshness: plan.freshness,
            tags: plan.tags.clone(),
            encodable: plan.encodable,
        };
        Ok(self.store.refresh(&stored.0, renewed, plan.began))
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

fn head_of(meta: &CacheMeta) -> Head {
    let header = meta.response_header();
    Head {
        status: header.status,
        headers: header.headers.clone(),
    }
}

/// The moment that every entry claims as its making. Pingora drops variants made before the first one; ours leave
/// together, so all share one moment and that rule never strikes. Freshness and age come from the store's own clock.
const MADE: SystemTime = UNIX_EPOCH;

/// Metadata for a response that is not stored yet.
pub(super) fn new_meta(plan: FillPlan, header: ResponseHeader, now: SystemTime) -> CacheMeta {
    let granted = plan.freshness.stale_if_error;
    let mut meta = meta_with(
        &plan.freshness,
        header,
        granted,
        now,
        plan.freshness.stored_at,
    );
    meta.extensions_mut().insert(plan);
    meta
}

/// Metadata of a stored response. Its window for errors is the longest there is, the one without an origin: whether it holds for
/// an error at hand is decided then.
fn meta_of(object: Arc<Object>, unreachable: Duration) -> CacheMeta {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = object.head.status;
    parts.headers = object.head.headers.clone();
    if let Body::Complete(_) = object.body
        && object.head.status != StatusCode::NO_CONTENT
    {
        parts
            .headers
            .insert(CONTENT_LENGTH, object.body.len().into());
    }
    let mut meta = meta_with(
        &object.freshness(),
        ResponseHeader::from(parts),
        stale_window(&object.freshness(), Failure::Unreachable, unreachable),
        SystemTime::now(),
        Instant::now(),
    );
    if let Some(variance) = object.variance {
        meta.set_variance(variance);
    }
    meta.extensions_mut().insert(Stored(object));
    meta
}

/// How long past its lifetime a response covers for a failure.
pub(super) fn stale_window(
    freshness: &Freshness,
    failure: Failure,
    unreachable: Duration,
) -> Duration {
    stale::window(
        failure,
        freshness.must_revalidate,
        freshness.stale_if_error,
        unreachable,
    )
}

/// Puts monotonic freshness into the wall-clock terms of Pingora's metadata, as seen at this moment: a clock that jumps
/// moves both ends alike.
fn meta_with(
    freshness: &Freshness,
    header: ResponseHeader,
    on_error: Duration,
    now: SystemTime,
    at: Instant,
) -> CacheMeta {
    let fresh_until = match freshness.left(at) {
        Left::Fresh(left) => now + left,
        // Fresh "until now" still counts as fresh in Pingora's terms: a nanosecond earlier does not.
        Left::Stale(by) => now
            .checked_sub(by + Duration::from_nanos(1))
            .unwrap_or(MADE),
    };
    let mut meta = CacheMeta::new(
        fresh_until,
        MADE,
        whole_seconds(freshness.stale_while_revalidate),
        whole_seconds(on_error),
        header,
    );
    meta.set_epoch_override(now.checked_sub(freshness.age(at)).unwrap_or(MADE));
    meta
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// A body on its way to a client.
pub(super) struct Hit {
    reader: BodyReader,
}

impl Hit {
    /// Gives another representation's body, which has no ranges.
    pub(super) fn read_instead(&mut self, body: Bytes) {
        self.reader = BodyReader::of_one_piece(body);
    }
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        self.reader
            .next()
            .await
            .map_err(|failed| Error::because(ErrorType::ReadError, "reading a stored body", failed))
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        self.reader.can_seek()
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        self.reader.seek(start, end);
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

struct Miss {
    writer: Option<FillWriter>,
    tag: [u8; 8],
    storage: &'static CacheStorage,
}

#[async_trait]
impl HandleMiss for Miss {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        writer
            .write(data)
            .map_err(|failed| Error::because(ErrorType::WriteError, "storing a body", failed))
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        let Some(writer) = self.writer.take() else {
            return Ok(MissFinishType::Created(0));
        };
        let key_hash = writer.object().key.hash();
        let unkept = writer.unkept();
        let bytes = writer.finish();
        if bytes == 0 {
            // Between its end and its place in the index only a purge or another answer can come.
            let reason = unkept.unwrap_or(Unkept::Overtaken).as_str();
            let refusals = &self.storage.refusals;
            refusals.note(&key_hash, reason, Instant::now());
        }
        Ok(MissFinishType::Created(bytes))
    }

    fn streaming_write_tag(&self) -> Option<&[u8]> {
        Some(&self.tag)
    }
}

impl Drop for Miss {
    fn drop(&mut self) {
        self.storage
            .begun
            .lock()
            .remove(&u64::from_be_bytes(self.tag));
    }
}
