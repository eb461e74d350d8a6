//! Paths that a site once had are requests for those that it has.

use crate::support::{FakeOrigin, Gateway, Reply, Request, assert_hit};

/// Where the rules for old paths stand, each line behind a `# `.
const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/shop.toml");

async fn shop(origin: &FakeOrigin) -> Gateway {
    let settings = std::fs::read_to_string(SHOP).expect("the shop's configuration");
    let start = settings.find("# rewrites = [\n").expect("the rules");
    let end = start + settings[start..].find("\n# ]\n").expect("their end") + "\n# ]\n".len();
    let block = &settings[start..end];
    let rules: String = block
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .expect("a line of the block")
                .to_owned()
                + "\n"
        })
        .collect();
    Gateway::shop_with(&[origin], &[(block, &rules)]).await
}

#[tokio::test]
async fn every_old_path_reaches_the_origin_as_the_new_one() {
    let origin = FakeOrigin::start(|_| Reply::public("{}", &["g"])).await;
    let gateway = shop(&origin).await;
    for (method, old, new) in [
        ("GET", "/products/list", "/products"),
        ("GET", "/products/list/?page=2", "/products?page=2"),
        (
            "GET",
            "/reviews/7/list?sort=newest:asc",
            "/reviews?product_id=7&sort=newest",
        ),
        (
            "GET",
            "/reviews/8/list/?count=3&sort=newest%3Aasc",
            "/reviews?product_id=8&sort=newest&count=3",
        ),
        (
            "GET",
            "/reviews/7/list?sort=helpful",
            "/reviews?product_id=7&sort=helpful",
        ),
        ("GET", "/reviews/7/meta", "/reviews/meta?product_id=7"),
        ("PUT", "/reviews/helpful/9", "/reviews/9/helpful"),
        ("PUT", "/reviews/report/9", "/reviews/9/report"),
        ("GET", "/qa/7", "/qa/questions?product_id=7"),
        ("GET", "/qa/7/answers", "/qa/questions/7/answers"),
        ("PUT", "/qa/question/7/helpful", "/qa/questions/7/helpful"),
        ("PUT", "/qa/question/7/report", "/qa/questions/7/report"),
        ("PUT", "/qa/answer/7/helpful", "/qa/answers/7/helpful"),
        ("PUT", "/qa/answer/7/report", "/qa/answers/7/report"),
        ("GET", "/cart/some-token", "/cart?user_token=some-token"),
    ] {
        // The new spelling first: what it becomes at the origin is what the old one has to become.
        let new = gateway.client().send(&request(method, new)).await;
        assert!((200..300).contains(&new.status), "{new:#?}");
        let expected = origin.last().target;
        let before = origin.count();
        let answer = gateway.client().send(&request(method, old)).await;
        assert!((200..300).contains(&answer.status), "{old}: {answer:#?}");
        if new.cache_status().contains("stored") {
            assert_hit(&answer);
        } else {
            assert_eq!(origin.count(), before + 1, "{old}");
            assert_eq!(origin.last().target, expected, "{old}");
        }
    }
}

fn request(method: &str, target: &str) -> Request {
    let request = Request::new(method, target);
    match method {
        "PUT" => request.body(""),
        _ => request,
    }
}

#[tokio::test]
async fn an_old_path_is_rewritten_for_its_methods_only_and_not_at_all_unless_configured() {
    let origin = FakeOrigin::start(|_| Reply::public("{}", &["g"])).await;
    let gateway = shop(&origin).await;
    for target in ["/reviews/7", "/qa/7"] {
        gateway.client().post(target, "{}").await;
        assert_eq!(origin.last().target, target);
    }
    let plain = Gateway::shop(&[&origin]).await;
    plain.client().get("/reviews/7/list").await;
    assert_eq!(origin.last().target, "/reviews/7/list");
}
