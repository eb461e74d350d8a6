//! Taking a port before the program that will listen on it is started.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};

/// An address that nobody is given by chance as long as this lives.
///
/// A socket that is bound and does not listen leaves room for one that does (both with `SO_REUSEADDR`, as every server sets it), while
/// the system neither gives its port to whoever asks for any, nor to an outgoing connection. So a program that has not started yet, or
/// that is started again, finds its port free.
#[derive(Debug)]
pub struct Reserved {
    _bound: Socket,
    /// Shuts out whoever names the address, too.
    listener: Option<TcpListener>,
    address: SocketAddr,
}

impl Reserved {
    /// Takes a given address, which until the release nobody else can listen on; `setting` names it in the error. Port 0 stands for any
    /// free port.
    pub fn named(address: SocketAddr, setting: &str) -> Result<Self> {
        let take = || {
            let bound = Self::bound(address)?;
            let listener = Some(TcpListener::bind(bound.address)?);
            io::Result::Ok(Self { listener, ..bound })
        };
        match take() {
            Ok(reserved) => Ok(reserved),
            Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
                "port {} is busy: another program listens on {address}; stop that program, or choose another \
                 address with {setting}",
                address.port(),
            ),
            Err(error) => {
                Err(error).with_context(|| format!("cannot listen on {setting} {address}"))
            }
        }
    }

    /// Takes any free port on the loopback interface.
    pub fn any() -> Result<Self> {
        Self::bound((Ipv4Addr::LOCALHOST, 0).into()).context("no free port on 127.0.0.1")
    }

    /// The address taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the program listen that is started next, and again whenever it is started.
    pub fn release(&mut self) -> SocketAddr {
        self.listener = None;
        self.address
    }

    fn bound(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or(ErrorKind::Unsupported)?;
        Ok(Self {
            _bound: socket,
            listener: None,
            address,
        })
    }
}

/// The URL under which this machine reaches a listener.
pub fn url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://127.0.0.1:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_busy_port_is_named_with_the_setting_that_changes_it() {
        let taken = Reserved::named((Ipv4Addr::LOCALHOST, 0).into(), "--admin").unwrap();
        let error = Reserved::named(taken.address(), "--listen")
            .unwrap_err()
            .to_string();
        assert!(error.contains(&taken.address().to_string()), "{error}");
        assert!(error.contains("--listen"), "{error}");
    }

    #[test]
    fn a_reserved_port_is_left_to_its_program_and_nobody_is_given_it_by_chance() {
        // What a socket without SO_REUSEADDR is refused is left out where the system chooses a port, too.
        let is_refused = |address: SocketAddr| {
            let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            other.bind(&address.into()).is_err()
        };
        let reserved = Reserved::any().unwrap();
        let address = reserved.address();
        assert!(is_refused(address));
        assert!(TcpStream::connect(address).is_err());
        let _server = TcpListener::bind(address).unwrap();
        assert!(TcpStream::connect(address).is_ok());
        assert!(is_refused(address));
    }

    #[test]
    fn an_address_of_all_interfaces_is_shown_as_one_that_can_be_opened() {
        assert_eq!(url("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(url("[::1]:80".parse().unwrap()), "http://[::1]:80");
    }
}
