//! A body on its way into the store, and everybody's way of reading one.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ledger::Charge;
use super::object::{Body, Object, cost_of};
use super::readers::{Reader, Readers};
use super::{NewFill, Store, Unkept};

/// Bodies up to this size are kept in one block; copying a larger one would cost more than its blocks do.
const ONE_PIECE_BYTES_MAX: usize = 64 * 1024;
/// A body is kept in blocks of at least this many bytes, but for its last: smaller pieces are put together, as each block costs
/// [`BLOCK_COST`] besides its bytes. A larger piece is a block by itself.
const BLOCK_BYTES_MIN: usize = 16 * 1024;
/// What is put together is no larger than this.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// One block besides its bytes: its place in two lists, its reference count and two allocations.
const BLOCK_COST: usize = 128;
/// How far the origin may run ahead of a reader of a body that is not kept: one that falls behind farther is given up. So much is
/// held for each such body besides the budget, at most.
const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The body ended before it was complete, or its reader fell too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FillFailed {
    /// The origin's answer broke off.
    #[error("the response body ended early")]
    Broken,
    /// The body is not kept and the reader is too slow for what the origin sends.
    #[error("the reader fell more than {BACKLOG_BYTES_MAX} bytes behind a body that is not kept")]
    Backlog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Complete,
    Failed,
}

#[derive(Debug)]
struct Pieces {
    state: State,
    /// Finished blocks, each behind the place of its first byte in the body.
    blocks: VecDeque<(usize, Bytes)>,
    /// The block that small pieces are put into, behind the others.
    tail: Vec<u8>,
    /// How many bytes have been dropped from the front.
    dropped: usize,
    bytes: usize,
    /// Not kept: blocks that all readers have had are dropped.
    passing: bool,
    readers: Readers,
}

/// A body that is still arriving; its readers wait for the next piece.
#[derive(Debug)]
pub struct Fill {
    pieces: Mutex<Pieces>,
    arrived: Notify,
}

impl Fill {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            pieces: Mutex::new(Pieces {
                state: State::Open,
                blocks: VecDeque::new(),
                tail: Vec::new(),
                dropped: 0,
                bytes: 0,
                passing: false,
                readers: Readers::default(),
            }),
            arrived: Notify::new(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.lock().bytes
    }

    /// The bytes that a piece of this length adds to what is kept. The first block is paid for with the entry.
    fn cost_of(&self, length: usize) -> usize {
        let pieces = self.pieces.lock();
        let opens_block = pieces.tail.is_empty() || !pieces.joins_tail(length);
        let is_first = pieces.bytes == 0;
        length
            + if opens_block && !is_first {
                BLOCK_COST
            } else {
                0
            }
    }

    fn push(&self, piece: Bytes) -> Result<(), FillFailed> {
        let mut pieces = self.pieces.lock();
        pieces.add(piece);
        let is_read = pieces.leave_behind();
        pieces.drop_read();
        drop(pieces);
        self.arrived.notify_waiters();
        if is_read {
            Ok(())
        } else {
            Err(FillFailed::Backlog)
        }
    }

    fn end(&self, state: State) {
        let mut pieces = self.pieces.lock();
        if pieces.state == State::Open {
            pieces.state = state;
        }
        drop(pieces);
        self.arrived.notify_waiters();
    }

    fn pass_through(&self) {
        let mut pieces = self.pieces.lock();
        pieces.passing = true;
        pieces.drop_read();
    }

    fn subscribe(&self) -> usize {
        let mut pieces = self.pieces.lock();
        let first = pieces.dropped;
        pieces.readers.add(first)
    }

    fn unsubscribe(&self, reader: usize) {
        let mut pieces = self.pieces.lock();
        pieces.readers.remove(reader);
        pieces.drop_read();
    }

    /// The reader's next piece: `Ok(None)` at the end, `Err(None)` when it has yet to arrive.
    fn poll_next(&self, reader: usize) -> Result<Option<Bytes>, Option<FillFailed>> {
        let mut pieces = self.pieces.lock();
        let next = match pieces.readers.get(reader) {
            None => return Ok(None),
            Some(Reader::Behind) => return Err(Some(FillFailed::Backlog)),
            Some(Reader::At(next)) => next,
        };
        if let Some(piece) = pieces.piece_at(next) {
            pieces.readers.move_to(reader, next + piece.len());
            pieces.drop_read();
            return Ok(Some(piece));
        }
        match pieces.state {
            State::Open => Err(None),
            State::Complete => Ok(None),
            State::Failed => Err(Some(FillFailed::Broken)),
        }
    }

