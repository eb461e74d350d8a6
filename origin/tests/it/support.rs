//! An origin on a real socket, over a database of its own.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use clap::Parser as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use origin::{
    App,
    config::{Cli, Command, Config},
    state::AppState,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use stack::TestCluster;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::described::assert_described;

/// What the tests call this build.
pub(crate) const RELEASE: &str = "0123456789ab";

/// An origin, and the database under it.
pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    pub(crate) private: SocketAddr,
    pub(crate) database: String,
    pub(crate) state: AppState,
    cluster: &'static TestCluster,
    /// Whether the database goes with this; one of a cluster of its own goes with that.
    drops_database: bool,
    client: Client<HttpConnector, Full<Bytes>>,
    end: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<anyhow::Result<()>>>,
}

/// A database with the schema and nothing in it, made once a process.
fn template() -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let cluster = TestCluster::shared();
        let name = cluster.create_database(None);
        migrate(cluster.owner_url(&name));
        name
    })
}

/// A cluster that the test may break, and where nobody else has a snapshot open; and a database with the schema.
pub(crate) async fn cluster_of_its_own(
    start: impl FnOnce() -> TestCluster + Send + 'static,
) -> (&'static TestCluster, String) {
    let started = tokio::task::spawn_blocking(|| {
        let cluster: &'static TestCluster = Box::leak(Box::new(start()));
        let database = cluster.create_database(None);
        migrate(cluster.owner_url(&database));
        (cluster, database)
    });
    started.await.unwrap()
}

/// Applies the schema, from within any runtime or none.
pub(crate) fn migrate(owner_url: String) {
    let migrated = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(etl::schema::migrate(&owner_url))
    });
    migrated.join().unwrap().expect("the schema applies");
}

/// A setting of tests alone: the database must keep what it acknowledges, as it must in production.
pub(crate) const STRICT: &str = "(strict)";

/// The settings of a test, with more of them.
pub(crate) fn config(database_url: &str, more: &[&str]) -> Config {
    let fixed = [
        "origin",
        "run",
        "--listen=127.0.0.1:0",
        "--private=127.0.0.1:0",
        "--allow-unsafe-durability",
        "--maintenance-every-s=0",
        // Many tests share two cores: what is fast in production may be slow here.
        "--acquire-timeout-ms=2000",
        "--statement-timeout-ms=9000",
        "--statement-deadline-ms=9500",
        "--database-url",
        database_url,
    ];
    // The last of a repeated flag would be an error: a test's own replace ours.
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    let own: Vec<_> = more.iter().map(|flag| name(flag)).collect();
    let kept = fixed.iter().filter(|flag| !own.contains(&name(flag)));
    let more = more.iter().filter(|flag| **flag != STRICT);
    let Command::Run(mut config) = Cli::parse_from(kept.chain(more)).command else {
        panic!("the command is run");
    };
    config.allow_unsafe_durability = !own.contains(&STRICT.to_owned());
    config.check().expect("valid settings");
    *config
}

impl TestApp {
    /// Starts an origin over a new database with these rows in it.
    pub(crate) async fn start(fixtures: &[&str]) -> Self {
        Self::start_with(fixtures, &[]).await
    }

    /// The same, with more settings.
    pub(crate) async fn start_with(fixtures: &[&str], settings: &[&str]) -> Self {
        let (cluster, database) = tokio::task::spawn_blocking(|| {
            let cluster = TestCluster::shared();
            let database = cluster.create_database(Some(template()));
            (cluster, database)
        })
        .await
        .unwrap();
        let mut app = Self::start_on(cluster, database, fixtures, settings).await;
        app.drops_database = true;
        app
    }

    /// The same, over a database that is there.
    pub(crate) async fn start_on(
        cluster: &'static TestCluster,
        database: String,
        fixtures: &[&str],
        settings: &[&str],
    ) -> Self {
        let mut owner = owner(cluster, &database).await;
        for fixture in fixtures {
            execute(&mut owner, fixture).await;
        }
        execute(&mut owner, SEQUENCES_PAST_FIXTURES).await;
        // Tests look at what requests append to it, not at what fixtures did.
        execute(&mut owner, "truncate coherence.outbox").await;
        Self::serve(cluster, database, settings).await
    }

    /// Starts one more origin over a database that is in use.
    pub(crate) async fn beside(other: &Self, settings: &[&str]) -> Self {
        Self::serve(other.cluster, other.database.clone(), settings).await
    }

    async fn serve(cluster: &'static TestCluster, database: String, settings: &[&str]) -> Self {
        let config = config(&cluster.app_url(&database), settings);
        let app = App::build(config, RELEASE).await.expect("an origin");
        let (address, private) = app.addresses().unwrap();
        let state = app.state().clone();
        let (end, ended) = oneshot::channel::<()>();
        let served = tokio::spawn(app.serve(async {
            let _ = ended.await;
        }));
        Self {
            address,
            private,
            database,
            state,
            cluster,
            drops_database: false,
            client: Client::builder(TokioExecutor::new()).build_http(),
            end: Some(end),
            served: Some(served),
        }
    }

