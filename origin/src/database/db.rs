//! The statements that tell whether a replica may answer.

use tokio_postgres::{Row, types::PgLsn};

use super::Statement;

/// The statements of this module.
pub static STATEMENTS: [&Statement; 2] = [&ROLE, &HAS_REPLAYED];

/// Whether the server is a replica, of which cluster, and on which timeline: a primary's own, a replica's as its control
/// file has it, which may lag behind a failover, and then says an earlier one.
pub(super) static ROLE: Statement = Statement::new(
    "database.role",
    "select pg_is_in_recovery(),
            system.system_identifier,
            case
              when pg_is_in_recovery() then greatest(point.timeline_id, recovery.min_recovery_end_timeline)
              else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int4
            end
       from pg_control_system() as system
      cross join pg_control_checkpoint() as point
      cross join pg_control_recovery() as recovery",
);

/// What a server is, among those that copy one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) is_replica: bool,
    pub(super) history: History,
}

/// What a position in the write-ahead log belongs to: nothing else makes two of them comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History {
    system: i64,
    timeline: i32,
}

impl Role {
    /// Reads it from a row of [`ROLE`].
    pub(super) fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            is_replica: row.try_get(0)?,
            history: History {
                system: row.try_get(1)?,
                timeline: row.try_get(2)?,
            },
        })
    }
}

/// Two facts at one moment: a replica that has been promoted keeps the last position that it replayed.
pub(super) static HAS_REPLAYED: Statement = Statement::new(
    "database.has_replayed",
    "select pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() >= $1, false)",
);

/// Why a replica may not answer, if it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// It shows everything up to the position.
    Done,
    /// It does not yet.
    Behind,
    /// It is no replica any more.
    Promoted,
}

impl Replay {
    /// Reads it from a row of [`HAS_REPLAYED`].
    pub(super) fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(match (row.try_get(0)?, row.try_get(1)?) {
            (false, _) => Self::Promoted,
            (true, false) => Self::Behind,
            (true, true) => Self::Done,
        })
    }
}

/// Reads a position in the write-ahead log as Postgres writes it: two hexadecimal numbers of up to 32 bits.
pub fn position(text: &[u8]) -> Option<PgLsn> {
    let number = |digits: &str| {
        let is_number =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_number.then(|| u64::from_str_radix(digits, 16).ok())?
    };
    let (high, low) = std::str::from_utf8(text).ok()?.split_once('/')?;
    Some(PgLsn::from(number(high)? << 32 | number(low)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_postgres_writes_is_a_position() {
        assert_eq!(position(b"0/16B3748"), Some(PgLsn::from(0x16b_3748)));
        assert_eq!(position(b"A/0"), Some(PgLsn::from(0xa_0000_0000)));
        assert_eq!(position(b"ffffffff/ffffffff"), Some(PgLsn::from(u64::MAX)));
        for text in [
            "",
            "/",
            "0/",
            "/0",
            "0",
            "+0/0",
            "0/-1",
            "0/ 1",
            "0/1/2",
            "100000000/0",
            "0/g",
            "primary",
            "0/\u{e9}",
        ] {
            assert_eq!(position(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_position_is_read_as_it_is_written(number: u64) {
            let written = PgLsn::from(number).to_string();
            prop_assert_eq!(position(written.as_bytes()), Some(PgLsn::from(number)));
        }

        #[test]
        fn anything_is_read_without_a_panic(text: Vec<u8>) {
            let _ = position(&text);
        }
    }
}
