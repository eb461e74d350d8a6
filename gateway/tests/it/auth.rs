//! The authorization switch.

use std::io::Write as _;

use crate::support::{FakeOrigin, Gateway, Reply, assert_hit, assert_problem, get};

/// A shop whose switch is on, with the tokens `alpha` and `beta`.
async fn guarded(origin: &FakeOrigin, tokens: &tempfile::NamedTempFile) -> Gateway {
    let on = format!("required = true\ntokens_file = {:?}", tokens.path());
    let token = "loaderio_tokens = [\"loaderio-0123456789abcdef\"]";
    Gateway::shop_with(
        &[origin],
        &[("required = false", &on), ("loaderio_tokens = []", token)],
    )
    .await
}

fn tokens() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "# staff\nalpha\n\nbeta").expect("room on the disk");
    file
}

#[tokio::test]
async fn all_spellings_of_a_known_token_pass_and_share_an_entry() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let file = tokens();
    let gateway = guarded(&origin, &file).await;
    let client = gateway.client();
    client
        .send(&get("/products").header("Authorization", "alpha"))
        .await;
    for value in [
        "alpha",
        "token alpha",
        "Token alpha",
        "Bearer alpha",
        "bearer alpha",
        "BEARER  beta",
        "beta",
    ] {
        assert_hit(
            &client
                .send(&get("/products").header("Authorization", value))
                .await,
        );
    }
    assert_eq!(origin.count(), 1, "the token is no part of the key");
}

#[tokio::test]
async fn an_unknown_token_is_refused_before_the_cache_is_asked() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let file = tokens();
    let gateway = guarded(&origin, &file).await;
    let client = gateway.client();
    client
        .send(&get("/products").header("Authorization", "alpha"))
        .await;
    for value in [
        "gamma",
        "Bearer gamma",
        "Basic alpha",
        "Bearer",
        "alpha beta",
        "ALPHA",
        "# staff",
        "",
    ] {
        let refused = client
            .send(&get("/products").header("Authorization", value))
            .await;
        assert_problem(&refused, 401);
        assert_eq!(
            refused.header("www-authenticate"),
            Some("Bearer"),
            "{value}"
        );
        assert_eq!(
            refused.header("cache-status"),
            None,
            "nothing is told about what is kept"
        );
    }
    assert_problem(&client.get("/products").await, 401);
    assert_problem(&client.post("/reviews", "{}").await, 401);
    assert_problem(&client.get("/nowhere").await, 401);
    let twice = get("/products")
        .header("Authorization", "alpha")
        .header("Authorization", "gamma");
    assert_problem(&client.send(&twice).await, 401);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_refused_client_may_try_again_on_its_connection() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let file = tokens();
    let gateway = guarded(&origin, &file).await;
    let mut connection = gateway.client().connect().await;
    assert_problem(&connection.send(&get("/products")).await, 401);
    assert_problem(
        &connection
            .send(&get("/cart").header("Authorization", "gamma"))
            .await,
        401,
    );
    let known = connection
        .send(&get("/products").header("Authorization", "beta"))
        .await;
    assert_eq!(known.text(), "page");
}

#[tokio::test]
async fn preflights_and_load_test_verification_need_no_token() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let file = tokens();
    let gateway = guarded(&origin, &file).await;
    assert_eq!(gateway.client().options("/products").await.status, 204);
    let verified = gateway.client().get("/loaderio-0123456789abcdef.txt").await;
    assert_eq!(
        (verified.status, verified.text()),
        (200, "loaderio-0123456789abcdef")
    );
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn with_the_switch_off_any_value_passes() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let gateway = Gateway::shop(&[&origin]).await;
    gateway.client().get("/products").await;
    for value in ["anything", "Basic x", "Bearer", ""] {
        assert_hit(
            &gateway
                .client()
                .send(&get("/products").header("Authorization", value))
                .await,
        );
    }
}

#[tokio::test]
async fn known_tokens_are_not_logged() {
    let origin = FakeOrigin::start(|_| Reply::hang_up()).await;
    let file = tokens();
    let gateway = guarded(&origin, &file).await;
    assert_problem(
        &gateway
            .client()
            .send(&get("/products").header("Authorization", "Bearer alpha"))
            .await,
        502,
    );
    assert_problem(
        &gateway
            .client()
            .send(&get("/products").header("Authorization", "Bearer planted-secret"))
            .await,
        401,
    );
    let said = gateway.said();
    assert!(
        !said.contains("alpha") && !said.contains("planted-secret"),
        "{said}"
    );
}
