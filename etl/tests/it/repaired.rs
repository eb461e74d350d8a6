//! One hand-written case for each row of the contract's table of repairs.

use crate::support::Case;

const STYLES: &[&str] = &["product.csv", "styles.csv"];
const PHOTOS: &str = "select id, style_id, product_id, url, thumbnail_url from photos order by id";

#[tokio::test]
async fn a_closing_quote_that_is_missing_at_a_line_end_is_added() {
    let case = Case::load("unclosed_quote", STYLES).await;
    // In the third row a comma stands within the quotes, and a carriage return where the quote is
    // missing.
    case.counts(&[("photos.csv", 4, &[("crlf", 1), ("unclosed_quote", 3)], &[])])
        .stores(
            PHOTOS,
            &[
                "(1,1,1,https://a.example/1?q=80,https://a.example/1?w=300)",
                "(2,1,1,https://a.example/2?q=80,https://a.example/2?w=300)",
                "(3,2,1,\"https://a.example/3,x\",https://a.example/3?w=300)",
                "(4,3,2,https://a.example/4?q=80,https://a.example/4?w=300)",
            ],
        )
        .await;
}

#[tokio::test]
async fn a_stray_u_before_a_url_is_removed() {
    let case = Case::load("stray_prefix", STYLES).await;
    case.counts(&[("photos.csv", 3, &[("stray_prefix", 2)], &[])])
        .stores(
            PHOTOS,
            &[
                "(1,1,1,https://a.example/1,https://a.example/1t)",
                "(2,1,1,https://a.example/2,http://a.example/2t)",
                "(3,1,1,https://u.example/uhttps,https://a.example/3t)",
            ],
        )
        .await;
}

#[tokio::test]
async fn backslashes_in_a_url_are_removed() {
    let case = Case::load("stray_backslash", STYLES).await;
    case.counts(&[("photos.csv", 2, &[("stray_backslash", 2)], &[])])
        .stores(
            PHOTOS,
            &[
                "(1,1,1,https://a.example/1,https://a.example/1t)",
                "(2,1,1,https://a.example/2,https://a.example/2t)",
            ],
        )
        .await;
}

#[tokio::test]
async fn urls_without_a_comma_between_them_are_split() {
    let case = Case::load("joined_urls", STYLES).await;
    case.counts(&[("photos.csv", 4, &[("joined_urls", 3)], &[])])
        .stores(
            PHOTOS,
            &[
                "(1,1,1,https://a.example/1?q=80,https://a.example/1?w=300)",
                "(2,1,1,https://a.example/2?q=80,https://a.example/2?w=300)",
                "(3,1,1,https://a.example/3?q=80,https://a.example/3?w=300)",
                "(4,1,1,https://a.example/?from=https://b.example,https://a.example/4t)",
            ],
        )
        .await;
}

#[tokio::test]
async fn the_text_null_is_null_in_four_columns_and_text_in_all_others() {
    let case = Case::load("nulls", &["product.csv"]).await;
    let clean: &[(&str, u64)] = &[];
    case.counts(&[
        ("styles.csv", 4, clean, clean),
        ("features.csv", 5, clean, clean),
        ("photos.csv", 3, clean, clean),
        ("reviews.csv", 4, clean, clean),
    ])
    .stores(
        "select id, name, sale_price from styles order by id",
        &["(1,null,)", "(2,\"\",)", "(3,null,)", "(4,Plain,12.00)"],
    )
    .await
    .stores(
        "select id, feature, value from features order by id",
        &["(1,Fabric,)", "(2,Fabric,)", "(3,null,)", "(4,Fabric,)", "(5,Fabric,Null)"],
    )
    .await
    .stores(
        "select id, url, thumbnail_url from photos order by id",
        &["(1,,https://a.example/1t)", "(2,https://a.example/2,)", "(3,,)"],
    )
    .await
    .stores(
        "select id, summary, body, reviewer_name, reviewer_email, response from reviews order by id",
        &["(1,null,null,null,null,)", "(2,null,null,null,null,)", "(3,\"\",\"\",\"\",\"\",)", "(4,s,b,n,e,\"Thank you, null!\")"],
    )
    .await;
}

