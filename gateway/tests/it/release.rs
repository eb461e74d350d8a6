//! What an old build of the origins wrote goes when no origin has that build any more.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::support::{
    Client, FakeOrigin, Gateway, Reply, assert_hit, assert_miss, free_address, until,
};

/// An origin whose answers name its build, which changes when a test says so.
async fn origin(address: SocketAddr, build: &Arc<Mutex<&'static str>>) -> FakeOrigin {
    let build = Arc::clone(build);
    FakeOrigin::start_at(address, move |_| {
        let build = *build.lock();
        Reply::public(build, &["page", &format!("release-{build}")])
    })
    .await
}

const SETTINGS: &str = "[cache]\nrelease_prefix = \"release-\"\n\
    [upstream.health]\npath = \"/readyz\"\ninterval = \"20ms\"";

/// Asks for new pages until both origins have answered one.
async fn ask_both(client: &Client, origins: [&FakeOrigin; 2], name: &str) {
    let mut page = 0;
    let before = origins.map(reads);
    while origins
        .map(reads)
        .iter()
        .zip(before)
        .any(|(now, then)| *now == then)
    {
        client.get(&format!("/{name}/{page}")).await;
        page += 1;
        assert!(page < 1_000, "one origin gets no requests");
    }
}

fn reads(origin: &FakeOrigin) -> usize {
    let requests = origin.requests();
    requests
        .iter()
        .filter(|request| request.target != "/readyz")
        .count()
}

#[tokio::test]
async fn the_old_build_goes_with_its_last_origin_and_not_before() {
    let builds = [Arc::new(Mutex::new("a")), Arc::new(Mutex::new("a"))];
    let (first, second) = (free_address(), free_address());
    let origins = [
        origin(first, &builds[0]).await,
        origin(second, &builds[1]).await,
    ];
    let gateway = Gateway::with(&[&origins[0], &origins[1]], SETTINGS).await;
    let client = gateway.client();
    ask_both(&client, [&origins[0], &origins[1]], "old").await;
    assert_hit(&client.get("/old/0").await);

    *builds[0].lock() = "b";
    ask_both(&client, [&origins[0], &origins[1]], "both").await;
    let sequence = gateway.status().await["cache"]["purge_sequence"].clone();
    assert_hit(&client.get("/old/0").await);

    *builds[1].lock() = "b";
    ask_both(&client, [&origins[0], &origins[1]], "new").await;
    until("the old build is purged", || async {
        gateway.status().await["cache"]["purge_sequence"] != sequence
    })
    .await;
    let read = client.get("/old/0").await;
    assert_miss(&read);
    assert_eq!(read.text(), "b");
    assert_hit(&client.get("/new/0").await);
}

/// An origin with both its listeners, all of whose answers name its build.
struct Built {
    public: FakeOrigin,
    private: FakeOrigin,
}

impl Built {
    async fn start((public, private): (SocketAddr, SocketAddr), build: &'static str) -> Self {
        let build = Arc::new(Mutex::new(build));
        Self {
            public: origin(public, &build).await,
            private: origin(private, &build).await,
        }
    }

    /// A new process with another build takes its place. Returns when it was asked which one it is, and a look later.
    async fn replaced(self, build: &'static str) -> Self {
        let addresses = (self.public.address(), self.private.address());
        self.public.stop().await;
        self.private.stop().await;
        let next = Self::start(addresses, build).await;
        until("the new process is asked which build it is", || async {
            next.private.hits("/healthz") > 2
        })
        .await;
        next
    }
}

#[tokio::test]
async fn a_rolling_restart_is_noticed_where_nothing_but_hits_is_asked_for() {
    let addresses = [(); 2].map(|()| (free_address(), free_address()));
    let nodes = addresses
        .map(|(public, private)| format!("{{ address = \"{public}\", private = \"{private}\" }}"));
    let settings = format!(
        "[cache]\nrelease_prefix = \"release-\"\n[upstream]\nnodes = [{}]\nhealth.interval = \"20ms\"\n",
        nodes.join(", ")
    );
    let one = Built::start(addresses[0], "a").await;
    let two = Built::start(addresses[1], "a").await;
    let gateway = Gateway::start(&[], Some(settings)).await;
    let client = gateway.client();
    assert_miss(&client.get("/page").await);
    let sequence = gateway.status().await["cache"]["purge_sequence"].clone();

    let one = one.replaced("b").await;
    assert_hit(&client.get("/page").await);
    assert_eq!(
        gateway.status().await["cache"]["purge_sequence"],
        sequence,
        "the other origin has the old build still"
    );

    let two = two.replaced("b").await;
    until("the old build is purged", || async {
        gateway.status().await["cache"]["purge_sequence"] != sequence
    })
    .await;
    assert_eq!(one.public.count() + two.public.count(), 0, "only hits");
    let read = client.get("/page").await;
    assert_miss(&read);
    assert_eq!(read.text(), "b");
}

#[tokio::test]
async fn the_old_build_goes_when_its_last_origin_is_gone_for_good() {
    let builds = [Arc::new(Mutex::new("b")), Arc::new(Mutex::new("a"))];
    let (first, second) = (free_address(), free_address());
    let [new, old] = [
        origin(first, &builds[0]).await,
        origin(second, &builds[1]).await,
    ];
    let gateway = Gateway::with(&[&new, &old], SETTINGS).await;
    let client = gateway.client();
    ask_both(&client, [&new, &old], "page").await;
    let total = reads(&new) + reads(&old);
    let pages: Vec<String> = (0..total).map(|page| format!("/page/{page}")).collect();
    old.stop().await;
    until("nothing of the old build is left", || async {
        let mut all_new = true;
        for page in &pages {
            all_new &= client.get(page).await.text() == "b";
        }
        all_new
    })
    .await;
    assert_hit(&client.get(&pages[0]).await);
}

#[tokio::test]
async fn an_outage_of_all_origins_leaves_what_is_kept() {
    let build = Arc::new(Mutex::new("a"));
    let only = origin(free_address(), &build).await;
    let gateway = Gateway::with(&[&only], SETTINGS).await;
    let client = gateway.client();
    client.get("/page").await;
    only.stop().await;
    until("the origin is known to be gone", || async {
        gateway.status().await["nodes"][0]["healthy"] == false
    })
    .await;
    assert_hit(&client.get("/page").await);
}
