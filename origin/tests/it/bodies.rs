//! Section 1.4 of the contract: request bodies, their sizes and types.

use crate::{
    raw::Raw,
    support::{TestApp, fixture, question},
};

async fn app() -> TestApp {
    TestApp::start(&[
        fixture::ONE_PRODUCT_WITH_EVERYTHING,
        fixture::QUESTIONS_WITH_ANSWERS,
    ])
    .await
}

#[tokio::test]
async fn bodies_of_get_head_and_put_are_drained_and_ignored() {
    let app = app().await;
    let mut raw = Raw::connect(app.address).await;
    for (request_line, status) in [
        ("GET /products/1", 200),
        ("HEAD /products/1", 200),
        ("GET /reviews?product_id=1", 200),
        ("GET /products/777", 404),
        ("PUT /qa/answers/75/helpful", 204),
        ("PUT /qa/answers/777/helpful", 204),
        ("PUT /qa/answers/abc/helpful", 404),
        ("DELETE /cart", 405),
        ("POST /nowhere", 404),
        ("POST /qa/questions/abc/answers", 404),
    ] {
        for size in [0, 1, 1000, 64 * 1024] {
            for chunked in [false, true] {
                let body = "x".repeat(size);
                let request = if chunked {
                    let chunks = if size == 0 {
                        String::new()
                    } else {
                        format!("{size:x}\r\n{body}\r\n")
                    };
                    format!(
                        "{request_line} HTTP/1.1\r\nhost: o\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
                    )
                } else {
                    format!(
                        "{request_line} HTTP/1.1\r\nhost: o\r\ncontent-length: {size}\r\n\r\n{body}"
                    )
                };
                raw.send(request).await;
                let answer = raw.answer_to(request_line.starts_with("HEAD")).await;
                assert_eq!(
                    answer.status.as_u16(),
                    status,
                    "{request_line} {size} {chunked}"
                );
                // The next request goes over the same connection.
                assert!(
                    !answer.closes(),
                    "{request_line} {size} {chunked}: {}",
                    answer.head
                );
            }
        }
    }
}

#[tokio::test]
async fn a_body_of_more_than_64_kib_on_get_head_and_put_is_413_and_the_end_of_the_connection() {
    let app = app().await;
    for request_line in [
        "GET /products/1",
        "GET /products",
        "PUT /qa/answers/75/helpful",
    ] {
        for chunked in [false, true] {
            let size = 64 * 1024 + 1;
            let body = "x".repeat(size);
            let request = if chunked {
                format!(
                    "{request_line} HTTP/1.1\r\nhost: o\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
                )
            } else {
                format!(
                    "{request_line} HTTP/1.1\r\nhost: o\r\ncontent-length: {size}\r\n\r\n{body}"
                )
            };
            let mut raw = Raw::connect(app.address).await;
            raw.send(request).await;
            let answer = raw.answer().await;
            assert_eq!(answer.status, 413, "{request_line} {chunked}");
            assert!(answer.closes());
            assert!(
                String::from_utf8(answer.body)
                    .unwrap()
                    .contains("/problems/too-large")
            );
            assert!(raw.is_closed().await);
        }
    }
    assert_eq!(
        app.value::<i32>("select helpfulness from shop.answers where id = 75")
            .await,
        2
    );
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_refused_before_it_is_sent() {
    let app = app().await;
    for (request_line, size) in [
        ("POST /reviews", 10 * 1024 * 1024),
        ("POST /reviews", 1024 * 1024 + 1),
        ("POST /interactions", 64 * 1024 + 1),
        ("PUT /qa/answers/75/report", 64 * 1024 + 1),
        ("GET /products", u64::MAX / 2),
    ] {
        let mut raw = Raw::connect(app.address).await;
        raw.send(format!(
            "{request_line} HTTP/1.1\r\nhost: o\r\ncontent-length: {size}\r\n\r\n"
        ))
        .await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, 413, "{request_line}");
        assert!(answer.closes(), "{request_line}");
    }
}

#[tokio::test]
async fn a_post_of_one_mebibyte_is_read_and_one_byte_more_is_413() {
    let app = app().await;
    let mut valid = question().to_string();
    for size in [1024 * 1024, 1024 * 1024 + 1] {
        valid.extend(std::iter::repeat_n(' ', size - valid.len()));
        for chunked in [false, true] {
            let mut raw = Raw::connect(app.address).await;
            let head = "POST /qa/questions HTTP/1.1\r\nhost: o\r\n";
            let request = if chunked {
                format!("{head}transfer-encoding: chunked\r\n\r\n{size:x}\r\n{valid}\r\n0\r\n\r\n")
            } else {
                format!("{head}content-length: {size}\r\n\r\n{valid}")
            };
            raw.send(request).await;
            let answer = raw.answer().await;
            let expected = if size > 1024 * 1024 { 413 } else { 201 };
            assert_eq!(answer.status.as_u16(), expected, "{size} {chunked}");
            assert_eq!(answer.closes(), expected == 413);
        }
    }
}

#[tokio::test]
async fn a_post_takes_json_under_several_types_or_none() {
    let app = app().await;
    let body = question().to_string();
    for accepted in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/vnd.api+json",
        "application/problem+json",
        "",
    ] {
        let answer = app
            .send(
                "POST",
                "/qa/questions",
                &[("content-type", accepted)],
                body.clone(),
            )
            .await;
        answer.assert_created("/qa/questions/");
    }
    app.send("POST", "/qa/questions", &[], body.clone())
        .await
        .assert_created("/qa/questions/");
    for refused in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "text/html",
        "application/xml",
        "json",
        "application/octet-stream",
        "text/json5",
    ] {
        // Before anything is said about the syntax.
        for body in [body.as_str(), "{"] {
            let answer = app
                .send(
                    "POST",
                    "/qa/questions",
                    &[("content-type", refused)],
                    body.to_owned(),
                )
                .await;
            answer.assert_problem(415, "unsupported-media-type");
        }
    }
    let coded = app
        .send(
            "POST",
            "/qa/questions",
            &[("content-encoding", "gzip")],
            body,
        )
        .await;
    coded.assert_problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn neither_body_nor_type_of_a_put_is_interpreted() {
    let app = app().await;
    for (content_type, body) in [
        ("application/json", "{}"),
        ("application/json", "5"),
        ("application/json", r#"{"params":{}}"#),
        ("application/json", "{not json"),
        ("application/x-www-form-urlencoded", ""),
        ("text/html", "<p>"),
        ("nonsense", "\0\u{1f600}"),
    ] {
        let fields = [("content-type", content_type)];
        let answer = app
            .send("PUT", "/qa/answers/75/helpful", &fields, body)
            .await;
        assert_eq!(answer.status, 204, "{body}");
    }
    assert_eq!(
        app.value::<i32>("select helpfulness from shop.answers where id = 75")
            .await,
        9
    );
}