#[tokio::test]
async fn a_sale_price_of_0_is_no_sale() {
    let case = Case::load("zero_sale", &["product.csv"]).await;
    case.counts(&[(
        "styles.csv",
        5,
        &[("dollar_sign", 1), ("zero_sale", 4)],
        &[],
    )])
    .stores(
        "select id, sale_price, original_price from styles order by id",
        &[
            "(1,,140.00)",
            "(2,,140.00)",
            "(3,,69.00)",
            "(4,,69.00)",
            "(5,1.00,0.00)",
        ],
    )
    .await;
}

#[tokio::test]
async fn values_lose_one_pair_of_inner_quotes_and_names_do_not() {
    let case = Case::load("wrapped_quotes", &["product.csv"]).await;
    case.counts(&[("features.csv", 7, &[("wrapped_quotes", 4)], &[])])
        .stores(
            "select id, feature, value from features order by id",
            &[
                "(1,Cut,Loose)",
                "(2,Cut,\"Loose, very\")",
                "(3,\"\"\"Cut\"\"\",\"5\"\" wide\")",
                "(4,Cut,Loose)",
                "(5,Cut,)",
                "(6,Cut,\"\"\"\")",
                "(7,Cut,\"\"\"a\"\" and \"\"b\"\"\")",
            ],
        )
        .await;
}

#[tokio::test]
async fn spaces_round_commas_are_trimmed_outside_quotes_and_counted_after_them() {
    let case = Case::load("leading_space", &["styles.csv"]).await;
    case.counts(&[
        ("product.csv", 3, &[("leading_space", 3)], &[]),
        ("skus.csv", 4, &[("leading_space", 3)], &[]),
    ])
    .stores(
        "select id, name, slogan, description, category, default_price from products order by id",
        &[
            "(1,\"Camo, Onesie\",\"Blend in\",\"  kept within\",Jackets,140.00)",
            "(2,Sunglasses,\" slogan\",d,c,69.00)",
            "(3,Joggers,s,d,c,40.00)",
        ],
    )
    .await
    .stores(
        "select id, size, quantity from skus order by id",
        &["(1,XS,8)", "(2,S,16)", "(9,S,7)", "(10,sp,5)"],
    )
    .await;
}

#[tokio::test]
async fn a_price_may_carry_its_label() {
    let case = Case::load("price_label", &[]).await;
    case.counts(&[(
        "product.csv",
        3,
        &[("dollar_sign", 1), ("price_label", 3)],
        &[],
    )])
    .stores(
        "select id, default_price from products order by id",
        &["(1,99.00)", "(2,140.00)", "(3,40.00)"],
    )
    .await;
}

#[tokio::test]
async fn a_dollar_sign_before_a_price_is_stripped() {
    let case = Case::load("dollar_sign", &[]).await;
    case.counts(&[
        ("product.csv", 3, &[("dollar_sign", 2)], &[]),
        ("styles.csv", 2, &[("dollar_sign", 2)], &[]),
    ])
    .stores(
        "select id, default_price from products order by id",
        &["(1,140.00)", "(2,69.00)", "(3,5000000.00)"],
    )
    .await
    .stores(
        "select id, sale_price, original_price from styles order by id",
        &["(1,35.00,140.00)", "(2,,5.00)"],
    )
    .await;
}

#[tokio::test]
async fn booleans_are_numbers_or_words_in_every_column() {
    let case = Case::load("booleans", &["product.csv"]).await;
    let clean: &[(&str, u64)] = &[];
    let files = ["styles.csv", "reviews.csv", "questions.csv", "answers.csv"];
    case.counts(&files.map(|file| (file, if file == "styles.csv" { 4 } else { 2 }, clean, clean)))
        .stores(
            "select id, is_default from styles order by id",
            &["(1,t)", "(2,f)", "(3,t)", "(4,f)"],
        )
        .await
        .stores(
            "select id, recommend, reported from reviews order by id",
            &["(1,t,f)", "(2,f,t)"],
        )
        .await
        .stores(
            "select id, reported from questions order by id",
            &["(1,t)", "(2,f)"],
        )
        .await
        .stores(
            "select id, reported from answers order by id",
            &["(1,f)", "(2,t)"],
        )
        .await;
}

