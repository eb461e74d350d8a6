//! `http.rewrites`: paths that the site once had.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::section::Http;
use super::text;
use crate::policy::rewrite::Rewrite;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewriteRule {
    /// The old path; `{name}` is a segment, `{name:number}` one of digits. Behind `?` what the query has to have, if that matters.
    pub from: String,
    /// The new path, with its query if it has one; the parts of `from` in braces.
    pub to: String,
    /// The methods it is for.
    #[serde(default = "reads", with = "text::methods")]
    #[schemars(with = "Vec<String>")]
    pub methods: Vec<Method>,
}

/// A rule for the example of a configuration file.
pub(super) fn sample() -> serde_json::Value {
    serde_json::json!([{
        "from": "/reviews/{id:number}/list",
        "to": "/reviews?product_id={id}",
        "methods": ["GET"],
    }])
}

fn reads() -> Vec<Method> {
    vec![Method::GET, Method::HEAD]
}

impl RewriteRule {
    /// The rule, ready for use.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(&self) -> Result<Rewrite, String> {
        Rewrite::parse(&self.from, &self.to, &self.methods)
    }
}

/// Rules of one site at most; each request walks the list.
const RULES_MAX: usize = 64;

impl Check {
    /// The rules of this file's settings.
    pub(super) fn rewrites(&mut self, http: &Http) {
        if http.rewrites.len() > RULES_MAX {
            self.report("http.rewrites", format!("at most {RULES_MAX} rules"));
        }
        for (index, rule) in http.rewrites.iter().enumerate() {
            if let Err(problem) = rule.compile() {
                self.report(&format!("http.rewrites[{index}]"), problem);
            }
        }
    }
}
