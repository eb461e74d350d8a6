//! One hand-written case for each row of the contract's table of refusals. File, line, byte offset,
//! reason and raw bytes of each refused row stand in the `rejects.csv` of the case, the columns in `first_rejected.txt`.

use std::{fs, io::Write as _};

use etl::load::{self, LoadOptions};
use tempfile::TempDir;

use crate::support::{Case, Shop, collect, options};

const CLEAN: &[(&str, u64)] = &[];

#[tokio::test]
async fn urls_that_cannot_be_used_are_refused() {
    let base = [
        "product.csv",
        "styles.csv",
        "reviews.csv",
        "questions.csv",
        "answers.csv",
    ];
    let case = Case::load("bad_url", &base).await;
    case.counts(&[
        ("photos.csv", 5, CLEAN, &[("bad_url", 4)]),
        ("reviews_photos.csv", 5, CLEAN, &[("bad_url", 3)]),
        ("answers_photos.csv", 4, CLEAN, &[("bad_url", 3)]),
    ])
    .stores("select id, url from photos", &["(3,https://a.example/3)"])
    .await
    .stores(
        "select id, product_id, url from review_photos order by id",
        &[
            "(3,1,https://a.example/3)",
            "(5,2,\"data:image/png;base64,AAAA\")",
        ],
    )
    .await
    .stores(
        "select id, question_id, product_id, url from answer_photos",
        &["(3,2,2,http://a.example/3)"],
    )
    .await;
}

#[tokio::test]
async fn prices_that_cannot_be_read_are_refused() {
    let case = Case::load("bad_price", &[]).await;
    case.counts(&[
        ("product.csv", 6, CLEAN, &[("bad_price", 5)]),
        ("styles.csv", 7, CLEAN, &[("bad_price", 6)]),
    ])
    .stores("select id, default_price from products", &["(3,40.00)"])
    .await
    .stores(
        "select id, sale_price, original_price from styles",
        &["(4,12.00,5000000.00)"],
    )
    .await;
}

#[tokio::test]
async fn booleans_that_cannot_be_read_are_refused() {
    let case = Case::load("bad_boolean", &["product.csv"]).await;
    case.counts(&[
        ("styles.csv", 2, CLEAN, &[("bad_boolean", 1)]),
        ("reviews.csv", 3, CLEAN, &[("bad_boolean", 2)]),
        ("questions.csv", 2, CLEAN, &[("bad_boolean", 1)]),
        ("answers.csv", 2, CLEAN, &[("bad_boolean", 1)]),
    ])
    .stores("select id from reviews", &["(3)"])
    .await;
}

#[tokio::test]
async fn dates_that_cannot_be_read_are_refused() {
    let case = Case::load("bad_date", &["product.csv"]).await;
    case.counts(&[
        ("reviews.csv", 3, CLEAN, &[("bad_date", 2)]),
        ("questions.csv", 2, CLEAN, &[("bad_date", 1)]),
        ("answers.csv", 2, CLEAN, &[("bad_date", 1)]),
    ])
    .stores("select id from reviews", &["(3)"])
    .await;
}

#[tokio::test]
async fn integers_that_are_none_or_too_large_or_too_small_are_refused() {
    let case = Case::load("bad_integer", &["product.csv", "styles.csv"]).await;
    case.counts(&[
        ("skus.csv", 9, CLEAN, &[("bad_integer", 8)]),
        ("reviews.csv", 4, CLEAN, &[("bad_integer", 3)]),
    ])
    .stores(
        "select id, quantity from skus",
        &["(2147483647,2147483647)"],
    )
    .await
    .stores("select id, helpfulness from reviews", &["(4,0)"])
    .await;
}

#[tokio::test]
async fn ratings_and_votes_outside_1_to_5_are_refused() {
    let case = Case::load("out_of_range", &["product.csv", "characteristics.csv"]).await;
    case.counts(&[
        ("reviews.csv", 4, CLEAN, &[("out_of_range", 2)]),
        ("characteristic_reviews.csv", 5, CLEAN, &[("out_of_range", 3)]),
    ])
    .stores("select id, rating from reviews order by id", &["(3,1)", "(4,5)"])
    .await
    .stores("select id, product_id, value from characteristic_reviews order by id", &["(4,1,1)", "(5,1,5)"])
    .await
    .stores(
        "select ratings, characteristic_sums, characteristic_counts from review_meta where product_id = 1",
        &["(\"{1,0,0,0,1}\",{6},{2})"],
    )
    .await;
}

#[tokio::test]
async fn rows_with_too_many_or_too_few_columns_are_refused() {
    let case = Case::load("column_count", &["product.csv", "styles.csv"]).await;
    case.counts(&[
        ("features.csv", 4, CLEAN, &[("column_count", 3)]),
        ("photos.csv", 3, CLEAN, &[("column_count", 2)]),
        ("related.csv", 3, CLEAN, &[("column_count", 2)]),
    ])
    .stores(
        "select id, feature from features",
        &["(4,\"Fabric, very\")"],
    )
    .await;
}

#[tokio::test]
async fn a_quote_that_is_never_closed_costs_the_line_it_stands_in() {
    let case = Case::load("bad_quote", &["product.csv"]).await;
    case.counts(&[("features.csv", 4, CLEAN, &[("bad_quote", 1)])])
        .stores(
            "select id from features order by id",
            &["(1)", "(3)", "(4)"],
        )
        .await;
}

