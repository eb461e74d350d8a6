//! Any bytes as a file of any table: `cargo +nightly fuzz run reader`, in `etl`.

#![no_main]

#[path = "../any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| any_bytes::check(bytes));
