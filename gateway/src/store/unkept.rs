//! Why a response that was to be kept was not.

/// What came in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unkept {
    /// A purge that is newer than its origin request, or an answer to a newer one.
    Overtaken,
    /// The budget has no room for it.
    NoRoom,
    /// Its body is over the limit.
    TooLarge,
}

impl Unkept {
    /// A short name, for `Cache-Status` and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overtaken => "overtaken",
            Self::NoRoom => "no-room",
            Self::TooLarge => "too-large",
        }
    }
}
