//! The link to Postgres is cut after the commit and before the answer: nobody knows whether the write happened.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::join_all;
use origin::App;
use stack::TestCluster;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::oneshot,
};

use crate::{
    raw::Raw,
    support::{TestApp, config, fixture, review, socket_dir},
};

/// Deadlines that a test can wait for.
const SHORT: [&str; 2] = ["--statement-timeout-ms=900", "--statement-deadline-ms=1000"];
/// What a socket of Postgres is called in its folder.
const SOCKET: &str = ".s.PGSQL.5432";

/// Passes bytes on, and while it swallows, only those of clients: Postgres works, and its answers are lost.
struct Relay {
    swallows: Arc<AtomicBool>,
    dir: tempfile::TempDir,
}

impl Relay {
    fn to(server: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let swallows = Arc::new(AtomicBool::new(false));
        let (swallow, server) = (Arc::clone(&swallows), server.join(SOCKET));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = UnixStream::connect(&server).await {
                    tokio::spawn(pass(client, server, Arc::clone(&swallow)));
                }
            }
        });
        Self { swallows, dir }
    }
}

async fn pass(client: UnixStream, server: UnixStream, swallows: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut bytes = [0; 16 * 1024];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            let is_lost = swallows.load(Ordering::SeqCst);
            if !is_lost && to_client.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        () = answers => {}
    }
}

async fn post(address: std::net::SocketAddr, key: &str, body: &str) -> crate::raw::RawAnswer {
    let mut raw = Raw::connect(address).await;
    raw.send(&format!(
        "POST /reviews HTTP/1.1\r\nhost: o\r\ncontent-type: application/json\r\nidempotency-key: {key}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    raw.answer().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_after_its_commit_is_replayed_to_its_key_and_made_once() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let url = TestCluster::shared().app_url(&app.database);
    let socket = socket_dir(&app);
    let relay = Relay::to(&socket);
    let through = url.replace(
        &*socket.to_string_lossy(),
        &relay.dir.path().display().to_string(),
    );
    let cut_off = App::build(config(&through, &SHORT), "cut off")
        .await
        .unwrap();
    let (address, _) = cut_off.addresses().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let served = tokio::spawn(cut_off.serve(async {
        let _ = ended.await;
    }));
    let body = review().to_string();
    TestApp::until("the origin behind the relay serves", async || {
        post(address, "first", &body).await.status == 201
    })
    .await;
    let before = app.count("shop.reviews").await;

    // The pool may be trying its idle connection just then, and the write is refused without having been sent.
    let mut key = String::new();
    for attempt in 0..10 {
        key = format!("lost-{attempt}");
        relay.swallows.store(true, Ordering::SeqCst);
        let lost = post(address, &key, &body).await;
        relay.swallows.store(false, Ordering::SeqCst);
        assert_eq!(lost.status, 503, "{lost:?}");
        TestApp::until("the origin has connected again", async || {
            post(address, "first", &body).await.status == 201
        })
        .await;
        if app.count("shop.reviews").await > before {
            break;
        }
    }
    let repeats = join_all((0..100).map(|_| post(address, &key, &body))).await;
    let locations: Vec<&str> = repeats
        .iter()
        .filter(|repeat| repeat.status == 201)
        .map(|repeat| repeat.field("location"))
        .collect();
    assert!(locations.len() >= 90, "{} of 100 replayed", locations.len());
    assert!(
        locations.iter().all(|location| *location == locations[0]),
        "{locations:?}"
    );
    assert_eq!(app.count("shop.reviews").await, before + 1);
    end.send(()).unwrap();
    served.await.unwrap().unwrap();
}
