//! `gateway purge`: takes out what it names.

use anyhow::Result;
use clap::Args;
use http::Method;
use serde_json::json;

use super::ask::{self, Asked};

#[derive(Debug, Args)]
pub(super) struct Purge {
    /// A path on every host, or an absolute URL, with its query; may be given several times.
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// The beginning of a path or of an absolute URL.
    #[arg(long = "prefix", value_name = "URL")]
    prefixes: Vec<String>,
    /// A group.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A host on which the groups are meant, instead of every one.
    #[arg(long = "host", value_name = "HOST", requires = "tags")]
    hosts: Vec<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
    /// Makes stale instead of removing.
    #[arg(long)]
    soft: bool,
    /// Only counts.
    #[arg(long)]
    dry_run: bool,
    /// Fetches so many of the keys asked for most again.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    refill: usize,
    #[command(flatten)]
    asked: Asked,
}

impl Purge {
    pub(super) async fn run(self) -> Result<()> {
        let body = json!({
            "urls": self.urls,
            "prefixes": self.prefixes,
            "tags": self.tags,
            "hosts": self.hosts,
            "all": self.all,
            "soft": self.soft,
            "dry_run": self.dry_run,
            "refill": self.refill,
        });
        self.asked
            .show(Method::POST, "/purge", Some(&body), ask::lines)
            .await
    }
}
