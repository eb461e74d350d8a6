//! Tells a service manager how far the gateway is, by the protocol of `sd_notify(3)`: datagrams of `NAME=VALUE` lines.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

/// How often a public listener is tried until it takes a connection.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Where states are told; possibly nowhere.
#[derive(Debug, Default)]
pub struct Notifier {
    listeners: Vec<SocketAddr>,
}

impl Notifier {
    /// Tells the sockets of these names, each a path, or an abstract name behind an `@`. One that is none is logged and left out.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a OsStr>) -> Self {
        let address = |name: &OsStr| match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let listeners = names.into_iter().filter_map(|name| {
            address(name)
                .inspect_err(|error| tracing::warn!(?name, %error, "not a notification socket"))
                .ok()
        });
        Self {
            listeners: listeners.collect(),
        }
    }

    /// Requests are answered, also after a reload.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// Settings are read again; ends with [`Notifier::ready`].
    pub fn reloading(&self) {
        self.tell("RELOADING=1");
    }

    /// The process is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Another process is the service from now on.
    pub fn main_process(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    fn tell(&self, state: &str) {
        for listener in &self.listeners {
            let told = UnixDatagram::unbound()
                .and_then(|socket| socket.send_to_addr(state.as_bytes(), listener));
            if let Err(error) = told {
                tracing::warn!(%error, state, "the service manager does not hear");
            }
        }
    }
}

/// Tells that the gateway is ready as soon as each of its public listeners takes a connection.
pub struct Ready {
    /// The public listeners.
    pub public: Vec<std::net::SocketAddr>,
    /// Who is told.
    pub waiting: Notifier,
}

#[async_trait]
impl BackgroundService for Ready {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        for address in self.public.iter().copied().map(reachable) {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::select! {
                    _ = shutdown.changed() => return,
                    () = tokio::time::sleep(ASK_EVERY) => {}
                }
            }
        }
        self.waiting.ready();
        let _ = shutdown.changed().await;
    }
}

/// Where this machine reaches a listener.
fn reachable(mut listener: std::net::SocketAddr) -> std::net::SocketAddr {
    if listener.ip().is_unspecified() {
        listener.set_ip(match listener.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listener
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_reach_sockets_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("gateway-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        let name = format!("@{name}");
        let notifier = Notifier::new([path.as_os_str(), OsStr::new(&name)]);
        notifier.ready();
        notifier.main_process(7);
        for socket in [by_path, by_name] {
            let mut received = [0; 64];
            let length = socket.recv(&mut received).unwrap();
            assert_eq!(&received[..length], b"READY=1");
            let length = socket.recv(&mut received).unwrap();
            assert_eq!(&received[..length], b"MAINPID=7");
        }
    }

    #[test]
    fn without_a_socket_nothing_is_told_and_nothing_fails() {
        Notifier::default().ready();
        Notifier::new([OsStr::new("/no/such/socket")]).stopping();
    }
}
