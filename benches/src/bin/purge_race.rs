//! Purges that meet fills on their way: whoever asks after a purge was answered may never get what was there before it.
//!
//! Every try has a page of its own. The origin decides on its answer and holds it; the page changes; the purge is sent; the old
//! answer is let go before the purge, while it is under way or after it was answered, before its header or between header and
//! body. A try in which the purge came too late to meet the fill proves nothing: it is counted apart, and another one is made.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use benches::dice::Dice;
use benches::exchange::{Exchange, Whole};
use benches::gateway_process::{GatewayProcess, purged};
use benches::load::get;
use benches::report;
use benches::scripted::{Asked, Pause, Reply, Scripted};
use benches::verdict::Verdicts;
use clap::Parser;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How the old answer comes to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Miss,
    Unchanged,
    Changed,
    Background,
    Waiter,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Miss, "miss"),
    (Kind::Unchanged, "revalidation-304"),
    (Kind::Changed, "revalidation-200"),
    (Kind::Background, "background-refresh"),
    (Kind::Waiter, "waiter"),
];

/// What the purges of some tries name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// The page, in one of several ways.
    Page,
    /// Everything there is.
    Everything,
}

/// Turns of the scheduler that let an old answer go earlier or later.
const TURNS_MAX: u32 = 40;

#[derive(Parser)]
struct Arguments {
    /// Tries of each kind in which the purge met the fill.
    #[arg(long, default_value_t = 10_000)]
    tries: u64,
    /// Of these the ones in which everything is purged, one after the other: such a purge ends every race under way.
    #[arg(long, default_value_t = 1_000)]
    everything: u64,
    /// Tries at once: no more than purges by prefix that the gateway tells apart.
    #[arg(long, default_value_t = 32)]
    lanes: u64,
    /// Seed of the timing.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// An answer that the origin has decided on and holds.
#[derive(Clone)]
struct Hold {
    is_after_header: bool,
    has_arrived: Arc<watch::Sender<bool>>,
    is_open: Arc<watch::Sender<bool>>,
}

impl Hold {
    fn new(is_after_header: bool) -> Self {
        Self {
            is_after_header,
            has_arrived: Arc::new(watch::Sender::new(false)),
            is_open: Arc::new(watch::Sender::new(false)),
        }
    }

    async fn pass(&self) {
        self.has_arrived.send_replace(true);
        let _ = self.is_open.subscribe().wait_for(|open| *open).await;
    }

    async fn open_after(&self, turns: u32) {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        self.is_open.send_replace(true);
    }

    async fn arrived(&self) {
        let _ = self.has_arrived.subscribe().wait_for(|here| *here).await;
    }
}

struct Page {
    kind: Kind,
    version: AtomicU64,
    was_filled: AtomicBool,
    next: Mutex<Option<Hold>>,
}

impl Page {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            version: AtomicU64::new(1),
            was_filled: AtomicBool::new(false),
            next: Mutex::default(),
        }
    }

    fn hold(&self, hold: &Hold) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold.clone());
    }

    /// Head and body of what the page is at this moment.
    fn now(&self, asked: &Asked) -> (String, String) {
        let body = self.version.load(Ordering::SeqCst).to_string();
        let etag = format!("\"{body}\"");
        let was_filled = self.was_filled.swap(true, Ordering::SeqCst);
        let is_validation = asked.field("if-none-match").is_some();
        let lifetime = match self.kind {
            // Were an overtaken validation kept, it would be a hit for an hour.
            Kind::Unchanged | Kind::Changed if !is_validation => "max-age=0",
            Kind::Background if !was_filled => "max-age=60, stale-while-revalidate=3600\r\nAge: 61",
            _ => "max-age=3600",
        };
        let is_same = asked.field("if-none-match") == Some(&etag);
        let group = asked.target.replace('/', "-");
        let fields =
            format!("Cache-Control: {lifetime}\r\nCache-Groups: \"{group}\"\r\nETag: {etag}");
        if self.kind == Kind::Unchanged && is_same {
            (
                format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n\r\n"),
                String::new(),
            )
        } else {
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {length}\r\n\r\n");
            (head, body)
        }
    }
}

#[derive(Clone, Default)]
struct Pages(Arc<Mutex<HashMap<String, Arc<Page>>>>);

impl Pages {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Page>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn origin(&self) -> Result<Scripted> {
        let pages = self.clone();
        Scripted::start(move |asked| {
            let page = pages.all().get(&asked.target).cloned();
            async move {
                let page = page?;
                let hold = page
                    .next
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                // Decided now, told later.
                let (head, body) = page.now(&asked);
                let pause: Option<Pause> = match hold {
                    Some(hold) if hold.is_after_header => {
                        Some(Box::pin(async move { hold.pass().await }))
                    }
                    Some(hold) => {
                        hold.pass().await;
                        None
                    }
                    None => None,
                };
                let body = body.into_bytes();
                Some(Reply { head, pause, body })
            }
        })
    }
}

