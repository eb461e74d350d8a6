//! SIGKILL at random moments under writes: what was acknowledged is there once, what was refused is not.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use benches::client::Client;
use benches::dice::Dice;
use benches::paced::{becomes_true, sleep_until};
use benches::report::keep;
use benches::shop::Shop;
use benches::verdict::Verdicts;
use benches::writers::{Audit, Ledger, Writer, review};
use clap::{Parser, ValueEnum};

/// Reviews whose votes each client counts.
const VOTED_EACH: usize = 20;
/// Repeats of one request with one Idempotency-Key.
const REPEATS: usize = 100;
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Between the end of one recovery and the next kill, in milliseconds.
const PAUSE_MS: (u32, u32) = (100, 1_500);
/// How long what was killed stays dead, in milliseconds.
const DEAD_MS: (u32, u32) = (0, 300);

#[derive(Parser)]
struct Arguments {
    /// What is killed.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Target::Postgres, Target::Origin, Target::Gateway])]
    targets: Vec<Target>,
    /// How often each is killed.
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// Clients that write.
    #[arg(long, default_value_t = 8)]
    writers: usize,
    /// Products to generate.
    #[arg(long, default_value_t = 2_000)]
    products: u64,
    /// Which moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Sessions and server.
    Postgres,
    /// One origin of two, in turn.
    Origin,
    Gateway,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut shop = Shop::up(arguments.products, 2)?;
    let mut verdicts = Verdicts::default();
    let mut fates = String::from("target,token,fate\n");
    for (number, target) in arguments.targets.iter().enumerate() {
        println!("\n{target:?} killed {} times", arguments.kills);
        let voted =
            shop.query("select id, helpfulness from shop.reviews order by id limit 1000")?;
        let before = numbers(&voted)?;
        let ledger = run(&arguments, &mut shop, *target, number as u64)?;
        for (token, fate) in &ledger.tokens {
            fates += &format!("{target:?},{token},{fate:?}\n");
        }
        judge_reviews(&shop, &ledger, *target, number as u64, &mut verdicts)?;
        judge_votes(&shop, &ledger, &before, *target, &mut verdicts)?;
    }
    judge_counts(&shop, &mut verdicts)?;
    judge_repeats(&shop, &mut verdicts)?;
    if let Some(dir) = &arguments.keep {
        let summary = verdicts.text();
        let dir = keep(dir, &[("fates.csv", &fates), ("summary.md", &summary)])?;
        println!("kept in {}", dir.display());
    }
    Ok(verdicts.exit_code())
}

fn numbers(rows: &[Vec<String>]) -> Result<BTreeMap<i32, u64>> {
    rows.iter()
        .map(|row| Ok((row[0].parse()?, row[1].parse()?)))
        .collect()
}

/// Clients write, and something is killed again and again, until it was killed often enough.
fn run(arguments: &Arguments, shop: &mut Shop, target: Target, number: u64) -> Result<Ledger> {
    let rows = shop.query("select id from shop.reviews order by id limit 1000")?;
    let ids = rows
        .iter()
        .map(|row| Ok(row[0].parse()?))
        .collect::<Result<Vec<i32>>>()?;
    let writers: Vec<Writer> = ids
        .chunks(VOTED_EACH)
        .take(arguments.writers)
        .zip(0..)
        .map(|(voted, place)| Writer {
            number: number * 1_000 + place,
            address: shop.address,
            products: 1..=500,
            voted: voted.to_vec(),
            log: shop.dir().join(format!("fates-{number}-{place}.csv")),
        })
        .collect();
    ensure!(writers.len() == arguments.writers, "too few reviews");
    let stop = AtomicBool::new(false);
    let mut dice = Dice::new(arguments.seed + number);
    thread::scope(|scope| {
        let running: Vec<_> = writers
            .iter()
            .map(|writer| scope.spawn(|| writer.run(&stop)))
            .collect();
        let killed = (1..=arguments.kills).try_for_each(|kill| {
            pause(&mut dice, PAUSE_MS);
            kill_once(shop, target, kill, &mut dice)
                .with_context(|| format!("kill {kill} of {target:?}"))
        });
        // The last kill is followed by good answers too.
        pause(&mut dice, PAUSE_MS);
        stop.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::default();
        for writer in running {
            let of_one = writer.join().map_err(|_| anyhow!("a writer panicked"))??;
            ledger.merge(of_one);
        }
        killed.map(|()| ledger)
    })
}

fn pause(dice: &mut Dice, (min, max): (u32, u32)) {
    let pause = Duration::from_millis(dice.between(min, max).into());
    sleep_until(Instant::now() + pause);
}

