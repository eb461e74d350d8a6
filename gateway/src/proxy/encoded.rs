//! Which representation of a stored answer a client gets, and the fields that tell it.

use std::sync::Arc;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora_cache::HitHandler;

use super::storage::Hit;
use super::{Context, Gateway};
use crate::policy::vary::{Accepted, Coding};
use crate::policy::{conditional, encoding};
use crate::store::Object;

/// An encoded representation that answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) coding: Coding,
    /// Bytes of its body.
    pub(super) length: usize,
}

impl Gateway {
    /// Chooses among the representations of a fresh entry, and asks for the one that would have been better.
    pub(super) fn choose_representation(
        &self,
        session: &Session,
        hit: &mut HitHandler,
        object: &Arc<Object>,
        ctx: &mut Context,
    ) {
        let client = &session.req_header().headers;
        // Ranges are cut from the origin's own bytes.
        let plain_only = client.contains_key(header::RANGE) || encoding::is_forbidden_by(client);
        if !object.is_encodable() || plain_only || !client.contains_key(header::ACCEPT_ENCODING) {
            return;
        }
        let Some(coding) = self.best(client, object) else {
            return;
        };
        let hit = hit.as_any_mut().downcast_mut::<Hit>();
        if let (Some(hit), Some(body)) = (hit, object.encoded(coding)) {
            ctx.encoded = Some(Chosen {
                coding,
                length: body.len(),
            });
            hit.read_instead(body);
        }
    }

    fn best(&self, client: &HeaderMap, object: &Arc<Object>) -> Option<Coding> {
        let accepted = Accepted::from_request(client);
        // In the order of preference; the origin's own bytes come last.
        let offered = || self.encodings.codings.iter().copied();
        let own = std::iter::once(Coding::Identity);
        let wanted = accepted.best(offered().chain(own.clone()))?;
        let held = offered().filter(|coding| object.encoded(*coding).is_some());
        let held: Vec<Coding> = held.chain(own).collect();
        if !held.contains(&wanted) {
            self.encoder.ask(object, wanted, self.encodings.bytes_min);
        }
        // Who holds a representation already need not be sent another one: the choice is ours (RFC 9110 12.1).
        let is_with_client = |coding: &Coding| {
            let seen = encoding::validators(&object.head.headers, *coding);
            accepted.accepts(*coding) && conditional::not_modified(client, &seen)
        };
        if client.contains_key(header::IF_NONE_MATCH)
            && let Some(coding) = held.iter().copied().find(is_with_client)
        {
            return Some(coding);
        }
        accepted.best(held)
    }
}

impl Gateway {
    /// Puts the conditions of a request that the origin judges into the origin's terms: it knows no tag that was made here.
    ///
    /// `If-Range` stays as it is: who has a part of an encoded representation must not get the rest from the origin's own.
    pub(super) fn restore_tags(&self, upstream: &mut RequestHeader) -> Result<()> {
        let is_safe = matches!(upstream.method, Method::GET | Method::HEAD);
        let names = [header::IF_MATCH, header::IF_NONE_MATCH];
        for name in &names[..if is_safe { 1 } else { 2 }] {
            let lines: Vec<_> = upstream.headers.get_all(name).iter().cloned().collect();
            upstream.remove_header(name);
            for line in lines {
                let own = encoding::own_entity_tags(&line, &self.encodings.codings);
                upstream.append_header(name, own.unwrap_or(line))?;
            }
        }
        Ok(())
    }
}

/// Whether the client has the chosen representation already.
pub(super) fn is_not_modified(session: &Session, resp: &ResponseHeader, ctx: &Context) -> bool {
    if resp.status != StatusCode::OK {
        return false;
    }
    let client = &session.req_header().headers;
    match ctx.encoded {
        None => conditional::not_modified(client, &resp.headers),
        Some(Chosen { coding, .. }) => {
            conditional::not_modified(client, &encoding::validators(&resp.headers, coding))
        }
    }
}

/// Sets the fields of the chosen representation, and says that there was a choice (RFC 9110 12.5.5).
pub(super) fn represent(resp: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    if !ctx.negotiated {
        return Ok(());
    }
    if let Some(vary) = encoding::vary(&resp.headers) {
        resp.insert_header(header::VARY, vary)?;
    }
    let Some(Chosen { coding, length }) = ctx.encoded else {
        return Ok(());
    };
    if let Some(tag) = resp.headers.get(header::ETAG) {
        let tag = encoding::entity_tag(tag, coding);
        resp.insert_header(header::ETAG, tag)?;
    }
    if resp.status == StatusCode::OK {
        resp.insert_header(header::CONTENT_ENCODING, coding.as_str())?;
        resp.insert_header(header::CONTENT_LENGTH, length)?;
        resp.remove_header(&header::TRANSFER_ENCODING);
        resp.remove_header(&header::ACCEPT_RANGES);
    }
    Ok(())
}
