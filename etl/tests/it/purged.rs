//! Gateways that are purged by a load: when, and of what.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chrono::Utc;
use etl::{load, load::LoadOptions, load::Mode, purge::Gateways, report::LoadReport};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    command::etl,
    merge::REVIEWS,
    support::{Shop, collect, options},
};

/// How long a purge may take to come, less than a load waits for readers.
const DEADLINE: Duration = Duration::from_secs(30);

/// A shop with rows, and a gateway that a load of more is to purge.
struct Scene {
    shop: Shop,
    dir: TempDir,
    listener: TcpListener,
}

impl Scene {
    async fn new() -> Self {
        let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
        collect("base", &[], dir.path());
        shop.load(dir.path()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            shop,
            dir,
            listener,
        }
    }

    /// The base URL of the gateway, and the file of its token.
    fn gateway(&self) -> (String, PathBuf) {
        let token = self.dir.path().join("token");
        fs::write(&token, "abc").unwrap();
        let url = format!("http://{}", self.listener.local_addr().unwrap());
        (url, token)
    }

    fn load(&self, mode: Mode, csv: PathBuf) -> JoinHandle<LoadReport> {
        let (url, token) = self.gateway();
        let options = LoadOptions {
            mode,
            gateways: Some(Gateways::new(vec![url], &token).unwrap()),
            ..options(&csv)
        };
        let database_url = self.shop.url.clone();
        tokio::spawn(async move { load::run(&database_url, &options).await.unwrap() })
    }

    /// The body of the next purge, and where its answer is awaited.
    async fn purge(&self) -> (String, TcpStream) {
        let purge = async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            (request.split_once("\r\n\r\n").unwrap().1.to_owned(), stream)
        };
        tokio::time::timeout(DEADLINE, purge)
            .await
            .expect("no purge comes")
    }

    /// Adds rows by the program, and kills it when it waits for the answer of the gateway.
    async fn kill_unanswered(&self, csv: &Path) {
        let (url, token) = self.gateway();
        let mut load = etl(&["load", "--mode", "merge", "--database-url", &self.shop.url]);
        load.arg("--csv").arg(csv);
        load.args(["--purge", &url])
            .arg("--purge-token-file")
            .arg(token);
        let mut child = load
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (body, _unanswered) = self.purge().await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(body.contains("product-2-reviews"), "{body}");
    }
}

/// A folder with one review more.
fn one_review() -> TempDir {
    let dir = TempDir::new().unwrap();
    let review = "777,2,5,2020-01-01,s,b,true,false,n,e@x.y,null,0\n";
    fs::write(dir.path().join("reviews.csv"), format!("{REVIEWS}{review}")).unwrap();
    dir
}

async fn answer(mut stream: TcpStream) {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"objects\":7,\"bytes\":9}";
    stream.write_all(answer).await.unwrap();
}

