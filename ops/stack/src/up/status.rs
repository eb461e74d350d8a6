//! The live status line, from what the gateway's admin listener tells.

use std::time::Duration;

use serde_json::Value;

use super::endpoints::Endpoints;
use crate::http::Client;

/// One line on how it goes; it must fit the width of a usual terminal.
pub(super) async fn line(client: &Client, endpoints: &Endpoints, up: Duration) -> String {
    let bearer = format!("Bearer {}", endpoints.admin_token);
    let mut figures = Vec::new();
    for admin in &endpoints.admins {
        let url = format!("{admin}/status");
        let answer = client.get(&url, Some(("Authorization", &bearer)));
        figures.extend(answer.await.ok().and_then(|answer| answer.json().ok()));
    }
    let up = format!(
        "up {}:{:02}:{:02}",
        up.as_secs() / 3600,
        up.as_secs() / 60 % 60,
        up.as_secs() % 60
    );
    let gateways = gateways(figures.len(), endpoints.admins.len());
    let replicas = match endpoints.replicas.len() {
        0 => String::new(),
        count => format!(" · {count} replicas"),
    };
    format!(
        "{up}{gateways}{replicas} · {}{} · Ctrl-C stops",
        describe(&figures),
        behind(&figures)
    )
}

/// How many gateways have lost touch with the data, if any has.
fn behind(statuses: &[Value]) -> String {
    let has_no_lease = |status: &&Value| {
        let coherence = &status["coherence"];
        coherence.is_object() && !coherence["lease_left_ms"].is_u64()
    };
    match statuses.iter().filter(has_no_lease).count() {
        0 => String::new(),
        count => format!(" · {count} without a lease"),
    }
}

/// How many gateways answer, where that says anything.
fn gateways(answering: usize, all: usize) -> String {
    match (answering, all) {
        (1, 1) => String::new(),
        (0, 1) => " · the gateway does not answer".into(),
        (some, all) if some == all => format!(" · {all} gateways"),
        (some, all) => format!(" · {some} of {all} gateways answer"),
    }
}

/// Names what it finds in their status: `requests` counts them by what the cache did.
fn describe(statuses: &[Value]) -> String {
    let (mut all, mut hits, mut is_told) = (0, 0, false);
    for requests in statuses
        .iter()
        .filter_map(|one| one["requests"].as_object())
    {
        let count = |result: &Value| result.as_u64().unwrap_or_default();
        is_told = true;
        all += requests.values().map(count).sum::<u64>();
        hits += requests.get("hit").map_or(0, count);
    }
    match (is_told, all) {
        (false, _) => "serving".into(),
        (true, 0) => "no requests yet".into(),
        (true, all) => {
            let tenths = hits * 1000 / all;
            format!("{all} requests · {}.{} % hits", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hits_of_all_gateways_are_shown_as_a_share_of_all_requests() {
        let status = json!({"requests": {"hit": 2, "miss": 1}, "cache": {"objects": 1}});
        let other = json!({"requests": {"hit": 1}});
        assert_eq!(
            describe(std::slice::from_ref(&status)),
            "3 requests · 66.6 % hits"
        );
        assert_eq!(describe(&[status, other]), "4 requests · 75.0 % hits");
        assert_eq!(
            describe(&[json!({"requests": {"hit": 0}})]),
            "no requests yet"
        );
    }

    #[test]
    fn an_answer_of_another_shape_is_tolerated() {
        assert_eq!(
            describe(&[json!({"requests": {"miss": 1, "odd": "x"}})]),
            "1 requests · 0.0 % hits"
        );
        assert_eq!(describe(&[json!([])]), "serving");
    }

    #[test]
    fn a_gateway_without_a_lease_is_told() {
        let held = json!({"coherence": {"lease_left_ms": 1_900}});
        let lost = json!({"coherence": {"lease_left_ms": null}});
        assert_eq!(behind(&[held.clone(), json!({"requests": {}})]), "");
        assert_eq!(behind(&[held, lost]), " · 1 without a lease");
    }

    #[test]
    fn gateways_are_counted_where_there_are_several_or_none() {
        assert_eq!(gateways(1, 1), "");
        assert_eq!(gateways(2, 2), " · 2 gateways");
        assert_eq!(gateways(1, 2), " · 1 of 2 gateways answer");
        assert_eq!(gateways(0, 1), " · the gateway does not answer");
    }
}
