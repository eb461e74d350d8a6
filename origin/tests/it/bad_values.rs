//! What clients must not send, field by field.

use serde_json::{Value, json};

use crate::support::{answer, interaction, question, review};

/// Every POST: its path, an accepted body, and what it is called in errors.
pub(crate) fn posts() -> [(&'static str, Value, &'static str); 5] {
    [
        ("/reviews", review(), "Review"),
        ("/qa/questions", question(), "Question"),
        ("/qa/questions/50/answers", answer(), "Answer"),
        (
            "/cart",
            json!({ "sku_id": 1, "count": 1, "user_token": "t" }),
            "Cart",
        ),
        ("/interactions", interaction(), "Interaction"),
    ]
}

/// Values that no text field takes.
fn bad_texts(max: usize) -> Vec<Value> {
    vec![
        Value::Null,
        json!(""),
        json!(" "),
        json!("\t\r\n"),
        json!("\u{a0}\u{2003}"),
        json!(5),
        json!(0),
        json!(-1.5),
        json!(true),
        json!([]),
        json!(["text"]),
        json!({}),
        json!({ "text": 1 }),
        json!("x".repeat(max + 1)),
        json!("\u{1f600}".repeat(max + 1)),
        json!("nul\u{0}"),
    ]
}

/// Values that no id takes.
fn bad_ids() -> Vec<Value> {
    vec![
        Value::Null,
        json!(""),
        json!("abc"),
        json!(0),
        json!(-1),
        json!(1.5),
        json!("1.5"),
        json!("1e3"),
        json!(" 1"),
        json!("05"),
        json!("+5"),
        json!(true),
        json!([]),
        json!([2]),
        json!({}),
        json!("0x1"),
        json!(1e300),
        json!("777777"),
        json!(777_777),
        json!(2_147_483_648_i64),
        json!("99999999999999999999"),
        json!("2; drop table x"),
    ]
}

fn bad_ratings() -> Vec<Value> {
    vec![
        Value::Null,
        json!(0),
        json!(6),
        json!(-1),
        json!(4.5),
        json!("4.5"),
        json!("abc"),
        json!(""),
        json!(true),
        json!([4]),
        json!({}),
        json!(1e10),
        json!("5 "),
        json!("05"),
        json!(2_147_483_648_i64),
    ]
}

fn bad_booleans() -> Vec<Value> {
    vec![
        Value::Null,
        json!("yes"),
        json!(2),
        json!(-1),
        json!(""),
        json!("TRUE"),
        json!([]),
        json!({}),
        json!(0.5),
        json!("1.0"),
        json!("null"),
    ]
}

fn bad_photos() -> Vec<Value> {
    vec![
        json!("x"),
        json!(5),
        json!(true),
        json!({}),
        json!([1]),
        json!([null]),
        json!([["x"]]),
        json!(["x", false]),
        json!(vec!["x"; 21]),
        json!(["\u{0}"]),
        json!([{ "href": "x" }]),
        json!([{ "url": 5 }]),
        json!([{ "url": null }]),
    ]
}

fn bad_votes() -> Vec<Value> {
    vec![
        json!("x"),
        json!(5),
        json!([]),
        json!(true),
        json!({ "14": 0 }),
        json!({ "14": 6 }),
        json!({ "14": "x" }),
        json!({ "14": null }),
        json!({ "14": 2.5 }),
        json!({ "14": true }),
        json!({ "14": [1] }),
        json!({ "777": 9 }),
        json!({ "Fit": 0 }),
        json!({ "14": 1, "15": -1 }),
        json!({ "14": 2_147_483_648_i64 }),
    ]
}

fn bad_counts() -> Vec<Value> {
    vec![
        json!(0),
        json!(-1),
        json!(10_001),
        json!(1.5),
        json!("x"),
        json!(""),
        json!(true),
        json!([]),
        json!({}),
        json!(1e10),
        json!("10001"),
    ]
}

/// A summary may be missing or blank, and nothing else that a text may not be.
fn bad_summaries() -> Vec<Value> {
    let is_bad = |value: &Value| match value.as_str() {
        Some(text) => !text.trim().is_empty(),
        None => !value.is_null(),
    };
    bad_texts(255).into_iter().filter(is_bad).collect()
}

/// Only the size of an interaction's body bounds its texts.
fn bad_interaction_texts() -> Vec<Value> {
    let fits = |value: &Value| value.to_string().len() < 60_000;
    bad_texts(65_536).into_iter().filter(fits).collect()
}

fn bad_times() -> Vec<Value> {
    bad_interaction_texts()
        .into_iter()
        .filter(|value| !value.is_number())
        .collect()
}

/// Each field's bad values, by POST.
pub(crate) fn bad_fields() -> Vec<(usize, &'static str, Vec<Value>)> {
    let mut photos_of_reviews = bad_photos();
    // Only a photo of an answer may be an object.
    photos_of_reviews.push(json!([{ "url": "x" }]));
    vec![
        (0, "product_id", bad_ids()),
        (0, "rating", bad_ratings()),
        (0, "recommend", bad_booleans()),
        (0, "summary", bad_summaries()),
        (0, "body", bad_texts(1000)),
        (0, "name", bad_texts(60)),
        (0, "email", bad_texts(60)),
        (0, "photos", photos_of_reviews),
        (0, "characteristics", bad_votes()),
        (1, "product_id", bad_ids()),
        (1, "body", bad_texts(1000)),
        (1, "name", bad_texts(60)),
        (1, "email", bad_texts(60)),
        (2, "body", bad_texts(1000)),
        (2, "name", bad_texts(60)),
        (2, "email", bad_texts(60)),
        (2, "photos", bad_photos()),
        (3, "sku_id", bad_ids()),
        (3, "count", bad_counts()),
        (
            3,
            "user_token",
            vec![json!(true), json!([]), json!({}), json!("\u{0}")],
        ),
        (4, "element", bad_interaction_texts()),
        (4, "widget", bad_interaction_texts()),
        (4, "time", bad_times()),
    ]
}