/// When the origin let its old answer go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LetGo {
    /// Before the purge was sent: they may have missed each other.
    Before,
    /// After the purge was sent and before its answer was read.
    Meanwhile,
    /// After the purge was answered.
    After,
}

/// What some tries of one kind came to.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Old bodies given to who asked after the purge was answered.
    old: u64,
    /// Tries by when the old answer was let go.
    before: u64,
    meanwhile: u64,
    after: u64,
    /// Purges that found something to take out.
    found: u64,
}

impl Tally {
    /// Tries in which the purge fell into the open fill.
    fn races(&self) -> u64 {
        self.meanwhile + self.after
    }

    fn add(&mut self, other: &Self) {
        self.old += other.old;
        self.before += other.before;
        self.meanwhile += other.meanwhile;
        self.after += other.after;
        self.found += other.found;
    }
}

struct Lane {
    first: Exchange,
    waiter: Exchange,
    later: Exchange,
    admin: Exchange,
    dice: Dice,
    pages: Pages,
    named: Named,
}

impl Lane {
    fn new(gateway: &GatewayProcess, pages: &Pages, (named, seed): (Named, u64)) -> Self {
        Self {
            named,
            first: Exchange::new(gateway.public),
            waiter: Exchange::new(gateway.public),
            later: Exchange::new(gateway.public),
            admin: Exchange::new(gateway.admin),
            dice: Dice::new(seed),
            pages: pages.clone(),
        }
    }

    async fn attempt(
        &mut self,
        gateway: &GatewayProcess,
        (kind, target): (Kind, &str),
        tally: &mut Tally,
    ) -> Result<()> {
        let page = Arc::new(Page::new(kind));
        self.pages
            .all()
            .insert(target.to_owned(), Arc::clone(&page));
        let request = get(target);
        self.prepare(gateway, kind, target).await?;
        // An answer without a body has nothing to hold behind its header.
        let hold = Hold::new(kind != Kind::Unchanged && self.dice.between(0, 1) == 1);
        page.hold(&hold);
        self.first.send(&request).await?;
        if kind == Kind::Background {
            ensure!(
                version(&self.first.receive(false).await?)? == 1,
                "not served stale"
            );
        }
        hold.arrived().await;
        if kind == Kind::Waiter {
            self.waiter.send(&request).await?;
        }
        page.version.store(2, Ordering::SeqCst);
        match self.purge(gateway, (kind, target), &hold, tally).await? {
            LetGo::Before => tally.before += 1,
            LetGo::Meanwhile => tally.meanwhile += 1,
            LetGo::After => tally.after += 1,
        }
        let later = self.later.exchange(&request).await;
        hold.is_open.send_replace(true);
        tally.old += u64::from(version(&later?)? < 2);
        if kind != Kind::Background {
            self.first.receive(false).await?; // asked before the purge: either will do
        }
        if kind == Kind::Waiter {
            self.waiter.receive(false).await?;
        }
        // Once more, when everything that was on its way has come.
        tally.old += u64::from(version(&self.later.exchange(&request).await?)? < 2);
        self.pages.all().remove(target);
        Ok(())
    }

    /// Brings the cache to where the old answer is asked for.
    async fn prepare(&mut self, gateway: &GatewayProcess, kind: Kind, target: &str) -> Result<()> {
        if kind == Kind::Miss {
            return Ok(());
        }
        let filled = self.first.exchange(&get(target)).await?;
        ensure!(version(&filled)? == 1, "not filled");
        if kind == Kind::Waiter {
            // Its groups are known from now on: purges of other lanes send no waiter on a fetch of its own.
            let emptied = gateway.purge(&json!({ "urls": [target] }));
            let emptied = self.admin.exchange(&emptied).await?;
            ensure!(purged(&emptied, "objects")? == 1, "not emptied");
        }
        Ok(())
    }

