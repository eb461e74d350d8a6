//! Interactions in the API's description.

use http::HeaderMap;
use serde_json::json;

use super::model::NewInteraction;
use crate::describe::Operation;

/// `POST /interactions`
pub fn create() -> Operation {
    let words = [
        ("element", "On what: a selector, or a piece of HTML."),
        ("widget", "In which part of the page."),
        ("time", "When, in the client's words."),
    ];
    let example =
        json!({ "element": "button.buy", "widget": "overview", "time": "2026-03-01T12:34:56Z" });
    Operation::create::<NewInteraction>(
        "createInteraction",
        "Record what a visitor did",
        &words,
        &example,
    )
    .about("Stored beside the server's time.")
    .created(None, &[], HeaderMap::new())
}
