//! What a write makes invalid (RFC 9111 section 4.4, RFC 9875 section 3): before its answer is sent on.

use std::time::SystemTime;

use http::{HeaderMap, Method, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::{Context, Gateway};
use crate::coherence::{Moment, Token};
use crate::policy::key::Key;
use crate::policy::route::Target;
use crate::policy::{groups, reference};
use crate::purge::{Cause, Mode, Scope, Sequence};
use crate::store::Order;
use crate::upgrade::Written;

impl Gateway {
    /// After a write whose answer never came: it may have been carried out, so what is kept of its target goes. Which groups
    /// it would have named cannot be known here.
    pub(super) fn invalidate_unknown(&self, session: &Session, ctx: &Context) {
        let req = session.req_header();
        if is_unsafe(&req.method)
            && ctx.lease.is_some()
            && !ctx.answer_begun
            && let Ok(key) = self.key_of(req, ctx)
        {
            let scopes = [Scope::Key(key.hash())];
            let purged = self.store.purge(&scopes);
            self.note(purged.sequence, &scopes);
        }
    }

    /// After a successful unsafe request: its target, `Location` and `Content-Location` on the same host, and the groups the
    /// answer names.
    pub(super) async fn invalidate_after(
        &self,
        session: &Session,
        resp: &ResponseHeader,
        ctx: &Context,
    ) {
        let req = session.req_header();
        if !is_unsafe(&req.method) || !(resp.status.is_success() || resp.status.is_redirection()) {
            return;
        }
        let (Some(target), Ok(host)) = (&ctx.target, self.site.key_host(req)) else {
            return;
        };
        let mut keys = vec![Key::new(
            "http",
            &host,
            &target.path,
            target.query.as_deref(),
        )];
        keys.extend(self.located(&resp.headers, target, &host));
        let invalidated = groups::invalidated(&resp.headers, &self.rules.tags);
        let names_groups = invalidated
            .as_ref()
            .map_or(true, |groups| !groups.is_empty());
        // First: from here on a fill asks for what has this write, so none that begins after the purge is without it.
        let token = self.begin_write(&resp.headers, names_groups);
        match &invalidated {
            Ok(groups) => {
                self.invalidate_written((&host, &keys), groups, token.as_ref())
                    .await;
            }
            Err(bad) => {
                // What was meant cannot be known: everything goes, rather than something stale staying.
                tracing::error!(%bad, path = %target.path, "unreadable Cache-Group-Invalidation: purging everything");
                self.invalidate(&[Scope::All]).await;
            }
        }
        if self.handover.has_begun() {
            let written = Written {
                host: host.into_owned(),
                keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
                groups: invalidated.ok(),
                token: token.as_ref().map(ToString::to_string),
            };
            self.handover.tell(&written).await;
        }
        self.settle(token, names_groups).await;
    }

    /// Takes out what a write changed that ended in the process which this one replaces, as if it had ended here.
    pub(crate) async fn inherit(&self, written: Written) {
        let token: Option<Token> = written.token.and_then(|token| token.parse().ok());
        let names_groups = written
            .groups
            .as_ref()
            .is_none_or(|groups| !groups.is_empty());
        if let Some(coherence) = &self.coherence {
            coherence.begin_write(token.as_ref(), names_groups, Moment::now());
        }
        let keys = written.keys.iter().filter_map(|key| Key::from_bytes(key));
        let keys: Vec<Key> = keys.collect();
        match &written.groups {
            Some(groups) => {
                let at = (written.host.as_str(), keys.as_slice());
                self.invalidate_written(at, groups, token.as_ref()).await;
            }
            None => self.invalidate(&[Scope::All]).await,
        }
    }

    /// Takes out what a write changed, but for groups that the stream has told already.
    ///
    /// A group is of the write's own origin (RFC 9875 section 2). With `[coherence]` it is of the database that stands behind every
    /// host: the event of the same transaction, which names no host, purges nothing that was purged here.
    async fn invalidate_written(
        &self,
        (host, keys): (&str, &[Key]),
        groups: &[Box<str>],
        token: Option<&Token>,
    ) {
        let mut scopes: Vec<Scope<'_>> = keys.iter().map(|key| Scope::Key(key.hash())).collect();
        let Some(coherence) = &self.coherence else {
            scopes.extend(groups.iter().map(|tag| Scope::SiteTag {
                scheme: "http",
                host,
                tag,
            }));
            return self.invalidate(&scopes).await;
        };
        let _turn = coherence.turn(token).await;
        let unpurged = coherence.unpurged(token, groups);
        scopes.extend(unpurged.into_iter().map(Scope::Tag));
        self.invalidate(&scopes).await;
        coherence.purged(token, groups);
    }

    /// Takes out what the scopes name; other requests of this thread go on between two steps of a large group.
    async fn invalidate(&self, scopes: &[Scope<'_>]) {
        let order = Order {
            scopes,
            mode: Mode::Hard,
            hottest: 0,
        };
        let purged = self.store.begin_purge(&order).finish_in_turns().await;
        self.note(purged.sequence, scopes);
    }

    fn note(&self, sequence: Sequence, scopes: &[Scope<'_>]) {
        let (mode, at) = (Mode::Hard, SystemTime::now());
        self.journal
            .note((sequence, mode), Cause::Write, scopes, at);
    }

    /// The keys of `Location` and `Content-Location`, if they are on the same host.
    fn located(&self, headers: &HeaderMap, target: &Target, host: &str) -> Vec<Key> {
        [header::LOCATION, header::CONTENT_LOCATION]
            .iter()
            .filter_map(|name| headers.get(name)?.to_str().ok())
            .filter_map(|location| self.same_host(location, target, host))
            .collect()
    }

    fn same_host(&self, location: &str, target: &Target, host: &str) -> Option<Key> {
        let named = reference::resolve(&target.path, target.query.as_deref(), location)?;
        if let Some(authority) = named.authority
            && self.site.canonical_host(authority).ok()? != host
        {
            return None;
        }
        let target = self
            .site
            .resolve(&named.path, named.query.as_deref())
            .ok()?;
        Some(Key::new(
            "http",
            host,
            &target.path,
            target.query.as_deref(),
        ))
    }
}

fn is_unsafe(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}
