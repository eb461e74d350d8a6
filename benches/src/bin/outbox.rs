//! What does the outbox cost? The origin's own statement with it and without it, and plain SQL with its triggers and
//! without them, in turn within one run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use benches::database;
use benches::pgbench::{self, Pgbench};
use benches::report::{Report, Round};
use benches::running::Running;
use benches::statement;
use benches::verdict::Verdicts;
use clap::Parser;
use sqlx::{AssertSqlSafe, PgConnection};

const WITH: &str = "with outbox";
const WITHOUT: &str = "without";
const UNMARKED: &str = "without, unmarked";
/// The origin's own write keeps at least this share of its rate.
const SHARE: f64 = 0.85;
const WRITTEN_PRODUCTS: i64 = 1_024;
/// The mark, which keeps the triggers of derived rows from what the statement does itself, and what stands for it.
const MARK: (&str, &str) = ("select coherence.mark() as mark", "select ''::text as mark");
/// The parts of the origin's statement that make the outbox, and what does as much as is needed without it.
const PARTS: [(&str, &str); 2] = [
    ("coherence.token()", "''::text"),
    (
        "insert into coherence.outbox (slot, groups)
  select rotation.slot, created.groups
    from created, coherence.rotation",
        "select created.groups from created",
    ),
];

#[derive(Parser)]
struct Arguments {
    /// A system that runs already: the file of its `stack up --endpoints`; else one is started.
    #[arg(long)]
    endpoints: Option<PathBuf>,
    /// Products of a system that is started.
    #[arg(long, default_value_t = 10_000)]
    products: u64,
    /// Connections at once.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Seconds a round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of each.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// One write, as it is and without the outbox.
struct Scene {
    name: &'static str,
    with: String,
    without: String,
    /// Without its mark too, where it has one: the triggers of derived rows must then be off.
    unmarked: Option<String>,
    /// The share of its rate that it must keep, where that is an aim.
    aim: Option<f64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let running =
        Running::existing_or_up(arguments.endpoints.as_deref(), arguments.products).await?;
    let mut conn = database::connect(running.owner_url()?).await?;
    let scenes = scenes(&mut conn).await?;
    let pgbench = |seconds| Pgbench {
        database_url: running.owner_url().unwrap_or_default(),
        connections: arguments.connections,
        duration: Duration::from_secs(seconds),
    };
    let mut report = Report::default();
    for scene in &scenes {
        pgbench(1).run(scene.name, &scene.with, 0)?;
        for round in 1..=arguments.rounds {
            let with = pgbench(arguments.seconds).run(scene.name, &scene.with, round)?;
            add(&mut report, WITH, with);
            let others = [
                (WITHOUT, Some(&scene.without)),
                (UNMARKED, scene.unmarked.as_ref()),
            ];
            for (contender, script) in others {
                let Some(script) = script else { continue };
                // The triggers too: they would tell what the statement does not.
                let is_marked = contender == WITHOUT;
                switch_triggers(&mut conn, is_marked, false).await?;
                let figures = pgbench(arguments.seconds).run(scene.name, script, round);
                switch_triggers(&mut conn, is_marked, true).await?;
                add(&mut report, contender, figures?);
            }
        }
    }
    println!("\n{}", report.summary(WITHOUT));
    let mut verdicts = Verdicts::default();
    for scene in &scenes {
        let rate = |contender| report.median_rate(contender, scene.name);
        let share = rate(WITH).context("no rounds")? / rate(WITHOUT).context("no rounds")?;
        let aim = scene.aim.unwrap_or_default();
        verdicts.check(
            format_args!("{} keeps {aim} of its rate or more", scene.name),
            share >= aim,
            format_args!("{share:.2}"),
        );
    }
    let missing: i64 = sqlx::query_scalar("select count(*) from coherence.missing_triggers()")
        .fetch_one(&mut conn)
        .await?;
    ensure!(missing == 0, "{missing} triggers are not back in place");
    if let Some(dir) = arguments.keep {
        println!("kept in {}", report.keep(&dir, WITHOUT)?.display());
    }
    Ok(verdicts.exit_code())
}

fn add(report: &mut Report, contender: &str, mut figures: Round) {
    contender.clone_into(&mut figures.contender);
    report.add(figures);
}

async fn scenes(conn: &mut PgConnection) -> Result<Vec<Scene>> {
    let products = database::products_with_four(conn, WRITTEN_PRODUCTS).await?;
    ensure!(
        products.len() >= 16,
        "too few products with four characteristics"
    );
    let (ids, firsts): (Vec<i32>, Vec<i32>) = products.iter().copied().unzip();
    let places = format!(
        "\\set place random(1, {})\n\\set product {}\n\\set first {}\n\\set rating random(1, 5)\n",
        ids.len(),
        pgbench::lookup("place", &ids),
        pgbench::lookup("place", &firsts),
    );
    let insert = format!(
        "{places}insert into shop.reviews (product_id, rating, date, summary, body, recommend, reported, reviewer_name, \
         reviewer_email, helpfulness) values (:product, :rating, now(), '', 'Measured.', true, false, 'm', 'm', 0);\n"
    );
    let reviews = database::last_review(conn).await?;
    let vote = format!(
        "\\set review random(1, {reviews})\n\
         update shop.reviews set helpfulness = helpfulness + 1 where id = :review;\n"
    );
    let plain = |name, sql: String| Scene {
        name,
        with: sql.clone(),
        without: sql,
        unmarked: None,
        aim: None,
    };
    Ok(vec![
        own_write(&places)?,
        plain("SQL update", vote),
        plain("SQL insert", insert),
    ])
}

/// The origin's write of a review with a photo and four votes.
fn own_write(places: &str) -> Result<Scene> {
    let create = statement::text("reviews.create")?;
    let expressions = [
        "null",
        "null",
        "null",
        ":product",
        ":rating",
        "'A measured review of usual length'",
        "'It fits as the table of sizes says, and after a month of use nothing has come off.'",
        "true",
        "'measured'",
        "'measured@example.com'",
        "array['https://photos.example.com/reviews/measured.jpg']",
        "array[:first::int4, :first::int4 + 1, :first::int4 + 2, :first::int4 + 3]",
        "'{3,4,5,4}'",
    ];
    let script = |sql: &str| -> Result<String> {
        Ok(format!(
            "{places}{};\n",
            statement::inline(sql, &expressions)?
        ))
    };
    let mut without = create.to_owned();
    for (part, other) in PARTS {
        ensure!(
            without.contains(part),
            "the origin's statement has no part {part}"
        );
        without = without.replace(part, other);
    }
    let (mark, other) = MARK;
    ensure!(without.contains(mark), "the origin's statement has no mark");
    let unmarked = without.replace(mark, other);
    Ok(Scene {
        name: "POST review",
        with: script(create)?,
        without: script(&without)?,
        unmarked: Some(script(&unmarked)?),
        aim: Some(SHARE),
    })
}

/// Disables the triggers of the outbox on the tables that are written to, or enables them as they were; with those of derived
/// rows, if what is written has no mark.
async fn switch_triggers(conn: &mut PgConnection, is_marked: bool, is_on: bool) -> Result<()> {
    let mut alters = Vec::new();
    for table in ["reviews", "review_photos", "review_meta"] {
        for operation in ["insert", "update"] {
            let how = if is_on { "enable always" } else { "disable" };
            alters.push(format!("shop.{table} {how} trigger coherence_{operation}"));
        }
    }
    if !is_marked {
        for (table, trigger) in [
            ("reviews", "keep_review_meta"),
            ("characteristic_reviews", "keep_review_meta"),
            ("reviews", "keep_ranks"),
        ] {
            let how = if is_on { "enable" } else { "disable" };
            alters.push(format!("shop.{table} {how} trigger {trigger}"));
        }
    }
    for alter in alters {
        sqlx::raw_sql(AssertSqlSafe(format!("alter table {alter}")))
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
