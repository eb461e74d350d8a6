//! Which requests are plain, seen on their bytes.

use crate::policy::vary::Accepted;

/// The longest request that is looked at; a longer one is not plain.
const REQUEST_BYTES_MAX: usize = 2_048;

/// A plain request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain<'r> {
    /// The value of `Host` as it came.
    pub host: &'r [u8],
    /// The target as it came, in origin form.
    pub target: &'r [u8],
    /// What `Accept-Encoding` says, if it is there.
    pub accepted: Option<Accepted>,
}

/// Reads a request that is one GET in HTTP/1.1, whole and alone in `request`, whose every field is known to change nothing
/// but the coding of the answer. Each of them may come once.
pub fn recognise(request: &[u8]) -> Option<Plain<'_>> {
    if request.len() > REQUEST_BYTES_MAX {
        return None;
    }
    let rest = request.strip_prefix(b"GET ")?;
    let end = rest.iter().position(|byte| *byte == b' ')?;
    let (target, rest) = rest.split_at(end);
    let is_target = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    if !target.starts_with(b"/") || !target.iter().all(is_target) {
        return None;
    }
    let mut rest = rest.strip_prefix(b" HTTP/1.1\r\n")?;
    let mut fields = Fields::default();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\r')?;
        let (line, tail) = rest.split_at(end);
        rest = tail.strip_prefix(b"\r\n")?;
        if line.is_empty() {
            break;
        }
        fields.take(line)?;
    }
    // Something behind it is a body, or a second request.
    let host = fields.host.filter(|_| rest.is_empty())?;
    Some(Plain {
        host,
        target,
        accepted: fields.accept_encoding.map(Accepted::from_line),
    })
}

#[derive(Default)]
struct Fields<'r> {
    host: Option<&'r [u8]>,
    accept_encoding: Option<&'r [u8]>,
    accept: Option<&'r [u8]>,
    user_agent: Option<&'r [u8]>,
    accept_language: Option<&'r [u8]>,
    connection: Option<&'r [u8]>,
}

impl<'r> Fields<'r> {
    fn take(&mut self, line: &'r [u8]) -> Option<()> {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~');
        let place = if is("host") {
            &mut self.host
        } else if is("accept-encoding") {
            &mut self.accept_encoding
        } else if is("accept") {
            &mut self.accept
        } else if is("user-agent") {
            &mut self.user_agent
        } else if is("accept-language") {
            &mut self.accept_language
        } else if is("connection") && value.eq_ignore_ascii_case(b"keep-alive") {
            &mut self.connection
        } else {
            return None;
        };
        let is_first = place.replace(value).is_none();
        (is_first && value.iter().all(is_text)).then_some(())
    }
}
