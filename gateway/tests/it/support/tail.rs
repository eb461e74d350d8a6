//! The private listener of an origin that tells what has changed: the stream, and answers to probes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::wire::{Extent, Head, Wire};

/// Between two events of a stream to which nothing happens.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// What a probe comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probes {
    /// A poll, told to the stream too.
    Answered,
    /// A poll that found something which the stream holds back.
    Untold,
    /// The poll of another process, which has seen more than the stream has told.
    Elsewhere,
    /// 503.
    Refused,
}

struct State {
    name: String,
    life: String,
    poll: u64,
    xmax: u64,
    /// Where the last change was told.
    since: String,
    log: Vec<(u64, Vec<String>)>,
    /// Nothing of the log is there for who resumes.
    is_trimmed: bool,
    is_silent: bool,
    probes: Probes,
    streams: Vec<mpsc::UnboundedSender<String>>,
    /// Where each stream began.
    begun: Vec<Option<String>>,
}

/// A tailer on a socket; gone with its connections when stopped or dropped.
pub(crate) struct FakeTail {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: JoinSet<()>,
}

impl FakeTail {
    /// A tailer whose database has carried out a hundred transactions.
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("a port");
        let state = Arc::new(Mutex::new(State {
            name: name.to_owned(),
            life: "7.1.a".to_owned(),
            poll: 1,
            xmax: 100,
            since: "100:100:@7.1.a".to_owned(),
            log: Vec::new(),
            is_trimmed: false,
            is_silent: false,
            probes: Probes::Answered,
            streams: Vec::new(),
            begun: Vec::new(),
        }));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        tasks.spawn(beat(Arc::clone(&state)));
        Self {
            address,
            state,
            tasks,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the listener and every connection, as a killed process would.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    /// The token of the next transaction.
    pub(crate) fn next(&self) -> String {
        let state = self.state.lock();
        format!("{}@{}", state.xmax, state.life)
    }

    /// A transaction commits and is told; returns its token.
    pub(crate) fn commit(&self, groups: &[&str]) -> String {
        let token = self.next();
        self.state.lock().commit(groups, true);
        token
    }

    /// A transaction commits, and what tells of it is lost on its way.
    pub(crate) fn commit_in_silence(&self, groups: &[&str]) {
        self.state.lock().commit(groups, false);
    }

    /// Transactions that other tailers of the same database have seen are seen here too.
    pub(crate) fn catch_up(&self, with: &Self) {
        let (xmax, log, since) = {
            let other = with.state.lock();
            (other.xmax, other.log.clone(), other.since.clone())
        };
        let mut state = self.state.lock();
        (state.xmax, state.log, state.since) = (xmax, log, since);
    }

    /// The place in the log that has everything so far.
    pub(crate) fn wal(&self) -> String {
        self.state.lock().wal()
    }

    pub(crate) fn position(&self) -> String {
        self.state.lock().position()
    }

    pub(crate) fn probes(&self, probes: Probes) {
        self.state.lock().probes = probes;
    }

    /// Nothing comes any more, though connections stay.
    pub(crate) fn fall_silent(&self) {
        self.state.lock().is_silent = true;
    }

    /// What was told is no longer there for who resumes.
    pub(crate) fn trim(&self) {
        self.state.lock().is_trimmed = true;
    }

    /// The server comes up again after a crash.
    pub(crate) fn crash(&self) {
        let mut state = self.state.lock();
        state.life = "7.1.b".to_owned();
        state.since = state.position();
        state.streams.clear();
    }

    /// A transaction commits that may have changed anything, and it is told for which reason.
    pub(crate) fn everything(&self, reason: &str) {
        let mut state = self.state.lock();
        state.xmax += 1;
        state.poll += 1;
        state.tell("everything", &json!({ "reason": reason }));
        state.since = state.position();
    }

    /// Ends every stream.
    pub(crate) fn cut(&self) {
        self.state.lock().streams.clear();
    }

    /// Plain text into every stream.
    pub(crate) fn say(&self, text: &str) {
        self.state.lock().send(text);
    }

    /// Nobody listens any more.
    pub(crate) fn is_left(&self) -> bool {
        let mut state = self.state.lock();
        state.streams.retain(|stream| !stream.is_closed());
        state.streams.is_empty()
    }

    /// Where each stream began: the position that its request named.
    pub(crate) fn begun(&self) -> Vec<Option<String>> {
        self.state.lock().begun.clone()
    }
}

impl State {
    fn position(&self) -> String {
        format!("{0}:{0}:@{1}", self.xmax, self.life)
    }

