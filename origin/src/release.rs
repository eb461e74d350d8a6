//! Which build is running.

use std::{fmt::Write as _, fs::File, io};

use sha2::{Digest, Sha256};

/// Bytes of the digest that are told.
const TOLD_BYTES: usize = 6;

/// A short digest of the running executable's bytes: another build, another digest.
///
/// # Errors
/// If the executable cannot be read.
pub fn digest() -> io::Result<String> {
    let mut file = File::open(std::env::current_exe()?)?;
    let mut digest = Sha256::new();
    io::copy(&mut file, &mut digest)?;
    let mut text = String::with_capacity(2 * TOLD_BYTES);
    for byte in &digest.finalize()[..TOLD_BYTES] {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_short_and_the_same_each_time() {
        let one = digest().expect("readable");
        assert_eq!(one.len(), 12);
        assert_eq!(one, digest().expect("readable"));
    }
}
