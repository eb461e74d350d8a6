//! Taking a port before the program that will listen on it is started.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context, Result, bail};

/// An address that nobody else can listen on until this is released.
#[derive(Debug)]
pub struct Reserved {
    listener: TcpListener,
    address: SocketAddr,
}

impl Reserved {
    /// Takes a given address; `setting` names it in the error. Port 0 stands for any free port.
    pub fn named(address: SocketAddr, setting: &str) -> Result<Self> {
        match TcpListener::bind(address) {
            Ok(listener) => Self::of(listener),
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        Self::of(listener.context("no free port on 127.0.0.1")?)
    }

    /// The address taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the address up, for the program that is started next.
    pub fn release(self) -> SocketAddr {
        drop(self.listener);
        self.address
    }

    fn of(listener: TcpListener) -> Result<Self> {
        let address = listener
            .local_addr()
            .context("a listener without an address")?;
        Ok(Self { listener, address })
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
    use super::*;

    #[test]
    fn a_busy_port_is_named_with_the_setting_that_changes_it() {
        let taken = Reserved::any().unwrap();
        let error = Reserved::named(taken.address(), "--listen")
            .unwrap_err()
            .to_string();
        assert!(error.contains(&taken.address().to_string()), "{error}");
        assert!(error.contains("--listen"), "{error}");
        assert!(Reserved::named(taken.release(), "--listen").is_ok());
    }

    #[test]
    fn an_address_of_all_interfaces_is_shown_as_one_that_can_be_opened() {
        assert_eq!(url("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(url("[::1]:80".parse().unwrap()), "http://[::1]:80");
    }
}