    fn wal(&self) -> String {
        format!("0/{:X}", self.xmax * 256)
    }

    fn data(&self) -> Value {
        json!({ "tailer": self.name, "poll": self.poll, "at": "2026-11-21T06:00:00.000000Z", "wal": self.wal(), "since": self.since })
    }

    fn event(&self, event: &str, more: &Value) -> String {
        let mut data = self.data();
        let members = data.as_object_mut().expect("an object");
        members.extend(more.as_object().expect("an object").clone());
        format!("event: {event}\nid: {}\ndata: {data}\n\n", self.position())
    }

    fn send(&mut self, text: &str) {
        if !self.is_silent {
            self.streams
                .retain(|stream| stream.send(text.to_owned()).is_ok());
        }
    }

    fn tell(&mut self, event: &str, more: &Value) {
        let text = self.event(event, more);
        self.send(&text);
    }

    fn commit(&mut self, groups: &[&str], is_told: bool) {
        let id = self.xmax;
        self.xmax += 1;
        self.poll += 1;
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let transaction = json!({ "id": id.to_string(), "groups": groups });
        self.log.push((id, groups));
        if is_told {
            self.tell("change", &json!({ "transactions": [transaction] }));
        }
        self.since = self.position();
    }

    /// What a stream from this position begins with.
    fn beginning(&self, position: Option<&str>) -> String {
        let everything = |reason: &str| self.event("everything", &json!({ "reason": reason }));
        let Some((snapshot, life)) = position.and_then(|position| position.split_once('@')) else {
            return everything("position");
        };
        let seen: u64 = snapshot
            .split(':')
            .nth(1)
            .expect("xmax")
            .parse()
            .expect("a number");
        if life != self.life {
            return everything("incarnation");
        }
        if seen >= self.xmax {
            return self.event("position", &json!({ "since": position }));
        }
        if self.is_trimmed {
            return everything("trimmed");
        }
        let missed = self.log.iter().filter(|(id, _)| *id >= seen);
        let missed: Vec<_> = missed
            .map(|(id, groups)| json!({ "id": id.to_string(), "groups": groups }))
            .collect();
        self.event(
            "change",
            &json!({ "since": position, "transactions": missed }),
        )
    }

    fn probe(&mut self) -> (u16, String) {
        let mut found = json!({});
        match self.probes {
            Probes::Refused => return (503, String::new()),
            Probes::Answered => {
                self.poll += 1;
                self.tell("position", &json!({}));
            }
            Probes::Untold => {
                self.poll += 1;
                self.xmax += 1;
            }
            Probes::Elsewhere => {
                let position = format!("{0}:{0}:@{1}", self.xmax + 1_000, self.life);
                found = json!({ "tailer": "elsewhere", "poll": 0, "position": position });
            }
        }
        let mut data = self.data();
        let members = data.as_object_mut().expect("an object");
        members.insert("position".to_owned(), self.position().into());
        members.extend(found.as_object().expect("an object").clone());
        (200, data.to_string())
    }
}

async fn beat(state: Arc<Mutex<State>>) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    loop {
        beats.tick().await;
        let mut state = state.lock();
        if state.probes != Probes::Untold {
            state.tell("position", &json!({}));
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream);
    while let Ok(Some(head)) = wire.head().await {
        if head.start.starts_with("GET /events ") {
            return follow(&mut wire, &head, &state).await;
        }
        let length = head
            .header("content-length")
            .and_then(|length| length.parse().ok());
        wire.body(Extent::Length(length.unwrap_or(0))).await;
        let is_silent = state.lock().is_silent;
        if is_silent {
            return std::future::pending().await;
        }
        let (status, body) = state.lock().probe();
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {length}\r\n\r\n{body}");
        if wire.write(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn follow(wire: &mut Wire, head: &Head, state: &Mutex<State>) {
    let (sender, mut events) = mpsc::unbounded_channel();
    let beginning = {
        let mut state = state.lock();
        let position = head.header("last-event-id").map(str::to_owned);
        let beginning = state.beginning(position.as_deref());
        state.begun.push(position);
        state.streams.push(sender);
        beginning
    };
    let answer =
        format!("HTTP/1.1 200 Scripted\r\nContent-Type: text/event-stream\r\n\r\n{beginning}");
    if wire.write(answer.as_bytes()).await.is_err() {
        return;
    }
    while let Some(event) = events.recv().await {
        if wire.write(event.as_bytes()).await.is_err() {
            return;
        }
    }
}
