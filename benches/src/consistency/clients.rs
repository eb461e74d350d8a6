//! Writers and readers, each a thread that notes what it did and saw.

mod session;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::history::{History, Moment, Read, Write};
use super::objects::Object;
use crate::client::Client;
use crate::dice::Dice;
use crate::paced::sleep_until;
use crate::writers::Fate;
use session::{Done, Session};

/// The field that a write's answer names its transaction in, and a read the write that it must not be older than.
const TOKEN: &str = "cache-coherence-token";
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two writes of one client, in milliseconds: a counter is left alone for longer than a lease now and then.
const WRITE_PAUSE_MS: (u32, u32) = (50, 250);
/// Between two reads of one client, in milliseconds.
const READ_PAUSE_MS: (u32, u32) = (2, 14);
/// After no answer.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);

/// What all clients share.
pub struct Clients {
    objects: Vec<Object>,
    gateways: Vec<SocketAddr>,
    owner_url: String,
    start: Instant,
    /// Of each counter the last write that was acknowledged with a token.
    tokens: Mutex<Vec<Option<(u32, String)>>>,
    /// The place of the next write.
    next: AtomicU32,
    stop: AtomicBool,
}

/// What one client did and saw, or all of them.
#[derive(Default)]
pub struct Seen {
    writes: Vec<(u32, Write)>,
    reads: Vec<Read>,
    /// Reads without a page, by status; 0 is no answer.
    pub failed: BTreeMap<u16, u64>,
    /// Reads answered from the cache.
    pub hits: u64,
}

impl Seen {
    /// Adds what another client did and saw.
    pub fn merge(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.reads.extend(other.reads);
        self.hits += other.hits;
        for (status, count) in other.failed {
            *self.failed.entry(status).or_default() += count;
        }
    }

    /// Everything as a history.
    pub fn history(mut self, bases: Vec<u64>, gateways: usize) -> History {
        self.writes.sort_unstable_by_key(|(place, _)| *place);
        History {
            bases,
            gateways,
            writes: self.writes.into_iter().map(|(_, write)| write).collect(),
            reads: self.reads,
        }
    }
}

impl Clients {
    /// Clients of these gateways, and of the database as its owner; `start` is when their time begins.
    pub fn new(
        objects: Vec<Object>,
        gateways: Vec<SocketAddr>,
        owner_url: String,
        start: Instant,
    ) -> Self {
        Self {
            tokens: Mutex::new(vec![None; objects.len()]),
            objects,
            gateways,
            owner_url,
            start,
            next: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// Tells all clients to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment::after(self.start.elapsed())
    }

    /// Writes until told to stop: one in three by SQL. After most acknowledged writes it reads: through the same
    /// gateway as it is, or through any with the write's token.
    ///
    /// # Errors
    /// A page that does not show its counter.
    pub fn write(&self, seed: u64) -> Result<Seen> {
        let mut client = One::new(self, seed);
        let mut session = Session::new(self.owner_url.clone())?;
        while !self.stop.load(Ordering::Relaxed) {
            let object = client.pick_object();
            if self.objects[object].grows_pages() && client.dice.between(1, 4) > 1 {
                continue;
            }
            let gateway = client.pick_gateway();
            let is_sql = client.dice.between(0, 2) == 0;
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let began = self.now();
            let done = if is_sql {
                session.run(&self.objects[object])
            } else {
                client.send_write(object, gateway)
            };
            let ended = self.now();
            let write = Write {
                object: object as u32,
                gateway: Some(gateway as u8).filter(|_| !is_sql),
                began,
                ended,
                fate: done.fate,
                value: done.value,
            };
            client.seen.writes.push((place, write));
            match done.fate {
                Fate::Ok => client.read_after(object, gateway, is_sql, (place, done.token))?,
                Fate::Fail | Fate::Unknown => sleep_until(Instant::now() + FAILURE_PAUSE),
            }
            client.pause(WRITE_PAUSE_MS);
        }
        Ok(client.seen)
    }

    /// Reads until told to stop: one in three presents the newest token that there is.
    ///
    /// # Errors
    /// A page that does not show its counter.
    pub fn read(&self, seed: u64) -> Result<Seen> {
        let mut client = One::new(self, seed);
        while !self.stop.load(Ordering::Relaxed) {
            let object = client.pick_object();
            let gateway = client.pick_gateway();
            let presents = client.dice.between(0, 2) == 0;
            let token = presents.then(|| self.tokens()[object].clone()).flatten();
            client.send_read(object, gateway, token)?;
            client.pause(READ_PAUSE_MS);
        }
        Ok(client.seen)
    }

    fn tokens(&self) -> MutexGuard<'_, Vec<Option<(u32, String)>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client: a connection to each gateway, and what it has seen.
struct One<'a> {
    all: &'a Clients,
    dice: Dice,
    clients: Vec<Client>,
    seen: Seen,
}

impl<'a> One<'a> {
    fn new(all: &'a Clients, seed: u64) -> Self {
        let client = |address: &SocketAddr| Client::new(*address, ANSWER_LIMIT);
        Self {
            all,
            dice: Dice::new(seed),
            clients: all.gateways.iter().map(client).collect(),
            seen: Seen::default(),
        }
    }

