//! Origins that can do so many things at once and no more, each in its time: what comes beyond waits there, as at a machine
//! with so many processors.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Semaphore;

use crate::scripted::{Asked, Reply, Scripted};

/// What such an origin is like.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Requests that it works on at once.
    pub slots: usize,
    /// How long it works on one that asks for no bytes.
    pub service: Duration,
    /// How much longer for each KiB of the answer, in hundredths of the service.
    pub percent_per_kib: u32,
}

impl Machine {
    /// Requests a second that it can do at most, for answers of so many KiB.
    pub fn capacity(&self, kib: f64) -> f64 {
        let factor = 1.0 + kib * f64::from(self.percent_per_kib) / 100.0;
        self.slots as f64 / (self.service.as_secs_f64() * factor)
    }

    /// Starts it. A target ends in the KiB that it is answered with, `/name/4`; one that begins with `/kept` may be kept.
    ///
    /// # Errors
    /// No port, or no thread.
    pub fn start(self) -> Result<Scripted> {
        let slots = Arc::new(Semaphore::new(self.slots));
        Scripted::start(move |asked| {
            let slots = Arc::clone(&slots);
            async move {
                let slot = slots.acquire().await.ok()?;
                let kib = kib(&asked);
                let longer = self.service * (self.percent_per_kib * kib) / 100;
                tokio::time::sleep(self.service + longer).await;
                drop(slot);
                Some(reply(&asked, kib))
            }
        })
    }
}

fn kib(asked: &Asked) -> u32 {
    let last = asked.target.rsplit('/').next();
    last.and_then(|last| last.parse().ok()).unwrap_or_default()
}

fn reply(asked: &Asked, kib: u32) -> Reply {
    let body = vec![b'x'; kib as usize * 1024];
    if asked.target.starts_with("/kept") {
        return Reply::ok("", body);
    }
    Reply {
        head: format!(
            "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ),
        pause: None,
        body,
    }
}
