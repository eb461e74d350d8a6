//! A POST that is sent again does nothing again: `Idempotency-Key`, stored by the write's own statement.
//!
//! Every POST statement begins with `gate.sql` and ends with `result.sql`. The gate decides whether the write may run:
//! it may not if the key is stored, or if a transaction that uses it is still open (it holds an advisory lock on the
//! key's scope). Two that pass the gate at once meet in the table's primary key: one fails whole, and is run again.

use sha2::{Digest, Sha256};
use sqlx::Row as _;

use crate::{
    cache_policy::Change,
    database::{Call, Conn, Statement},
    error::{Error, Result},
};

/// The key of a POST, with what it is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    scope: [u8; 32],
    digest: [u8; 32],
}

impl Claim {
    /// Binds a key to the path and the identity it was sent with, and to the body it was sent for.
    pub fn new(key: &[u8], path: &str, identity: &[u8], body_digest: [u8; 32]) -> Self {
        let mut scope = Sha256::new();
        // Each part is preceded by its length: no two different triples make the same bytes.
        for part in [path.as_bytes(), identity, key] {
            scope.update((part.len() as u64).to_be_bytes());
            scope.update(part);
        }
        Self {
            scope: scope.finalize().into(),
            digest: body_digest,
        }
    }

    /// The advisory lock that a transaction using this key holds.
    fn lock(&self) -> i64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.scope[..8]);
        i64::from_be_bytes(first)
    }
}

/// What a write that committed says, now and each time it is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The path of what was created, if it has one.
    pub location: Option<String>,
    /// What it has made out of date.
    pub change: Change,
    /// Whether the write had happened before.
    pub is_replay: bool,
}

/// A key older than a day counts as unused.
static FORGET: Statement = Statement::new(
    "idempotency.forget",
    "delete from service.idempotency_keys
      where scope = $1
        and created_at <= now() - interval '24 hours'",
);

/// The statements of this module.
pub static STATEMENTS: [&Statement; 1] = [&FORGET];

/// How often a write is tried that another one got in the way of.
const ATTEMPTS_MAX: u32 = 3;

/// Begins the call of a POST statement: its first three arguments are those of the gate.
pub fn begin(statement: &'static Statement, claim: Option<&Claim>) -> Call {
    statement
        .call()
        .bind(claim.map(|claim| claim.scope))
        .bind(claim.map(|claim| claim.digest))
        .bind(claim.map(Claim::lock))
}

/// Runs a POST statement. `None`: what it refers to does not exist, and nothing was written.
pub async fn run(conn: &mut Conn, call: &Call, claim: Option<&Claim>) -> Result<Option<Created>> {
    let mut attempt = 1;
    loop {
        match once(conn, call.try_clone()?, claim).await {
            Ok(Step::Done(created)) => return Ok(created),
            Ok(Step::Again) | Err(Error::Conflict(_)) if attempt < ATTEMPTS_MAX => attempt += 1,
            Ok(Step::Again) => return Err(Error::IdempotencyInProgress),
            Err(error) => return Err(error),
        }
    }
}

enum Step {
    Done(Option<Created>),
    Again,
}

async fn once(conn: &mut Conn, call: Call, claim: Option<&Claim>) -> Result<Step> {
    let Some(row) = call.row(conn).await? else {
        return Ok(Step::Done(None));
    };
    let state: &str = row.try_get("state")?;
    match (state, claim) {
        ("busy", _) => Err(Error::IdempotencyInProgress),
        ("expired", Some(claim)) => {
            FORGET.call().bind(claim.scope).rows(conn).await?;
            Ok(Step::Again)
        }
        ("stored", Some(claim)) => {
            if row.try_get::<&[u8], _>("digest")? != claim.digest {
                return Err(Error::IdempotencyKeyReused);
            }
            Ok(Step::Done(Some(Created {
                location: row.try_get("location")?,
                change: Change {
                    groups: row.try_get("groups")?,
                    token: row.try_get("token")?,
                },
                is_replay: true,
            })))
        }
        // "open": the write ran, if what it refers to exists.
        _ => {
            let groups: Option<Vec<String>> = row.try_get("groups")?;
            let location = row.try_get("location")?;
            let token = row.try_get("token")?;
            Ok(Step::Done(groups.map(|groups| Created {
                location,
                change: Change { groups, token },
                is_replay: false,
            })))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_bound_to_its_path_and_identity() {
        let claim = |key: &[u8], path, identity: &[u8]| Claim::new(key, path, identity, [0; 32]);
        let one = claim(b"k", "/reviews", b"");
        assert_eq!(one, claim(b"k", "/reviews", b""));
        assert_ne!(one, claim(b"l", "/reviews", b""));
        assert_ne!(one, claim(b"k", "/cart", b""));
        assert_ne!(one, claim(b"k", "/reviews", b"t"));
        // The same bytes, cut elsewhere.
        assert_ne!(claim(b"ab", "/cart", b"c"), claim(b"b", "/cart", b"ca"));
    }
}
