//! The head of an HTTP/1.1 answer, as far as the load generators look at it.

use anyhow::{Context, Result, bail};

/// The longest head that a measured server may send.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A status, the body's length, and the fields.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The status code.
    pub status: u16,
    /// The body's length; a chunked body has none.
    pub length: Option<usize>,
    fields: &'a str,
}

impl<'a> Head<'a> {
    /// Reads a head that ends in an empty line.
    ///
    /// # Errors
    /// No status, or an answer whose end cannot be told.
    pub fn parse(head: &'a [u8]) -> Result<Self> {
        let fields = std::str::from_utf8(head)?;
        let status: u16 = fields.get(9..12).context("no status line")?.parse()?;
        let mut head = Self {
            status,
            length: Some(0),
            fields,
        };
        if status == 204 || status == 304 {
            return Ok(head);
        }
        head.length = match head.field("content-length") {
            Some(length) => Some(length.parse()?),
            None if head.field("transfer-encoding").is_some() => None,
            None => bail!("an answer without a length: {fields}"),
        };
        Ok(head)
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        self.fields.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Where the head ends, if all of it is there.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let at = bytes.windows(END.len()).position(|window| window == END)?;
    Some(at + END.len())
}

/// Whether a chunked body has come to its end.
pub fn is_last_chunk(bytes: &[u8]) -> bool {
    bytes.ends_with(b"0\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_the_status_the_length_and_its_fields() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nContent-Length: 12\r\n\r\nnot the head";
        let end = head_end(text).unwrap();
        let head = Head::parse(&text[..end]).unwrap();
        assert_eq!((head.status, head.length), (503, Some(12)));
        assert_eq!(head.field("Retry-After"), Some("1"));
        assert_eq!(head.field("Age"), None);
    }

    #[test]
    fn no_content_has_no_length_and_chunks_have_none_either() {
        let head = Head::parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(head.length, Some(0));
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(head.length, None);
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
