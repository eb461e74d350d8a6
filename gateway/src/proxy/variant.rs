//! Which of a key's variants a request selects, where the answers of one URL do not agree about what they vary on.

use crate::policy::vary::{self, VaryRules};
use crate::store::{Object, Store, Variance};

/// The variant that a request selects: the newest that is kept whose own `Vary` fits it (RFC 9111 section 4.1), else the one that
/// the newest of all would want; `None` when that one varies on nothing and so fits every request.
///
/// `newest` is what a lookup of the bare key finds. As many are looked at as a key may have (`cache.variants_max`).
pub(super) fn select(
    store: &Store,
    newest: &Object,
    rules: &VaryRules,
    request: &http::HeaderMap,
) -> Option<Variance> {
    let wanted = own(newest, rules, request)?;
    if newest.variance == Some(wanted) {
        return Some(wanted);
    }
    let kept = store.inspect(&newest.key);
    let mut variances = kept.iter().filter_map(|entry| {
        let variance = entry.object.variance?;
        let fits = variance == wanted || own(&entry.object, rules, request) == Some(variance);
        fits.then_some(variance)
    });
    Some(variances.next().unwrap_or(wanted))
}

/// The variance that a request has in the fields on which this entry varies.
fn own(object: &Object, rules: &VaryRules, request: &http::HeaderMap) -> Option<Variance> {
    let names = vary::names(&object.head.headers, rules).ok()?;
    vary::variance(&names, request)
}