    async fn next(&self, reader: usize) -> Result<Option<Bytes>, FillFailed> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            // Registered before the look, so that a piece arriving in between wakes us.
            arrived.as_mut().enable();
            match self.poll_next(reader) {
                Ok(piece) => return Ok(piece),
                Err(Some(failed)) => return Err(failed),
                Err(None) => arrived.await,
            }
        }
    }
}

impl Pieces {
    /// Where the next piece begins.
    fn end(&self) -> usize {
        self.dropped + self.bytes
    }

    fn joins_tail(&self, length: usize) -> bool {
        match self.tail.len() {
            0 => length < BLOCK_BYTES_MIN,
            held => held + length <= BLOCK_BYTES_MAX,
        }
    }

    fn add(&mut self, piece: Bytes) {
        let joins_tail = self.joins_tail(piece.len());
        if !joins_tail {
            self.seal();
            self.blocks.push_back((self.end(), piece.clone()));
        }
        self.bytes += piece.len();
        if joins_tail {
            self.tail.extend_from_slice(&piece);
            if self.tail.len() >= BLOCK_BYTES_MIN {
                self.seal();
            }
        }
    }

    /// Makes a block of what was put together, with no room to spare.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let start = self.end() - self.tail.len();
            let tail = std::mem::take(&mut self.tail).into_boxed_slice();
            self.blocks.push_back((start, Bytes::from(tail)));
        }
    }

    /// What there is from this byte on, up to the end of its block.
    fn piece_at(&self, next: usize) -> Option<Bytes> {
        let tail_start = self.end() - self.tail.len();
        if next >= tail_start {
            let rest = self.tail.get(next - tail_start..)?;
            return (!rest.is_empty()).then(|| Bytes::copy_from_slice(rest));
        }
        let after = self.blocks.partition_point(|(start, _)| *start <= next);
        let (start, block) = self.blocks.get(after.checked_sub(1)?)?;
        Some(block.slice(next - start..))
    }

    /// Gives up the readers of a body that is not kept that are too far behind. False if nobody is left to read it.
    fn leave_behind(&mut self) -> bool {
        let first = self.end().saturating_sub(BACKLOG_BYTES_MAX);
        !self.passing || self.readers.give_up_before(first)
    }

    fn drop_read(&mut self) {
        if !self.passing {
            return;
        }
        let end = self.end();
        let read = self.readers.slowest().unwrap_or(end);
        while let Some((start, block)) = self.blocks.front()
            && start + block.len() <= read
        {
            self.bytes -= block.len();
            self.dropped += block.len();
            self.blocks.pop_front();
        }
        if self.blocks.is_empty() && read == end {
            self.dropped = end;
            self.bytes = 0;
            self.tail.clear();
        }
    }

    /// Ends the last block; all of them as a body to keep.
    fn close(&mut self) -> Body {
        self.seal();
        let blocks = self.blocks.iter().map(|(_, block)| block);
        if self.blocks.len() > 1 && self.bytes <= ONE_PIECE_BYTES_MAX {
            let mut whole = BytesMut::with_capacity(self.bytes);
            blocks.for_each(|block| whole.extend_from_slice(block));
            Body::Complete(Arc::from([whole.freeze()]))
        } else {
            Body::Complete(blocks.cloned().collect())
        }
    }
}

/// Writes one response's body into the store. Dropped before [`FillWriter::finish`], the fill has failed.
pub struct FillWriter {
    store: Arc<Store>,
    fill: Arc<Fill>,
    object: Arc<Object>,
    new: NewFill,
    /// Why it is found by no lookup and will not be kept, if that is so.
    unkept: Option<Unkept>,
    /// The bytes of the entry that will be kept.
    charge: Charge,
    finished: bool,
}

impl FillWriter {
    pub(super) fn new(
        store: Arc<Store>,
        fill: Arc<Fill>,
        object: Arc<Object>,
        new: NewFill,
        unkept: Option<Unkept>,
    ) -> Self {
        let charge = Charge::none(&store.ledger);
        let mut writer = Self {
            store,
            fill,
            object,
            new,
            unkept,
            charge,
            finished: false,
        };
        if unkept.is_some() {
            writer.fill.pass_through();
        } else if !writer.reserve(cost_of(&writer.new.key, &writer.new.head, &writer.new.tags)) {
            writer.abandon(Unkept::NoRoom);
        }
        writer
    }

