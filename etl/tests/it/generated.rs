//! Generated data: what was planted is what is reported.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use etl::{
    generate::{self, GenerateOptions},
    progress::Progress,
    report::{FileCounts, Planted},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::Shop;

pub(crate) fn generate(products: u64, seed: u64) -> (TempDir, Planted) {
    let dir = TempDir::new().unwrap();
    let out = dir.path().to_owned();
    let options = GenerateOptions {
        out,
        products,
        rows: Vec::new(),
        seed,
        progress: Progress::silent(),
    };
    let planted = generate::run(&options).unwrap();
    (dir, planted)
}

async fn assert_found_as_planted(products: u64, seed: u64) {
    let (dir, planted) = generate(products, seed);
    let shop = Shop::new();
    let report = shop.load(dir.path()).await.unwrap();
    let found: BTreeMap<String, FileCounts> = report
        .files
        .into_iter()
        .map(|(name, file)| (name, file.counts))
        .collect();
    for (name, counts) in &planted.files {
        assert_eq!(
            found[name], *counts,
            "{name} of {products} products, seed {seed}"
        );
    }
    assert_eq!(found.len(), planted.files.len());
    let written: Planted = serde_json::from_slice(&read(dir.path(), "planted.json")).unwrap();
    assert_eq!(written, planted);
}

/// SHA-256 over all files of a folder by name: of each its name, its length and its bytes.
fn digest(dir: &Path) -> String {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut hash = Sha256::new();
    for name in names {
        let bytes = read(dir, &name);
        hash.update(&name);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(&bytes);
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// Whoever changes what is generated changes the digest too, and the figures that were taken with the
/// files before are those of other files.
#[test]
fn the_same_seed_gives_the_same_bytes_on_every_machine() {
    let (dir, _) = generate(30, 5);
    assert_eq!(
        digest(dir.path()),
        "de1776636366f4f16d5f3695270850ff44a7304a2de31e77548e97eb7be4612f"
    );
}

fn read(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(name)).unwrap()
}

#[tokio::test]
async fn a_few_products_are_reported_as_planted() {
    for (products, seed) in [(1, 1), (4, 2), (10, 3), (10, 4)] {
        assert_found_as_planted(products, seed).await;
    }
}

#[tokio::test]
async fn hundreds_of_products_are_reported_as_planted() {
    for (products, seed) in [(100, 5), (333, u64::MAX)] {
        assert_found_as_planted(products, seed).await;
    }
}

/// A hundredth of the full size.
#[tokio::test]
async fn ten_thousand_products_are_reported_as_planted() {
    assert_found_as_planted(10_000, 6).await;
}

#[tokio::test]
async fn derived_columns_and_rows_agree_with_their_parents() {
    let (dir, _) = generate(150, 7);
    let shop = Shop::new();
    shop.load(dir.path()).await.unwrap();
    let disagreements = [
        "select run from product_counts c
          where count <> (select count(*) from products where id / 1024 = c.run)",
        "select id from skus k where product_id <> (select product_id from styles where id = k.style_id)",
        "select id from photos f where product_id <> (select product_id from styles where id = f.style_id)",
        "select id from related r where related_exists <> exists (select from products where id = r.related_id)",
        "select id from review_photos f where product_id <> (select product_id from reviews where id = f.review_id)",
        "select id from characteristic_reviews v where product_id <> (select product_id from reviews where id = v.review_id)",
        "select id from answers a where product_id <> (select product_id from questions where id = a.question_id)",
        "select id from answer_photos f where (question_id, product_id) <>
                (select question_id, product_id from answers where id = f.answer_id)",
        "select product_id from review_meta m where recommended_true <>
                (select count(*) from reviews where product_id = m.product_id and recommend)",
        "select product_id from review_meta m where ratings[5] <>
                (select count(*) from reviews where product_id = m.product_id and rating = 5)",
        "select product_id from review_meta m where (select sum(s) from unnest(characteristic_sums) as s) <>
                (select sum(value) from characteristic_reviews v join characteristics c on c.id = v.characteristic_id
                  where c.product_id = m.product_id)",
    ];
    for query in disagreements {
        assert_eq!(shop.rows(query).await, [""; 0], "{query}");
    }
}