    /// Purges, and lets the old answer go before, meanwhile or after.
    async fn purge(
        &mut self,
        gateway: &GatewayProcess,
        (kind, target): (Kind, &str),
        hold: &Hold,
        tally: &mut Tally,
    ) -> Result<LetGo> {
        let mut order = match self.named {
            Named::Page => scope(target, self.dice.between(0, 5)),
            Named::Everything => json!({ "all": true }),
        };
        // What a soft purge made stale may be given while it is refreshed: the old body proves nothing where that is granted.
        if kind != Kind::Background && self.dice.between(0, 2) == 0 {
            order["soft"] = true.into();
        }
        let request = gateway.purge(&order);
        let turns = self.dice.between(0, TURNS_MAX);
        let let_go = match self.dice.between(0, 7) {
            0 => LetGo::Before,
            1..=4 => LetGo::Meanwhile,
            _ => LetGo::After,
        };
        if let_go == LetGo::Before {
            hold.open_after(turns).await;
        }
        self.admin.send(&request).await?;
        let answer = if let_go == LetGo::Meanwhile {
            tokio::join!(self.admin.receive(false), hold.open_after(turns)).0?
        } else {
            self.admin.receive(false).await?
        };
        tally.found += u64::from(purged(&answer, "objects")? > 0);
        if let_go == LetGo::After && self.dice.between(0, 1) == 1 {
            // The later request meets an old fill that ends meanwhile; else one that hangs.
            let hold = hold.clone();
            tokio::spawn(async move { hold.open_after(turns).await });
        }
        Ok(let_go)
    }
}

/// Every way to name a page.
fn scope(target: &str, way: u32) -> Value {
    match way {
        0 => json!({ "urls": [target] }),
        1 => json!({ "urls": [format!("http://bench{target}")] }),
        2 => json!({ "prefixes": [target] }),
        3 => json!({ "prefixes": [format!("http://bench{target}")] }),
        4 => json!({ "tags": [target.replace('/', "-")], "hosts": ["bench"] }),
        _ => json!({ "tags": [target.replace('/', "-")] }),
    }
}

fn version(answer: &Whole) -> Result<u64> {
    ensure!(answer.status == 200, "no page: {answer:?}");
    let body = std::str::from_utf8(&answer.body)?;
    body.parse().context("a body without a version")
}

async fn run_kind(
    arguments: &Arguments,
    gateway: &Arc<GatewayProcess>,
    pages: &Pages,
    (kind, name): (Kind, &'static str),
    named: Named,
) -> Result<Tally> {
    let everything = arguments.everything.min(arguments.tries);
    let (tries, lanes) = match named {
        Named::Page => (arguments.tries - everything, arguments.lanes),
        Named::Everything => (everything, 1),
    };
    let seed = arguments.seed;
    let lanes: Vec<_> = (0..lanes)
        .map(|number| {
            let (gateway, pages) = (Arc::clone(gateway), pages.clone());
            tokio::spawn(async move {
                let mut lane = Lane::new(&gateway, &pages, (named, seed * lanes + number));
                let mut tally = Tally::default();
                let share = tries / lanes + u64::from(number < tries % lanes);
                let mut attempts = (number..).step_by(lanes as usize);
                while let (true, Some(attempt)) = (tally.races() < share, attempts.next()) {
                    // Ends alike for no two tries: a prefix names one page only.
                    let target = format!("/{name}/{named:?}/{attempt}/page");
                    let tried = lane.attempt(&gateway, (kind, &target), &mut tally).await;
                    tried.with_context(|| format!("trying {target}"))?;
                }
                anyhow::Ok(tally)
            })
        })
        .collect();
    let mut total = Tally::default();
    for lane in lanes {
        total.add(&lane.await??);
    }
    Ok(total)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let pages = Pages::default();
    let origin = pages.origin()?;
    let settings = "[upstream]\nin_flight_max = 4096\n[limits]\nkeepalive_requests_max = 1000000\n";
    let gateway = Arc::new(GatewayProcess::before(origin.address(), settings, &[])?);
    let mut verdicts = Verdicts::default();
    let mut raw = String::from(
        "kind,met_the_fill,old_bodies,let_go_meanwhile,let_go_after,missed_the_fill,purges_that_found_it,seconds\n",
    );
    for kind in KINDS {
        let began = Instant::now();
        let mut tally = run_kind(&arguments, &gateway, &pages, kind, Named::Page).await?;
        let everything = run_kind(&arguments, &gateway, &pages, kind, Named::Everything).await?;
        tally.add(&everything);
        let seconds = began.elapsed().as_secs_f64();
        let (races, name) = (tally.races(), kind.1);
        let Tally {
            old,
            before,
            meanwhile,
            after,
            found,
        } = tally;
        verdicts.check(
            format!("{name}: no old body after an answered purge"),
            old == 0 && races == arguments.tries,
            format!(
                "{old} in {races} tries whose purge met the fill ({meanwhile} ended with the purge, {after} after it; \
                 everything was purged in {}) and {before} others; {found} purges found an entry; {seconds:.0} s",
                everything.races()
            ),
        );
        raw += &format!("{name},{races},{old},{meanwhile},{after},{before},{found},{seconds:.1}\n");
    }
    if let Some(dir) = &arguments.keep {
        let files = [("raw.csv", raw.as_str()), ("summary.md", &verdicts.text())];
        println!("kept in {}", report::keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}
