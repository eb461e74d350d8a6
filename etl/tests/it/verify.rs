//! Live tables against the files they are from.

use std::{fs, path::Path};

use etl::{
    dataset::Sources,
    progress::Progress,
    verify::{self, VerifyOptions, VerifyReport},
};

use crate::{
    command::{etl, stderr},
    generated::generate,
    support::{Shop, TABLES},
};

pub(crate) async fn verify(shop: &Shop, csv: &Path) -> VerifyReport {
    let options = VerifyOptions {
        sources: Sources::folder(csv),
        loaded_at: None,
        progress: Progress::silent(),
    };
    verify::run(&shop.url, &options).await.unwrap()
}

#[tokio::test]
async fn what_was_loaded_is_what_the_files_hold() {
    let (dir, planted) = generate(80, 41);
    let shop = Shop::new();
    shop.load(dir.path()).await.unwrap();
    let before = (shop.checksum().await, shop.outbox().await);
    let report = verify(&shop, dir.path()).await;
    assert_eq!(report.differences, [""; 0]);
    assert_eq!(report.tables.len(), TABLES.len() - 5);
    let rows: u64 = report.tables.iter().map(|(_, file, _)| file.rows).sum();
    assert_eq!(
        rows,
        planted.files.values().map(|file| file.loaded).sum::<u64>()
    );
    assert_eq!((shop.checksum().await, shop.outbox().await), before);
}

#[tokio::test]
async fn whatever_is_changed_is_noticed_and_named() {
    let (dir, _) = generate(20, 42);
    let shop = Shop::new();
    // Changes behind the back of every trigger, one after the other.
    let changes = [
        (
            "update shop.reviews set body = body || ' ' where id = 1",
            "reviews: as many rows",
        ),
        (
            "update shop.products set created_at = created_at + interval '1 ms' where id = 2",
            "products: as many rows",
        ),
        (
            "update shop.styles set original_price = original_price + 1 where id = 3",
            "styles: as many rows",
        ),
        ("delete from shop.skus where id = 5", "skus: "),
        (
            "insert into shop.features (product_id, feature) values (1, 'x')",
            "features: ",
        ),
        (
            "delete from shop.styles where id = 1",
            "skus_style_id_fkey: ",
        ),
        (
            "alter table shop.answers drop constraint answers_question_id_fkey",
            "11 references are there",
        ),
        (
            "alter sequence shop.questions_id_seq restart with 1",
            "questions: the next id is 1",
        ),
        (
            "update shop.review_meta set recommended_true = recommended_true + 1 where product_id = (select min(product_id) from shop.review_meta)",
            "review_meta: 1 rows",
        ),
        ("delete from shop.product_counts", "product_counts: 1 rows"),
        (
            "alter table shop.photos disable trigger coherence_update",
            "triggers are missing: shop.photos",
        ),
        (
            "drop index shop.reviews_product_id_idx",
            "the tables lack reviews_product_id_idx.product_id",
        ),
        (
            "alter table shop.skus drop constraint skus_pkey",
            "the tables lack skus_pkey.id",
        ),
    ];
    for (change, named) in changes {
        shop.load_over(dir.path()).await;
        shop.execute(&format!("set session_replication_role = replica; {change}"))
            .await;
        let report = verify(&shop, dir.path()).await;
        assert!(
            report
                .differences
                .iter()
                .any(|text| text.starts_with(named)),
            "{change}: {:?}",
            report.differences
        );
    }
}

#[tokio::test]
async fn the_exit_code_says_whether_they_are_equal() {
    let (dir, _) = generate(10, 43);
    let shop = Shop::new();
    shop.load(dir.path()).await.unwrap();
    let run = || {
        etl(&["verify", "--csv", dir.path().to_str().unwrap()])
            .args(["--database-url", &shop.url])
            .output()
            .unwrap()
    };
    let output = run();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("0 differences"));
    let path = dir.path().join("related.csv");
    let mut text = fs::read(&path).unwrap();
    text.extend(b"\n999999,1,2\n");
    fs::write(&path, text).unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(9), "{}", stderr(&output));
    assert!(stderr(&output).contains("related: "), "{}", stderr(&output));
    fs::remove_file(path).unwrap();
    let output = run();
    assert!(stderr(&output).contains("related: live rows, and no file"));
}
