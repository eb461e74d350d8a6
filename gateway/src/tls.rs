//! The certificate of the TLS listener: read from files, and again while connections are served.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificate that new handshakes get.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// Begins with the certificate in these files.
    ///
    /// # Errors
    /// As [`read`].
    pub fn new(chain: &Path, key: &Path) -> Result<Arc<Self>> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(read(chain, key)?))))
    }

    /// Gives another one to handshakes from now on; connections stay as they are.
    pub fn replace(&self, next: CertifiedKey) {
        self.0.store(Arc::new(next));
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Makes the handshakes of a listener with a certificate, and offers HTTP/2 there if it is wanted.
///
/// # Errors
/// The library knows no version of TLS that is safe.
pub fn acceptor(certificate: Arc<Certificate>, http2: bool) -> Result<Acceptor> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    let offered: &[&[u8]] = if http2 {
        &[b"h2", b"http/1.1"]
    } else {
        &[b"http/1.1"]
    };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    Ok(Acceptor::from_server_config(Arc::new(config)))
}

/// Reads a chain of certificates, the server's own first, and its private key; both PEM.
///
/// # Errors
/// A file that cannot be read or holds none, or a key that is not the certificate's.
pub fn read(chain: &Path, key: &Path) -> Result<CertifiedKey> {
    let name = chain.display();
    let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .with_context(|| format!("reading the certificates in {name}"))?;
    if certificates.is_empty() {
        bail!("no certificate in {name}");
    }
    let name = key.display();
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("reading the private key in {name}"))?;
    let key =
        any_supported_type(&key).with_context(|| format!("using the private key in {name}"))?;
    let certified = CertifiedKey::new(certificates, key);
    certified
        .keys_match()
        .with_context(|| format!("the private key in {name} is not the certificate's"))?;
    Ok(certified)
}
