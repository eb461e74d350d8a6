//! Interactions as they are received.

use crate::{body::DRAINED_BYTES_MAX, error::Entity, extract::FromObject, object::Object};

/// Something that a visitor did.
#[derive(Debug)]
pub struct NewInteraction {
    /// On what: a selector, or a piece of HTML.
    pub element: String,
    /// In which part of the page.
    pub widget: String,
    /// When, in the client's words.
    pub time: String,
}

impl FromObject for NewInteraction {
    const ENTITY: Entity = Entity::Interaction;
    const FIELDS: &'static [&'static str] = &["element", "widget", "time"];
    const BYTES_MAX: usize = DRAINED_BYTES_MAX;

    fn from_object(object: &mut Object<'_>) -> Option<Self> {
        // The size of the body is the only bound.
        let element = object.text("element", Self::BYTES_MAX);
        let widget = object.text("widget", Self::BYTES_MAX);
        let time = object.text_or_number("time");
        Some(Self {
            element: element?,
            widget: widget?,
            time: time?,
        })
    }
}
