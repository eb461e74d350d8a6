//! Writes one file: good rows as they come, with repairs and refused rows strewn among them in
//! known numbers.

use std::{fs::File, io::Write as _, path::Path};

use super::{
    line::{Dirt, Line, digits},
    plan::{Dice, Kind, Plan},
};
use crate::{
    error::{self, Result},
    progress::Step,
    reader::QUOTED_BYTES_MAX,
    reject::{Reason, Repair, Repairs},
    report::Tally,
    tables::Table,
};

/// What is written at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Good rows to one of each kind of dirt, but for the kinds whose number the full-size release
/// gives.
const ROWS_PER_DIRT: u64 = 10_000;
/// How often each kind of dirt occurs at least, if the file has this many rows for each.
const DIRT_MIN: u64 = 2;
const ROWS_FOR_DIRT_MIN: u64 = 40;
/// Good rows to a carriage return.
const ROWS_PER_CRLF: u64 = 211;
/// From this many rows on a file has a field that is too long.
const ROWS_FOR_LONG_FIELD: u64 = 20_000;
/// From this many rows on a file of mere numbers has a quote that swallows as much as is allowed:
/// what follows is longer.
const ROWS_FOR_SWALLOWING: u64 = 300_000;

/// What one file can have.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) kind: Kind,
    pub(super) table: &'static Table,
    /// Whose id the second column holds.
    pub(super) parent: Option<Kind>,
    /// Repairs of single cells.
    pub(super) repairs: &'static [Repair],
    /// Reasons that single cells can be refused for.
    pub(super) reasons: &'static [Reason],
    /// Whether no cell is ever quoted.
    pub(super) is_bare: bool,
}

/// A file that is being written.
pub(super) struct FileWriter<'a> {
    plan: &'a Plan,
    sheet: &'a Sheet,
    file: File,
    path: &'a Path,
    step: &'a Step,
    pub(super) line: Line,
    pub(super) dice: Dice,
    repairs: Schedule<Repair>,
    rejects: Schedule<Reason>,
    rejected: u64,
    row: u64,
    rows: u64,
    tally: Tally,
}

/// Kinds of dirt, each a fixed number of times, over the rows of a file.
#[derive(Debug)]
struct Schedule<T> {
    left: Vec<(T, u64)>,
    total: u64,
    given: u64,
    rows: u64,
    next_row: u64,
}

impl<T: Copy> Schedule<T> {
    fn new(kinds: Vec<(T, u64)>, rows: u64, dice: &mut Dice) -> Self {
        let total = kinds.iter().map(|(_, count)| count).sum();
        let mut schedule = Self {
            left: kinds,
            total,
            given: 0,
            rows,
            next_row: 0,
        };
        schedule.place(dice);
        schedule
    }

    /// The rows are cut into as many parts as there are kinds to give, and one falls into each.
    fn place(&mut self, dice: &mut Dice) {
        self.next_row = u64::MAX;
        if self.given < self.total {
            let part = |number| {
                (u128::from(self.rows) * u128::from(number) / u128::from(self.total)) as u64
            };
            let (start, end) = (part(self.given), part(self.given + 1));
            self.next_row = start + dice.below_large((end - start).max(1));
        }
    }

    fn take(&mut self, row: u64, dice: &mut Dice) -> Option<T> {
        if self.next_row != row {
            return None;
        }
        let mut chosen = dice.below_large(self.total - self.given);
        self.given += 1;
        self.place(dice);
        for (kind, left) in &mut self.left {
            if chosen < *left {
                *left -= 1;
                return Some(*kind);
            }
            chosen -= *left;
        }
        None
    }
}

impl<'a> FileWriter<'a> {
    pub(super) fn create(
        plan: &'a Plan,
        sheet: &'a Sheet,
        path: &'a Path,
        step: &'a Step,
    ) -> Result<Self> {
        let rows = plan.rows(sheet.kind);
        let mut dice = Dice::new(plan.seed, sheet.kind.stream());
        let mut repairs = Vec::new();
        for repair in [Repair::LeadingSpace, Repair::NulRemoved]
            .iter()
            .chain(sheet.repairs)
        {
            let planned: u64 = repairs.iter().map(|(_, count)| count).sum();
            repairs.push((
                *repair,
                repair_count(plan, *repair, rows).min(rows - planned),
            ));
        }
        let always = [
            Reason::BadInteger,
            Reason::ColumnCount,
            Reason::InvalidUtf8,
            Reason::DuplicateId,
        ];
        let parent = sheet.parent.map(|_| Reason::DanglingParent);
        let reasons = always
            .iter()
            .copied()
            .chain(parent)
            .chain(sheet.reasons.iter().copied());
        let rejects = reasons
            .map(|reason| (reason, reject_count(plan, reason, rows)))
            .collect();
        let mut writer = Self {
            plan,
            sheet,
            file: File::create(path).map_err(error::file(path))?,
            path,
            step,
            line: Line::new(BLOCK_BYTES + BLOCK_BYTES / 4),
            repairs: Schedule::new(repairs, rows, &mut dice),
            rejects: Schedule::new(rejects, rows, &mut dice),
            dice,
            rejected: 0,
            row: 0,
            rows,
            tally: Tally::default(),
        };
        writer.header();
        Ok(writer)
    }

