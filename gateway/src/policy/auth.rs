//! The authorization switch: token spellings, and the set of known tokens.

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Tokens one file may hold; each request compares with all of them.
pub const TOKENS_MAX: usize = 1024;

/// The token of a request: `t`, `token t` and `Bearer t` are the same token, the scheme in any letter case.
///
/// None when the field is missing, has another scheme, holds anything outside visible ASCII, or is there twice.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let value = lines.next()?.to_str().ok()?.trim_matches([' ', '\t']);
    if lines.next().is_some() {
        return None;
    }
    let token = match value.split_once([' ', '\t']) {
        Some((scheme, token)) if is_scheme(scheme) => token.trim_matches([' ', '\t']),
        Some(_) => return None,
        // A scheme alone is not a token.
        None if is_scheme(value) => return None,
        None => value,
    };
    let is_visible = token.bytes().all(|byte| byte.is_ascii_graphic());
    (!token.is_empty() && is_visible).then_some(token)
}

fn is_scheme(word: &str) -> bool {
    word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("token")
}

/// The known tokens, kept as digests only.
#[derive(Clone, Default)]
pub struct Tokens {
    digests: Vec<[u8; 32]>,
}

/// A token file that cannot be used; never quotes the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTokens {
    /// A line with spaces or with characters outside visible ASCII.
    #[error("line {0} is not a token: only visible ASCII without spaces")]
    Line(usize),
    /// More tokens than the limit.
    #[error("more than {TOKENS_MAX} tokens")]
    TooMany,
    /// No token at all.
    #[error("no token")]
    Empty,
}

impl Tokens {
    /// Reads one token a line; empty lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    /// The first unusable line.
    pub fn parse(text: &str) -> Result<Self, BadTokens> {
        let mut digests = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(BadTokens::Line(index + 1));
            }
            if digests.len() == TOKENS_MAX {
                return Err(BadTokens::TooMany);
            }
            digests.push(Sha256::digest(line).into());
        }
        if digests.is_empty() {
            Err(BadTokens::Empty)
        } else {
            Ok(Self { digests })
        }
    }

    /// Whether the token is known; takes the same time for every token of one length.
    pub fn contains(&self, token: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let found = self.digests.iter().fold(0_u8, |found, known| {
            found | known.ct_eq(&digest).unwrap_u8()
        });
        found == 1
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} hidden)", self.digests.len())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn request(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn all_spellings_are_the_same_token() {
        let cases: [(&[&str], Option<&str>); 15] = [
            (&["t"], Some("t")),
            (&["token t"], Some("t")),
            (&["Token t"], Some("t")),
            (&["Bearer t"], Some("t")),
            (&["bEARER   t "], Some("t")),
            (&["Bearer\tt"], Some("t")),
            (&[" t "], Some("t")),
            (&["Bearer"], None),
            (&["token "], None),
            (&["Basic dXNlcjpwYXNz"], None),
            (&["Bearer a b"], None),
            (&["é"], None),
            (&[""], None),
            (&[], None),
            (&["a", "b"], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(token(&request(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_token_file_has_one_token_a_line() {
        let tokens = Tokens::parse("# staff\nalpha\n\n  beta \n").unwrap();
        assert!(tokens.contains("alpha") && tokens.contains("beta"));
        assert!(!tokens.contains("# staff") && !tokens.contains("") && !tokens.contains("Alpha"));
        assert_eq!(
            Tokens::parse("ok\nnot ok\n").unwrap_err(),
            BadTokens::Line(2)
        );
        assert_eq!(Tokens::parse("# nothing\n").unwrap_err(), BadTokens::Empty);
        let many = "t\n".repeat(TOKENS_MAX + 1);
        assert_eq!(Tokens::parse(&many).unwrap_err(), BadTokens::TooMany);
    }

    #[test]
    fn known_tokens_are_not_printed() {
        let printed = format!("{:?}", Tokens::parse("very-secret").unwrap());
        assert_eq!(printed, "Tokens(1 hidden)");
    }
}
