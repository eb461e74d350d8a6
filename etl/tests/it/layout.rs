//! Rows that are read together lie together, in whatever order the files bring them.

use std::{
    fs,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use etl::{
    clean::{self, CleanOptions},
    dataset::Sources,
    load::{self, LoadOptions},
    progress::Progress,
    report::LoadReport,
    tables::TABLES,
};
use stack::TestCluster;
use tempfile::TempDir;

use crate::{
    generated::generate,
    merge::{REVIEWS, line_ends_outside_quotes, merge},
    support::{Shop, collect, options},
    verify::verify,
};

/// The same rows without their dirt, so that each line end outside of quotes ends one.
pub(crate) fn cleaned(csv: &Path) -> TempDir {
    let out = TempDir::new().unwrap();
    clean::run(&CleanOptions {
        sources: Sources::folder(csv),
        out: out.path().to_owned(),
        rejects: None,
        max_rejects: None,
        progress: Progress::silent(),
    })
    .unwrap();
    out
}

/// The same files with their rows mixed up.
pub(crate) fn shuffled(csv: &Path) -> TempDir {
    let out = TempDir::new().unwrap();
    for table in &TABLES {
        let text = fs::read_to_string(csv.join(table.files[0])).unwrap();
        let (header, rows) = text.split_once('\n').unwrap();
        let ends = line_ends_outside_quotes(rows);
        let mut lines: Vec<&str> = ends.windows(2).map(|at| &rows[at[0]..at[1]]).collect();
        let mut number = 0_u64;
        lines.sort_by_cached_key(|_| {
            number += 1;
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        fs::write(
            out.path().join(table.files[0]),
            format!("{header}\n{}", lines.concat()),
        )
        .unwrap();
    }
    out
}

async fn load_as_of_2020(shop: &Shop, csv: &Path) -> LoadReport {
    let options = LoadOptions {
        loaded_at: Some(UNIX_EPOCH + Duration::from_secs(1_577_836_800)),
        ..options(csv)
    };
    load::run(&shop.url, &options).await.unwrap()
}

/// Products whose rows do not lie on pages one behind the other.
async fn torn(shop: &Shop, table: &str) -> Vec<String> {
    let query = format!(
        "select product_id
           from (select product_id, (ctid::text::point)[0]::integer as page from {table}) as rows
          group by product_id
         having max(page) - min(page) + 1 > count(distinct page)"
    );
    shop.rows(&query).await
}

#[tokio::test]
async fn rows_of_one_product_lie_next_to_each_other_however_the_files_are_mixed_up() {
    let (dirty, _) = generate(400, 101);
    let ordered = cleaned(dirty.path());
    let mixed = shuffled(ordered.path());
    // What VACUUM may mark as seen by all depends on the snapshots of all databases of the server.
    let cluster = TestCluster::start();
    let from_ordered = Shop::apart(&cluster).await;
    let from_mixed = Shop::apart(&cluster).await;
    let report = load_as_of_2020(&from_ordered, ordered.path()).await;
    // Answers do not stand in the order of their questions; all other files stand in that of products.
    let rewritten = |report: &LoadReport| -> Vec<String> {
        let files = report.files.values().filter(|file| file.rewritten);
        files.map(|file| file.table.clone()).collect()
    };
    assert_eq!(rewritten(&report), ["answers", "answer_photos"]);
    assert_eq!(report.files["reviews.csv"].out_of_order, 0);

    let report = load_as_of_2020(&from_mixed, mixed.path()).await;
    assert_eq!(rewritten(&report).len(), TABLES.len() - 1);
    assert!(!report.files["characteristic_reviews.csv"].rewritten);
    let reviews = &report.files["reviews.csv"];
    assert!(
        reviews.out_of_order > reviews.counts.loaded / 2,
        "{reviews:?}"
    );
    let text = report.to_text();
    assert!(text.contains("put in order: reviews ("), "{text}");

    for table in TABLES.iter().filter(|table| table.order.is_some()) {
        if table.name != "products" {
            for shop in [&from_ordered, &from_mixed] {
                assert_eq!(torn(shop, table.name).await, [""; 0], "{}", table.name);
            }
        }
        let (name, order) = (table.name, table.row_order());
        let backwards = format!(
            "select this from (select ({order}) as this, lag(({order})) over (order by ctid) as before from {name}) as rows
              where this < before"
        );
        assert_eq!(from_mixed.rows(&backwards).await, [""; 0], "{name}");
    }
    assert_eq!(from_mixed.checksum().await, from_ordered.checksum().await);
    assert_eq!(verify(&from_mixed, mixed.path()).await.differences, [""; 0]);
    // What was written anew is all else that it was: options, indexes, and seen by all.
    for catalogue in [
        "select relname, relkind, reloptions, relhasindex from pg_class where relnamespace = 'shop'::regnamespace order by 1",
        "select relname, relallvisible < relpages from pg_class where relnamespace = 'shop'::regnamespace and relkind = 'r' order by 1",
    ] {
        assert_eq!(
            from_mixed.rows(catalogue).await,
            from_ordered.rows(catalogue).await
        );
    }
}

#[tokio::test]
async fn rows_that_are_merged_lie_in_the_order_of_their_products() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("base", &[], dir.path());
    shop.load(dir.path()).await.unwrap();
    let mut text = REVIEWS.to_owned();
    for id in 1000..1300 {
        let product = 1 + id % 3;
        text.push_str(&format!(
            "{id},{product},2,1600000000000,\"x\",\"new\",true,false,\"n\",\"e\",null,0\n"
        ));
    }
    let more = TempDir::new().unwrap();
    fs::write(more.path().join("reviews.csv"), text).unwrap();
    let report = merge(&shop, more.path()).await.unwrap();
    assert_eq!(report.files["reviews.csv"].counts.loaded, 300);
    let turns = "select count(*)
                   from (select product_id, lag(product_id) over (order by ctid) as before
                           from reviews where id >= 1000) as rows
                  where product_id <> before";
    assert_eq!(shop.rows(turns).await, ["(2)"]);
}
