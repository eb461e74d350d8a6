//! `gateway node`: the origins, and orders about them.

use std::fmt::Write as _;

use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::ask::{Asked, word};

#[derive(Debug, Args)]
pub(super) struct NodeCommand {
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Lists the origins with their load and standing.
    List {
        #[command(flatten)]
        asked: Asked,
    },
    /// Adds an origin until the next start.
    Add {
        /// Where it serves, as host:port.
        address: String,
        /// Its share of the load beside the others, from 1 to 1000.
        #[arg(long, value_name = "N", default_value_t = 1)]
        weight: u32,
        /// Its private listener (health, events), when that is another one.
        #[arg(long, value_name = "ADDRESS")]
        private: Option<String>,
        #[command(flatten)]
        asked: Asked,
    },
    /// Removes an origin; requests that it works on end as they will.
    Remove {
        /// Its address as configured or added.
        address: String,
        /// Even if no other would take requests.
        #[arg(long)]
        last: bool,
        #[command(flatten)]
        asked: Asked,
    },
    /// Keeps new requests from an origin.
    Drain {
        /// Its address, or its name as configured.
        node: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Ends a drain.
    Enable {
        /// Its address, or its name as configured.
        node: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Gives an origin another share of the load.
    Weight {
        /// Its address, or its name as configured.
        node: String,
        /// From 1 to 1000.
        weight: u32,
        #[command(flatten)]
        asked: Asked,
    },
}

impl NodeCommand {
    pub(super) async fn run(self) -> Result<()> {
        let (asked, node, order, body) = match self.order {
            Order::List { asked } => return asked.show(Method::GET, "/nodes", None, told).await,
            Order::Add {
                address,
                weight,
                private,
                asked,
            } => {
                let node = json!({ "address": address, "weight": weight, "private": private });
                return asked.show(Method::POST, "/nodes", Some(&node), told).await;
            }
            Order::Remove {
                address,
                last,
                asked,
            } => {
                let node = utf8_percent_encode(&address, NON_ALPHANUMERIC);
                let target = format!("/nodes/{node}?last={last}");
                return asked.show(Method::DELETE, &target, None, told).await;
            }
            Order::Drain { node, asked } => (asked, node, "drain", None),
            Order::Enable { node, asked } => (asked, node, "enable", None),
            Order::Weight {
                node,
                weight,
                asked,
            } => (asked, node, "weight", Some(json!({ "weight": weight }))),
        };
        let node = utf8_percent_encode(&node, NON_ALPHANUMERIC);
        let target = format!("/nodes/{node}/{order}");
        asked.show(Method::POST, &target, body.as_ref(), told).await
    }
}

/// A line for each origin.
fn told(nodes: &Value) -> String {
    let mut text = format!(
        "{:<28} {:>6} {:>9} {:>10} {:>8}  {:<10}  {}\n",
        "node", "weight", "in flight", "requests", "failures", "source", "standing"
    );
    for node in nodes.as_array().into_iter().flatten() {
        let standing = match node {
            _ if node["drained"] == true => "drained",
            _ if node["healthy"] == false => "unhealthy",
            _ if node["ejected"] == true => "ejected",
            _ => "serving",
        };
        let columns = ["weight", "in_flight", "requests", "failures"].map(|name| word(&node[name]));
        let [weight, in_flight, requests, failures] = columns;
        let [address, source] = ["address", "source"].map(|name| word(&node[name]));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{address:<28} {weight:>6} {in_flight:>9} {requests:>10} {failures:>8}  {source:<10}  {standing}"
        );
    }
    text
}
