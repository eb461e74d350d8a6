//! The whole system through its real programs: generated files, loader, origins, gateway.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use stack::{binaries::Binaries, http::Client, process};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, Program, data_dir, eventually, processes_naming, stack};

/// Small enough to be generated and loaded in seconds.
const PRODUCTS: &str = "300";
const READERS: u64 = 4;
/// What a test puts in the place of the endpoints of an earlier run.
const STALE: &str = "stale";

/// A running system, or one that was stopped and may be started again.
struct System {
    dir: TempDir,
    program: Program,
    endpoints: Value,
    client: Client,
}

impl System {
    fn start() -> Self {
        require_programs();
        Self::start_in(data_dir(), &[])
    }

    fn start_in(dir: TempDir, arguments: &[&str]) -> Self {
        let program = launch(dir.path(), arguments);
        let mut system = Self {
            dir,
            program,
            endpoints: Value::Null,
            client: Client::new(),
        };
        system.wait_until_it_serves();
        system
    }

    fn start_again(&mut self) {
        self.program = launch(self.dir.path(), &[]);
        self.wait_until_it_serves();
    }

    fn wait_until_it_serves(&mut self) {
        let path = endpoints_file(self.dir.path());
        eventually("the system serves", || {
            let ended = self.program.child.try_wait().unwrap();
            assert!(ended.is_none(), "stack up: {ended:?}\n{}", self.log());
            fs::read_to_string(&path).is_ok_and(|text| text != STALE)
        });
        self.endpoints = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("up.log")).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoints["gateway"].as_str().unwrap())
    }

    async fn get(&self, path: &str) -> stack::http::Answer {
        let answer = self.client.get(&self.url(path), None).await.unwrap();
        assert_eq!(answer.status, 200, "{path}\n{}", self.log());
        answer
    }

    async fn post_review(&self, summary: &str) {
        let review = json!({
            "product_id": 2, "rating": 5, "recommend": true, "summary": summary, "body": "It fits.",
            "name": "tester", "email": "tester@example.com",
        });
        let answer = self
            .client
            .post_json(&self.url("/reviews"), &review)
            .await
            .unwrap();
        assert_eq!(answer.status, 201, "{:?}\n{}", answer.body, self.log());
    }

    async fn newest_summary(&self) -> String {
        let page = self
            .get("/reviews?product_id=2&sort=newest")
            .await
            .json()
            .unwrap();
        page["results"][0]["summary"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// How many reviews of product 2 the meta data count.
    async fn counted(&self) -> u64 {
        let meta = self.get("/reviews/meta?product_id=2").await.json().unwrap();
        let ratings = meta["ratings"].as_object().unwrap();
        ratings
            .values()
            .map(|count| count.as_str().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// The process of the first origin.
    fn origin(&self) -> Option<u32> {
        let address = self.origin_url().trim_start_matches("http://");
        let listens = format!("origin run --listen {address} ");
        let mut processes = processes_naming(&self.data()).into_iter();
        processes
            .find(|(_, line)| line.contains(&listens))
            .map(|(id, _)| id)
    }

    fn origin_url(&self) -> &str {
        self.endpoints["origins"][0].as_str().unwrap()
    }
}

impl Drop for System {
    /// In order, so that nobody writes to the directory while it is removed.
    fn drop(&mut self) {
        let _ = kill(process::pid(self.program.child.id()), Signal::SIGTERM);
        let _ = self.program.child.wait();
    }
}

fn launch(dir: &Path, arguments: &[&str]) -> Program {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("up.log"))
        .unwrap();
    let mut command = up(&dir.join("data"));
    command.arg("--endpoints").arg(endpoints_file(dir));
    command.args(["--products", PRODUCTS, "--origins", "2"]);
    Program::start_logged(command.args(arguments), log)
}

fn up(data: &Path) -> std::process::Command {
    let mut command = stack(&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.arg("--data").arg(data);
    command
}

fn endpoints_file(dir: &Path) -> PathBuf {
    dir.join("endpoints.json")
}

fn require_programs() {
    let dir = Path::new(env!("CARGO_BIN_EXE_stack")).parent().unwrap();
    for name in ["etl", "origin", "gateway"] {
        let path = dir.join(name);
        assert!(
            path.is_file(),
            "{} is missing: run `cargo build --workspace --bins` first",
            path.display()
        );
    }
}

#[tokio::test]
async fn a_page_is_cached_until_a_review_is_posted_which_it_then_shows_first() {
    let system = System::start();
    let page = "/reviews?product_id=2&sort=newest";
    let first = system.get(page).await;
    assert!(
        !first.header("cache-status").contains("hit"),
        "{}",
        first.header("cache-status")
    );
    let second = system.get(page).await;
    assert!(
        second.header("cache-status").contains("hit"),
        "{}",
        second.header("cache-status")
    );
    assert_eq!(first.body, second.body);

    let counted = system.counted().await;
    system.post_review("Seen at once").await;
    assert_eq!(system.newest_summary().await, "Seen at once");
    assert_eq!(system.counted().await, counted + 1);
}

#[tokio::test]
async fn a_change_through_one_gateway_or_by_sql_shows_at_every_gateway_and_all_end_together() {
    require_programs();
    let arguments = ["--gateways", "2", "--replicas", "1"];
    let mut system = System::start_in(data_dir(), &arguments);
    let gateways: Vec<String> = urls(&system.endpoints["gateways"]);
    assert_eq!(gateways.len(), 2);
    assert_eq!(gateways[0], system.endpoints["gateway"]);
    let page = "/reviews?product_id=2&sort=newest";
    let shows = async |gateway: &str, summary: &str| {
        let answer = system.client.get(&format!("{gateway}{page}"), None).await;
        let page = answer.unwrap().json().unwrap();
        page["results"][0]["summary"] == summary
    };
    let everywhere = async |summary: &str| {
        let began = Instant::now();
        for gateway in &gateways {
            while !shows(gateway, summary).await {
                assert!(began.elapsed() < PATIENCE, "{summary}\n{}", system.log());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    // What is kept has to go, or nothing would be shown.
    for gateway in &gateways {
        shows(gateway, "").await;
    }
    system.post_review("Through the first one").await;
    assert!(shows(&gateways[0], "Through the first one").await);
    everywhere("Through the first one").await;
    let sql = "update shop.reviews set summary = 'By SQL' where summary = 'Through the first one'";
    psql(system.endpoints["owner_url"].as_str().unwrap(), sql);
    everywhere("By SQL").await;

    let replica = &urls(&system.endpoints["replicas"])[0];
    assert_eq!(psql(replica, "select pg_is_in_recovery()"), "t");
    system.program.signal(Signal::SIGTERM);
    assert!(system.program.child.wait().unwrap().success());
    assert_eq!(processes_naming(&system.data()), []);
    system.program = launch(system.dir.path(), &arguments);
    system.wait_until_it_serves();
    assert_eq!(system.newest_summary().await, "By SQL");
}

fn urls(list: &Value) -> Vec<String> {
    let urls = list.as_array().unwrap().iter();
    urls.map(|url| url.as_str().unwrap().to_owned()).collect()
}

fn psql(url: &str, statement: &str) -> String {
    let program = Binaries::find(None).unwrap().program("psql");
    let output = std::process::Command::new(program)
        .args(["-X", "-q", "-A", "-t", "-c", statement, url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn killing_an_origin_costs_no_reader_an_answer() {
    let system = Arc::new(System::start());
    let (stop, answers) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let read = |reader: u64| {
        let (system, stop, answers) =
            (Arc::clone(&system), Arc::clone(&stop), Arc::clone(&answers));
        async move {
            for n in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // Each URL is new to the cache, so that every answer needs an origin.
                let (product, count) = (n % 300 + 1, 1000 * reader + n);
                system
                    .get(&format!(
                        "/qa/questions?product_id={product}&count={}",
                        count % 9000 + 1
                    ))
                    .await;
                answers.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let readers: Vec<_> = (0..READERS)
        .map(|reader| tokio::spawn(read(reader)))
        .collect();
    let progress = async |more: u64| {
        let goal = answers.load(Ordering::Relaxed) + more;
        while answers.load(Ordering::Relaxed) < goal && !readers.iter().any(JoinHandle::is_finished)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };

    progress(100).await;
    let killed = system.origin().unwrap();
    kill(process::pid(killed), Signal::SIGKILL).unwrap();
    progress(500).await;
    let probe = format!("{}/products?count=1", system.origin_url());
    while !system
        .client
        .get(&probe, None)
        .await
        .is_ok_and(|answer| answer.status == 200)
    {
        progress(10).await;
    }
    progress(100).await;

    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert_ne!(system.origin(), Some(killed), "it was started again");
}

#[tokio::test]
async fn stopping_leaves_no_process_and_the_next_start_keeps_the_data() {
    let mut system = System::start();
    system.post_review("Kept over a stop").await;
    let error = refused(&mut up(&system.data()));
    assert!(error.contains("in use by process"), "{error}");

    let children = process::children(system.program.child.id()).unwrap();
    assert!(children.len() >= 4, "Postgres, two origins, the gateway");
    system.program.signal(Signal::SIGINT);
    assert!(
        system.program.child.wait().unwrap().success(),
        "{}",
        system.log()
    );
    assert_eq!(processes_naming(&system.data()), []);
    assert!(!children.iter().any(|id| process::is_alive(*id)));
    assert!(!endpoints_file(system.dir.path()).exists());

    let error = refused(up(&system.data()).arg("--csv").arg(system.dir.path()));
    assert!(error.contains("--fresh"), "{error}");
    system.start_again();
    assert_eq!(system.newest_summary().await, "Kept over a stop");
}

#[tokio::test]
async fn killing_the_supervisor_outright_leaves_no_process_and_loses_no_data() {
    let mut system = System::start();
    system.post_review("Kept over a kill").await;
    system.program.signal(Signal::SIGKILL);
    system.program.child.wait().unwrap();
    eventually("every process has ended", || {
        processes_naming(&system.data()).is_empty()
    });

    // Nobody was left to remove it: the next start does.
    let endpoints = endpoints_file(system.dir.path());
    assert!(endpoints.exists());
    fs::write(endpoints, STALE).unwrap();
    system.start_again();
    assert_eq!(system.newest_summary().await, "Kept over a kill");
}

#[tokio::test]
async fn after_a_failed_load_the_next_start_loads_the_files_it_names() {
    require_programs();
    let dir = data_dir();
    let csv = dir.path().join("own");
    generate(&csv, "7");
    let styles = csv.join("styles.csv");
    let good = fs::read(&styles).unwrap();
    fs::write(&styles, "id,name\n1,A\n").unwrap();
    let data = dir.path().join("data");
    let error = refused(up(&data).arg("--csv").arg(&csv));
    let last = error.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: loading ")
            && last.contains("styles.csv:1: column productId: bad_header"),
        "{error}"
    );

    fs::write(&styles, good).unwrap();
    let csv = csv.to_str().unwrap().to_owned();
    let system = System::start_in(dir, &["--csv", &csv]);
    let products = system.get("/products?count=100").await.json().unwrap();
    let count = products.as_array().unwrap().len();
    assert!((1..=7).contains(&count), "{count} of the 7 products named");
}

#[tokio::test]
async fn a_load_into_the_running_system_is_seen_as_soon_as_it_is_done() {
    let system = System::start();
    let page = "/products?count=100";
    let before = system.get(page).await;
    let again = system.get(page).await;
    assert!(again.header("cache-status").contains("hit"));

    let csv = system.dir.path().join("own");
    generate(&csv, "7");
    let mut load = etl();
    load.args(["load", "--csv"]).arg(&csv);
    load.args([
        "--database-url",
        system.endpoints["owner_url"].as_str().unwrap(),
    ]);
    load.args(["--purge", system.endpoints["admin"].as_str().unwrap()]);
    load.arg("--purge-token-file")
        .arg(system.data().join("admin-token"));
    let output = load.output().unwrap();
    let summary = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(summary.contains("answers removed"), "{summary}");
    let after = system.get(page).await;
    assert!(!after.header("cache-status").contains("hit"));
    assert_ne!(after.body, before.body);
}

/// The loader, as a person would run it.
fn etl() -> std::process::Command {
    std::process::Command::new(Path::new(env!("CARGO_BIN_EXE_stack")).with_file_name("etl"))
}

fn generate(csv: &Path, products: &str) {
    let mut command = etl();
    command.args(["generate", "--seed", "9", "--products", products, "--out"]);
    let output = command.arg(csv).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// What is said by a start that fails.
fn refused(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}
