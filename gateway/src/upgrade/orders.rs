//! What operators ordered about the origins goes on in the new process: the one of before writes it down before it hands over
//! the listeners, in the directory in which the two meet.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::Instant;

use super::Meeting;
use crate::balance::{Orders, Pool};

/// Bytes that are read of it: several times what as many origins as there may be come to.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Writes the orders that are in force where the new process finds them.
pub(super) fn leave(meeting: &Meeting, pool: &Pool) {
    let text = pool.orders().to_text().map_err(io::Error::from);
    if let Err(error) = text.and_then(|text| fs::write(meeting.orders(), text)) {
        tracing::warn!(%error, "the new process will not know what was ordered about the origins");
    }
}

/// Goes on with the orders of the process of before, once that has handed over its listeners. One of an earlier version has left
/// none.
pub fn take_orders(meeting: &Meeting, pool: &Pool) {
    let orders = match read(&meeting.orders()) {
        Ok(text) => Orders::from_text(&text),
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => Err(error.into()),
    };
    match orders {
        Ok(orders) => pool.go_on_with(orders, Instant::now()),
        Err(error) => {
            tracing::warn!("what was ordered about the origins is not taken over: {error:#}");
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}
