//! What a background refresh was started for, kept in its hands.
//!
//! Pingora gives the refresh the key's lock and looks the stale entry up again. If a purge took the entry in between, the
//! refresh would find a missing entry under a lock, its own, and everybody would wait for it until a timeout.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use pingora::proxy::Session;
use pingora_cache::key::HashBinary;

use super::{Context, Gateway};
use crate::policy::key::Key;
use crate::policy::vary::{self, VaryRules};
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

/// Takes the credentials out of a background refresh, once it is let in: it has the header of a client who was answered
/// already, and what it brings is for everybody. What decides about the answer then sees what the origin saw.
pub(super) fn drop_credentials(session: &mut Session) {
    if session.subrequest_ctx.is_none() {
        return;
    }
    let refresh = session.req_header_mut();
    for name in [COOKIE, AUTHORIZATION] {
        refresh.remove_header(&name);
    }
}

/// Whether what was found was chosen by the client's credentials: a background refresh, which has none, would bring another
/// variant.
pub(super) fn needs_credentials(session: &Session, rules: &VaryRules) -> bool {
    let client = &session.req_header().headers;
    let is_sent =
        |name: &HeaderName| [COOKIE, AUTHORIZATION].contains(name) && client.contains_key(name);
    session.cache.maybe_cache_meta().is_some_and(|meta| {
        vary::names(meta.headers(), rules).is_ok_and(|names| names.iter().any(is_sent))
    })
}
