//! Rows added to what is live.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, UNIX_EPOCH},
};

use etl::{
    Result,
    dataset::Sources,
    load::{self, LoadOptions, Mode},
    progress::Progress,
    report::LoadReport,
    verify::{self, VerifyOptions},
};
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::{
    command::{etl, stderr},
    generated::generate,
    support::{Shop, collect, options},
};

pub(crate) async fn merge(shop: &Shop, csv: &Path) -> Result<LoadReport> {
    let options = LoadOptions {
        mode: Mode::Merge,
        ..options(csv)
    };
    load::run(&shop.url, &options).await
}

/// Files that are empty but for their header, and those given.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

pub(crate) const REVIEWS: &str = "id,product_id,rating,date,summary,body,recommend,reported,reviewer_name,reviewer_email,response,helpfulness\n";

async fn loaded_base() -> Shop {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("base", &[], dir.path());
    shop.load(dir.path()).await.unwrap();
    shop
}

#[tokio::test]
async fn parts_that_are_merged_are_the_whole() {
    let (dir, _) = generate(60, 51);
    let clean = TempDir::new().unwrap();
    etl::clean::run(&etl::clean::CleanOptions {
        sources: Sources::folder(dir.path()),
        out: clean.path().to_owned(),
        rejects: None,
        max_rejects: None,
        progress: Progress::silent(),
    })
    .unwrap();
    // First most of the parents, then all else: it has live parents, and new ones.
    let parts = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let parents = [
        "product.csv",
        "styles.csv",
        "reviews.csv",
        "characteristics.csv",
    ];
    for entry in fs::read_dir(clean.path()).unwrap() {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let (header, rows) = text.split_once('\n').unwrap();
        let ends = line_ends_outside_quotes(rows);
        let is_parent = parents.iter().any(|name| entry.file_name() == *name);
        let at = ends[if is_parent { ends.len() * 3 / 4 } else { 0 }];
        for (part, rows) in parts.iter().zip([&rows[..at], &rows[at..]]) {
            let path = part.path().join(entry.file_name());
            fs::write(&path, format!("{header}\n{rows}")).unwrap();
        }
    }
    let loaded_at = Some(UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    let (whole, merged) = (Shop::new(), Shop::new());
    let load = |csv: &Path, mode| LoadOptions {
        mode,
        loaded_at,
        ..options(csv)
    };
    load::run(&whole.url, &load(dir.path(), Mode::Replace))
        .await
        .unwrap();
    for part in &parts {
        // A review without its product is refused in no part: products come first.
        let report = load::run(&merged.url, &load(part.path(), Mode::Merge)).await;
        assert!(report.unwrap().loaded > 0);
    }
    let options = VerifyOptions {
        sources: Sources::folder(dir.path()),
        loaded_at,
        progress: Progress::silent(),
    };
    let report = verify::run(&merged.url, &options).await.unwrap();
    // A style whose product comes in the second part is refused in the first; nothing else differs.
    let missing: Vec<&String> = report
        .differences
        .iter()
        .filter(|text| !text.contains("rows in the file"))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // A third time with all of it: what was refused then finds its parents now.
    load::run(&merged.url, &load(dir.path(), Mode::Merge))
        .await
        .unwrap();
    assert_eq!(merged.checksum().await, whole.checksum().await);
    let report = verify::run(&merged.url, &options).await.unwrap();
    assert_eq!(report.differences, [""; 0]);
}

pub(crate) fn line_ends_outside_quotes(rows: &str) -> Vec<usize> {
    let mut is_quoted = false;
    let mut ends = vec![0];
    for (at, byte) in rows.bytes().enumerate() {
        is_quoted ^= byte == b'"';
        if byte == b'\n' && !is_quoted {
            ends.push(at + 1);
        }
    }
    ends
}

#[tokio::test]
async fn an_id_that_is_live_keeps_its_row_and_the_other_is_accounted_for() {
    let shop = loaded_base().await;
    let before = shop.rows("select * from reviews order by id").await;
    let rows = format!(
        "{REVIEWS}1,1,1,1600000000000,\"x\",\"other\",true,false,\"n\",\"e\",null,0\n\
         900,1,2,1600000000000,\"x\",\"new\",true,false,\"n\",\"e\",null,0\n\
         900,1,2,1600000000000,\"x\",\"twice\",true,false,\"n\",\"e\",null,0\n\
         901,7777,2,1600000000000,\"x\",\"orphan\",true,false,\"n\",\"e\",null,0\n"
    );
    let photos =
        "id,review_id,url\n800,900,\"https://a.example/new\"\n801,1,\"https://a.example/old\"\n";
    let dir = folder(&[("reviews.csv", &rows), ("reviews_photos.csv", photos)]);
    let report = merge(&shop, dir.path()).await.unwrap();
    let counts = &report.files["reviews.csv"].counts;
    assert_eq!((counts.rows, counts.loaded), (4, 1));
    for reason in ["live_id", "duplicate_id", "dangling_parent"] {
        assert_eq!(counts.rejected[reason], 1, "{reason}");
    }
    assert_eq!(
        shop.rows("select * from reviews where id < 900 order by id")
            .await,
        before
    );
    assert_eq!(
        shop.rows("select id, review_id, product_id from review_photos order by id")
            .await,
        ["(800,900,1)", "(801,1,1)"]
    );
    // Once more: all of it is there already.
    let checksum = shop.checksum().await;
    let report = merge(&shop, dir.path()).await.unwrap();
    assert_eq!((report.rows, report.loaded, report.rejected), (6, 0, 6));
    assert_eq!(shop.checksum().await, checksum);
    let new = "insert into shop.reviews (product_id, rating, date, summary, body, recommend, reported, reviewer_name, reviewer_email, helpfulness)
               values (1, 5, now(), '', '', true, false, '', '', 0)";
    shop.execute(new).await;
    assert_eq!(shop.rows("select max(id) from reviews").await, ["(901)"]);
}

#[tokio::test]
async fn only_the_groups_that_were_touched_are_told() {
    let shop = loaded_base().await;
    let told = shop.outbox().await.len();
    let rows =
        format!("{REVIEWS}900,2,2,1600000000000,\"x\",\"new\",true,false,\"n\",\"e\",null,0\n");
    let dir = folder(&[("reviews.csv", &rows)]);
    merge(&shop, dir.path()).await.unwrap();
    assert_eq!(
        shop.outbox().await[told..],
        ["(\"{product-2-meta,product-2-reviews}\")"]
    );
    // Counts follow, and only those of the product.
    assert_eq!(
        shop.rows("select ratings[2], recommended_true from review_meta where product_id = 2").await,
        shop.rows("select count(*) filter (where rating = 2), count(*) filter (where recommend) from reviews where product_id = 2").await
    );
    assert_eq!(
        shop.rows("select nspname from pg_namespace where nspname like 'shop%'")
            .await,
        ["(shop)"]
    );
}

#[tokio::test]
async fn a_product_that_comes_to_be_tells_those_that_name_it() {
    let shop = loaded_base().await;
    shop.execute("insert into shop.related (product_id, related_id) values (1, 5000)")
        .await;
    assert_eq!(
        shop.rows("select related_exists from related where related_id = 5000")
            .await,
        ["(f)"]
    );
    let told = shop.outbox().await.len();
    let dir = folder(&[(
        "product.csv",
        "id,name,slogan,description,category,default_price\n5000,\"P\",\"s\",\"d\",\"c\",9\n",
    )]);
    merge(&shop, dir.path()).await.unwrap();
    assert_eq!(
        shop.rows("select related_exists from related where related_id = 5000")
            .await,
        ["(t)"]
    );
    assert_eq!(
        shop.outbox().await[told..],
        ["(\"{product-1,product-5000,product-ids,products}\")"]
    );
    // What others changed before is still there for a load to lose; what was added is not.
    let error = shop.load(dir.path()).await.unwrap_err();
    assert!(error.exit_code() == 3 || error.exit_code() == 8, "{error}");
}

#[tokio::test]
async fn changes_before_a_merge_still_keep_a_load_from_losing_them() {
    let shop = loaded_base().await;
    shop.execute("update shop.reviews set helpfulness = 5 where id = 1")
        .await;
    let rows =
        format!("{REVIEWS}900,2,2,1600000000000,\"x\",\"new\",true,false,\"n\",\"e\",null,0\n");
    let dir = folder(&[("reviews.csv", &rows)]);
    merge(&shop, dir.path()).await.unwrap();
    let base = TempDir::new().unwrap();
    collect("base", &[], base.path());
    let error = shop.load(base.path()).await.unwrap_err();
    assert_eq!(error.exit_code(), 8);
    assert!(error.to_string().starts_with("1 changes"), "{error}");
}

#[tokio::test]
async fn refused_rows_can_be_mended_and_added() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("bad_price", &[], dir.path());
    let out = TempDir::new().unwrap();
    let rejects = out.path().join("rejects.csv");
    let first = LoadOptions {
        rejects: Some(rejects.clone()),
        ..options(dir.path())
    };
    let first = load::run(&shop.url, &first).await.unwrap();
    let mended = out.path().join("mended");
    let output = etl(&["split", "--out", mended.to_str().unwrap(), "--rejects"])
        .arg(&rejects)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    // As they are they are refused again, for the same reasons.
    let again = merge(&shop, &mended).await.unwrap();
    assert_eq!((again.loaded, again.rejected), (0, first.rejected));
    let products = mended.join("product.csv");
    let text = fs::read_to_string(&products).unwrap();
    let lines: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(at, line)| match at {
            0 => line.to_owned(),
            _ => format!("{},1", line.rsplit_once(',').unwrap().0),
        })
        .collect();
    fs::write(&products, lines.join("\n")).unwrap();
    let after = merge(&shop, &mended).await.unwrap();
    let counts = &after.files["product.csv"].counts;
    assert_eq!((counts.loaded, counts.rejected()), (5, 0));
    assert_eq!(shop.rows("select count(*) from products").await, ["(6)"]);
}

