//! The readers of a body that is still arriving: how far each has come.

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Its next byte.
    At(usize),
    /// So far back that what it would read next is gone.
    Behind,
}

/// The readers of one body, by their numbers; a number is given again when its reader has gone.
#[derive(Debug, Default)]
pub(super) struct Readers {
    places: Vec<Option<Reader>>,
    free: Vec<usize>,
}

impl Readers {
    /// A new reader that begins at this byte; its number.
    pub(super) fn add(&mut self, first: usize) -> usize {
        let reader = Some(Reader::At(first));
        if let Some(number) = self.free.pop() {
            self.places[number] = reader;
            return number;
        }
        self.places.push(reader);
        self.places.len() - 1
    }

    pub(super) fn remove(&mut self, number: usize) {
        self.places[number] = None;
        self.free.push(number);
    }

    pub(super) fn get(&self, number: usize) -> Option<Reader> {
        self.places[number]
    }

    pub(super) fn move_to(&mut self, number: usize, next: usize) {
        self.places[number] = Some(Reader::At(next));
    }

    /// The next byte of the slowest one that still reads.
    pub(super) fn slowest(&self) -> Option<usize> {
        self.next_bytes().min()
    }

    /// Gives up those whose next byte comes before this one. False if nobody reads on for that.
    pub(super) fn give_up_before(&mut self, first: usize) -> bool {
        let mut has_given_up = false;
        for reader in self.places.iter_mut().flatten() {
            if let Reader::At(next) = reader
                && *next < first
            {
                *reader = Reader::Behind;
                has_given_up = true;
            }
        }
        !has_given_up || self.next_bytes().next().is_some()
    }

    fn next_bytes(&self) -> impl Iterator<Item = usize> {
        self.places
            .iter()
            .flatten()
            .filter_map(|reader| match reader {
                Reader::At(next) => Some(*next),
                Reader::Behind => None,
            })
    }
}
