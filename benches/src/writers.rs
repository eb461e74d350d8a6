//! Clients that write and remember: whatever was acknowledged must be there, once.
//!
//! Each review carries a token of its own in `summary`. What became of it is written to a file, and the file to the disk,
//! before the next request is sent. No answer, or a 5xx, leaves open whether the write happened.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::client::Client;
use crate::dice::Dice;
use crate::load::{post, put};
use crate::paced::sleep_until;

const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Before a request is sent again, or the next one after a failure.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a write with an Idempotency-Key is sent again and again.
const RETRY_LIMIT: Duration = Duration::from_secs(60);

/// What the client knows about a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged.
    Ok,
    /// Refused.
    Fail,
    /// No answer, or one that leaves it open.
    Unknown,
}

impl Fate {
    /// What a status says; none is no answer.
    pub fn of(status: Option<u16>) -> Self {
        match status {
            Some(200..300) => Self::Ok,
            Some(400..500) => Self::Fail,
            Some(_) | None => Self::Unknown,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// One client.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Tells its tokens from those of others.
    pub number: u64,
    /// The server.
    pub address: SocketAddr,
    /// Products that get reviews.
    pub products: RangeInclusive<u32>,
    /// Reviews that get votes; no other client's.
    pub voted: Vec<i32>,
    /// Where the fates are written.
    pub log: PathBuf,
}

/// What clients know when they have ended.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every token and its fate.
    pub tokens: Vec<(String, Fate)>,
    /// Of each review: votes acknowledged, and votes of unknown fate.
    pub votes: BTreeMap<i32, (u64, u64)>,
    /// Requests that were sent again with their Idempotency-Key.
    pub repeats: u64,
}

impl Ledger {
    /// Adds what another client knows.
    pub fn merge(&mut self, other: Self) {
        self.tokens.extend(other.tokens);
        self.votes.extend(other.votes);
        self.repeats += other.repeats;
    }
}

impl Writer {
    /// Writes until told to stop. Of four writes one is a vote, one a review, and two are reviews with an
    /// Idempotency-Key, which are sent again until their fate is known.
    ///
    /// # Errors
    /// The file of fates cannot be written.
    pub fn run(&self, stop: &AtomicBool) -> Result<Ledger> {
        let mut log =
            File::create(&self.log).with_context(|| format!("writing {}", self.log.display()))?;
        let mut client = Client::new(self.address, ANSWER_LIMIT);
        let mut dice = Dice::new(self.number);
        let mut ledger = Ledger::default();
        for turn in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let token = format!("token-{}-{turn}", self.number);
            let fate = match (turn % 4, dice.pick(&self.voted)) {
                (0, Some(review)) => {
                    let request = put(&format!("/reviews/{review}/helpful"));
                    let fate = send(&mut client, &request);
                    let votes = ledger.votes.entry(*review).or_default();
                    votes.0 += u64::from(fate == Fate::Ok);
                    votes.1 += u64::from(fate == Fate::Unknown);
                    fate
                }
                (1, _) => {
                    let fate = send(&mut client, &self.review(&mut dice, &token, ""));
                    ledger.tokens.push((token.clone(), fate));
                    fate
                }
                _ => {
                    let key = format!("Idempotency-Key: {token}\r\n");
                    let request = self.review(&mut dice, &token, &key);
                    let fate = insist(&mut client, &request, &mut ledger.repeats);
                    ledger.tokens.push((token.clone(), fate));
                    fate
                }
            };
            writeln!(log, "{token},{}", fate.name())?;
            log.sync_data()?;
            if fate == Fate::Unknown {
                sleep_until(Instant::now() + PAUSE);
            }
        }
        Ok(ledger)
    }

    fn review(&self, dice: &mut Dice, token: &str, fields: &str) -> Vec<u8> {
        let product = dice.between(*self.products.start(), *self.products.end());
        review(product, token, fields)
    }
}

