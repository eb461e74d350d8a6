//! A shop that was made by an earlier version.

use etl::{Error, schema};

use crate::{
    command::{etl, stderr},
    generated::generate,
    merge::merge,
    support::Shop,
    verify::verify,
};

/// Takes from the tables what they came to have later.
const AS_IT_WAS: &str = "
  drop table shop.review_ranks, shop.question_ranks, shop.ranked_products, shop.product_counts;
  drop trigger keep_ranks on shop.reviews;
  drop trigger keep_ranks on shop.questions;
  drop trigger keep_catalogue on shop.products;
  drop trigger clear_product_counts on shop.products;
  alter table shop.answer_photos drop column question_id cascade";

/// Runs `etl migrate` and gives what it told.
fn migrate(shop: &Shop) -> String {
    let output = etl(&["migrate", "--database-url", &shop.url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

#[tokio::test]
async fn a_shop_of_an_older_version_is_renewed_by_a_load_and_by_nothing_less() {
    let (dir, _) = generate(40, 111);
    let (shop, fresh) = (Shop::new(), Shop::new());
    shop.load(dir.path()).await.unwrap();
    fresh.load(dir.path()).await.unwrap();
    assert!(!migrate(&shop).contains("WARN"));

    shop.execute(AS_IT_WAS).await;
    let told = migrate(&shop);
    for text in ["of another version", "answer_photos", "etl load"] {
        assert!(told.contains(text), "{text} is not in {told}");
    }
    let reviews = shop.rows("select count(*), sum(id) from reviews").await;
    let error = merge(&shop, dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::Check(_)), "{error}");
    assert!(
        error.to_string().contains("answer_photos.question_id"),
        "{error}"
    );
    assert_eq!(
        shop.rows("select count(*), sum(id) from reviews").await,
        reviews
    );

    shop.load(dir.path()).await.unwrap();
    assert_eq!(shop.checksum().await, fresh.checksum().await);
    assert_eq!(verify(&shop, dir.path()).await.differences, [""; 0]);
    assert!(!migrate(&shop).contains("WARN"));
}

#[tokio::test]
async fn a_table_that_an_older_shop_lacks_may_be_missing_among_the_files_too() {
    let (dir, _) = generate(20, 112);
    let shop = Shop::new();
    shop.execute("drop table shop.answer_photos").await;
    schema::migrate(&shop.url).await.unwrap();
    std::fs::remove_file(dir.path().join("answers_photos.csv")).unwrap();
    let report = shop.load(dir.path()).await.unwrap();
    assert_eq!(report.missing, ["answers_photos.csv"]);
    assert_eq!(
        shop.rows("select count(*) from answer_photos").await,
        ["(0)"]
    );
}