    /// Starts an origin over whatever there is at a URL, for as long as the test runs; gives its address.
    pub(crate) async fn over(database_url: &str, settings: &[&str]) -> SocketAddr {
        let app = App::build(config(database_url, settings), RELEASE)
            .await
            .expect("an origin");
        let (address, _) = app.addresses().unwrap();
        tokio::spawn(app.serve(std::future::pending()));
        address
    }

    /// Ends the origin; gives what its `serve` gave.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.begin_end();
        self.served.take().unwrap().await.unwrap()
    }

    /// Tells the origin to end, and does not wait.
    pub(crate) fn begin_end(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }

    /// Sends a request; its answer must be one that the API's description knows.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let sent = self.try_send(self.address, method, path, fields, body.into());
        let answer = sent
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_described(method, path, &answer);
        answer
    }

    async fn try_send(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, hyper_util::client::legacy::Error> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(format!("http://{address}{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        let response = tokio::time::timeout(DEADLINE, self.client.request(request))
            .await
            .unwrap_or_else(|_| panic!("{method} {path}: no answer"))?;
        Ok(Answer::read(response).await)
    }

    /// Sends a GET.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// Sends a PUT without a body.
    pub(crate) async fn put(&self, path: &str) -> Answer {
        self.send("PUT", path, &[], "").await
    }

    /// Sends a POST of JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let fields = [("content-type", "application/json")];
        self.send("POST", path, &fields, body.to_string()).await
    }

    /// Sends a GET to the private listener.
    pub(crate) async fn get_private(&self, path: &str) -> Answer {
        self.try_send(self.private, "GET", path, &[], Bytes::new())
            .await
            .unwrap()
    }

    /// Sends a request to the private listener whose answer has no end.
    pub(crate) async fn open_private(
        &self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Response<Incoming> {
        open_with(self.private, path, fields).await
    }

    /// Sends a POST without a body to the private listener.
    pub(crate) async fn post_private(&self, path: &str) -> Answer {
        let sent = self.try_send(self.private, "POST", path, &[], Bytes::new());
        sent.await.unwrap()
    }

    /// A connection as the database's owner.
    pub(crate) async fn owner(&self) -> PgConnection {
        owner(self.cluster, &self.database).await
    }

    /// Runs statements as the database's owner.
    pub(crate) async fn sql(&self, statements: &str) {
        execute(&mut self.owner().await, statements).await;
    }

    /// Asks the database for one value.
    pub(crate) async fn value<T>(&self, query: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let query = sqlx::query(AssertSqlSafe(query.to_owned()));
        let row = query.fetch_one(&mut self.owner().await).await.unwrap();
        row.try_get(0).unwrap()
    }

    /// How many rows a table has.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        self.value(&format!("select count(*) from {table}")).await
    }

    /// The groups that have been appended to the outbox, one list a row.
    pub(crate) async fn outbox(&self) -> Vec<Vec<String>> {
        let query = sqlx::query("select groups from coherence.outbox order by appended_at");
        let rows = query.fetch_all(&mut self.owner().await).await.unwrap();
        rows.iter().map(|row| row.try_get(0).unwrap()).collect()
    }

    /// Polls until a condition holds.
    pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !condition().await {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.begin_end();
        if self.drops_database && !std::thread::panicking() {
            let (cluster, database) = (self.cluster, self.database.clone());
            // Not waited for: the cluster goes with the process anyhow.
            std::thread::spawn(move || cluster.drop_database(&database));
        }
    }
}

/// Sends a GET over a connection of its own; does not wait for the body.
pub(crate) async fn open(address: SocketAddr, path: &str) -> Response<Incoming> {
    open_with(address, path, &[]).await
}

