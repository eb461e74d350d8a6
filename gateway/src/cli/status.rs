//! `gateway status`: how the gateway stands to the data in a line, then every value.

use serde_json::Value;

use super::ask::{lines, word};

/// The answer for a terminal.
pub(super) fn told(answer: &Value) -> String {
    let mut text = match &answer["coherence"] {
        Value::Object(_) => coherence(&answer["coherence"]),
        _ => String::new(),
    };
    text.push_str(&lines(answer));
    text
}

fn coherence(told: &Value) -> String {
    let lease = match &told["lease_left_ms"] {
        Value::Null => "no lease".to_owned(),
        left => format!("lease for {} ms", word(left)),
    };
    let of = |name: &str| word(&told[name]);
    let delay = |name: &str| match told["delay"][name].as_f64() {
        Some(length) => format!("{length:.1}"),
        None => "-".to_owned(),
    };
    format!(
        "following {}, {lease}; {} changes, delay p50 {} p99 {} max {} ms; {} resumes, {} leases lost, {} expirations\n",
        of("following"),
        of("transactions"),
        delay("p50_ms"),
        delay("p99_ms"),
        delay("max_ms"),
        of("resumes"),
        of("lease_losses"),
        of("expirations"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_it_stands_to_the_data_is_told_first_and_in_one_line() {
        let mut answer = json!({ "pid": 1, "coherence": {
            "following": "127.0.0.1:3001", "lease_left_ms": 1_900, "transactions": 12,
            "delay": { "p50_ms": 2.5, "p99_ms": 10, "max_ms": 31.26 },
            "resumes": 1, "lease_losses": 0, "expirations": 2,
        } });
        assert_eq!(
            told(&answer).lines().next(),
            Some(
                "following 127.0.0.1:3001, lease for 1900 ms; 12 changes, delay p50 2.5 p99 10.0 max 31.3 ms; \
                 1 resumes, 0 leases lost, 2 expirations"
            )
        );
        answer["coherence"] = json!({ "following": null, "lease_left_ms": null, "delay": {} });
        let first = told(&answer);
        assert!(first.starts_with("following -, no lease; "), "{first}");
        answer["coherence"] = Value::Null;
        assert_eq!(told(&answer), lines(&answer), "nothing is followed");
    }
}
