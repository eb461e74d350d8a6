//! Cached bytes are the origin's bytes, and the account holds what it says: small versions of what `benches` measures.

use crate::support::{FakeOrigin, Gateway, Reply, Request, get};

/// Bytes of a length of its own for each number.
fn body(number: usize) -> Vec<u8> {
    (0..number * 37).map(|at| (at * number) as u8).collect()
}

fn number_of(target: &str) -> usize {
    let digits = target.trim_start_matches('/').parse();
    digits.expect("a number as the path")
}

#[tokio::test]
async fn every_read_of_a_kept_answer_gives_the_origins_bytes() {
    const URLS: usize = 200;
    let origin = FakeOrigin::start(|request| {
        let number = number_of(&request.target);
        let reply = Reply::fresh(body(number)).header("ETag", &format!("\"v{number}\""));
        if number.is_multiple_of(3) {
            reply.chunked()
        } else {
            reply
        }
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let mut connection = gateway.client().connect().await;
    for number in 0..URLS {
        let target = format!("/{number}");
        let (expected, tag) = (body(number), format!("\"v{number}\""));
        for _ in 0..2 {
            let answer = connection.send(&get(&target)).await;
            assert_eq!(
                (answer.status, &answer.body[..]),
                (200, &expected[..]),
                "{target}"
            );
        }
        let head = connection.send(&Request::new("HEAD", &target)).await;
        assert_eq!(
            (head.status, head.header("etag")),
            (200, Some(tag.as_str()))
        );
        let same = connection
            .send(&get(&target).header("If-None-Match", &tag))
            .await;
        assert_eq!((same.status, same.body.len()), (304, 0), "{target}");
        if !number.is_multiple_of(3) {
            let end = expected.len() / 2;
            let part = get(&target).header("Range", &format!("bytes=1-{end}"));
            let part = connection.send(&part).await;
            assert_eq!(
                (part.status, &part.body[..]),
                (206, &expected[1..=end]),
                "{target}"
            );
        }
    }
    assert_eq!(origin.count(), URLS);
}

#[tokio::test]
async fn ten_times_the_budget_leaves_nine_tenths_of_it_in_bodies_and_memory_in_bounds() {
    const BUDGET: usize = 8 << 20;
    const BODY: usize = 12 << 10;
    let origin = FakeOrigin::start(|request| {
        let mut body = vec![b'x'; BODY];
        body[..request.target.len()].copy_from_slice(request.target.as_bytes());
        Reply::fresh(body).header("ETag", "\"1\"")
    })
    .await;
    let gateway = Gateway::with(&[&origin], "[cache]\nbudget = \"8MiB\"").await;
    let before = gateway.resident_bytes();
    let mut connection = gateway.client().connect().await;
    for number in 0..10 * BUDGET / BODY {
        let answer = connection.send(&get(&format!("/{number}"))).await;
        assert_eq!(answer.body.len(), BODY);
    }
    let status = gateway.status().await;
    let kept = status["cache"]["objects"].as_u64().expect("a number") as usize;
    let used = status["cache"]["used_bytes"].as_u64().expect("a number") as usize;
    assert!(kept * BODY * 10 >= BUDGET * 9, "{kept} bodies in {status}");
    assert!(used <= BUDGET, "{status}");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(
        grown <= BUDGET * 135 / 100 + (16 << 20),
        "{grown} bytes more"
    );
}
