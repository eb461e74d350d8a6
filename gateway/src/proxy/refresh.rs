//! What a background refresh was started for, kept in its hands.
//!
//! Pingora gives the refresh the key's lock and looks the stale entry up again. If a purge took the entry in between, the
//! refresh would find a missing entry under a lock, its own, and everybody would wait for it until a timeout.

use std::sync::Arc;

use pingora::proxy::Session;
use pingora_cache::key::HashBinary;

use super::{Context, Gateway};
use crate::policy::key::Key;
use crate::policy::vary;
use crate::store::Object;

/// Entries that a lookup finds although they may be purged: it serves nobody, and the race rule decides what is kept.
#[derive(Clone)]
pub(super) struct Pinned(Vec<Arc<Object>>);

impl Pinned {
    pub(super) fn find(&self, variance: Option<&HashBinary>) -> Option<Arc<Object>> {
        let fits =
            |object: &&Arc<Object>| variance.is_none() || object.variance.as_ref() == variance;
        self.0.iter().find(fits).cloned()
    }
}

impl Gateway {
    /// Pins the entry that this background refresh is about, or gives the lock back when it is gone already.
    pub(super) fn pin_refreshed(&self, session: &mut Session, ctx: &mut Context) {
        ctx.pinned = self
            .key_of(session.req_header(), ctx)
            .ok()
            .and_then(|key| self.refreshed(&key, session));
        if ctx.pinned.is_none()
            && let Some(refresh) = session.subrequest_ctx.as_mut()
        {
            refresh.release_write_lock();
        }
    }

    fn refreshed(&self, key: &Key, session: &Session) -> Option<Pinned> {
        let lookup = |variance: Option<&HashBinary>| {
            self.store.lookup(&key.hash(), key.as_bytes(), variance)
        };
        let first = lookup(None)?;
        let names = vary::names(&first.head.headers, &self.rules.vary).ok()?;
        let variant = match vary::variance(&names, &session.req_header().headers) {
            Some(variance) => lookup(Some(&variance))?,
            None => Arc::clone(&first),
        };
        Some(Pinned(vec![first, variant]))
    }
}
