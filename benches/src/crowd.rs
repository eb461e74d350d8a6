//! A crowd of clients: from many addresses of this machine, and what became of each.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use gateway::guard::raise_limit;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

/// The crowd comes from so many addresses, the first of which is 127.0.0.2: no limit for one client is what meets it.
pub const ADDRESSES: usize = 16;
/// Descriptors of this process for other things than the crowd.
const DESCRIPTORS_BESIDE: u64 = 500;
/// `sockstat` counts pages; on the machines that this runs on they are of this size.
const PAGE_BYTES: u64 = 4_096;
/// How long what has come to a client may take to be read.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// Lets this process open so many connections.
///
/// # Errors
/// Its hard limit of descriptors is lower.
pub fn make_room(connections: usize) -> Result<()> {
    let wanted = connections as u64 + DESCRIPTORS_BESIDE;
    if let Some(limit) = raise_limit() {
        ensure!(
            limit >= wanted,
            "{connections} connections need {wanted} descriptors, and {limit} is the limit (ulimit -Hn)"
        );
    }
    Ok(())
}

/// Connects as the client of this number, which takes `receive` bytes before it reads, if that is said.
///
/// # Errors
/// Nobody listens there, or no port is left.
pub async fn connect(server: SocketAddr, number: usize, receive: Option<u32>) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive {
        socket.set_recv_buffer_size(bytes)?;
    }
    let last = u8::try_from(2 + number % ADDRESSES)?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    Ok(socket.connect(server).await?)
}

/// What clients found who looked at last at what they were sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fates {
    /// An answer of status 200 had begun.
    pub served: usize,
    /// 503.
    pub refused: usize,
    /// The connection was closed without a word.
    pub closed: usize,
    /// Nothing has come, and it is open.
    pub waiting: usize,
}

impl Fates {
    /// Reads the beginning of what each was sent.
    pub async fn of(crowd: Vec<TcpStream>) -> Self {
        let mut fates = Self::default();
        for mut client in crowd {
            let mut status = [0; 12]; // `HTTP/1.1 200`
            let read = tokio::time::timeout(READ_WITHIN, client.read_exact(&mut status)).await;
            *match read {
                Err(_) => &mut fates.waiting,
                Ok(Ok(_)) if status.ends_with(b" 200") => &mut fates.served,
                Ok(Ok(_)) if status.ends_with(b" 503") => &mut fates.refused,
                Ok(_) => &mut fates.closed,
            } += 1;
        }
        fates
    }
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} had an answer begun, {} were refused (503), {} closed without a word, {} still wait",
            self.served, self.refused, self.closed, self.waiting
        )
    }
}

/// Bytes that the system holds in buffers of TCP, of all processes; none where it does not tell.
pub fn tcp_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let pages: u64 = line.rsplit_once("mem ")?.1.trim().parse().ok()?;
    Some(pages * PAGE_BYTES)
}
