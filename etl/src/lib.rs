#![doc = include_str!("../README.md")]

pub mod cli;
pub mod copy;
pub mod dataset;
pub mod error;
pub mod field;
pub mod generate;
pub mod ids;
pub mod load;
pub mod progress;
pub mod purge;
pub mod reader;
pub mod reject;
pub mod report;
pub mod schema;
pub mod tables;

pub use error::{Error, Result};
