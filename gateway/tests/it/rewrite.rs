//! Paths that a site once had are requests for those that it has.

use crate::support::{FakeOrigin, Gateway, Reply, Request, assert_hit};

/// The old paths of the API, as its description names them.
const RULES: &str = r#"
rewrites = [
  { from = "/products/list", to = "/products" },
  { from = "/reviews/{product:number}/list", to = "/reviews?product_id={product}" },
  { from = "/reviews/{product:number}/meta", to = "/reviews/meta?product_id={product}" },
  { from = "/reviews/helpful/{review:number}", to = "/reviews/{review}/helpful", methods = ["PUT"] },
  { from = "/reviews/report/{review:number}", to = "/reviews/{review}/report", methods = ["PUT"] },
  { from = "/qa/{product:number}", to = "/qa/questions?product_id={product}" },
  { from = "/qa/{question:number}/answers", to = "/qa/questions/{question}/answers" },
  { from = "/qa/question/{question:number}/helpful", to = "/qa/questions/{question}/helpful", methods = ["PUT"] },
  { from = "/qa/question/{question:number}/report", to = "/qa/questions/{question}/report", methods = ["PUT"] },
  { from = "/qa/answer/{answer:number}/helpful", to = "/qa/answers/{answer}/helpful", methods = ["PUT"] },
  { from = "/qa/answer/{answer:number}/report", to = "/qa/answers/{answer}/report", methods = ["PUT"] },
  { from = "/cart/{token}", to = "/cart?user_token={token}" },
]
drop_trailing_slash = true
"#;

async fn shop(origin: &FakeOrigin) -> Gateway {
    let edits = [("drop_trailing_slash = true\n", RULES)];
    Gateway::shop_with(&[origin], &edits).await
}

#[tokio::test]
async fn every_old_path_reaches_the_origin_as_the_new_one() {
    let origin = FakeOrigin::start(|_| Reply::public("{}", &["g"])).await;
    let gateway = shop(&origin).await;
    for (method, old, new) in [
        ("GET", "/products/list", "/products"),
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
