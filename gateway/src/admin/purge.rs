//! `POST /purge`: URLs, prefixes, groups, or everything; hard, soft, or as a dry run; with a refill or without.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Admin, Failed};
use crate::error::Problem;
use crate::purge::{Cause, Mode, Prefix, Scope};
use crate::refill::REFILL_MAX;
use crate::site::{BadUrl, Named, NamedPrefix};
use crate::store::Order;

/// Things one purge may name.
const NAMES_MAX: usize = 10_000;
/// Prefixes among them: each entry of the cache is compared with each of them.
const PREFIXES_MAX: usize = 100;

/// What to purge; at least one thing has to be named.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Request {
    /// Paths (on every host) or absolute URLs, each with its query; all variants go.
    urls: Vec<String>,
    /// Beginnings of paths (on every host) or of absolute URLs, without a query.
    prefixes: Vec<String>,
    /// Groups: those of `Cache-Groups`, `Surrogate-Key` and `Cache-Tag`.
    tags: Vec<String>,
    /// Hosts on which the groups are meant; none means every host.
    hosts: Vec<String>,
    /// Everything.
    all: bool,
    /// Make stale instead of removing.
    soft: bool,
    /// Only count.
    dry_run: bool,
    /// How many of the keys asked for most are fetched again at once.
    refill: usize,
}

/// What was purged.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Answer {
    /// The purge's number; of a dry run that of the newest purge.
    sequence: u64,
    /// Entries removed or made stale, each variant counted.
    objects: usize,
    /// Their bytes.
    bytes: usize,
    /// Keys on their way to be fetched again; only there when a refill was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    refill: Option<usize>,
}

/// What a request names, in canonical form.
struct Names {
    urls: Vec<Named>,
    prefixes: Vec<NamedPrefix>,
    /// Hosts of the groups, in canonical form.
    hosts: Vec<String>,
}

/// Takes out what the body names, or makes it stale.
#[utoipa::path(post, path = "/purge", request_body = Request,
    responses((status = 200, body = Answer), (status = 422, description = "not understood, and nothing done")))]
pub(super) async fn purge(
    State(admin): State<Arc<Admin>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Answer>, Failed> {
    let body = body.map_err(|rejection| Failed(Problem::of_status(rejection.status())))?;
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| unprocessable(format!("The body is no purge request: {error}.")))?;
    check(&request)?;
    let names = names(&admin, &request)?;
    let scopes = scopes(&request, &names);
    let order = Order {
        scopes: &scopes,
        mode: mode(&request, Instant::now()),
        hottest: request.refill,
    };
    let purged = admin.store.begin_purge(&order).finish_in_turns().await;
    if order.mode != Mode::DryRun {
        let numbered = (purged.sequence, order.mode);
        admin
            .journal
            .note(numbered, Cause::Operator, &scopes, SystemTime::now());
        tracing::info!(
            urls = request.urls.len(),
            prefixes = request.prefixes.len(),
            tags = request.tags.len(),
            all = request.all,
            soft = request.soft,
            sequence = purged.sequence,
            objects = purged.objects,
            "purge"
        );
    }
    Ok(Json(Answer {
        sequence: purged.sequence,
        objects: purged.objects,
        bytes: purged.bytes,
        refill: (request.refill > 0).then(|| match order.mode {
            Mode::DryRun => purged.hottest.len(),
            Mode::Hard | Mode::Soft { .. } => admin.refills.add(purged.hottest),
        }),
    }))
}

fn check(request: &Request) -> Result<(), Failed> {
    let tags = request.tags.len() * request.hosts.len().max(1);
    let names = request.urls.len() + request.prefixes.len() + tags;
    let problem = if names > NAMES_MAX {
        format!("One purge names at most {NAMES_MAX} things, this one {names}.")
    } else if request.prefixes.len() > PREFIXES_MAX {
        let prefixes = request.prefixes.len();
        format!("One purge names at most {PREFIXES_MAX} prefixes, this one {prefixes}.")
    } else if names == 0 && !request.all {
        "Name something to purge: urls, prefixes, tags or all.".to_owned()
    } else if request.tags.is_empty() && !request.hosts.is_empty() {
        "Hosts say where tags are meant: name tags.".to_owned()
    } else if request.refill > REFILL_MAX {
        let refill = request.refill;
        format!("One purge refills at most {REFILL_MAX} keys, this one {refill}.")
    } else {
        return Ok(());
    };
    Err(unprocessable(problem))
}

fn mode(request: &Request, at: Instant) -> Mode {
    if request.dry_run {
        Mode::DryRun
    } else if request.soft {
        Mode::Soft { at }
    } else {
        Mode::Hard
    }
}

fn names(admin: &Admin, request: &Request) -> Result<Names, Failed> {
    let refused = |url: &str, bad: &BadUrl| {
        unprocessable(format!("The URL {url:?} cannot be purged: {bad}."))
    };
    let gateway = admin.current.gateway();
    let site = gateway.site();
    let urls = request.urls.iter().map(|url| {
        let named = site.named(url);
        named.map_err(|bad| refused(url, &bad))
    });
    let prefixes = request.prefixes.iter().map(|url| {
        let named = site.named_prefix(url);
        named.map_err(|bad| refused(url, &bad))
    });
    let hosts = request.hosts.iter().map(|host| {
        let named = site.named_host(host);
        named.map_err(|bad| unprocessable(format!("The host {host:?} cannot be purged: {bad}.")))
    });
    Ok(Names {
        hosts: hosts.collect::<Result<_, _>>()?,
        urls: urls.collect::<Result<_, _>>()?,
        prefixes: prefixes.collect::<Result<_, _>>()?,
    })
}

fn scopes<'a>(request: &'a Request, names: &'a Names) -> Vec<Scope<'a>> {
    if request.all {
        return vec![Scope::All];
    }
    let urls = names.urls.iter().map(|named| match named {
        Named::Key(key) => Scope::Key(key.hash()),
        Named::Path(target) => Scope::Path(&target.path, target.query.as_deref()),
    });
    let prefixes = names.prefixes.iter().map(|named| {
        Scope::Prefix(Prefix {
            host: named.host.as_deref(),
            path: &named.path,
        })
    });
    let mut scopes: Vec<_> = urls.chain(prefixes).collect();
    for tag in &request.tags {
        if names.hosts.is_empty() {
            scopes.push(Scope::Tag(tag));
        }
        scopes.extend(names.hosts.iter().map(|host| Scope::SiteTag {
            scheme: "http",
            host,
            tag,
        }));
    }
    scopes
}

fn unprocessable(detail: String) -> Failed {
    Failed(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}
