//! An open-loop load generator: requests are sent when they are due, answered or not the ones before.
//!
//! Each worker is a thread with a connection of its own. It takes the next request, sleeps until that one is due, sends
//! it and waits for the answer. Latency counts from when the request was due, so a server that stands still is seen by all
//! requests that fell due meanwhile, not by one for each connection. Threads, and not tasks: their sleep ends within a
//! tenth of a millisecond, a task's within one or two.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::client::{Client, Reply};

const STACK_BYTES: usize = 128 * 1024;

/// How fast, for how long, to whom.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The server.
    pub address: SocketAddr,
    /// Requests a second.
    pub rate: f64,
    /// How long.
    pub duration: Duration,
    /// Requests in flight at most; beyond it they are sent late, which counts.
    pub workers: usize,
    /// An answer that stops coming for so long is none.
    pub timeout: Duration,
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct Request {
    /// Of which kind it is: the caller's numbers.
    pub kind: usize,
    /// The request as bytes.
    pub bytes: Vec<u8>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Which request it was, from 0.
    pub number: u64,
    /// Of which kind it was.
    pub kind: usize,
    /// When it was due, from the start.
    pub due: Duration,
    /// From then to the last byte of the answer.
    pub took: Duration,
    /// The answer, if there was one.
    pub reply: Option<Reply>,
}

impl Outcome {
    /// The status, or 0 without an answer.
    pub fn status(&self) -> u16 {
        self.reply.map_or(0, |reply| reply.status)
    }

    /// Whether the answer has a 2xx status.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status())
    }

    /// The latency in milliseconds.
    pub fn ms(&self) -> f64 {
        self.took.as_secs_f64() * 1e3
    }
}

/// Sends what `request` makes of each number, from `start` on; gives the outcomes in the order in which they were due.
///
/// # Errors
/// A thread that cannot be started.
pub fn run(
    pace: Pace,
    start: Instant,
    request: &(impl Fn(u64) -> Request + Sync),
) -> Result<Vec<Outcome>> {
    let next = AtomicU64::new(0);
    let mut outcomes = thread::scope(|scope| {
        let workers: Vec<_> = (0..pace.workers)
            .map(|_| {
                thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn_scoped(scope, || work(pace, start, &next, request))
                    .context("starting a worker")
            })
            .collect::<Result<_>>()?;
        let mut outcomes = Vec::new();
        for worker in workers {
            let mut of_one = worker.join().map_err(|_| anyhow!("a worker panicked"))?;
            outcomes.append(&mut of_one);
        }
        anyhow::Ok(outcomes)
    })?;
    outcomes.sort_unstable_by_key(|outcome| outcome.number);
    Ok(outcomes)
}

fn work(
    pace: Pace,
    start: Instant,
    next: &AtomicU64,
    request: &(impl Fn(u64) -> Request + Sync),
) -> Vec<Outcome> {
    let mut client = Client::new(pace.address, pace.timeout);
    let mut outcomes = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_secs_f64(number as f64 / pace.rate);
        if due >= pace.duration {
            return outcomes;
        }
        let Request { kind, bytes } = request(number);
        sleep_until(start + due);
        let reply = client.exchange(&bytes).ok();
        outcomes.push(Outcome {
            number,
            kind,
            due,
            took: (start + due).elapsed(),
            reply,
        });
    }
}

/// Sleeps until then.
pub fn sleep_until(then: Instant) {
    loop {
        let left = then.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        // May end early.
        thread::park_timeout(left);
    }
}

/// Looks at `condition` until it holds or `limit` has passed; says whether it held.
pub fn becomes_true(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    const PAUSE: Duration = Duration::from_millis(10);
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep_until(Instant::now() + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_that_stands_still_is_seen_by_every_request_that_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let start = Instant::now();
        let pause = Duration::from_millis(200);
        thread::spawn(move || {
            // One connection, whose first answer comes late.
            let (mut stream, _) = listener.accept().unwrap();
            sleep_until(start + pause);
            while stream.read(&mut [0; 1024]).unwrap_or(0) > 0 {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let pace = Pace {
            address,
            rate: 100.0,
            duration: pause,
            workers: 1,
            timeout: Duration::from_secs(5),
        };
        let outcomes = run(pace, start, &|_| Request {
            kind: 0,
            bytes: crate::load::get("/"),
        })
        .unwrap();
        assert_eq!(outcomes.len(), 20);
        assert!(outcomes.iter().all(Outcome::is_good));
        for outcome in outcomes {
            assert!(outcome.due + outcome.took >= pause, "{outcome:?}");
        }
    }

    #[test]
    fn no_answer_is_an_outcome_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let pace = Pace {
            address,
            rate: 1_000.0,
            duration: Duration::from_millis(5),
            workers: 2,
            timeout: Duration::from_secs(1),
        };
        let outcomes = run(pace, Instant::now(), &|number| Request {
            kind: number as usize % 2,
            bytes: Vec::new(),
        })
        .unwrap();
        let numbers: Vec<u64> = outcomes.iter().map(|outcome| outcome.number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert!(outcomes.iter().all(|outcome| outcome.status() == 0));
    }
}
