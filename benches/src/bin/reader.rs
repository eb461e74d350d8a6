//! What the loader's own side of a load costs: reading, repairing, checking against ids and encoding, without Postgres, by
//! file; time, and allocations.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use benches::allocations::{Counting, allocations};
use benches::loading::Workplace;
use benches::report::keep;
use benches::verdict::Verdicts;
use clap::Parser;
use etl::copy::Encoder;
use etl::dataset::{DataSet, Sources};
use etl::progress::Progress;
use etl::rows::{self, Sink, State};
use etl::sums::Addend;

/// As much as the loader sends at once.
const BLOCK_BYTES: usize = 512 << 10;
/// Allocations for a hundred rows at most: the sets of ids grow, and refused rows are told of. A row has 3 to 12 fields.
const ALLOCATIONS_MAX: f64 = 1.0;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Parser)]
struct Arguments {
    /// Products to generate; about 70 records come with each.
    #[arg(long, default_value_t = 50_000)]
    products: u64,
    /// Where the files are kept meanwhile.
    #[arg(long, default_value = "/var/tmp")]
    work: PathBuf,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Encodes rows into one block, again and again.
#[derive(Default)]
struct Block {
    encoder: Encoder,
}

impl Sink for Block {
    fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn take(&mut self, _: Option<Addend>) -> etl::Result<ControlFlow<()>> {
        if self.encoder.block().len() >= BLOCK_BYTES {
            self.encoder.clear();
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let place = Workplace::below(&arguments.work)?;
    let (csv, _) = place.generate("csv", arguments.products, 1)?;
    let mut verdicts = Verdicts::default();
    let mut text = String::from(
        "| file | rows | rows/s | MB/s | allocations for a hundred rows |\n|---|---:|---:|---:|---:|\n",
    );
    let mut state = State::default();
    for file in DataSet::find(&Sources::folder(csv))?.files {
        let (name, release) = (file.name.clone(), file.table.release);
        let step = Progress::silent().bytes(&name, file.bytes);
        let mut sink = Block::default();
        let (before, began) = (allocations(), Instant::now());
        let outcome = rows::read_file(file, state, &mut sink, &step)?;
        let (seconds, made) = (began.elapsed().as_secs_f64(), allocations() - before);
        let rows = outcome.tally.counts().rows;
        let of_hundred = made as f64 * 100.0 / rows as f64;
        writeln!(
            text,
            "| {name} | {rows} | {:.0} | {:.0} | {of_hundred:.3} |",
            rows as f64 / seconds,
            outcome.bytes as f64 / 1e6 / seconds
        )?;
        verdicts.check(
            format_args!("{name}: no allocation for a row"),
            rows > 0 && of_hundred <= ALLOCATIONS_MAX,
            format_args!("{made} for {rows} rows"),
        );
        state = outcome.state;
        release(&mut state.ids);
    }
    println!("{text}");
    if let Some(dir) = arguments.keep {
        let summary = format!("{text}\n{}", verdicts.text());
        let dir = keep(&dir, &[("summary.md", summary.as_str())])?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}
