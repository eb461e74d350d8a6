//! Ranges of addresses in the configuration file.

/// A list of networks.
pub(super) mod networks {
    use serde::de::{self, Deserialize, Deserializer};
    use serde::ser::Serializer;

    use crate::policy::forwarded::Network;

    pub(in super::super) fn serialize<S: Serializer>(
        networks: &[Network],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(networks.iter().map(Network::to_string))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Network>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let read = |text: &String| text.parse().map_err(de::Error::custom);
        texts.iter().map(read).collect()
    }
}
