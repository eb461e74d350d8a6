//! How one origin is written in the configuration file.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::kind::Address;
use super::section::Node;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NodeTable {
    /// Where it serves.
    address: Address,
    /// Its share of the load beside the others, from 1.
    #[serde(default = "one")]
    weight: u32,
    /// Its private listener (health, events), when that is another one.
    private: Option<Address>,
}

fn one() -> u32 {
    1
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "\"HOST:PORT\", or a table with `address` and, if wanted, `weight` and `private`",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
        text.parse::<Address>().map(Node::from).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Node, A::Error> {
        let table = NodeTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Node {
            address: table.address,
            weight: table.weight,
            private: table.private,
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

impl JsonSchema for Node {
    fn schema_name() -> Cow<'static, str> {
        "Node".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let address = generator.subschema_for::<Address>();
        let table = generator.subschema_for::<NodeTable>();
        json_schema!({ "anyOf": [address, table] })
    }
}
