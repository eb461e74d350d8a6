//! COPY in Postgres' binary format: rows are encoded into blocks, which are sent while the next one
//! is filled.
//!
//! The encoder knows no tables and the sender no rows. Buffers are used again; nothing is allocated
//! for a row.

use std::ops::ControlFlow;

use bytes::BufMut as _;
use sqlx::{PgConnection, postgres::PgCopyIn};
use tokio::sync::mpsc;

use crate::{
    error::{Error, Result, database},
    rows::Sink,
    sums::Addend,
};

/// What is sent at once: large enough that a system call costs nothing beside it.
const BLOCK_BYTES: usize = 512 << 10;
/// What is handed on in one piece at most; a block that a long row has made longer goes in several.
const PIECE_BYTES_MAX: usize = 2 * BLOCK_BYTES;
/// Blocks that wait to be sent: enough to bridge a pause of either side. With the one that is being sent
/// they hold at most five pieces, 5 MiB.
const BLOCKS_WAITING_MAX: usize = 4;
/// What a stream begins with: a signature that any change of line ends would break, flags, no
/// extension.
pub(crate) const STREAM_START: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with: a row of -1 columns.
const STREAM_END: &[u8] = &[0xff, 0xff];
/// The length that says NULL.
const NULL: i32 = -1;
/// The digits of a `numeric` are those of base 10,000; cents are two of the four behind the point.
const NUMERIC_BASE: u64 = 10_000;

/// Encodes rows, one field after the other.
#[derive(Debug)]
pub struct Encoder {
    block: Vec<u8>,
    rows: u64,
}

