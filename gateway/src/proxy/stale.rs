//! Whether what is stale is served in place of a failure.

use std::time::Instant;

use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};

use super::storage::{Stored, stale_window, stored};
use super::{Context, Gateway};
use crate::policy::freshness::Left;
use crate::policy::stale::Failure;
use crate::store::Freshness;

impl Gateway {
    /// Whether what is stored and stale covers for an origin's failure. Then the connection's end is announced where it comes.
    pub(super) fn cover(&self, session: &mut Session, ctx: &Context, error: &Error) -> bool {
        let Some(Stored(object)) = stored(session) else {
            return false;
        };
        if self.withholds(object, ctx) {
            return false;
        }
        if *error.esource() != ErrorSource::Upstream {
            return false;
        }
        let failure = failure_of(error, ctx);
        let covers = self.covers(&object.freshness(), failure);
        if covers && failure == Failure::Unreachable {
            // Pingora closes it after any error of its own: a client that was not told would send its next request into it.
            session.as_mut().set_keepalive(None);
        }
        covers
    }

    /// Whether a response may be used in place of this failure, fresh or in its window.
    pub(super) fn covers(&self, freshness: &Freshness, failure: Failure) -> bool {
        let unreachable = self.config.cache.stale_if_unreachable;
        match freshness.left(Instant::now()) {
            Left::Fresh(_) => true,
            Left::Stale(by) => by < stale_window(freshness, failure, unreachable),
        }
    }
}

/// How the origin failed with this error.
pub(super) fn failure_of(error: &Error, ctx: &Context) -> Failure {
    match error.etype() {
        ErrorType::HTTPStatus(_) if !ctx.shed => Failure::Answered,
        _ => Failure::Unreachable,
    }
}