/// The same with a file that goes on for longer than a quoted field may.
#[tokio::test]
async fn a_quote_that_swallows_a_mebibyte_costs_the_line_it_stands_in() {
    const ROWS: usize = 80_000;
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("base", &[], dir.path());
    let mut file = fs::File::create(dir.path().join("related.csv")).unwrap();
    file.write_all(b"id,current_product_id,related_product_id\n1,\"1,2\n")
        .unwrap();
    for id in 0..ROWS {
        writeln!(file, "{},1,2", 1_000_000 + id).unwrap();
    }
    let rejects = dir.path().join("rejects.out");
    let options = LoadOptions {
        rejects: Some(rejects.clone()),
        ..options(dir.path())
    };
    let report = load::run(&shop.url, &options).await.unwrap();
    let counts = &report.files["related.csv"].counts;
    assert_eq!(
        (counts.rows, counts.loaded, counts.rejected["bad_quote"]),
        (ROWS as u64 + 1, ROWS as u64, 1)
    );
    let text = fs::read_to_string(rejects).unwrap();
    assert_eq!(
        text,
        "file,line,byte_offset,reason,raw\nrelated.csv,2,41,bad_quote,\"1,\"\"1,2\"\n"
    );
}

#[tokio::test]
async fn rows_that_are_not_utf8_are_refused_byte_for_byte() {
    let case = Case::load("invalid_utf8", &[]).await;
    case.counts(&[
        ("product.csv", 3, CLEAN, &[("invalid_utf8", 2)]),
        ("photos.csv", 1, CLEAN, &[("invalid_utf8", 1)]),
    ])
    .stores("select id, name from products", &["(2,Caf\u{e9})"])
    .await;
}

#[tokio::test]
async fn of_rows_with_the_same_id_the_first_that_can_be_loaded_stays() {
    let case = Case::load("duplicate_id", &[]).await;
    case.counts(&[
        (
            "product.csv",
            4,
            CLEAN,
            &[("bad_price", 1), ("duplicate_id", 1)],
        ),
        ("features.csv", 3, CLEAN, &[("duplicate_id", 1)]),
        ("styles.csv", 2, CLEAN, &[("duplicate_id", 1)]),
    ])
    .stores(
        "select id, name from products order by id",
        &["(1,first)", "(2,stays)"],
    )
    .await
    .stores(
        "select id, value from features order by id",
        &["(3,Canvas)", "(7,first)"],
    )
    .await
    .stores("select id, product_id from styles", &["(1,1)"])
    .await;
}

#[tokio::test]
async fn a_related_product_of_0_is_refused() {
    let case = Case::load("related_zero", &["product.csv"]).await;
    case.counts(&[(
        "related.csv",
        3,
        CLEAN,
        &[("bad_integer", 1), ("related_zero", 1)],
    )])
    .stores(
        "select id, related_id, related_exists from related",
        &["(2,2,t)"],
    )
    .await;
}

#[tokio::test]
async fn rows_of_parents_that_were_not_loaded_are_refused_all_the_way_down() {
    let case = Case::load("dangling_parent", &[]).await;
    let one: &[(&str, u64)] = &[("dangling_parent", 1)];
    let two: &[(&str, u64)] = &[("dangling_parent", 2)];
    case.counts(&[
        ("product.csv", 2, CLEAN, &[("bad_price", 1)]),
        ("features.csv", 2, CLEAN, one),
        ("styles.csv", 2, CLEAN, one),
        ("skus.csv", 3, CLEAN, two),
        ("photos.csv", 2, CLEAN, one),
        ("related.csv", 2, CLEAN, one),
        ("characteristics.csv", 2, CLEAN, one),
        ("reviews.csv", 2, CLEAN, one),
        ("characteristic_reviews.csv", 3, CLEAN, two),
        ("reviews_photos.csv", 2, CLEAN, one),
        ("questions.csv", 2, CLEAN, one),
        ("answers.csv", 2, CLEAN, one),
        ("answers_photos.csv", 2, CLEAN, one),
    ])
    // The related product was refused, and that is no reason to refuse the row.
    .stores(
        "select product_id, related_id, related_exists from related",
        &["(1,2,f)"],
    )
    .await;
}

#[tokio::test]
async fn reviews_and_questions_need_no_products_while_none_are_loaded() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    for file in [
        "reviews.csv",
        "characteristics.csv",
        "questions.csv",
        "answers.csv",
    ] {
        collect("base", &[], dir.path());
        assert!(dir.path().join(file).exists());
    }
    for file in ["product.csv", "styles.csv"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    fs::write(
        dir.path().join("features.csv"),
        "id,product_id,feature,value\n1,1,\"Fabric\",\"Canvas\"\n",
    )
    .unwrap();
    let report = shop.load(dir.path()).await.unwrap();
    assert_eq!(
        report.missing.first().map(String::as_str),
        Some("product.csv")
    );
    assert_eq!(report.files["reviews.csv"].counts.loaded, 2);
    assert_eq!(report.files["characteristics.csv"].counts.loaded, 2);
    assert_eq!(report.files["answers.csv"].counts.loaded, 2);
    assert_eq!(
        report.files["features.csv"].counts.rejected["dangling_parent"],
        1
    );
}

#[tokio::test]
async fn a_header_of_another_kind_fails_the_file_and_the_load() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("base", &[], dir.path());
    shop.load(dir.path()).await.unwrap();
    let before = shop.checksum().await;
    fs::write(dir.path().join("styles.csv"), "id,name\n1,A\n").unwrap();
    let error = shop.load(dir.path()).await.unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(
        error.to_string().starts_with(
            "styles.csv:1: column productId: bad_header: should be id,productId,name,"
        ),
        "{error}"
    );
    assert_eq!(shop.checksum().await, before);
}
