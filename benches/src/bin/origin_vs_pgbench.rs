//! One origin beside pgbench, in turn within one run: the same statements over the same random products. Each round
//! begins with the other one, so that neither always finds what its peer has left behind.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use benches::dice::Dice;
use benches::load::{self, Load, Measured};
use benches::origin_process::Origin;
use benches::pgbench::{self, Pgbench};
use benches::report::{Report, Round};
use benches::running::Running;
use benches::verdict::Verdicts;
use benches::{database, statement};
use clap::Parser;
use sqlx::PgConnection;

const ORIGIN: &str = "origin";
const PGBENCH: &str = "pgbench";
/// More requests than one round can send: products are as random for us as they are for pgbench, and none is asked for
/// again because the list is at its end.
const READS_PER_SECOND: u64 = 60_000;
const WRITES_PER_SECOND: u64 = 10_000;
/// Products that get reviews: many, so that few writers wait for the same row of counts.
const WRITTEN_PRODUCTS: i64 = 1_024;
/// Texts of usual length; none has a colon before a letter, which pgbench would take for a variable.
const SUMMARY: &str = "A measured review of usual length";
const BODY: &str = "It fits as the table of sizes says, the colour is that of the picture, and after a month of use \
                    nothing has come off. Delivery took two days. Would buy it again, and have told two friends.";
const PHOTO: &str = "https://photos.example.com/reviews/measured.jpg";

#[derive(Parser)]
struct Arguments {
    /// A system that runs already: the file of its `stack up --endpoints`; else one is started.
    #[arg(long)]
    endpoints: Option<PathBuf>,
    /// Products of a system that is started.
    #[arg(long, default_value_t = 10_000)]
    products: u64,
    /// Clients of the origin, and connections of pgbench.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Seconds a round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of each contender.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these scenes: reviews, meta, write.
    #[arg(long, value_delimiter = ',', default_values = ["reviews", "meta", "write"])]
    scenes: Vec<String>,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// More arguments for the measured `origin run`.
    #[arg(last = true)]
    origin: Vec<OsString>,
}

/// One thing to measure on both sides.
struct Scene {
    name: &'static str,
    /// Our rate as a share of pgbench's.
    aim: f64,
    /// Requests that are drawn for each second of a round.
    per_second: u64,
    script: String,
    request: Draw,
}

/// A request with ids drawn at random.
type Draw = Box<dyn Fn(&mut Dice) -> Vec<u8>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let running =
        Running::existing_or_up(arguments.endpoints.as_deref(), arguments.products).await?;
    let mut conn = database::connect(running.owner_url()?).await?;
    let scenes = scenes(&mut conn, &arguments.scenes).await?;
    let logs = tempfile::tempdir()?;
    let log = logs.path().join("origin.log");
    let origin = Origin::start(running.database_url()?, &log, &arguments.origin)?;
    let pgbench = |seconds| Pgbench {
        database_url: running.database_url().unwrap_or_default(),
        connections: arguments.connections,
        duration: Duration::from_secs(seconds),
    };
    let load = |scene: &Scene, seconds: u64, seed: u64| {
        let mut dice = Dice::new(seed);
        let requests = (0..seconds * scene.per_second).map(|_| (scene.request)(&mut dice));
        Load {
            address: origin.public,
            requests: Arc::new(requests.collect()),
            connections: arguments.connections,
            duration: Duration::from_secs(seconds),
        }
    };
    let mut report = Report::default();
    for scene in &scenes {
        let warm = load::run(&load(scene, 1, 0)).await?;
        ensure!(warm.failures == 0, "{} bad answers", warm.failures);
        pgbench(1).run(scene.name, &scene.script, 0)?;
        for round in 1..=arguments.rounds {
            let load = load(scene, arguments.seconds, u64::from(round));
            for contender in order(round) {
                report.add(match contender {
                    ORIGIN => Round::of(ORIGIN, scene.name, &drawn_once(&load).await?),
                    _ => pgbench(arguments.seconds).run(scene.name, &scene.script, round)?,
                });
            }
        }
    }
    println!("\n{}", report.summary(PGBENCH));
    let mut verdicts = Verdicts::default();
    for scene in &scenes {
        judge(scene, &report, &mut verdicts)?;
    }
    if scenes.iter().any(|scene| scene.name == "write") {
        check_written(&mut conn, &report, arguments.seconds, &mut verdicts).await?;
    }
    if let Some(dir) = arguments.keep {
        println!("kept in {}", report.keep(&dir, PGBENCH)?.display());
    }
    Ok(verdicts.exit_code())
}

/// Runs a load of which no connection comes into the requests of the next one.
async fn drawn_once(load: &Load) -> Result<Measured> {
    let measured = load::run(load).await?;
    let drawn = load.requests.len() as u64;
    ensure!(
        measured.answers < drawn / 10 * 9,
        "{} answers to {drawn} requests: too few were drawn",
        measured.answers
    );
    Ok(measured)
}

/// Who goes first in a round, and who second.
fn order(round: u32) -> [&'static str; 2] {
    if round % 2 == 1 {
        [ORIGIN, PGBENCH]
    } else {
        [PGBENCH, ORIGIN]
    }
}

