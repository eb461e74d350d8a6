//! Buffers and time of every statement of a request at the size of the loaded data, without the origin. Writes are
//! rolled back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use benches::dice::Dice;
use benches::explain::{Prepared, Touched};
use benches::report::{keep, or_dash, quantile};
use benches::running::Running;
use benches::verdict::Verdicts;
use benches::writes::{Last, WRITES, Write};
use benches::{database, statement};
use clap::{Parser, ValueEnum};
use sqlx::PgConnection;

/// From this many products on an index has the depth for which the aims are made.
const FULL_SIZE: u32 = 1_000_000;
/// Pages have the default size.
const PAGE: i64 = 5;
/// The pages of the catalogue are measured this often each.
const REPEATS: usize = 50;
/// Any page of the catalogue: the counts of the runs of ids, and one walk through the key's index.
const CATALOGUE_AIM: u64 = 20;
/// The fattest are measured on so many; each read takes others of them, so that none has read for another.
const FATTEST: usize = 2;

#[derive(Parser)]
struct Arguments {
    /// The database, as its owner.
    #[arg(long, required_unless_present = "endpoints")]
    owner_url: Option<String>,
    /// Or the system that it belongs to: the file of its `stack up --endpoints`.
    #[arg(long, conflicts_with = "owner_url")]
    endpoints: Option<PathBuf>,
    /// Random products to measure, and as many of the last tenth.
    #[arg(long, default_value_t = 200)]
    products: usize,
    /// Whether a median above its aim is a failure.
    #[arg(long, value_enum, default_value_t = Aims::FullSize)]
    aims: Aims,
    /// Which random products.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Aims {
    /// Only at the full size.
    FullSize,
    On,
    Off,
}

/// A statement and the buffers that it may touch, in the median, for each set: random, fattest, last tenth.
struct Read {
    label: &'static str,
    statement: &'static str,
    /// The one that the origin runs for the fattest, if that is another.
    ranked: Option<&'static str>,
    aims: [u64; 3],
    /// The fattest have the most rows of this table.
    of: &'static str,
    subject: Subject,
}

/// What the first argument is, and of what the fattest have most.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// A product, alone.
    Product,
    /// A product, before the size and the start of a page of reviews or questions.
    ProductPage,
    /// A question, before the size and the start of a page of answers.
    QuestionPage,
}

const SETS: [&str; 3] = ["random", "fattest", "last tenth"];

const READS: [Read; 9] = [
    read(
        "product",
        "products.get",
        [8; 3],
        "features",
        Subject::Product,
    ),
    read(
        "styles",
        "products.styles",
        [16; 3],
        "skus",
        Subject::Product,
    ),
    read(
        "related",
        "products.related",
        [8; 3],
        "related",
        Subject::Product,
    ),
    ranked(
        "reviews, relevant",
        ["reviews.list_relevant", "reviews.list_ranked_relevant"],
        [8, 52, 8],
        "reviews",
    ),
    ranked(
        "reviews, newest",
        ["reviews.list_newest", "reviews.list_ranked_newest"],
        [8, 52, 8],
        "reviews",
    ),
    ranked(
        "reviews, helpful",
        ["reviews.list_helpful", "reviews.list_ranked_helpful"],
        [8, 52, 8],
        "reviews",
    ),
    read("meta", "reviews.meta", [4; 3], "reviews", Subject::Product),
    ranked(
        "questions",
        ["questions.list", "questions.list_ranked"],
        [16, 80, 16],
        "questions",
    ),
    // A question's answers are sorted whole: the largest has 3,486.
    read(
        "answers",
        "answers.list",
        [12, 200, 12],
        "answers",
        Subject::QuestionPage,
    ),
];

const fn read(
    label: &'static str,
    statement: &'static str,
    aims: [u64; 3],
    of: &'static str,
    subject: Subject,
) -> Read {
    Read {
        label,
        statement,
        ranked: None,
        aims,
        of,
        subject,
    }
}