#[tokio::test]
async fn dates_as_text_are_midnight_or_as_given() {
    let case = Case::load("date_text", &["product.csv"]).await;
    case.counts(&[
        ("reviews.csv", 3, &[("date_text", 2)], &[]),
        ("questions.csv", 2, &[("date_text", 2)], &[]),
        ("answers.csv", 2, &[("date_text", 1)], &[]),
    ])
    .stores(
        "select id, date from reviews order by id",
        &[
            "(1,\"2019-04-14 00:00:00+00\")",
            "(2,\"2019-04-14 01:02:03.456+00\")",
            "(3,\"2019-04-14 01:02:03.456+00\")",
        ],
    )
    .await
    .stores(
        "select id, date from questions order by id",
        &[
            "(1,\"2018-10-18 00:00:00+00\")",
            "(2,\"2018-10-18 00:00:00+00\")",
        ],
    )
    .await
    .stores(
        "select id, date from answers order by id",
        &[
            "(1,\"2018-10-18 01:02:03+00\")",
            "(2,\"2020-09-02 23:33:29.53+00\")",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_byte_order_mark_counts_once_a_file() {
    // Elsewhere than at the start it is text.
    let case = Case::load("bom", &[]).await;
    case.counts(&[("product.csv", 3, &[("bom", 1)], &[])])
        .stores(
            "select id, name from products order by id",
            &["(1,\u{feff}A)", "(2,B)", "(3,C)"],
        )
        .await;
}

#[tokio::test]
async fn carriage_returns_count_once_a_loaded_row_and_stay_within_quotes() {
    let case = Case::load("crlf", &[]).await;
    case.counts(&[("product.csv", 4, &[("crlf", 2)], &[("bad_price", 1)])])
        .stores(
            "select id, name, replace(slogan, e'\\r\\n', '<crlf>') as slogan, default_price from products order by id",
            &["(1,A,two<crlf>lines,1.00)", "(2,B,s,2.00)", "(4,D,s,4.00)"],
        )
        .await;
}

#[tokio::test]
async fn zero_bytes_are_removed_wherever_they_stand() {
    let case = Case::load("nul_removed", &[]).await;
    case.counts(&[("product.csv", 3, &[("nul_removed", 2)], &[])])
        .stores(
            "select id, name, slogan, default_price from products order by id",
            &[
                "(1,Camo,s,140.00)",
                "(2,\"Bright, Future\",s,69.00)",
                "(3,C,s,3.00)",
            ],
        )
        .await;
}

#[tokio::test]
async fn files_of_the_earlier_release_load_as_well() {
    let case = Case::load("earlier_release", &[]).await;
    let spaced: &[(&str, u64)] = &[("leading_space", 1)];
    let dated: &[(&str, u64)] = &[("date_text", 1), ("leading_space", 1)];
    case.counts(&[
        ("product.csv", 1, spaced, &[]),
        ("styles.csv", 1, spaced, &[]),
        ("skus.csv", 1, spaced, &[]),
        ("reviews.csv", 1, dated, &[]),
        ("questions.csv", 1, dated, &[]),
    ])
    .stores(
        "select name, description from products",
        &["(\"Camo Onesie\",\"The So, Fatigues\")"],
    )
    .await
    .stores(
        "select name, sale_price, is_default from styles",
        &["(\"Forest Green\",,t)"],
    )
    .await
    .stores("select size, quantity, product_id from skus", &["(XS,8,1)"])
    .await
    .stores(
        "select date, summary, body, recommend, response from reviews",
        &["(\"2019-01-01 00:00:00+00\",\"great, really\",b,t,)"],
    )
    .await;
}
