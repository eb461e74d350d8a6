//! Rows are derived and indexes built beside COPY, and sums are copied beside rows: with any number of connections, and when one of
//! them fails.

use std::time::Duration;

use etl::{
    load::{self, LoadOptions},
    schema::Jobs,
};
use tokio::time::timeout;

use crate::{
    generated::generate,
    layout::{cleaned, shuffled},
    ranks::crowded,
    support::{Shop, options},
    verify::verify,
};

/// How long a load may take that fails at once: one that waits for ever is the fault that is looked for.
const DEADLINE: Duration = Duration::from_secs(60);

/// Makes a statement fail where a load runs it, at its end.
async fn refuse(shop: &Shop, tag: &str, action: &str) {
    shop.execute(&format!(
        "create function public.refuse() returns event_trigger language plpgsql as $$ begin {action}; end $$;
         create event trigger refuse on ddl_command_end when tag in ('{tag}') execute function public.refuse()"
    ))
    .await;
}

fn over(connections: usize, options: LoadOptions) -> LoadOptions {
    let jobs = Jobs {
        connections,
        ..options.jobs
    };
    LoadOptions { jobs, ..options }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_connections_makes_the_same_shop() {
    let (usual, _) = generate(60, 91);
    // Popular products have ranks; tables whose rows come in no order are put in order while others read them.
    let popular = crowded();
    let mixed = shuffled(cleaned(popular.path()).path());
    for csv in [&usual, &popular, &mixed] {
        let mut checksums = Vec::new();
        for connections in [1, 2, 5] {
            let shop = Shop::new();
            let options = over(connections, options(csv.path()));
            let loading = load::run(&shop.url, &options);
            timeout(DEADLINE, loading).await.unwrap().unwrap();
            assert_eq!(verify(&shop, csv.path()).await.differences, [""; 0]);
            let indexes = "select indexdef from pg_indexes where schemaname = 'shop' order by 1";
            checksums.push((shop.checksum().await, shop.rows(indexes).await));
        }
        assert_eq!(checksums[0], checksums[1]);
        assert_eq!(checksums[0], checksums[2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_ends_with_what_failed_beside_its_copy_and_leaves_nothing() {
    let ((old, _), (new, _)) = (generate(20, 92), generate(60, 93));
    let index = "raise exception 'no index today'";
    let sums = "if to_regclass('shop_next.review_sums') is not null then
                  alter table shop_next.review_sums add constraint no_sums_today check (false);
                end if";
    let counts = "if to_regclass('shop_next.review_meta') is not null
                     and not exists (select from pg_constraint where conname = 'no_counts_today') then
                    alter table shop_next.review_meta add constraint no_counts_today check (false);
                  end if";
    for (tag, action, told) in [
        ("CREATE INDEX", index, "no index today"),
        ("CREATE TABLE", counts, "no_counts_today"),
        ("CREATE TABLE AS", sums, "no_sums_today"),
    ] {
        for connections in [1, 2, 5] {
            let shop = Shop::new();
            shop.load(old.path()).await.unwrap();
            let before = shop.checksum().await;
            refuse(&shop, tag, action).await;
            let options = over(connections, options(new.path()));
            let loading = load::run(&shop.url, &options);
            let error = timeout(DEADLINE, loading).await.unwrap().unwrap_err();
            assert!(error.to_string().contains(told), "{connections}: {error}");
            assert_eq!(shop.checksum().await, before);
            let left = "select nspname from pg_namespace where nspname like 'shop_%'";
            assert_eq!(shop.rows(left).await, [""; 0], "{connections}: {error}");
            shop.execute("drop event trigger refuse").await;
            shop.load(new.path()).await.unwrap();
        }
    }
}
