//! Whether what is stale is served in place of a failure.

use std::time::Instant;

use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};

use super::storage::{Stored, stale_window};
use super::{Context, Gateway};
use crate::policy::freshness::Left;
use crate::policy::stale::Failure;

impl Gateway {
    /// Whether what is stored and stale covers for an origin's failure. Then the connection's end is announced where it comes.
    pub(super) fn cover(&self, session: &mut Session, ctx: &Context, error: &Error) -> bool {
        let meta = session.cache.maybe_cache_meta();
        let Some(Stored(object)) = meta.and_then(|meta| meta.extensions().get()) else {
            return false;
        };
        if self.withholds(object, ctx) {
            return false;
        }
        let failure = match error.etype() {
            _ if *error.esource() != ErrorSource::Upstream => return false,
            ErrorType::HTTPStatus(_) if !ctx.shed => Failure::Answered,
            _ => Failure::Unreachable,
        };
        let unreachable = self.config.cache.stale_if_unreachable;
        let window = stale_window(&object.freshness(), failure, unreachable);
        let covers = match object.freshness().left(Instant::now()) {
            Left::Fresh(_) => true,
            Left::Stale(by) => by < window,
        };
        if covers && failure == Failure::Unreachable {
            // Pingora closes it after any error of its own: a client that was not told would send its next request into it.
            session.as_mut().set_keepalive(None);
        }
        covers
    }
}