impl Encoder {
    /// An empty stream.
    #[must_use]
    pub fn new() -> Self {
        let mut block = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 8);
        block.extend_from_slice(STREAM_START);
        Self { block, rows: 0 }
    }

    /// A part of a stream: rows alone, for those who look at them one by one.
    #[must_use]
    pub fn of_rows() -> Self {
        Self {
            block: Vec::new(),
            rows: 0,
        }
    }

    /// What has been encoded since the block was begun.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// Begins a new block in the place of the present one.
    pub fn clear(&mut self) {
        self.block.clear();
    }

    /// Begins a row of so many fields; they follow in the order of the columns.
    pub fn row(&mut self, columns: i16) -> &mut Self {
        self.rows += 1;
        self.block.put_i16(columns);
        self
    }

    /// Adds an `integer`.
    pub fn integer(&mut self, value: i32) -> &mut Self {
        self.block.put_i32(4);
        self.block.put_i32(value);
        self
    }

    /// Adds a `bigint`.
    pub fn bigint(&mut self, value: i64) -> &mut Self {
        self.block.put_i32(8);
        self.block.put_i64(value);
        self
    }

    /// Adds a `smallint`.
    pub fn smallint(&mut self, value: i16) -> &mut Self {
        self.block.put_i32(2);
        self.block.put_i16(value);
        self
    }

    /// Adds a `boolean`.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.block.put_i32(1);
        self.block.put_u8(u8::from(value));
        self
    }

    /// Adds a `text`, which is valid UTF-8 without zero bytes.
    pub fn text(&mut self, value: &[u8]) -> &mut Self {
        // A row is no longer than the reader's limit, far below what the length can say.
        self.block.put_i32(value.len() as i32);
        self.block.extend_from_slice(value);
        self
    }

    /// Adds a `text` or NULL.
    pub fn nullable_text(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    /// Adds a `timestamptz`: microseconds since 2000.
    pub fn timestamp(&mut self, micros: i64) -> &mut Self {
        self.block.put_i32(8);
        self.block.put_i64(micros);
        self
    }

    /// Adds a `numeric` with two decimals, or NULL.
    pub fn nullable_price(&mut self, cents: Option<u64>) -> &mut Self {
        match cents {
            Some(cents) => self.price(cents),
            None => self.null(),
        }
    }

    /// Adds a `numeric` with two decimals.
    pub fn price(&mut self, cents: u64) -> &mut Self {
        let dollars = cents / 100;
        // At most 10^10 dollars: three digits before the point, one behind it.
        let digits = [
            dollars / (NUMERIC_BASE * NUMERIC_BASE),
            dollars / NUMERIC_BASE % NUMERIC_BASE,
            dollars % NUMERIC_BASE,
            cents % 100 * 100,
        ];
        let first = digits
            .iter()
            .position(|digit| *digit != 0)
            .unwrap_or(digits.len());
        let last = digits
            .iter()
            .rposition(|digit| *digit != 0)
            .map_or(first, |last| last + 1);
        let used = &digits[first..last];
        self.block.put_i32(8 + 2 * used.len() as i32);
        self.block.put_i16(used.len() as i16);
        // The weight of the first digit; that of a plain 0 is 0.
        self.block
            .put_i16(if used.is_empty() { 0 } else { 2 - first as i16 });
        self.block.put_u16(0);
        self.block.put_u16(2);
        for digit in used {
            self.block.put_u16(*digit as u16);
        }
        self
    }

    fn null(&mut self) -> &mut Self {
        self.block.put_i32(NULL);
        self
    }

    /// How many rows have been encoded.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn is_full(&self) -> bool {
        self.block.len() >= BLOCK_BYTES
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The side that fills blocks: runs on a thread of its own.
#[derive(Debug)]
pub struct CopyWriter {
    encoder: Encoder,
    full: mpsc::Sender<Block>,
    empty: mpsc::Receiver<Vec<u8>>,
}

/// The side that sends them.
#[derive(Debug)]
pub struct CopySender {
    full: mpsc::Receiver<Block>,
    empty: mpsc::Sender<Vec<u8>>,
}

/// A part of the stream. Postgres would take a stream that stops short for a whole one, so its end
/// is marked.
#[derive(Debug)]
enum Block {
    More(Vec<u8>),
    Last(Vec<u8>),
}

/// The sender has gone, as Postgres refused what was sent: there is nobody to encode for.
#[derive(Debug)]
pub struct Gone;

/// The two ends of one COPY.
#[must_use]
pub fn channel() -> (CopyWriter, CopySender) {
    let (full, full_blocks) = mpsc::channel(BLOCKS_WAITING_MAX);
    // One is being filled and one being sent beside those that wait.
    let (empty, empty_blocks) = mpsc::channel(BLOCKS_WAITING_MAX + 2);
    let writer = CopyWriter {
        encoder: Encoder::new(),
        full,
        empty: empty_blocks,
    };
    (
        writer,
        CopySender {
            full: full_blocks,
            empty,
        },
    )
}

impl CopyWriter {
    /// Hands the block on; waits while too many are waiting.
    fn hand_on(&mut self) -> Result<(), Gone> {
        if self.encoder.block.len() > PIECE_BYTES_MAX {
            return self.hand_on_in_pieces();
        }
        let next = self.empty_block();
        let full = std::mem::replace(&mut self.encoder.block, next);
        self.full.blocking_send(Block::More(full)).map_err(|_| Gone)
    }

    /// A stream may be cut anywhere, also within a row. The long block stays with the encoder: the next
    /// row may be as long, and one such block is all that there ever is.
    fn hand_on_in_pieces(&mut self) -> Result<(), Gone> {
        let block = std::mem::take(&mut self.encoder.block);
        for piece in block.chunks(BLOCK_BYTES) {
            let mut next = self.empty_block();
            next.extend_from_slice(piece);
            let sent = self.full.blocking_send(Block::More(next));
            sent.map_err(|_| Gone)?;
        }
        self.encoder.block = block;
        self.encoder.clear();
        Ok(())
    }

    fn empty_block(&mut self) -> Vec<u8> {
        let used = self.empty.try_recv();
        let mut block = used.unwrap_or_else(|_| Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 8));
        block.clear();
        block
    }

    /// Ends the stream and says how many rows it holds.
    ///
    /// # Errors
    /// [`Gone`] if nobody takes it.
    pub fn finish(mut self) -> Result<u64, Gone> {
        if self.encoder.block.len() > BLOCK_BYTES {
            self.hand_on()?;
        }
        self.encoder.block.extend_from_slice(STREAM_END);
        self.full
            .blocking_send(Block::Last(self.encoder.block))
            .map_err(|_| Gone)?;
        Ok(self.encoder.rows)
    }
}