/// It used to come after the old tables were gone, for which a reader was waited for, with writes let in.
#[tokio::test]
async fn a_purge_waits_for_no_reader_and_comes_before_the_next_write() {
    let scene = Scene::new().await;
    let mut reader = scene.shop.connect().await;
    let mut reading = reader.begin().await.unwrap();
    sqlx::raw_sql("select count(*) from shop.products")
        .execute(&mut *reading)
        .await
        .unwrap();
    let loads = "select count(*) from service.loads";
    let loading = scene.load(Mode::Replace, scene.dir.path().to_owned());
    let (body, stream) = scene.purge().await;
    assert_eq!(body, r#"{"all":true}"#);
    assert_eq!(scene.shop.rows(loads).await, ["(2)"], "before the swap");
    let is_held = "select not pg_try_advisory_xact_lock_shared(coherence.hold_key())";
    assert_eq!(scene.shop.rows(is_held).await, ["(t)"]);
    let answered_at = Utc::now();
    answer(stream).await;
    // The reader still sits on the old tables: writes do not wait for it.
    let released = async {
        while scene.shop.rows(is_held).await != ["(f)"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, released).await.unwrap();
    assert!(!loading.is_finished(), "somebody still reads");
    reading.rollback().await.unwrap();
    let report = loading.await.unwrap();
    assert_eq!((report.purges.len(), report.purges[0].objects), (1, 7));
    let (swapped_at, purged_at) = (report.swapped_at.unwrap(), report.purged_at.unwrap());
    assert!(swapped_at < answered_at && answered_at < purged_at);
}

#[tokio::test]
async fn rows_that_are_added_purge_their_groups_and_nothing_else() {
    let scene = Scene::new().await;
    let more = one_review();
    let loading = scene.load(Mode::Merge, more.path().to_owned());
    let (body, stream) = scene.purge().await;
    let is_held = "select not pg_try_advisory_xact_lock_shared(coherence.hold_key())";
    assert_eq!(scene.shop.rows(is_held).await, ["(t)"]);
    assert_eq!(body, r#"{"tags":["product-2-meta","product-2-reviews"]}"#);
    answer(stream).await;
    assert_eq!(loading.await.unwrap().purges[0].error, None);
    // Again: every row is refused, and there is nothing to purge.
    let report = scene
        .load(Mode::Merge, more.path().to_owned())
        .await
        .unwrap();
    assert_eq!((report.loaded, report.purges.len()), (0, 0));
    assert_eq!(report.purged_at, None);
}

/// The rerun used to refuse every row as live, and to have nothing to purge and nothing to analyze.
#[tokio::test]
async fn a_merge_that_is_killed_before_its_purge_is_answered_leaves_it_to_the_next_run() {
    let scene = Scene::new().await;
    let more = one_review();
    let counted = "select reltuples from pg_class where oid = 'shop.reviews'::regclass";
    let before = scene.shop.rows(counted).await;
    scene.kill_unanswered(more.path()).await;
    let live = "select count(*) from reviews where id = 777";
    assert_eq!(scene.shop.rows(live).await, ["(1)"], "it was committed");
    assert_eq!(scene.shop.rows(counted).await, before);
    // A run that names no gateway analyzes, and leaves the purge to one that does.
    let unnamed = LoadOptions {
        mode: Mode::Merge,
        ..options(more.path())
    };
    let report = load::run(&scene.shop.url, &unnamed).await.unwrap();
    assert_eq!((report.loaded, report.rejected), (0, 1));
    assert_ne!(scene.shop.rows(counted).await, before);
    let loading = scene.load(Mode::Merge, more.path().to_owned());
    let (body, stream) = scene.purge().await;
    assert_eq!(body, r#"{"all":true}"#);
    answer(stream).await;
    let report = loading.await.unwrap();
    assert_eq!((report.loaded, report.purges.len()), (0, 1));
    assert_eq!(report.purges[0].error, None);
    // Now nothing is owed.
    let owed = "select count(*) from service.loads where owes_purge or owes_statistics";
    assert_eq!(scene.shop.rows(owed).await, ["(0)"]);
    let loading = scene.load(Mode::Merge, more.path().to_owned());
    assert_eq!(loading.await.unwrap().purges, []);
}

#[tokio::test]
async fn a_run_that_fails_purges_first_what_a_killed_one_left() {
    let scene = Scene::new().await;
    let more = one_review();
    scene.kill_unanswered(more.path()).await;
    let (url, token) = scene.gateway();
    let none = LoadOptions {
        mode: Mode::Merge,
        max_rejects: Some("0".parse().unwrap()),
        gateways: Some(Gateways::new(vec![url], &token).unwrap()),
        ..options(more.path())
    };
    let database_url = scene.shop.url.clone();
    let loading = tokio::spawn(async move { load::run(&database_url, &none).await });
    let (body, stream) = scene.purge().await;
    assert_eq!(body, r#"{"all":true}"#);
    answer(stream).await;
    let error = loading.await.unwrap().unwrap_err();
    assert_eq!(error.exit_code(), 7, "{error}");
}
