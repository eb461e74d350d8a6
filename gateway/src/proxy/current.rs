//! The gateway that serves now: settings change by putting another in its place.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Gateway, Proxy};

/// The gateway that new requests go to.
pub struct Current(ArcSwap<Gateway>);

impl Current {
    /// Begins with this gateway.
    pub fn new(gateway: Gateway) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(gateway)))
    }

    /// The one that serves now.
    pub fn gateway(&self) -> Arc<Gateway> {
        self.0.load_full()
    }

    /// Puts another in its place. Requests that have begun end with the one that they began with.
    pub fn replace(&self, next: Gateway) {
        next.configure_shared();
        self.0.store(Arc::new(next));
    }
}

impl Proxy {
    /// A proxy whose requests go to the current gateway.
    pub fn new(current: Arc<Current>) -> Self {
        Self { current }
    }
}
