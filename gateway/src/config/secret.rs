//! Secrets that stand in the environment: the settings name the variable, never the value.

/// The value of a variable, unless it is empty or no text.
#[expect(
    clippy::disallowed_methods,
    reason = "the place where settings that name a variable are read"
)]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
