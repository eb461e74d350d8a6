//! What one request carries from filter to filter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;

use super::Gateway;
use super::coherent::Standing;
use super::encoded::Chosen;
use super::held::Held;
use super::refresh::Pinned;
use super::storage::Fate;
use crate::balance::{Lease, NodeId};
use crate::guard::BodyPace;
use crate::policy::key::Key;
use crate::policy::request::{Bypass, Demand};
use crate::policy::route::Target;
use crate::policy::status::Forward;
use crate::policy::update::Unfit;
use crate::purge::Sequence;

/// A request and the gateway that serves it to its end, whatever is reloaded meanwhile.
pub struct InFlight {
    pub(super) gateway: Arc<Gateway>,
    pub(super) ctx: Context,
}

/// The state of one request.
pub struct Context {
    pub(super) request_id: String,
    /// Canonical path and query; set by the request filter.
    pub(super) target: Option<Target>,
    /// The cache key, when the cache is in use for this request.
    pub(super) key: Option<Arc<Key>>,
    /// What the request demands of a stored response.
    pub(super) demand: Demand,
    /// Why the cache is not in use.
    pub(super) bypass: Option<Bypass>,
    /// Why the origin was asked although something was stored.
    pub(super) forward: Option<Forward>,
    /// The encoded representation that answers, when it is one that the cache made.
    pub(super) encoded: Option<Chosen>,
    /// Whether the answer's entry has, or may get, encoded representations beside its own.
    pub(super) negotiated: bool,
    /// Its fetch failed, or the one that it waited for, and that is noted.
    pub(super) failed: bool,
    /// Why a stale answer is given.
    pub(super) stale: Option<&'static str>,
    /// Why the response was refused.
    pub(super) refused: Option<&'static str>,
    /// What the store made of the response, if it was to be kept.
    pub(super) fate: Fate,
    /// The place at the origin; replaced at each attempt, given back at the end of the origin's answer or of the request.
    pub(super) lease: Option<Lease>,
    /// The origin that was asked last.
    pub(super) asked: Option<SocketAddr>,
    /// When it was chosen; when the request arrived, as long as none was.
    pub(super) asked_at: Instant,
    /// Nodes tried so far, without one that is to be tried again.
    pub(super) tried: Vec<NodeId>,
    /// It met the end of a kept connection, and is not to meet another.
    pub(super) unkept_only: bool,
    /// Something has come from the origin in the newest attempt, if only an interim answer.
    pub(super) heard: bool,
    /// The origin's answer has begun: no other attempt may follow.
    pub(super) answer_begun: bool,
    /// Its status.
    pub(super) upstream_status: Option<u16>,
    /// The purge number when the newest attempt began.
    pub(super) began: Sequence,
    /// When the newest attempt began.
    pub(super) request_time: SystemTime,
    /// When the request arrived.
    pub(super) arrived: Instant,
    /// A body that is ignored was read.
    pub(super) drained: bool,
    /// The entry this background refresh is about.
    pub(super) pinned: Option<Pinned>,
    /// What the origin's 304 makes of the stored fields, or why it fits them not.
    pub(super) validated: Option<Result<HeaderMap, Unfit>>,
    /// The age of an answer that came with one.
    pub(super) age_sent: Option<Duration>,
    /// No origin takes one more request.
    pub(super) shed: bool,
    /// Bytes of the request body so far.
    pub(super) body_bytes: u64,
    /// What was taken in of a body before an origin was chosen.
    pub(super) held: Option<Held>,
    /// The client has not sent all of a body that goes to the origin.
    pub(super) owes_body: bool,
    /// How fast it comes, once it does, where the connection's own clock does not know.
    pub(super) body_pace: Option<BodyPace>,
    /// How it stands to the data.
    pub(super) standing: Standing,
}

impl Context {
    /// Why the response is not kept, as far as that is known.
    pub(super) fn unkept(&self) -> Option<&'static str> {
        self.refused.or_else(|| self.fate.unkept())
    }

    pub(super) fn new(now: Instant, wall: SystemTime) -> Self {
        Self {
            request_id: String::new(),
            target: None,
            key: None,
            demand: Demand::default(),
            bypass: None,
            forward: None,
            encoded: None,
            negotiated: false,
            failed: false,
            stale: None,
            refused: None,
            fate: Fate::default(),
            lease: None,
            asked: None,
            asked_at: now,
            tried: Vec::new(),
            unkept_only: false,
            heard: false,
            answer_begun: false,
            upstream_status: None,
            began: 0,
            request_time: wall,
            arrived: now,
            drained: false,
            pinned: None,
            validated: None,
            age_sent: None,
            shed: false,
            body_bytes: 0,
            held: None,
            owes_body: false,
            body_pace: None,
            standing: Standing::default(),
        }
    }
}
