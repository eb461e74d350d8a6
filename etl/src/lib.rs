#![doc = include_str!("../README.md")]

pub mod clean;
pub mod cli;
pub mod copy;
pub mod dataset;
pub mod error;
pub mod field;
pub mod generate;
pub mod ids;
pub mod input;
pub mod layout;
pub mod load;
mod merge;
pub mod progress;
pub mod purge;
pub mod reader;
pub mod reject;
pub mod report;
pub mod rows;
pub mod schema;
pub mod split;
pub mod sums;
pub mod tables;
pub mod verify;

pub use error::{Error, Result};