/// A request that adds a review with this token; `fields` are more header fields, each with its line end.
pub fn review(product: u32, token: &str, fields: &str) -> Vec<u8> {
    let json = format!(
        "{{\"product_id\":{product},\"rating\":4,\"summary\":\"{token}\",\"body\":\"Written to be counted.\",\
         \"recommend\":true,\"name\":\"writer\",\"email\":\"writer@example.com\",\
         \"photos\":[\"https://photos.example.com/{token}.jpg\"]}}"
    );
    let request = String::from_utf8_lossy(&post("/reviews", &json)).into_owned();
    request
        .replacen("Host: bench\r\n", &format!("Host: bench\r\n{fields}"), 1)
        .into_bytes()
}

fn send(client: &mut Client, request: &[u8]) -> Fate {
    Fate::of(client.exchange(request).ok().map(|reply| reply.status))
}

/// Sends a request with an Idempotency-Key until its fate is known. 409 says that an earlier one still runs.
fn insist(client: &mut Client, request: &[u8], repeats: &mut u64) -> Fate {
    let deadline = Instant::now() + RETRY_LIMIT;
    loop {
        let status = client.exchange(request).ok().map(|reply| reply.status);
        let fate = match status {
            Some(409) => Fate::Unknown,
            status => Fate::of(status),
        };
        if fate != Fate::Unknown || Instant::now() > deadline {
            return fate;
        }
        *repeats += 1;
        sleep_until(Instant::now() + PAUSE);
    }
}

/// What clients know, held against what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Tokens acknowledged.
    pub acknowledged: u64,
    /// Of those, not there.
    pub missing: u64,
    /// Tokens of any fate that are there more than once.
    pub duplicated: u64,
    /// Tokens that were refused.
    pub refused: u64,
    /// Of those, there nevertheless.
    pub refused_but_there: u64,
    /// Tokens of unknown fate.
    pub unknown: u64,
    /// Of those, there.
    pub unknown_and_there: u64,
    /// Tokens that are there and that nobody sent.
    pub invented: u64,
}

impl Audit {
    /// Compares the tokens sent with the rows found of each.
    pub fn of(tokens: &[(String, Fate)], mut rows: HashMap<String, u64>) -> Self {
        let mut audit = Self::default();
        for (token, fate) in tokens {
            let found = rows.remove(token).unwrap_or_default();
            let is_there = u64::from(found > 0);
            audit.duplicated += u64::from(found > 1);
            match fate {
                Fate::Ok => {
                    audit.acknowledged += 1;
                    audit.missing += 1 - is_there;
                }
                Fate::Fail => {
                    audit.refused += 1;
                    audit.refused_but_there += is_there;
                }
                Fate::Unknown => {
                    audit.unknown += 1;
                    audit.unknown_and_there += is_there;
                }
            }
        }
        audit.invented = rows.len() as u64;
        audit
    }

    /// Whether nothing was lost, doubled or made up.
    pub fn is_clean(&self) -> bool {
        self.missing + self.duplicated + self.refused_but_there + self.invented == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_finds_what_is_lost_doubled_and_made_up() {
        let tokens = [
            ("there".to_owned(), Fate::Ok),
            ("lost".to_owned(), Fate::Ok),
            ("twice".to_owned(), Fate::Ok),
            ("refused".to_owned(), Fate::Fail),
            ("open".to_owned(), Fate::Unknown),
            ("open, not there".to_owned(), Fate::Unknown),
        ];
        let rows = [
            ("there", 1),
            ("twice", 2),
            ("refused", 1),
            ("open", 1),
            ("nobody's", 1),
        ];
        let rows = rows.map(|(token, count)| (token.to_owned(), count));
        let audit = Audit::of(&tokens, HashMap::from(rows));
        let expected = Audit {
            acknowledged: 3,
            missing: 1,
            duplicated: 1,
            refused: 1,
            refused_but_there: 1,
            unknown: 2,
            unknown_and_there: 1,
            invented: 1,
        };
        assert_eq!(audit, expected);
        assert!(!audit.is_clean());
        let good = HashMap::from([("there".to_owned(), 1)]);
        assert!(Audit::of(&tokens[..1], good).is_clean());
    }

    #[test]
    fn a_review_has_its_fields_and_a_length_that_fits() {
        let request = String::from_utf8(review(7, "t-1", "Idempotency-Key: t-1\r\n")).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nIdempotency-Key: t-1\r\n"), "{head}");
        assert!(
            head.ends_with(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["product_id"], 7);
    }
}
