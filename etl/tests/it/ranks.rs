//! The ranks of popular products follow from a load, whatever its mode.

use std::fs;

use etl::{
    generate::{self, GenerateOptions},
    load::{self, LoadOptions, Mode},
    progress::Progress,
};
use tempfile::TempDir;

use crate::{
    support::{Shop, options},
    verify::verify,
};

/// Rows of ranks that are missing, wrong or too many; and products with enough reviews that are not ranked.
const WRONG: &str = "
  (select r.date, r.id, r.product_id, r.helpfulness, r.reported
     from reviews r join ranked_products p on p.list = 'reviews' and p.product_id = r.product_id
   except all
   select date, review_id, product_id, helpfulness, reported from review_ranks)
  union all
  (select date, review_id, product_id, helpfulness, reported from review_ranks
   except all
   select date, id, product_id, helpfulness, reported from reviews)
  union all
  select null, null, product_id, count(*), null from reviews
   group by product_id
  having count(*) >= 257
     and not exists (select from ranked_products p where p.list = 'reviews' and p.product_id = reviews.product_id)";

const NO_ROWS: [&str; 0] = [];

/// Three products, one of which at least has 300 reviews and 300 questions.
pub(crate) fn crowded() -> TempDir {
    let dir = TempDir::new().unwrap();
    generate::run(&GenerateOptions {
        out: dir.path().to_owned(),
        products: 3,
        rows: [("reviews", 900), ("questions", 900), ("characteristics", 5)]
            .map(|(table, rows)| (table.to_owned(), rows))
            .to_vec(),
        seed: 71,
        progress: Progress::silent(),
    })
    .unwrap();
    dir
}

#[tokio::test]
async fn popular_products_are_ranked_by_a_load_and_verified() {
    let (dir, shop) = (crowded(), Shop::new());
    shop.load(dir.path()).await.unwrap();
    assert_eq!(
        shop.rows("select distinct list from ranked_products order by 1")
            .await,
        ["(questions)", "(reviews)"]
    );
    assert_eq!(shop.rows(WRONG).await, NO_ROWS);
    assert_eq!(verify(&shop, dir.path()).await.differences, NO_ROWS);
    for (change, named) in [
        (
            "update shop.review_ranks set helpfulness = helpfulness + 1 where review_id = (select min(review_id) from shop.review_ranks)",
            "review_ranks: 1 rows that should be there are not, 1",
        ),
        (
            "delete from shop.question_ranks where question_id = (select min(question_id) from shop.question_ranks)",
            "question_ranks: 1 rows that should be there are not, 0",
        ),
        (
            "delete from shop.ranked_products where list = 'reviews'",
            "ranked_products: ",
        ),
    ] {
        shop.load_over(dir.path()).await;
        shop.execute(change).await;
        let found = verify(&shop, dir.path()).await.differences;
        assert!(
            found.iter().any(|text| text.starts_with(named)),
            "{change}: {found:?}"
        );
    }
}

#[tokio::test]
async fn rows_that_are_merged_are_ranked_with_the_others() {
    let (dir, shop) = (crowded(), Shop::new());
    shop.load(dir.path()).await.unwrap();
    // A product that comes to have enough, and then gets more; and one that has enough.
    let ranked = "select product_id from ranked_products where list = 'reviews' order by 1 limit 1";
    let popular = shop.rows(ranked).await[0]
        .trim_matches(['(', ')'])
        .to_owned();
    let mut id = 100_000;
    for rows in [256, 1, 9] {
        let mut text = "id,product_id,rating,date,summary,body,recommend,reported,reviewer_name,reviewer_email,response,helpfulness\n".to_owned();
        for product in ["77", &popular] {
            for _ in 0..rows {
                id += 1;
                text.push_str(&format!(
                    "{id},{product},2,1600000000000,\"x\",\"new\",true,false,\"n\",\"e\",null,{}\n",
                    id % 7
                ));
            }
        }
        let more = TempDir::new().unwrap();
        fs::write(more.path().join("reviews.csv"), text).unwrap();
        shop.execute(
            "insert into shop.products (id, name, slogan, description, category, default_price)
                      values (77, 'n', 's', 'd', 'c', 1) on conflict do nothing",
        )
        .await;
        let merge = LoadOptions {
            mode: Mode::Merge,
            ..options(more.path())
        };
        load::run(&shop.url, &merge).await.unwrap();
        assert_eq!(shop.rows(WRONG).await, NO_ROWS, "after {rows} more");
    }
    let enough = "select count(*) from review_ranks where product_id = 77";
    assert_eq!(shop.rows(enough).await, ["(266)"]);
}