const fn ranked(
    label: &'static str,
    statements: [&'static str; 2],
    aims: [u64; 3],
    of: &'static str,
) -> Read {
    Read {
        label,
        statement: statements[0],
        ranked: Some(statements[1]),
        aims,
        of,
        subject: Subject::ProductPage,
    }
}

/// The ids that reads are measured on, of which no two reads get the same.
struct Ids {
    dice: Dice,
    last: Last,
    /// By table.
    fattest: BTreeMap<&'static str, Vec<i32>>,
}

impl Ids {
    async fn new(conn: &mut PgConnection, seed: u64) -> Result<Self> {
        let mut fattest = BTreeMap::new();
        for read in &READS {
            let ids = match read.subject {
                Subject::QuestionPage => database::fattest_questions(conn, FATTEST).await?,
                _ if fattest.contains_key(read.of) => continue,
                _ => database::fattest_products(conn, read.of, FATTEST * READS.len()).await?,
            };
            fattest.insert(read.of, ids);
        }
        Ok(Self {
            dice: Dice::new(seed),
            last: database::last_ids(conn).await?,
            fattest,
        })
    }

    fn take(&mut self, set: &str, read: &Read, count: usize) -> Vec<i32> {
        let last = match read.subject {
            Subject::QuestionPage => self.last.question,
            Subject::Product | Subject::ProductPage => self.last.product,
        };
        let min = match set {
            "fattest" => {
                let fattest = self.fattest.get_mut(read.of);
                return fattest.map_or_else(Vec::new, |ids| {
                    ids.drain(..FATTEST.min(ids.len())).collect()
                });
            }
            "last tenth" => last - last / 10,
            _ => 1,
        };
        (0..count)
            .map(|_| self.dice.between(min, last).cast_signed())
            .collect()
    }
}

/// The executions of one statement for one set.
struct Measured {
    read: &'static str,
    set: &'static str,
    aim: Option<u64>,
    /// The first argument, the first execution for it, and the second one.
    executions: Vec<(i64, Touched, Touched)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let owner_url = match (&arguments.owner_url, &arguments.endpoints) {
        (Some(url), _) => url.clone(),
        (None, Some(file)) => Running::existing(file)?.owner_url()?.to_owned(),
        (None, None) => bail!("neither --owner-url nor --endpoints"),
    };
    let mut conn = database::connect(&owner_url).await?;
    let mut ids = Ids::new(&mut conn, arguments.seed).await?;
    let last = ids.last.product;
    let mut measured = Vec::new();
    for read in &READS {
        for (set, aim) in SETS.into_iter().zip(read.aims) {
            let ids = ids.take(set, read, arguments.products);
            ensure!(!ids.is_empty(), "nothing to read: {set}");
            measured.push(measure_read(&mut conn, read, set, aim, &ids).await?);
        }
    }
    measured.extend(measure_catalogue(&mut conn, i64::from(last)).await?);
    for write in &WRITES {
        measured.push(measure_write(&mut conn, write, &mut ids, arguments.products).await?);
    }
    let table = table(&measured);
    println!("{last} products\n\n{table}");
    let mut verdicts = Verdicts::default();
    let has_aims = match arguments.aims {
        Aims::On => true,
        Aims::Off => false,
        Aims::FullSize => last >= FULL_SIZE,
    };
    if has_aims {
        judge(&measured, &mut verdicts);
    }
    if let Some(dir) = &arguments.keep {
        let raw = raw(&measured);
        let summary = format!("{last} products\n\n{table}\n{}", verdicts.text());
        let dir = keep(dir, &[("raw.csv", &raw), ("summary.md", &summary)])?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}

async fn measure_read(
    conn: &mut PgConnection,
    read: &Read,
    set: &'static str,
    aim: u64,
    ids: &[i32],
) -> Result<Measured> {
    let ranked = read.ranked.filter(|_| set == "fattest");
    let statement = statement::text(ranked.unwrap_or(read.statement))?;
    let prepared = Prepared::new(conn, statement).await?;
    let arguments = |id: i32| match read.subject {
        Subject::Product => vec![i64::from(id)],
        Subject::ProductPage | Subject::QuestionPage => vec![i64::from(id), PAGE, 0],
    };
    // The session learns about the tables; what belongs to no product is not counted.
    prepared.explain(conn, &arguments(0)).await?;
    let mut executions = Vec::with_capacity(ids.len());
    for id in ids {
        let first = prepared.explain(conn, &arguments(*id)).await?;
        let warm = prepared.explain(conn, &arguments(*id)).await?;
        executions.push((i64::from(*id), first, warm));
    }
    Ok(Measured {
        read: read.label,
        set,
        aim: Some(aim),
        executions,
    })
}

/// The first, a deep and the last page of the catalogue: a deep one should cost what the first one costs.
async fn measure_catalogue(conn: &mut PgConnection, last: i64) -> Result<Vec<Measured>> {
    let prepared = Prepared::new(conn, statement::text("products.list")?).await?;
    let count: i64 = sqlx::query_scalar("select sum(count) from shop.product_counts")
        .fetch_one(&mut *conn)
        .await?;
    prepared.explain(conn, &[PAGE, last * 2]).await?;
    let mut measured = Vec::new();
    for (set, offset) in [
        ("first page", 0),
        ("deep page", count / 2),
        ("last page", (count - 1) / PAGE * PAGE),
    ] {
        let first = prepared.explain(conn, &[PAGE, offset]).await?;
        let mut executions = Vec::new();
        for _ in 0..REPEATS {
            let warm = prepared.explain(conn, &[PAGE, offset]).await?;
            executions.push((offset, first, warm));
        }
        measured.push(Measured {
            read: "products",
            set,
            aim: Some(CATALOGUE_AIM),
            executions,
        });
    }
    Ok(measured)
}

/// Each execution has ids of its own: what a write changes, it changes once.
async fn measure_write(
    conn: &mut PgConnection,
    write: &Write,
    ids: &mut Ids,
    count: usize,
) -> Result<Measured> {
    let prepared = Prepared::new(conn, statement::text(write.statement)?).await?;
    let last = ids.last;
    let mut executions = Vec::with_capacity(count);
    for number in 0..=count {
        let arguments = write.draw(&mut ids.dice, last, false);
        let first = prepared.write(conn, &arguments).await?;
        let warm = prepared.write(conn, &arguments).await?;
        // With the first one the session learns about the tables.
        if number > 0 {
            executions.push((number as i64, first, warm));
        }
    }
    Ok(Measured {
        read: write.label,
        set: "random",
        aim: None,
        executions,
    })
}

impl Measured {
    fn quantile(&self, at: f64, figure: impl Fn(&(i64, Touched, Touched)) -> f64) -> Option<f64> {
        let figures: Vec<f64> = self.executions.iter().map(figure).collect();
        quantile(&figures, at)
    }

    fn warm_median(&self) -> Option<f64> {
        self.quantile(0.5, |(.., warm)| warm.buffers() as f64)
    }
}

fn table(measured: &[Measured]) -> String {
    let mut table = String::from(
        "| statement of | for | executions | buffers warm, median | max | aim of the median | buffers at first touch, median | of them from outside, median | max | median ms | p99 ms |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for one in measured {
        let whole = |figure: Option<f64>| or_dash(figure.map(|figure| format!("{figure:.0}")));
        let ms = |at| {
            let figure = one.quantile(at, |(.., warm)| warm.ms);
            or_dash(figure.map(|ms| format!("{ms:.3}")))
        };
        let outside = |at| one.quantile(at, |(_, first, _)| first.read as f64);
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            one.read,
            one.set,
            one.executions.len(),
            whole(one.warm_median()),
            whole(one.quantile(1.0, |(.., warm)| warm.buffers() as f64)),
            or_dash(one.aim),
            whole(one.quantile(0.5, |(_, first, _)| first.buffers() as f64)),
            whole(outside(0.5)),
            whole(outside(1.0)),
            ms(0.5),
            ms(0.99),
        );
    }
    table
}

fn judge(measured: &[Measured], verdicts: &mut Verdicts) {
    for one in measured {
        if let (Some(aim), Some(median)) = (one.aim, one.warm_median()) {
            verdicts.check(
                format_args!("{}, {}: at most {aim} buffers", one.read, one.set),
                median <= aim as f64,
                format_args!("median {median:.0}"),
            );
        }
    }
}

fn raw(measured: &[Measured]) -> String {
    let mut raw =
        String::from("read,set,id,first_hit,first_read,first_ms,warm_hit,warm_read,warm_ms\n");
    for one in measured {
        for (id, first, warm) in &one.executions {
            let _ = writeln!(
                raw,
                "\"{}\",{},{id},{},{},{},{},{},{}",
                one.read, one.set, first.hit, first.read, first.ms, warm.hit, warm.read, warm.ms
            );
        }
    }
    raw
}