impl Sink for CopyWriter {
    fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn take(&mut self, _: Option<Addend>) -> Result<ControlFlow<()>> {
        if self.encoder.is_full() && self.hand_on().is_err() {
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl CopySender {
    /// Sends blocks to Postgres until the writer has ended the stream; says how many rows Postgres
    /// took, or `None` if the writer was dropped before it ended the stream: then nothing is
    /// stored.
    ///
    /// # Errors
    /// If Postgres refuses the rows.
    pub async fn send(
        mut self,
        conn: &mut PgConnection,
        table: &str,
        columns: &str,
    ) -> Result<Option<u64>> {
        // Frozen rows need no second visit by vacuum; Postgres allows it as the table was emptied
        // in this transaction.
        let statement = format!("copy {table} ({columns}) from stdin (format binary, freeze)");
        let doing = || format!("copying into {table}");
        let mut copy = conn
            .copy_in_raw(&statement)
            .await
            .map_err(database(doing()))?;
        match self.send_blocks(&mut copy).await {
            Ok(true) => copy.finish().await.map(Some).map_err(database(doing())),
            Ok(false) => {
                copy.abort("the rows could not be read to their end")
                    .await
                    .map_err(database(doing()))?;
                Ok(None)
            }
            // What Postgres has to say about it comes with the end of the COPY.
            Err(error) => {
                Err(copy.finish().await.err().unwrap_or(error)).map_err(database(doing()))
            }
        }
    }

    /// Says whether the stream was ended.
    async fn send_blocks(
        &mut self,
        copy: &mut PgCopyIn<&mut PgConnection>,
    ) -> Result<bool, sqlx::Error> {
        while let Some(block) = self.full.recv().await {
            let block = match block {
                Block::More(block) => block,
                Block::Last(block) => {
                    copy.send(block.as_slice()).await?;
                    return Ok(true);
                }
            };
            copy.send(block.as_slice()).await?;
            // A block that has grown past its size, by a long row, is not kept.
            if block.capacity() <= PIECE_BYTES_MAX {
                // Full only if the writer has stopped taking blocks back.
                drop(self.empty.try_send(block));
            }
        }
        Ok(false)
    }
}

/// Fails if Postgres stored another number of rows than were encoded.
///
/// # Errors
/// [`Error::Check`].
pub fn check_rows(table: &str, encoded: u64, stored: u64) -> Result<()> {
    if encoded == stored {
        return Ok(());
    }
    Err(Error::Check(format!(
        "{table}: {encoded} rows were sent and {stored} stored"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(cents: u64) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.block.clear();
        encoder.price(cents);
        encoder.block
    }

    #[test]
    fn prices_are_encoded_as_postgres_sends_them() {
        // Taken from `copy (select 140.00::numeric(12,2)) to stdout (format binary)` and its like.
        assert_eq!(price(0), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(price(14_000), [0, 0, 0, 10, 0, 1, 0, 0, 0, 0, 0, 2, 0, 140]);
        assert_eq!(
            price(5),
            [0, 0, 0, 10, 0, 1, 0xff, 0xff, 0, 0, 0, 2, 0x01, 0xf4]
        );
        assert_eq!(
            price(500_000_000),
            [0, 0, 0, 10, 0, 1, 0, 1, 0, 0, 0, 2, 0x01, 0xf4]
        );
        assert_eq!(
            price(1_000_050),
            [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 2, 0, 1, 0, 0, 0x13, 0x88]
        );
    }
}
