//! Gateways that are purged by a load: when, and of what.

use std::{fs, path::PathBuf, time::Duration};

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

    fn load(&self, mode: Mode, csv: PathBuf) -> JoinHandle<LoadReport> {
        let token = self.dir.path().join("token");
        fs::write(&token, "abc").unwrap();
        let url = format!("http://{}", self.listener.local_addr().unwrap());
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
    let more = TempDir::new().unwrap();
    let review = "777,2,5,2020-01-01,s,b,true,false,n,e@x.y,null,0\n";
    fs::write(
        more.path().join("reviews.csv"),
        format!("{REVIEWS}{review}"),
    )
    .unwrap();
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
