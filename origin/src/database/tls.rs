//! TLS to a server, as its URL asks for it, for the driver that does not read the URL itself.

use std::{fs, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// TLS as the URL's `sslmode` asks for it: `verify-ca` and `verify-full` check certificate and name against
/// `sslrootcert`, the other modes encrypt without a check, as the server's own clients do. A client that has a
/// certificate, `sslcert` with `sslkey`, shows it.
///
/// # Errors
/// If a file that is needed cannot be read.
pub(crate) fn tls(url: &PgConnectOptions) -> anyhow::Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS of the database")?;
    let builder = match url.get_ssl_mode() {
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => builder.with_root_certificates(roots(url)?),
        _ => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms))),
    };
    let config = match (Pem::of(url, "sslcert"), Pem::of(url, "sslkey")) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificate.certificates()?, key.private_key()?)
            .with_context(|| format!("{} does not fit {}", key.name(), certificate.name()))?,
        _ => bail!("the database's URL needs both sslcert=FILE and sslkey=FILE, or none of them"),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn roots(url: &PgConnectOptions) -> anyhow::Result<RootCertStore> {
    let root = Pem::of(url, "sslrootcert")
        .context("sslmode=verify-ca and verify-full need sslrootcert=FILE in the database's URL")?;
    let mut roots = RootCertStore::empty();
    for certificate in root.certificates()? {
        roots
            .add(certificate)
            .with_context(|| format!("cannot use {}", root.name()))?;
    }
    Ok(roots)
}

/// Certificates or a key that a parameter of the URL names.
struct Pem {
    parameter: &'static str,
    source: Source,
}

enum Source {
    File(String),
    /// From the environment, as no URL can have it.
    Text(String),
}

impl Pem {
    fn of(url: &PgConnectOptions, parameter: &'static str) -> Option<Self> {
        let text = url.to_url_lossy();
        let (_, value) = text.query_pairs().find(|(name, _)| name == parameter)?;
        // As the driver writes what it was given.
        let source = match value.strip_prefix("file: ") {
            Some(path) => Source::File(path.to_owned()),
            None => Source::Text(value.into_owned()),
        };
        Some(Self { parameter, source })
    }

    /// What messages call it: never its text, which may be a secret.
    fn name(&self) -> String {
        match &self.source {
            Source::File(path) => format!("{}={path}", self.parameter),
            Source::Text(_) => self.parameter.to_owned(),
        }
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        match &self.source {
            Source::File(path) => fs::read(path).with_context(|| self.unreadable()),
            Source::Text(text) => Ok(text.clone().into_bytes()),
        }
    }

    fn unreadable(&self) -> String {
        format!("cannot read {}", self.name())
    }

    fn certificates(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let certificates = CertificateDer::pem_slice_iter(&self.read()?)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| self.unreadable())?;
        ensure!(
            !certificates.is_empty(),
            "{} holds no certificate",
            self.name()
        );
        Ok(certificates)
    }

    fn private_key(&self) -> anyhow::Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.read()?).with_context(|| self.unreadable())
    }
}

/// Takes whatever certificate the server has: `sslmode=require` asks for encryption only.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

type Verified<T> = Result<T, rustls::Error>;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Verified<ServerCertVerified> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_it() {
        for (query, expected) in [
            ("sslmode=verify-full", "need sslrootcert=FILE"),
            (
                "sslmode=verify-full&sslrootcert=/no/such/file",
                "sslrootcert=/no/such/file",
            ),
            (
                "sslmode=verify-ca&sslrootcert=/dev/null",
                "/dev/null holds no certificate",
            ),
            ("sslcert=/dev/null", "both sslcert=FILE and sslkey=FILE"),
            ("sslkey=/dev/null", "both sslcert=FILE and sslkey=FILE"),
            (
                "sslcert=/no/such/file&sslkey=/dev/null",
                "cannot read sslcert=/no/such/file",
            ),
        ] {
            let url = format!("postgres://app@db/shop?{query}").parse();
            let error = tls(&url.expect("a URL"))
                .err()
                .map(|error| format!("{error:#}"))
                .unwrap_or_default();
            assert!(error.contains(expected), "{query}: {error}");
        }
        let url = "postgres://app@db/shop?sslmode=require".parse();
        assert!(tls(&url.expect("a URL")).is_ok());
    }
}
