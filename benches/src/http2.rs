//! HTTP/2 frame by frame (RFC 9113), for what no client means that behaves well, and the way to a gateway that speaks it.

mod cases;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use stack::ports::Reserved;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::gateway_process::GatewayProcess;

pub use cases::{Case, cases};

/// The name that the certificate is for.
const NAME: &str = "bench.test";
const READY_LIMIT: Duration = Duration::from_secs(10);

/// Types of frames (section 6).
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// The beginning of a header.
    pub const HEADERS: u8 = 1;
    /// What a stream depends on.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream before its time.
    pub const RST_STREAM: u8 = 3;
    /// What the sender can do.
    pub const SETTINGS: u8 = 4;
    /// An answer promised by a server.
    pub const PUSH_PROMISE: u8 = 5;
    /// A question whether anybody is there.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// Leave to send more.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a header.
    pub const CONTINUATION: u8 = 9;
}

/// The last frame of a stream; on SETTINGS and PING an acknowledgement.
pub const END_STREAM: u8 = 1;
/// The header is whole.
pub const END_HEADERS: u8 = 4;
/// The frame ends in padding.
pub const PADDED: u8 = 8;

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Reads one; none where the connection ends.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut head = [0; 9];
        from.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        from.read_exact(&mut payload).await.ok()?;
        Some(Self {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// The code of the error that it tells, if it ends a stream or the connection.
    pub fn error_code(&self) -> Option<u32> {
        let code = match self.kind {
            kind::RST_STREAM => self.payload.get(..4),
            kind::GOAWAY => self.payload.get(4..8),
            _ => None,
        };
        Some(u32::from_be_bytes(code?.try_into().ok()?))
    }
}

/// A frame as bytes; its payload has less than 16 MiB.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A whole header, and no body.
pub fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END_STREAM | END_HEADERS, stream, block)
}

/// What a client begins with: the preface, and settings that change nothing.
pub fn opening() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(kind::SETTINGS, 0, 0, &[]));
    bytes
}

/// GET of a short path by HPACK: names of the static table, values as literals (RFC 7541).
pub fn header_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    block.extend(literal(0x04, path));
    block.extend(literal(0x01, NAME));
    block
}

/// A field whose name has a place in the static table, and a value of less than 127 bytes.
fn literal(name: u8, value: &str) -> Vec<u8> {
    let mut field = vec![name, value.len() as u8];
    field.extend(value.as_bytes());
    field
}

/// A field with a name of its own; name and value have less than 127 bytes.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0, name.len() as u8];
    field.extend(name.as_bytes());
    field.extend(literal(value.len() as u8, value).split_off(1));
    field
}

/// A gateway with an encrypted listener.
pub struct Encrypted {
    /// Its process, and its other listeners.
    pub gateway: GatewayProcess,
    /// Where it speaks HTTP/2.
    pub address: SocketAddr,
    certificate: CertificateDer<'static>,
    _files: TempDir,
    _port: Reserved,
}

impl Encrypted {
    /// Starts one before an origin, with a certificate of its own.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn before(origin: SocketAddr) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let certificate = certify(files.path())?;
        let port = Reserved::any()?;
        let address = port.address();
        let settings = format!(
            "[tls]\nlisten = \"{address}\"\ncertificate_file = {:?}\nkey_file = {:?}\n",
            files.path().join("chain.pem"),
            files.path().join("key.pem"),
        );
        let site = Self {
            gateway: GatewayProcess::before(origin, &settings, &[])?,
            address,
            certificate,
            _files: files,
            _port: port,
        };
        let end = tokio::time::Instant::now() + READY_LIMIT;
        while TcpStream::connect(address).await.is_err() {
            ensure!(tokio::time::Instant::now() < end, "no encrypted listener");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(site)
    }

    /// How others connect to it.
    pub fn way(&self) -> Way {
        Way {
            address: self.address,
            certificate: self.certificate.clone(),
        }
    }
}

/// The way to an encrypted listener.
#[derive(Clone)]
pub struct Way {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl Way {
    /// A connection that speaks this protocol: `h2` or `http/1.1`.
    ///
    /// # Errors
    /// None comes up.
    pub async fn connect(&self, protocol: &str) -> Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address)
            .await
            .context("connecting")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(NAME)?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.context("a handshake")
    }
}

/// Writes a certificate and its key; returns it.
fn certify(dir: &Path) -> Result<CertificateDer<'static>> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![NAME.to_owned()])?;
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem())?;
    std::fs::write(dir.join("chain.pem"), cert.pem())?;
    Ok(cert.der().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let bytes = frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 9, b'x']);
        assert_eq!(bytes[..9], [0, 0, 9, 7, 0, 0, 0, 0, 0]);
        let read = runtime.block_on(Frame::read(&mut &bytes[..])).unwrap();
        assert_eq!((read.kind, read.error_code()), (kind::GOAWAY, Some(9)));
        assert!(runtime.block_on(Frame::read(&mut &bytes[..12])).is_none());
    }

    #[test]
    fn fields_are_spelled_as_hpack_has_them() {
        assert_eq!(field("a", "bc"), [0, 1, b'a', 2, b'b', b'c']);
        assert_eq!(header_block("/")[..4], [0x82, 0x87, 0x04, 1]);
    }
}
