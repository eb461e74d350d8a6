//! The fields in which gateways, origins and readers name writes.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::position::Token;

/// The number of a write's transaction: on its answer, and on requests whose answer must not be older.
pub static COHERENCE_TOKEN: HeaderName = HeaderName::from_static("cache-coherence-token");
/// What a fill needs of the database that answers: a place in its log, or `primary`.
pub static COHERENCE_AFTER: HeaderName = HeaderName::from_static("cache-coherence-after");

/// Tokens that one request may present.
const TOKENS_MAX: usize = 16;
/// The cookie's name.
const COOKIE_NAME: &str = "cache-coherence-token";
/// How long a browser keeps the cookie: far beyond any delay of the stream.
const COOKIE_SECONDS: u32 = 60;

/// The tokens of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presented {
    /// Those that could be read.
    pub tokens: Vec<Token>,
    /// There were more, or some that are no tokens: what they name cannot be known to be here.
    pub is_partial: bool,
}

impl Presented {
    /// Whether the request names no write.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && !self.is_partial
    }

    fn add(&mut self, text: &str) {
        match text.trim_ascii().parse() {
            Ok(token) if self.tokens.len() < TOKENS_MAX => self.tokens.push(token),
            Ok(_) | Err(_) => self.is_partial = true,
        }
    }
}

/// The tokens that a request names, separated by commas, and the one of its cookie if that is asked for.
pub fn presented(request: &HeaderMap, in_cookies: bool) -> Presented {
    let mut presented = Presented::default();
    for line in request.get_all(&COHERENCE_TOKEN) {
        match line.to_str() {
            Ok(line) => line.split(',').for_each(|text| presented.add(text)),
            Err(_) => presented.is_partial = true,
        }
    }
    if in_cookies {
        let lines = request.get_all(COOKIE).into_iter();
        let cookies = lines.filter_map(|line| line.to_str().ok());
        let pairs = cookies.flat_map(|line| line.split(';'));
        let named = pairs.filter_map(|pair| pair.trim_ascii().split_once('='));
        for (name, text) in named {
            if name == COOKIE_NAME {
                presented.add(text);
            }
        }
    }
    presented
}

/// The cookie that makes a browser present a write's token.
pub fn cookie(token: Token) -> Option<HeaderValue> {
    let Token(number) = token;
    let text =
        format!("{COOKIE_NAME}={number}; Max-Age={COOKIE_SECONDS}; Path=/; HttpOnly; SameSite=Lax");
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn tokens_come_in_fields_and_if_wanted_in_a_cookie() {
        let headers = request(&[
            (&COHERENCE_TOKEN, "5, 7"),
            (&COHERENCE_TOKEN, "9"),
            (&COOKIE, "a=1; cache-coherence-token=11; b"),
        ]);
        let with = presented(&headers, true);
        assert_eq!(with.tokens, [5, 7, 9, 11].map(Token));
        assert!(!with.is_partial);
        assert_eq!(presented(&headers, false).tokens.len(), 3);
        assert!(presented(&request(&[]), true).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_not_ignored() {
        let many = vec!["1"; TOKENS_MAX + 1].join(",");
        for text in ["", "x", "5,-1", "5 6", many.as_str()] {
            let presented = presented(&request(&[(&COHERENCE_TOKEN, text)]), false);
            assert!(presented.is_partial, "{text:?}");
            assert!(presented.tokens.len() <= TOKENS_MAX);
        }
    }

    #[test]
    fn a_cookie_is_presented_as_it_was_set() {
        let set = cookie(Token(42)).unwrap();
        let pair = set.to_str().unwrap().split(';').next().unwrap();
        let presented = presented(&request(&[(&COOKIE, pair)]), true);
        assert_eq!(presented.tokens, [Token(42)]);
    }
}
