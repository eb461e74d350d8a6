//! Ranges of addresses in the configuration file.

use serde::{Deserialize, Deserializer, de};

use crate::policy::forwarded::Network;

/// Reads a list of networks.
pub(super) fn networks<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Network>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let read = |text: &String| text.parse().map_err(de::Error::custom);
    texts.iter().map(read).collect()
}
