//! A relay between two programs that can be told to fail: cut connections, hold bytes back, delay them, or lie.

mod dropper;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

use dropper::Dropper;

const READ_BYTES: usize = 16 * 1024;

/// How a relay treats what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It passes on.
    Pass,
    /// Connections are closed, those that come too.
    Cut,
    /// Connections are open, and nothing passes until another mode.
    Hold,
    /// Everything passes so much later.
    Delay(Duration),
}

/// A lie that a relay can tell, whatever its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// None.
    Honest,
    /// Events of changes are taken out of streams, as many as [`Relay::drop_changes`] says.
    DropsChanges,
    /// Reads are sent on as if no write had gone before them: any replica may answer, however old.
    ForgetsPosition,
}

/// A running relay; it ends with its runtime.
pub struct Relay {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    to_drop: Arc<AtomicU64>,
}

impl Relay {
    /// Relays to `target` from a free port.
    ///
    /// # Errors
    /// No port.
    pub fn start(runtime: &Handle, target: SocketAddr, lie: Lie) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (mode, follows) = watch::channel(Mode::Pass);
        let to_drop = Arc::new(AtomicU64::new(0));
        let relayed = Relayed {
            target,
            lie,
            mode: follows,
            to_drop: Arc::clone(&to_drop),
        };
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relayed.clone().connection(stream));
            }
        });
        Ok(Self {
            address,
            mode,
            to_drop,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does this.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// So many more events of changes are to be dropped, by a relay that [`Lie::DropsChanges`].
    pub fn drop_changes(&self, more: u64) {
        self.to_drop.fetch_add(more, Ordering::SeqCst);
    }

    /// Events still to be dropped.
    pub fn still_to_drop(&self) -> u64 {
        self.to_drop.load(Ordering::SeqCst)
    }
}

/// What each connection needs to know.
#[derive(Clone)]
struct Relayed {
    target: SocketAddr,
    lie: Lie,
    mode: watch::Receiver<Mode>,
    to_drop: Arc<AtomicU64>,
}

impl Relayed {
    async fn connection(mut self, client: TcpStream) {
        if *self.mode.borrow_and_update() == Mode::Cut {
            return;
        }
        let Ok(server) = TcpStream::connect(self.target).await else {
            return;
        };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let mut cut = self.mode.clone();
        let forth = self.clone().forth(from_client, to_server);
        let back = self.back(from_server, to_client);
        // Whichever side ends first, the other has nothing more to say that anybody waits for.
        tokio::select! {
            _ = forth => {}
            _ = back => {}
            _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
        }
    }

    async fn forth(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<()> {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        while from.read_buf(&mut bytes).await? > 0 {
            self.pause().await?;
            if self.lie == Lie::ForgetsPosition {
                forget_position(&mut bytes);
            }
            to.write_all(&bytes).await?;
            bytes.clear();
        }
        Ok(())
    }

    async fn back(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<()> {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        let mut dropper = Dropper::default();
        while from.read_buf(&mut bytes).await? > 0 {
            self.pause().await?;
            if self.lie == Lie::DropsChanges {
                let passed = dropper.pass(&bytes, &self.to_drop);
                to.write_all(&passed).await?;
            } else {
                to.write_all(&bytes).await?;
            }
            bytes.clear();
        }
        Ok(())
    }

    /// Until what was read may pass.
    async fn pause(&self) -> Result<()> {
        let mut mode = self.mode.clone();
        let now = *mode.wait_for(|mode| *mode != Mode::Hold).await?;
        if let Mode::Delay(delay) = now {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }
}

/// Puts the beginning of the log in the place of every position that a read must have seen, at the same length.
fn forget_position(request: &mut [u8]) {
    const FIELD: &[u8] = b"cache-coherence-after: ";
    const ANY: &[u8] = b"0/0";
    let mut from = 0;
    while let Some(at) = request[from..]
        .windows(FIELD.len())
        .position(|window| window.eq_ignore_ascii_case(FIELD))
    {
        let value = from + at + FIELD.len();
        let end = request[value..].iter().position(|byte| *byte == b'\r');
        let Some(end) = end.map(|length| value + length) else {
            return;
        };
        for (place, byte) in request[value..end].iter_mut().enumerate() {
            *byte = ANY.get(place).copied().unwrap_or(b' ');
        }
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_position_is_forgotten_at_the_same_length() {
        let mut request =
            b"GET / HTTP/1.1\r\nCache-Coherence-After: 0/16B3748\r\nHost: x\r\n\r\n".to_vec();
        forget_position(&mut request);
        assert_eq!(
            String::from_utf8(request).unwrap(),
            "GET / HTTP/1.1\r\nCache-Coherence-After: 0/0      \r\nHost: x\r\n\r\n"
        );
        let mut word = b"cache-coherence-after: primary\r\n".to_vec();
        forget_position(&mut word);
        assert_eq!(word, b"cache-coherence-after: 0/0    \r\n");
    }

    fn echo() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut bytes = [0; 100];
                    while let Ok(read @ 1..) = stream.read(&mut bytes) {
                        stream.write_all(&bytes[..read]).unwrap();
                    }
                });
            }
        });
        address
    }

    #[test]
    fn a_relay_passes_holds_delays_and_cuts() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let relay = Relay::start(runtime.handle(), echo(), Lie::Honest).unwrap();
        let connect = || std::net::TcpStream::connect(relay.address()).unwrap();
        let mut stream = connect();
        let mut answer = [0; 4];
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");

        relay.set(Mode::Hold);
        stream.write_all(b"held").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        assert!(stream.read(&mut answer).is_err(), "nothing may pass");
        stream.set_read_timeout(None).unwrap();
        let delay = Duration::from_millis(40);
        relay.set(Mode::Delay(delay));
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"held");
        let began = Instant::now();
        stream.write_all(b"late").unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert!(began.elapsed() >= 2 * delay, "there and back");

        relay.set(Mode::Cut);
        assert_eq!(stream.read(&mut answer).unwrap_or(0), 0);
        assert_eq!(connect().read(&mut answer).unwrap_or(0), 0);
        relay.set(Mode::Pass);
        let mut stream = connect();
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut answer).unwrap();
    }
}