    /// The lesser of two: some counters change often, some seldom.
    fn pick_object(&mut self) -> usize {
        let last = self.all.objects.len() as u32 - 1;
        // Neighbours are of one kind: stepping through them mixes the kinds.
        let picked = self.dice.between(0, last).min(self.dice.between(0, last));
        let thirds = self.all.objects.len() / 3;
        (picked as usize % 3) * thirds + picked as usize / 3 % thirds
    }

    fn pick_gateway(&mut self) -> usize {
        self.dice.between(0, self.clients.len() as u32 - 1) as usize
    }

    fn pause(&mut self, (min, max): (u32, u32)) {
        let pause = Duration::from_millis(self.dice.between(min, max).into());
        sleep_until(Instant::now() + pause);
    }

    fn send_write(&mut self, object: usize, gateway: usize) -> Done {
        let client = &mut self.clients[gateway];
        let reply = client.exchange(&self.all.objects[object].write()).ok();
        let token = reply.and_then(|_| client.field(TOKEN).map(str::to_owned));
        Done {
            fate: Fate::of(reply.map(|reply| reply.status)),
            value: None,
            token,
        }
    }

    fn read_after(
        &mut self,
        object: usize,
        gateway: usize,
        is_sql: bool,
        (place, token): (u32, Option<String>),
    ) -> Result<()> {
        let token = token.map(|token| (place, token));
        if let Some(token) = &token {
            self.all.tokens()[object] = Some(token.clone());
        }
        match self.dice.between(0, 3) {
            0 | 1 if !is_sql => self.send_read(object, gateway, None),
            0..=2 => {
                let any = self.pick_gateway();
                self.send_read(object, any, token)
            }
            _ => Ok(()),
        }
    }

    fn send_read(
        &mut self,
        object: usize,
        gateway: usize,
        token: Option<(u32, String)>,
    ) -> Result<()> {
        let of = &self.all.objects[object];
        let view = self.dice.between(0, of.views() as u32 - 1) as usize;
        let (after, token) = token.unzip();
        let request = of.read(view, token.as_deref());
        let client = &mut self.clients[gateway];
        let began = self.all.now();
        let reply = client.exchange(&request);
        let ended = self.all.now();
        let status = reply.as_ref().map_or(0, |reply| reply.status);
        let (Ok(reply), 200) = (reply, status) else {
            *self.seen.failed.entry(status).or_default() += 1;
            if status == 0 {
                sleep_until(Instant::now() + FAILURE_PAUSE);
            }
            return Ok(());
        };
        // On a hit a detail says that nobody knows how old it is; on a miss, why it was not kept.
        let detail = client.field("cache-status");
        let is_marked = reply.is_hit && detail.is_some_and(|status| status.contains("detail="));
        self.seen.hits += u64::from(reply.is_hit);
        self.seen.reads.push(Read {
            object: object as u32,
            gateway: gateway as u8,
            began,
            ended,
            value: of.value(view, client.body())?,
            is_marked,
            after,
        });
        Ok(())
    }
}
