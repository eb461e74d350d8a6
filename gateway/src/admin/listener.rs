//! The operators' listener: accepts unless a new process is about to take over.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// After a failed accept: no descriptor may be left.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Where an operator calls from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Pausable>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Pausable>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A listener that leaves connections in the system's queue while it is paused.
pub(super) struct Pausable {
    listener: TcpListener,
    is_paused: watch::Receiver<bool>,
}

impl Pausable {
    pub(super) fn new(listener: TcpListener, is_paused: watch::Receiver<bool>) -> Self {
        Self {
            listener,
            is_paused,
        }
    }
}

impl Listener for Pausable {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if self.is_paused.wait_for(|paused| !paused).await.is_err() {
                return std::future::pending().await; // the process is ending
            }
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => return accepted,
                    Err(error) => {
                        tracing::warn!(%error, "an operator's connection was not accepted");
                        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                    }
                },
                _ = self.is_paused.changed() => {}
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
