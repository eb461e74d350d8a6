//! Writes that end in the process of before while the new one answers already: what they made old is told to the new one
//! before their answers leave, over one socket that lasts as long as the process of before.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::proxy::Current;

/// How long an answer waits for the new process, which may have to start first.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);
/// What the new process says when it has purged.
const DONE: u8 = b'\n';

/// What a write made old.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    /// The canonical host that it went to.
    pub host: String,
    /// Its target and where its answer points, as the bytes of keys.
    pub keys: Vec<Vec<u8>>,
    /// The groups that its answer names; `None` means that they could not be read.
    pub groups: Option<Vec<Box<str>>>,
    /// The name of its transaction.
    pub token: Option<String>,
}

/// The way to the new process.
#[derive(Debug, Default)]
pub(super) struct Heir(Arc<Mutex<Option<UnixStream>>>);

impl Heir {
    /// Connects to the new process, which need not accept yet.
    pub(super) fn connect(&self, socket: &Path) -> io::Result<()> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TELL_TIMEOUT))?;
        stream.set_write_timeout(Some(TELL_TIMEOUT))?;
        *self.0.lock() = Some(stream);
        Ok(())
    }

    /// There is none any more.
    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }

    /// Tells of a write, and returns when the new process has purged for it. One that does not say so in time is told nothing
    /// more: its answers could no longer be told apart.
    pub(super) async fn tell(&self, written: &Written) {
        let Ok(mut line) = serde_json::to_vec(written) else {
            return; // strings and numbers
        };
        line.push(b'\n');
        let heir = Arc::clone(&self.0);
        // Blocking, as the socket must not belong to a service that ends before the requests do.
        let told = tokio::task::spawn_blocking(move || {
            let mut heir = heir.lock();
            let told = heir.as_mut().map_or(Ok(()), |heir| exchange(heir, &line));
            if told.is_err() {
                *heir = None;
            }
            told
        });
        if let Ok(Err(error)) = told.await {
            tracing::warn!(%error, "the new process was not told of a write");
        }
    }
}

fn exchange(heir: &mut UnixStream, line: &[u8]) -> io::Result<()> {
    heir.write_all(line)?;
    heir.read_exact(&mut [0])
}

/// Hears from the process of before what is written through it, until that has ended.
pub struct Inheritance {
    listener: UnixListener,
    current: Arc<Current>,
}

impl Inheritance {
    /// Opens the socket: to be done before the process of before is asked for its listeners.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open(socket: &Path, current: Arc<Current>) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, current })
    }

    async fn hear(&self) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let (stream, _) = listener.accept().await?;
        let (lines, mut answers) = stream.into_split();
        let mut lines = BufReader::new(lines).lines();
        while let Some(line) = lines.next_line().await? {
            let written = serde_json::from_str(&line)?;
            self.current.gateway().inherit(written).await;
            answers.write_all(&[DONE]).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl BackgroundService for Inheritance {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let heard = tokio::select! {
            _ = shutdown.changed() => return,
            heard = self.hear() => heard,
        };
        if let Err(error) = heard {
            tracing::warn!(%error, "the process of before tells nothing any more");
        }
    }
}
