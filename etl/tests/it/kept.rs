//! What looks odd and is kept as it is, and what the loader works out beside the rows.

use crate::support::Case;

const CLEAN: &[(&str, u64)] = &[];

async fn kept() -> Case {
    let files = [
        ("product.csv", 3),
        ("features.csv", 3),
        ("styles.csv", 3),
        ("skus.csv", 3),
        ("photos.csv", 1),
        ("related.csv", 5),
        ("reviews.csv", 2),
        ("characteristics.csv", 2),
        ("questions.csv", 2),
        ("answers.csv", 3),
        ("answers_photos.csv", 1),
    ];
    Case::load("kept", &[])
        .await
        .counts(&files.map(|(file, rows)| (file, rows, CLEAN, CLEAN)))
}

#[tokio::test]
async fn text_is_stored_as_it_is_with_commas_newlines_and_all() {
    kept()
        .await
        .stores(
            "select id, name, slogan, description from products order by id",
            &[
                "(1,\"Comma, #1, it's\",\"two\nlines\",\"caf\u{e9} \u{1f44d}\")",
                "(5,\"unquoted name\",s,d)",
                "(9,\"\",\"\",\"\")",
            ],
        )
        .await
        .stores(
            "select id, length(body), reviewer_email from reviews order by id",
            &["(1,1500,same@a.example)", "(2,1,same@a.example)"],
        )
        .await
        // Text behind a closing quote: nothing is known to be wrong, so nothing is changed.
        .stores(
            "select feature from features where id = 3",
            &["(\"\"\"x\"\" y\")"],
        )
        .await
        .stores(
            "select url from photos",
            &["(\"data:image/png;base64,iVBORw0KGgo=\")"],
        )
        .await;
}

#[tokio::test]
async fn repetitions_self_relations_and_missing_products_are_kept() {
    kept()
        .await
        .stores(
            "select id, product_id, related_id, related_exists from related order by id",
            &[
                "(1,1,5,t)",
                "(2,1,5,t)",
                "(3,1,1,t)",
                "(4,1,1000,f)",
                "(5,5,9,t)",
            ],
        )
        .await
        .stores(
            "select id, style_id, product_id, size from skus order by id",
            &["(1,1,1,XS)", "(2,1,1,XS)", "(9,70000,5,XS)"],
        )
        .await
        .stores(
            "select count(*) from features where value = 'Canvas'",
            &["(2)"],
        )
        .await;
}

#[tokio::test]
async fn children_carry_the_product_and_question_of_their_parents() {
    kept()
        .await
        .stores(
            "select id, question_id, product_id, reported from answers order by id",
            &["(1,2,1,f)", "(2,1,5,t)", "(3,2,1,f)"],
        )
        .await
        .stores(
            "select answer_id, question_id, product_id from answer_photos",
            &["(2,1,5)"],
        )
        .await;
}

#[tokio::test]
async fn ratings_are_counted_with_reported_reviews() {
    kept()
        .await
        .stores(
            "select product_id, ratings, recommended_false, recommended_true, characteristic_ids, characteristic_names,
                    characteristic_sums, characteristic_counts from review_meta order by product_id",
            &["(1,\"{0,0,0,0,1}\",0,1,\"{1,2}\",\"{Fit,Fit}\",\"{0,0}\",\"{0,0}\")", "(5,\"{1,0,0,0,0}\",1,0,{},{},{},{})"],
        )
        .await;
}

#[tokio::test]
async fn new_rows_get_ids_past_the_largest() {
    let case = kept().await;
    case.shop.execute("insert into shop.styles (product_id, name, original_price, is_default) values (1, 'new', 1, false)").await;
    case.shop
        .execute(
            "insert into shop.review_photos (review_id, url) values (2, 'https://a.example/new')",
        )
        .await;
    case.stores("select max(id) from styles", &["(70001)"])
        .await
        .stores("select id, product_id from review_photos", &["(1,5)"])
        .await;
}
