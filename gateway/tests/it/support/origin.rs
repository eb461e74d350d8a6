//! An origin that does what a test says, and remembers what it was asked.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::until;
use super::wire::{Extent, Head, Wire, find};

/// How an answer is written: what is left of it when the sockets are full is known to this many bytes.
const PIECE_BYTES: usize = 256 * 1024;
/// Looks without a change in between after which nothing moves any more.
const STUCK_POLLS: usize = 100;

/// Something that waits until a test lets it through.
#[derive(Clone)]
pub(crate) struct Gate {
    open: Arc<watch::Sender<bool>>,
    arrived: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self {
            open: Arc::new(watch::Sender::new(false)),
            arrived: Arc::default(),
        }
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    async fn pass(&self) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
    }

    /// Returns when so many have come to the gate.
    pub(crate) async fn reached(&self, count: usize) {
        until("the origin holds its answer", || async {
            self.arrived.load(Ordering::SeqCst) >= count
        })
        .await;
    }
}

/// A request as it reached the origin.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// The body came whole and was framed in one way only.
    pub(crate) whole: bool,
    /// Which connection it came on.
    pub(crate) connection: usize,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The connection serves another request.
    KeepAlive,
    /// The body goes as far as the connection.
    Close,
    /// The connection ends after this many bytes of the body.
    Broken(usize),
    /// The connection ends without an answer.
    None,
}