fn kill_once(shop: &mut Shop, target: Target, kill: u32, dice: &mut Dice) -> Result<()> {
    match target {
        Target::Postgres => {
            shop.kill_postgres()?;
            pause(dice, DEAD_MS);
            shop.cluster.start()
        }
        Target::Origin => {
            let place = kill as usize % shop.origins.len();
            let origin = &mut shop.origins[place];
            origin.program.kill9()?;
            pause(dice, DEAD_MS);
            origin.program.restart()?;
            origin.wait_until_ready()
        }
        Target::Gateway => {
            shop.gateway.kill9()?;
            pause(dice, DEAD_MS);
            shop.gateway.restart()?;
            shop.wait_for_gateway()
        }
    }
}

fn judge_reviews(
    shop: &Shop,
    ledger: &Ledger,
    target: Target,
    number: u64,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let sql = "select summary, count(*) from shop.reviews where summary like 'token-%' group by 1";
    let mut rows = HashMap::new();
    for row in shop.query(sql)? {
        let writer = row[0].split('-').nth(1).context("a token has a writer")?;
        if writer.parse::<u64>()? / 1_000 == number {
            rows.insert(row[0].clone(), row[1].parse()?);
        }
    }
    let audit = Audit::of(&ledger.tokens, rows);
    verdicts.check(
        format_args!("{target:?}: acknowledged reviews are there, once; refused ones are not"),
        audit.is_clean() && audit.acknowledged > 0,
        format_args!(
            "{audit:?}, {} requests sent again with their key",
            ledger.repeats
        ),
    );
    Ok(())
}

fn judge_votes(
    shop: &Shop,
    ledger: &Ledger,
    before: &BTreeMap<i32, u64>,
    target: Target,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let after =
        numbers(&shop.query("select id, helpfulness from shop.reviews order by id limit 1000")?)?;
    let (mut acknowledged, mut unknown, mut wrong) = (0, 0, 0);
    for (review, (ok, open)) in &ledger.votes {
        let grown = after[review] - before[review];
        acknowledged += ok;
        unknown += open;
        wrong += u64::from(grown < *ok || grown > ok + open);
    }
    verdicts.check(
        format_args!("{target:?}: votes are those acknowledged, and some of those of unknown fate"),
        wrong == 0 && acknowledged > 0,
        format_args!("{acknowledged} acknowledged, {unknown} unknown, {wrong} counters wrong"),
    );
    Ok(())
}

/// What is counted of reviews is what there is: a write is whole or not at all.
fn judge_counts(shop: &Shop, verdicts: &mut Verdicts) -> Result<()> {
    let sql = "select count(*), count(*) filter (where m.recommended_false + m.recommended_true <> r.reviews
                                                    or (select sum(n) from unnest(m.ratings) n) <> r.reviews)
                 from (select product_id, count(*) as reviews from shop.reviews group by 1) r
                 left join shop.review_meta m using (product_id)";
    let rows = shop.query(sql)?;
    let wrong: u64 = rows[0][1].parse()?;
    let photos = "select count(*) from shop.reviews r where r.summary like 'token-%'
                     and (select count(*) from shop.review_photos h where h.review_id = r.id) <> 1";
    let halves: u64 = shop.query(photos)?[0][0].parse()?;
    verdicts.check(
        "writes are whole: reviews, their photos, and what is counted of them",
        wrong == 0 && halves == 0,
        format_args!(
            "{wrong} of {} products counted wrong, {halves} reviews without their photo",
            rows[0][0]
        ),
    );
    Ok(())
}

/// One request with one Idempotency-Key, many times at once: one row.
fn judge_repeats(shop: &Shop, verdicts: &mut Verdicts) -> Result<()> {
    let request = review(1, "repeated", "Idempotency-Key: repeated\r\n");
    let other = review(1, "another", "Idempotency-Key: repeated\r\n");
    let statuses: Vec<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..REPEATS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::new(shop.address, ANSWER_LIMIT);
                    let reply = client.exchange(&request);
                    reply.map_or(0, |reply| reply.status)
                })
            })
            .collect();
        let join = |client: thread::ScopedJoinHandle<'_, u16>| client.join().unwrap_or_default();
        clients.into_iter().map(join).collect()
    });
    let mut client = Client::new(shop.address, ANSWER_LIMIT);
    let mut status = |request: &[u8]| client.exchange(request).map_or(0, |reply| reply.status);
    let replayed = becomes_true(ANSWER_LIMIT, || status(&request) == 201);
    let refused = status(&other);
    let rows = shop.query("select count(*) from shop.reviews where summary = 'repeated'")?;
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    let (created, running, unavailable) = (count(201), count(409), count(503));
    verdicts.check(
        format_args!("{REPEATS} repeats at once make one row"),
        rows[0][0] == "1"
            && replayed
            && refused == 422
            && created > 0
            && created + running + unavailable == REPEATS,
        format_args!(
            "{} rows; {created} answered 201, {running} 409, {unavailable} 503; another body {refused}",
            rows[0][0]
        ),
    );
    Ok(())
}