    /// A byte order mark, and the header in one of the ways in which releases spell it.
    fn header(&mut self) {
        self.line.out.extend_from_slice(b"\xef\xbb\xbf");
        self.tally.repair_file(Repair::Bom);
        let spelling = self.plan.seed.wrapping_add(self.sheet.kind.stream()) % 5;
        let separator = if spelling == 1 { ", " } else { "," };
        let names: Vec<String> = self
            .sheet
            .table
            .header
            .iter()
            .map(|name| spelled(name, spelling))
            .collect();
        self.line
            .out
            .extend_from_slice(names.join(separator).as_bytes());
        self.line.out.push(b'\n');
    }

    /// Writes a good row below a parent, and behind it what refused rows fall to this place.
    ///
    /// `write` is given the line, the dice, the id of the row and that of its parent.
    pub(super) fn row(
        &mut self,
        parent: u64,
        mut write: impl FnMut(&mut Line, &mut Dice, u64, u64),
    ) -> Result<()> {
        let id = self.plan.id(self.sheet.kind, self.row);
        let repair = self.repairs.take(self.row, &mut self.dice);
        let has_crlf = self.row % ROWS_PER_CRLF == 7.min(self.rows - 1);
        let mut repairs = Repairs::default();
        if let Some(repair) = repair {
            repairs.add(repair);
        }
        if has_crlf {
            repairs.add(Repair::Crlf);
        }
        self.line.begin(repair.map_or(Dirt::None, Dirt::Repair));
        write(&mut self.line, &mut self.dice, id, parent);
        self.line.end(if has_crlf { b"\r\n" } else { b"\n" });
        self.tally.load(repairs);
        while let Some(reason) = self.rejects.take(self.row, &mut self.dice) {
            let (id, parent) = match reason {
                Reason::DuplicateId => (id, parent),
                Reason::DanglingParent => (self.spare_id(), self.lost_parent()),
                _ => (self.spare_id(), parent),
            };
            self.line.begin(Dirt::Reject(reason, self.rejected));
            write(&mut self.line, &mut self.dice, id, parent);
            self.line.end(b"\n");
            self.reject(reason);
        }
        self.swallow();
        self.row += 1;
        if self.line.out.len() >= BLOCK_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn reject(&mut self, reason: Reason) {
        self.tally.reject(reason);
        self.rejected += 1;
    }

    /// An id that no good row has. Refused rows have no children but those that are refused for it.
    fn spare_id(&self) -> u64 {
        self.plan.spare_id(self.sheet.kind) + self.rejected
    }

    /// A parent that is not loaded: by turns the first one that was refused, and one that never
    /// was.
    fn lost_parent(&self) -> u64 {
        let Some(parent) = self.sheet.parent else {
            return 0;
        };
        match self.rejected % 2 {
            0 => self.plan.spare_id(parent),
            _ => self.plan.spare_id(parent) + 1_000_000,
        }
    }

    /// Half way through a large file, a quoted field that is too long: on one line, or, in a file
    /// without any other quote, by a quote that is never closed.
    fn swallow(&mut self) {
        let is_due = self.row == self.rows / 2
            && self.sheet.kind != Kind::Photos
            && self.rows
                >= if self.sheet.is_bare {
                    ROWS_FOR_SWALLOWING
                } else {
                    ROWS_FOR_LONG_FIELD
                };
        if !is_due {
            return;
        }
        self.unclosed();
        if !self.sheet.is_bare {
            self.line
                .out
                .resize(self.line.out.len() + QUOTED_BYTES_MAX + 1, b'x');
            self.line.out.push(b'"');
        }
        self.line.out.push(b'\n');
        self.reject(Reason::BadQuote);
    }

    fn unclosed(&mut self) {
        digits(
            &mut self.line.out,
            self.plan.spare_id(self.sheet.kind) + self.rejected,
        );
        self.line.out.extend_from_slice(b",1,\"");
    }

    /// Ends the file without a line end; where quotes matter, with a field that has none.
    pub(super) fn finish(mut self) -> Result<Tally> {
        if self.sheet.kind == Kind::Photos {
            if !self.line.out.ends_with(b"\r\n") {
                self.line.out.pop();
            }
        } else {
            self.unclosed();
            self.line.out.extend_from_slice(b"and so it ends");
            self.reject(Reason::BadQuote);
        }
        self.flush()?;
        Ok(self.tally)
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .write_all(&self.line.out)
            .map_err(error::file(self.path))?;
        self.step.add(self.line.out.len() as u64);
        self.line.out.clear();
        Ok(())
    }
}

fn repair_count(plan: &Plan, repair: Repair, rows: u64) -> u64 {
    match repair {
        // As in the full-size release.
        Repair::UnclosedQuote => plan.scaled(193),
        _ => usual_count(rows),
    }
}

fn reject_count(plan: &Plan, reason: Reason, rows: u64) -> u64 {
    match reason {
        Reason::RelatedZero => plan.scaled(58),
        _ => usual_count(rows),
    }
}

fn usual_count(rows: u64) -> u64 {
    (rows / ROWS_PER_DIRT).max(if rows >= ROWS_FOR_DIRT_MIN {
        DIRT_MIN
    } else {
        1
    })
}

fn spelled(name: &str, spelling: u64) -> String {
    match spelling {
        2 => format!("\"{name}\""),
        3 => name.to_uppercase(),
        4 => snake_case(name),
        _ => name.to_owned(),
    }
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
