//! The live status line, from what the gateway's admin listener tells.

use std::time::Duration;

use serde_json::Value;

use super::endpoints::Endpoints;
use crate::http::Client;

/// One line on how it goes; it must fit the width of a usual terminal.
pub(super) async fn line(client: &Client, endpoints: &Endpoints, up: Duration) -> String {
    let url = format!("{}/status", endpoints.admin);
    let bearer = format!("Bearer {}", endpoints.admin_token);
    let answer = client.get(&url, Some(("Authorization", &bearer))).await;
    let figures = answer.ok().and_then(|answer| answer.json().ok());
    let up = format!(
        "up {}:{:02}:{:02}",
        up.as_secs() / 3600,
        up.as_secs() / 60 % 60,
        up.as_secs() % 60
    );
    match figures {
        Some(figures) => format!("{up} · {} · Ctrl-C stops", describe(&figures)),
        None => format!("{up} · the gateway does not answer · Ctrl-C stops"),
    }
}

/// Names what it finds: `requests` counts them by what the cache did.
fn describe(status: &Value) -> String {
    let Some(requests) = status["requests"].as_object() else {
        return "serving".into();
    };
    let count = |result: &Value| result.as_u64().unwrap_or_default();
    let all: u64 = requests.values().map(count).sum();
    if all == 0 {
        return "no requests yet".into();
    }
    let hits = requests.get("hit").map_or(0, count);
    let tenths = hits * 1000 / all;
    format!("{all} requests · {}.{} % hits", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hits_are_shown_as_a_share_of_all_requests() {
        let status = json!({"requests": {"hit": 2, "miss": 1}, "cache": {"objects": 1}});
        assert_eq!(describe(&status), "3 requests · 66.6 % hits");
        assert_eq!(
            describe(&json!({"requests": {"hit": 0}})),
            "no requests yet"
        );
    }

    #[test]
    fn an_answer_of_another_shape_is_tolerated() {
        assert_eq!(
            describe(&json!({"requests": {"miss": 1, "odd": "x"}})),
            "1 requests · 0.0 % hits"
        );
        assert_eq!(describe(&json!([])), "serving");
    }
}