async fn open_with(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Response<Incoming> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::builder().uri(format!("http://{address}{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let response = tokio::time::timeout(DEADLINE, client.request(request));
    response.await.expect("an answer in time").unwrap()
}

/// The folder of the database's socket.
pub(crate) fn socket_dir(app: &TestApp) -> std::path::PathBuf {
    let url = app.cluster.app_url(&app.database);
    let (_, dir) = url.split_once("host=").expect("a socket's folder");
    dir.split('&').next().expect("a folder").into()
}

/// What the loader does after the rows are in.
const SEQUENCES_PAST_FIXTURES: &str = "
  select setval('shop.reviews_id_seq', greatest(100, max(id))) from shop.reviews;
  select setval('shop.review_photos_id_seq', greatest(100, max(id))) from shop.review_photos;
  select setval('shop.characteristic_reviews_id_seq', greatest(100, max(id))) from shop.characteristic_reviews;
  select setval('shop.questions_id_seq', greatest(100, max(id))) from shop.questions;
  select setval('shop.answers_id_seq', greatest(100, max(id))) from shop.answers;
  select setval('shop.answer_photos_id_seq', greatest(100, max(id))) from shop.answer_photos;";

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

async fn owner(cluster: &TestCluster, database: &str) -> PgConnection {
    PgConnection::connect(&cluster.owner_url(database))
        .await
        .expect("the owner can connect")
}

/// Runs any number of statements.
pub(crate) async fn execute(conn: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(conn)
        .await
        .unwrap_or_else(|error| panic!("{error}: {statements}"));
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn read(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.expect("a whole body").to_bytes(),
        }
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// A field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The ids of the rows in `results`.
    pub(crate) fn ids(&self, name: &str) -> Vec<i64> {
        let json = self.json();
        let rows = json["results"].as_array().expect("results").clone();
        rows.iter().map(|row| row[name].as_i64().unwrap()).collect()
    }

    /// Asserts a 200 that may be stored under these groups.
    #[track_caller]
    pub(crate) fn assert_cached_under(&self, groups: &[&str]) -> &Self {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.assert_class_p(groups)
    }

    /// Asserts the fields of class P.
    #[track_caller]
    pub(crate) fn assert_class_p(&self, groups: &[&str]) -> &Self {
        let release = format!("release-{RELEASE}");
        let members = groups.iter().copied().chain([release.as_str()]);
        let list: Vec<_> = members.map(|group| format!("\"{group}\"")).collect();
        assert_eq!(self.field("cache-groups"), list.join(", "), "{self:?}");
        assert_eq!(
            self.field("cache-control"),
            "public, max-age=0, must-revalidate"
        );
        assert_eq!(
            self.field("cdn-cache-control"),
            "public, max-age=86400, stale-if-error=86400"
        );
        let etag = self.field("etag");
        assert!(
            etag.starts_with('"') && etag.ends_with('"') && etag.len() > 20,
            "{etag}"
        );
        self
    }

    /// Asserts the fields of class N.
    #[track_caller]
    pub(crate) fn assert_never_stored(&self) -> &Self {
        assert_eq!(self.field("cache-control"), "private, no-store", "{self:?}");
        for field in ["cdn-cache-control", "cache-groups", "etag"] {
            assert_eq!(self.field(field), "", "{field}: {self:?}");
        }
        self
    }

    /// Asserts a 201 or 204 that makes these groups out of date.
    #[track_caller]
    pub(crate) fn assert_invalidates(&self, groups: &[&str]) -> &Self {
        let list: Vec<_> = groups.iter().map(|group| format!("\"{group}\"")).collect();
        assert_eq!(
            self.field("cache-group-invalidation"),
            list.join(", "),
            "{self:?}"
        );
        self.assert_never_stored()
    }

    /// Asserts a 201, and where it says the new thing is.
    #[track_caller]
    pub(crate) fn assert_created(&self, location_begins: &str) -> &Self {
        assert_eq!(self.status, StatusCode::CREATED, "{self:?}");
        assert_eq!(self.text(), "Created");
        assert_eq!(self.field("content-type"), "text/plain; charset=utf-8");
        assert!(
            self.field("location").starts_with(location_begins),
            "{self:?}"
        );
        assert_eq!(
            self.field("location").is_empty(),
            location_begins.is_empty(),
            "{self:?}"
        );
        self.assert_never_stored()
    }

    /// Asserts one of the errors that are text.
    #[track_caller]
    pub(crate) fn assert_text_error(&self, status: u16, body: &str) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.text(), body);
        assert_eq!(self.field("content-type"), "text/plain; charset=utf-8");
        self.assert_never_stored()
    }

    /// Asserts one of the errors that are problems.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.field("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{code}"));
        assert_eq!(problem["status"], status);
        assert!(
            problem["title"].is_string() && problem["detail"].is_string(),
            "{problem}"
        );
        if code == "unknown-product" {
            self
        } else {
            self.assert_never_stored()
        }
    }
}

/// The fixtures, each named for the story it tells.
pub(crate) mod fixture {
    pub(crate) const ONE_PRODUCT_WITH_EVERYTHING: &str =
        include_str!("../fixtures/one_product_with_everything.sql");
    pub(crate) const PRODUCT_IDS_WITH_GAPS: &str =
        include_str!("../fixtures/product_ids_with_gaps.sql");
    pub(crate) const REVIEWS_WITH_TIES: &str = include_str!("../fixtures/reviews_with_ties.sql");
    pub(crate) const QUESTIONS_WITH_ANSWERS: &str =
        include_str!("../fixtures/questions_with_answers.sql");
}

/// A review that is accepted for product 2 of the fixture.
pub(crate) fn review() -> Value {
    serde_json::json!({
        "product_id": 2, "rating": 4, "summary": "Good", "body": "I like it.", "recommend": true,
        "name": "maria", "email": "maria@example.com", "photos": ["https://example.com/p.jpg"],
        "characteristics": { "14": 5, "15": 1 }
    })
}

/// A question that is accepted for product 5 of the fixture.
pub(crate) fn question() -> Value {
    serde_json::json!({
        "product_id": 5, "body": "Is it warm?", "name": "maria", "email": "maria@example.com"
    })
}

/// An answer that is accepted.
pub(crate) fn answer() -> Value {
    serde_json::json!({
        "body": "It is.", "name": "maria", "email": "maria@example.com",
        "photos": ["https://example.com/p.jpg"]
    })
}

/// An interaction that is accepted.
pub(crate) fn interaction() -> Value {
    serde_json::json!({ "element": "<button>Buy</button>", "widget": "overview", "time": "12:34" })
}