/// What the origin answers.
#[derive(Clone)]
pub(crate) struct Reply {
    interim: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    before: Option<Gate>,
    within: Option<Gate>,
    after_interim: Option<Gate>,
    chunked: bool,
    ending: Ending,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            interim: String::new(),
            status,
            headers: Vec::new(),
            body: body.into(),
            before: None,
            within: None,
            after_interim: None,
            chunked: false,
            ending: Ending::KeepAlive,
        }
    }

    /// 200 that any cache may keep for an hour.
    pub(crate) fn fresh(body: impl Into<Bytes>) -> Self {
        Self::new(200, body).header("Cache-Control", "max-age=3600")
    }

    /// 200 of the shop's public class, in these groups.
    pub(crate) fn public(body: impl Into<Bytes>, groups: &[&str]) -> Self {
        let groups: Vec<String> = groups.iter().map(|group| format!("\"{group}\"")).collect();
        Self::new(200, body)
            .header("Cache-Control", "public, max-age=0, must-revalidate")
            .header(
                "CDN-Cache-Control",
                "public, max-age=86400, stale-if-error=86400",
            )
            .header("Cache-Groups", &groups.join(", "))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends an interim answer first.
    pub(crate) fn after_interim(mut self, status: u16, name: &str, value: &str) -> Self {
        let _ = write!(
            self.interim,
            "HTTP/1.1 {status} Scripted\r\n{name}: {value}\r\n\r\n"
        );
        self
    }

    /// Waits at the gate before the first byte of the answer.
    pub(crate) fn held(mut self, gate: &Gate) -> Self {
        self.before = Some(gate.clone());
        self
    }

    /// Waits at the gate between the header and the body.
    pub(crate) fn held_after_header(mut self, gate: &Gate) -> Self {
        self.within = Some(gate.clone());
        self
    }

    /// Waits at the gate between the interim answers and the final one.
    pub(crate) fn held_after_interim(mut self, gate: &Gate) -> Self {
        self.after_interim = Some(gate.clone());
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Announces its body by the end of the connection.
    pub(crate) fn closing(mut self) -> Self {
        self.ending = Ending::Close;
        self
    }

    /// Breaks the connection after so many bytes of the body.
    pub(crate) fn broken_after(mut self, bytes: usize) -> Self {
        self.ending = Ending::Broken(bytes);
        self
    }

    /// No answer at all: the connection breaks.
    pub(crate) fn hang_up() -> Self {
        let mut reply = Self::new(500, "");
        reply.ending = Ending::None;
        reply
    }

    fn head(&self) -> Vec<u8> {
        let mut text = match self.after_interim {
            Some(_) => String::new(), // sent already
            None => self.interim.clone(),
        };
        let _ = write!(text, "HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if self.chunked {
            text.push_str("Transfer-Encoding: chunked\r\n");
        } else if self.ending == Ending::Close {
            text.push_str("Connection: close\r\n");
        } else if !matches!(self.status, 204 | 304) {
            let _ = write!(text, "Content-Length: {}\r\n", self.body.len());
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    fn framed_body(&self) -> Vec<u8> {
        if !self.chunked {
            return self.body.to_vec();
        }
        let mut framed = Vec::new();
        for piece in self.body.chunks(1000) {
            framed.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            framed.extend_from_slice(piece);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        framed
    }
}

type Script = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

struct Shared {
    script: Script,
    requests: Mutex<Vec<Received>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    connections: AtomicUsize,
    sent: AtomicUsize,
}

/// An origin on a socket; gone with its connections when stopped or dropped.
pub(crate) struct FakeOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl FakeOrigin {
    /// Serves on a free port what the script says.
    pub(crate) async fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .expect("a port for the origin");
        let address = listener.local_addr().expect("the origin's port");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            tasks,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests received so far.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.shared.requests.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.requests.lock().len()
    }

    /// Requests for exactly this target.
    pub(crate) fn hits(&self, target: &str) -> usize {
        self.shared
            .requests
            .lock()
            .iter()
            .filter(|request| request.target == target)
            .count()
    }

    /// The newest request.
    pub(crate) fn last(&self) -> Received {
        self.shared
            .requests
            .lock()
            .last()
            .cloned()
            .expect("a request at the origin")
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }

    /// Returns when the origin can send no more for now: everything on the way is full.
    pub(crate) async fn stuck(&self) {
        let (mut sent, mut seen) = (0, 0);
        until("nothing more can be sent", || {
            let now = self.shared.sent.load(Ordering::SeqCst);
            seen = if now == sent { seen + 1 } else { 0 };
            sent = now;
            async move { now > 0 && seen > STUCK_POLLS }
        })
        .await;
    }

    /// Ends the listener and every connection, as a killed process would.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let number = shared.connections.fetch_add(1, Ordering::SeqCst);
    let mut wire = Wire::new(stream);
    while let Ok(Some(head)) = wire.head().await {
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let received = receive(head, number, &mut wire).await;
        let reply = (shared.script)(&received);
        let head_only = received.method == "HEAD";
        shared.requests.lock().push(received);
        let kept = answer(&mut wire, &reply, head_only, &shared.sent).await;
        shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !kept {
            return;
        }
    }
}

async fn receive(head: Head, connection: usize, wire: &mut Wire) -> Received {
    let lengths = head
        .headers
        .iter()
        .filter(|(name, _)| name == "content-length")
        .count();
    let chunked = head.header("transfer-encoding").is_some();
    let length = head
        .header("content-length")
        .and_then(|length| length.parse().ok());
    let extent = if chunked {
        Extent::Chunked
    } else {
        Extent::Length(length.unwrap_or(0))
    };
    let (body, whole) = wire.body(extent).await;
    let clear = lengths + usize::from(chunked) <= 1 && (lengths == 0 || length.is_some());
    let mut words = head.start.split(' ').map(str::to_owned);
    Received {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers: head.headers,
        body,
        whole: whole && clear,
        connection,
    }
}

/// Whether the connection may serve another request.
async fn answer(wire: &mut Wire, reply: &Reply, head_only: bool, sent: &AtomicUsize) -> bool {
    if let Some(gate) = &reply.before {
        gate.pass().await;
    }
    if let Some(gate) = &reply.after_interim {
        if wire.write(reply.interim.as_bytes()).await.is_err() {
            return false;
        }
        gate.pass().await;
    }
    if reply.ending == Ending::None {
        return false;
    }
    let mut head = reply.head();
    let body = if head_only {
        Vec::new()
    } else {
        reply.framed_body()
    };
    let body = match reply.ending {
        Ending::Broken(bytes) => &body[..bytes.min(body.len())],
        Ending::KeepAlive | Ending::Close | Ending::None => &body[..],
    };
    if let Some(gate) = &reply.within {
        if wire.write(&head).await.is_err() {
            return false;
        }
        gate.pass().await;
        head.clear();
    }
    head.extend_from_slice(body);
    for piece in head.chunks(PIECE_BYTES) {
        if wire.write(piece).await.is_err() {
            return false;
        }
        sent.fetch_add(piece.len(), Ordering::SeqCst);
    }
    reply.ending == Ending::KeepAlive
}
