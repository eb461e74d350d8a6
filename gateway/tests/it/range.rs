//! Ranges are cut from whole stored bodies (RFC 9110 14).

use crate::support::{Answer, FakeOrigin, Gateway, Reply, Request, assert_hit, get};

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

struct Kept {
    origin: FakeOrigin,
    gateway: Gateway,
}

impl Kept {
    /// A gateway that keeps `/page`, ten digits, and `/weak`, the same with a weak tag.
    async fn new() -> Self {
        let origin = FakeOrigin::start(|request| {
            let reply = Reply::fresh("0123456789").header("Content-Type", "text/plain");
            match request.target.as_str() {
                "/weak" => reply.header("ETag", "W/\"a\""),
                _ => reply
                    .header("ETag", "\"a\"")
                    .header("Last-Modified", MODIFIED),
            }
        })
        .await;
        let gateway = Gateway::general(&[&origin]).await;
        gateway.client().get("/page").await;
        gateway.client().get("/weak").await;
        Self { origin, gateway }
    }

    async fn send(&self, request: &Request) -> Answer {
        let answer = self.gateway.client().send(request).await;
        assert_hit(&answer);
        assert_eq!(self.origin.count(), 2);
        answer
    }

    async fn range(&self, range: &str) -> Answer {
        self.send(&get("/page").header("Range", range)).await
    }
}

#[tokio::test]
async fn a_range_is_its_bytes_and_says_which_they_are() {
    let kept = Kept::new().await;
    for (range, body, place) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("BYTES=2-4", "234", "bytes 2-4/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=-99", "0123456789", "bytes 0-9/10"),
    ] {
        let part = kept.range(range).await;
        assert_eq!(
            (part.status, part.text()),
            (206, body),
            "{range}: {part:#?}"
        );
        assert_eq!(part.header("content-range"), Some(place));
        assert_eq!(part.header("etag"), Some("\"a\""));
    }
}

#[tokio::test]
async fn several_ranges_come_as_parts() {
    let kept = Kept::new().await;
    let answer = kept.range("bytes=0-1, 4-5,-1").await;
    assert_eq!(answer.status, 206, "{answer:#?}");
    let kind = answer.header("content-type").unwrap_or_default();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap_or_else(|| panic!("{answer:#?}"));
    let part = |place: &str, body: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {place}/10\r\n\r\n{body}"
        )
    };
    let parts = [part("0-1", "01"), part("4-5", "45"), part("9-9", "9")].concat();
    assert_eq!(answer.text(), format!("{parts}\r\n--{boundary}--\r\n"));
    assert_eq!(answer.header("content-range"), None);
}

#[tokio::test]
async fn a_range_beyond_the_end_is_refused_with_the_length_there_is() {
    let kept = Kept::new().await;
    for range in ["bytes=10-", "bytes=50-60", "bytes=10-12, 20-30"] {
        let answer = kept.range(range).await;
        assert_eq!(answer.status, 416, "{range}: {answer:#?}");
        assert_eq!(answer.header("content-range"), Some("bytes */10"));
    }
}

#[tokio::test]
async fn what_is_no_sensible_range_gets_the_whole() {
    let kept = Kept::new().await;
    let many = format!("bytes={}0-0", "0-0,".repeat(200));
    for range in [
        "pages=1-2",
        "bytes=0-4,3-5",
        "bytes=5-6,0-1",
        "bytes=0-,0-,0-",
        "bytes=-0",
        &many,
    ] {
        let answer = kept.range(range).await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, "0123456789"),
            "{range}"
        );
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    }
}

#[tokio::test]
async fn a_head_has_no_ranges() {
    let kept = Kept::new().await;
    let request = Request::new("HEAD", "/page").header("Range", "bytes=0-1");
    let answer = kept.send(&request).await;
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, Some("10")),
        "{answer:#?}"
    );
}

#[tokio::test]
async fn if_range_needs_the_same_strong_validator() {
    let kept = Kept::new().await;
    for (target, condition, status) in [
        ("/page", "\"a\"", 206),
        ("/page", MODIFIED, 206),
        ("/page", "\"b\"", 200),
        ("/page", "W/\"a\"", 200),
        ("/page", "Sun, 06 Nov 1994 08:49:38 GMT", 200),
        ("/page", "nonsense", 200),
        ("/weak", "W/\"a\"", 200),
        ("/weak", "\"a\"", 200),
    ] {
        let request = get(target)
            .header("Range", "bytes=0-1")
            .header("If-Range", condition);
        let answer = kept.send(&request).await;
        assert_eq!(answer.status, status, "{target} {condition}: {answer:#?}");
    }
}