fn judge(scene: &Scene, report: &Report, verdicts: &mut Verdicts) -> Result<()> {
    let rate = |contender| report.median_rate(contender, scene.name);
    let ratio = rate(ORIGIN).context("no rounds")? / rate(PGBENCH).context("no rounds")?;
    verdicts.check(
        format_args!("{} at {} of pgbench's rate or more", scene.name, scene.aim),
        ratio >= scene.aim,
        format_args!("{ratio:.2}"),
    );
    Ok(())
}

async fn scenes(conn: &mut PgConnection, names: &[String]) -> Result<Vec<Scene>> {
    let last = database::last_product(conn).await?;
    let product = format!("\\set product random(1, {last})\n");
    let mut scenes = vec![
        Scene {
            name: "reviews",
            aim: 0.65,
            per_second: READS_PER_SECOND,
            script: format!(
                "{product}\\set count 5\n\\set skip 0\n{};\n",
                statement::inline(
                    statement::text("reviews.list_relevant")?,
                    &[":product", ":count", ":skip"]
                )?
            ),
            request: Box::new(move |dice| {
                let product = dice.between(1, last);
                load::get(&format!("/reviews?product_id={product}"))
            }),
        },
        Scene {
            name: "meta",
            aim: 0.65,
            per_second: READS_PER_SECOND,
            script: format!(
                "{product}{};\n",
                statement::inline(statement::text("reviews.meta")?, &[":product"])?
            ),
            request: Box::new(move |dice| {
                let product = dice.between(1, last);
                load::get(&format!("/reviews/meta?product_id={product}"))
            }),
        },
        write_scene(conn).await?,
    ];
    scenes.retain(|scene| names.iter().any(|name| name == scene.name));
    ensure!(!scenes.is_empty(), "no such scenes: {names:?}");
    Ok(scenes)
}

/// A review with a photo and four votes. pgbench has no null variables, so its Idempotency-Key is the literal null: its
/// plan is a little shorter than ours.
async fn write_scene(conn: &mut PgConnection) -> Result<Scene> {
    let products = database::products_with_four(conn, WRITTEN_PRODUCTS).await?;
    ensure!(
        products.len() >= 16,
        "too few products with four characteristics"
    );
    let (ids, firsts): (Vec<i32>, Vec<i32>) = products.iter().copied().unzip();
    let expressions = [
        "null",
        "null",
        "null",
        ":product",
        ":rating",
        &format!("'{SUMMARY} {PGBENCH}'"),
        &format!("'{BODY}'"),
        "true",
        "'measured'",
        "'measured@example.com'",
        &format!("array['{PHOTO}']"),
        "array[:first::int4, :first::int4 + 1, :first::int4 + 2, :first::int4 + 3]",
        "'{3,4,5,4}'",
    ];
    let script = format!(
        "\\set place random(1, {})\n\\set product {}\n\\set first {}\n\\set rating random(1, 5)\n{};\n",
        ids.len(),
        pgbench::lookup("place", &ids),
        pgbench::lookup("place", &firsts),
        statement::inline(statement::text("reviews.create")?, &expressions)?
    );
    Ok(Scene {
        name: "write",
        aim: 0.6,
        per_second: WRITES_PER_SECOND,
        script,
        request: Box::new(move |dice| {
            let (product, first) = dice.pick(&products).copied().unwrap_or_default();
            let rating = dice.between(1, 5);
            let (second, third, fourth) = (first + 1, first + 2, first + 3);
            load::post(
                "/reviews",
                &format!(
                    "{{\"product_id\":{product},\"rating\":{rating},\"summary\":\"{SUMMARY} {ORIGIN}\",\"body\":\"{BODY}\",\
                     \"recommend\":true,\"name\":\"measured\",\"email\":\"measured@example.com\",\"photos\":[\"{PHOTO}\"],\
                     \"characteristics\":{{\"{first}\":3,\"{second}\":4,\"{third}\":5,\"{fourth}\":4}}}}"
                ),
            )
        }),
    })
}

/// Both sides have really written: there are at least as many rows, with photos and votes, as answers.
async fn check_written(
    conn: &mut PgConnection,
    report: &Report,
    seconds: u64,
    verdicts: &mut Verdicts,
) -> Result<()> {
    for contender in [ORIGIN, PGBENCH] {
        let sql = "select count(*),
                          count(*) filter (where (select count(*) from shop.characteristic_reviews v where v.review_id = r.id) = 4
                                             and exists (select from shop.review_photos h where h.review_id = r.id))
                     from shop.reviews r
                    where r.summary = $1";
        let (rows, whole): (i64, i64) = sqlx::query_as(sql)
            .bind(format!("{SUMMARY} {contender}"))
            .fetch_one(&mut *conn)
            .await?;
        let answers = report.total_rate(contender, "write") * seconds as f64;
        // A round ends a little after its time, and pgbench's rate is without that of connecting.
        verdicts.check(
            format_args!("{contender} wrote what it said it wrote, with photos and votes"),
            rows == whole && rows as f64 >= 0.95 * answers,
            format_args!("{rows} rows, {whole} whole, about {answers:.0} answers"),
        );
    }
    Ok(())
}
