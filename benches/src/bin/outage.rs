//! Postgres gone, and Postgres hanging, under load through the gateway: who is still answered, how fast the others are
//! refused, and how soon all is well again.
//!
//! Gone: `pg_ctl stop -m immediate` in effect, the server started again after the outage. Hangs: SIGSTOP to all its
//! processes, SIGCONT after it; connections stay open and nothing answers. Origins and gateway are never touched.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use benches::outage::{self, Fault, KINDS, Load, PRODUCTS_MIN};
use benches::report::keep;
use benches::shop::Shop;
use benches::timeline;
use benches::verdict::Verdicts;
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// What happens to Postgres.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Fault::Gone, Fault::Hangs])]
    faults: Vec<Fault>,
    /// How long it lasts.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Requests a second: of ten, eight ask for cached pages, one for an uncached one, one writes.
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// Products to generate.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(PRODUCTS_MIN..))]
    products: u64,
    /// Origins behind the gateway.
    #[arg(long, default_value_t = 2)]
    origins: usize,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut shop = Shop::up(arguments.products, arguments.origins)?;
    let mut verdicts = Verdicts::default();
    let (mut summary, mut raws) = (String::new(), Vec::new());
    for (number, fault) in arguments.faults.iter().enumerate() {
        println!("\nPostgres {fault:?} for {} s", arguments.seconds);
        let load = Load::prepare(&shop, format!("outage-{number}"))?;
        let outage = Duration::from_secs(arguments.seconds);
        let run = outage::run(&shop, &load, *fault, arguments.rate, outage)?;
        let marks = [
            (run.broken, "broken".to_owned()),
            (run.mended, "mended".to_owned()),
            (run.back, "takes connections".to_owned()),
        ];
        let table = timeline::table(&run.outcomes, &KINDS, &marks);
        println!("{table}");
        outage::judge(&run, &load, *fault, &mut verdicts);
        outage::judge_writes(&shop, &run, &load, &mut verdicts)?;
        verdicts.check(
            "nothing was restarted",
            shop.all_run(),
            "gateway and origins are the processes that were started first",
        );
        let _ = writeln!(
            summary,
            "## Postgres {fault:?} for {} s\n\n{table}",
            arguments.seconds
        );
        raws.push((
            format!("raw-{number}-{fault:?}.csv").to_lowercase(),
            timeline::raw(&run.outcomes, &KINDS),
        ));
    }
    if let Some(dir) = &arguments.keep {
        summary.push_str(&verdicts.text());
        let mut files = vec![("summary.md", summary.as_str())];
        files.extend(raws.iter().map(|(name, raw)| (name.as_str(), raw.as_str())));
        println!("kept in {}", keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}