    /// The entry as its readers see it while it fills.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// Why it is known already that this will not be kept.
    pub fn unkept(&self) -> Option<Unkept> {
        self.unkept
    }

    /// Adds a piece of the body.
    ///
    /// # Errors
    /// The body is not kept and all its readers were too slow: the answer has to be given up.
    pub fn write(&mut self, piece: Bytes) -> Result<(), FillFailed> {
        if piece.is_empty() {
            return Ok(());
        }
        if self.unkept.is_none() {
            if self.fill.len() + piece.len() > self.store.limits.object_bytes_max {
                self.abandon(Unkept::TooLarge);
            } else if !self.reserve(self.fill.cost_of(piece.len())) {
                self.abandon(Unkept::NoRoom);
            }
        }
        self.fill.push(piece)
    }

    /// Completes the entry. Returns its bytes if it was kept, zero if not.
    pub fn finish(mut self) -> usize {
        self.finished = true;
        let kept = self.unkept.is_none().then(|| {
            let body = self.fill.pieces.lock().close();
            let head = self.new.head.without_length();
            let mut charge = self.charge.take();
            let spared = self.new.head.cost().saturating_sub(head.cost());
            drop(charge.split(spared));
            let bytes = charge.bytes();
            let complete = Object::new(self.object.id, &self.new, head, body, charge);
            self.store
                .commit(&self.object, &self.new, complete)
                .then_some(bytes)
        });
        self.fill.end(State::Complete);
        kept.flatten().unwrap_or(0)
    }

    fn reserve(&mut self, bytes: usize) -> bool {
        match self.store.charge(&self.new.key.hash(), bytes) {
            Some(charge) => {
                self.charge.absorb(charge);
                true
            }
            None => false,
        }
    }

    /// Stops keeping the body: those who read it read on, nobody new finds it.
    fn abandon(&mut self, why: Unkept) {
        self.unkept = Some(why);
        self.store.remove(&self.object);
        self.fill.pass_through();
        drop(self.charge.take());
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        if !self.finished {
            if self.unkept.is_none() {
                self.store.remove(&self.object);
            }
            self.fill.end(State::Failed);
        }
    }
}

/// Reads a stored body, complete or still arriving, from its first byte or from a range of a complete one.
pub struct BodyReader {
    source: Source,
    /// Bytes still to skip, and the bytes to give after that.
    skip: usize,
    left: usize,
}

enum Source {
    Complete { pieces: Arc<[Bytes]>, next: usize },
    Filling { fill: Arc<Fill>, reader: usize },
    Other(Bytes),
}

impl BodyReader {
    /// A reader at the first byte of an entry's body.
    pub fn new(object: &Object) -> Self {
        let source = match &object.body {
            Body::Complete(pieces) => Source::Complete {
                pieces: Arc::clone(pieces),
                next: 0,
            },
            Body::Filling(fill) => Source::Filling {
                fill: Arc::clone(fill),
                reader: fill.subscribe(),
            },
        };
        Self {
            source,
            skip: 0,
            left: usize::MAX,
        }
    }

    /// A reader of a body that is no entry's own.
    pub fn of_one_piece(body: Bytes) -> Self {
        Self {
            source: Source::Other(body),
            skip: 0,
            left: usize::MAX,
        }
    }

    /// Whether the body is complete, so that a range of it can be read.
    pub fn can_seek(&self) -> bool {
        matches!(self.source, Source::Complete { .. })
    }

    /// Starts again at byte `start`, to end before byte `end` (or with the body).
    pub fn seek(&mut self, start: usize, end: Option<usize>) {
        if let Source::Complete { next, .. } = &mut self.source {
            *next = 0;
            self.skip = start;
            self.left = end.map_or(usize::MAX, |end| end.saturating_sub(start));
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The fill broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FillFailed> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            let piece = match &mut self.source {
                Source::Complete { pieces, next } => {
                    let piece = pieces.get(*next).cloned();
                    *next += 1;
                    piece
                }
                Source::Filling { fill, reader } => fill.next(*reader).await?,
                Source::Other(body) if body.is_empty() => None,
                Source::Other(body) => Some(body.split_to(body.len().min(ONE_PIECE_BYTES_MAX))),
            };
            let Some(mut piece) = piece else {
                return Ok(None);
            };
            let skipped = self.skip.min(piece.len());
            self.skip -= skipped;
            let _ = piece.split_to(skipped);
            piece.truncate(self.left);
            self.left -= piece.len();
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        if let Source::Filling { fill, reader } = &self.source {
            fill.unsubscribe(*reader);
        }
    }
}