/// Polls a query until its only row is this one.
async fn wait_until(shop: &Shop, query: &str, row: &str) {
    let waiting = async {
        while shop.rows(query).await != [row] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("never {row}: {query}"));
}

#[tokio::test]
async fn a_merge_that_is_killed_before_its_commit_adds_nothing_and_can_be_run_again() {
    let (base, (dir, _)) = (TempDir::new().unwrap(), generate(40, 57));
    collect("base", &[], base.path());
    let (shop, undisturbed) = (Shop::new(), Shop::new());
    for shop in [&shop, &undisturbed] {
        shop.load(base.path()).await.unwrap();
    }
    merge(&undisturbed, dir.path()).await.unwrap();
    let rows = "select (select count(*) from products), (select count(*) from reviews), (select count(*) from answers)";
    let before = shop.rows(rows).await;
    // The last of the tables cannot be written to: the rows of all others are in by then.
    let mut other = shop.connect().await;
    let mut locking = other.begin().await.unwrap();
    sqlx::raw_sql("lock table shop.answer_photos in share mode")
        .execute(&mut *locking)
        .await
        .unwrap();
    let csv = dir.path().to_str().unwrap();
    let mut load = etl(&["load", "--mode", "merge", "--csv", csv]);
    load.args(["--database-url", &shop.url])
        .stdout(Stdio::null());
    let mut child = load.stderr(Stdio::null()).spawn().unwrap();
    let waits = "select count(*) from pg_locks where not granted and relation = 'shop.answer_photos'::regclass";
    wait_until(&shop, waits, "(1)").await;
    child.kill().unwrap();
    child.wait().unwrap();
    locking.rollback().await.unwrap();
    assert_eq!(shop.rows(rows).await, before);
    // At once: the server may not have noticed yet.
    merge(&shop, dir.path()).await.unwrap();
    assert_eq!(shop.checksum().await, undisturbed.checksum().await);
}
