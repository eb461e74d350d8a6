//! How each driver is told where the server is, and what its sessions are like.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use percent_encoding::percent_decode_str;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What a session is called in `pg_stat_activity`.
const APPLICATION: &str = "origin";
/// More than there are statements: none is ever prepared twice on a connection.
const STATEMENTS_MAX: usize = 64;

/// What every session asks of the server, as names and values.
fn session(statement_timeout: Duration) -> [(&'static str, String); 6] {
    let timeout_ms = statement_timeout.as_millis().to_string();
    [
        ("statement_timeout", timeout_ms.clone()),
        ("lock_timeout", timeout_ms.clone()),
        ("idle_in_transaction_session_timeout", timeout_ms),
        // Each statement finds its rows by an index, whatever its arguments: planning again would gain nothing.
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("jit", "off".to_owned()),
        ("timezone", "UTC".to_owned()),
    ]
}

/// For `sqlx`.
pub(super) fn options(url: &PgConnectOptions, statement_timeout: Duration) -> PgConnectOptions {
    url.clone()
        .application_name(APPLICATION)
        .statement_cache_capacity(STATEMENTS_MAX)
        .options(session(statement_timeout))
        .disable_statement_logging()
}

/// For `tokio-postgres`: the same server, user and session.
pub(crate) fn config(
    url: &PgConnectOptions,
    statement_timeout: Duration,
) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    match url.get_socket() {
        Some(socket) => config.host_path(socket),
        None => config.host(url.get_host()),
    };
    config.port(url.get_port()).user(url.get_username());
    if let Some(database) = url.get_database() {
        config.dbname(database);
    }
    if let Some(password) = url.to_url_lossy().password() {
        config.password(percent_decode_str(password).collect::<Vec<u8>>());
    }
    let session = session(statement_timeout).map(|(name, value)| format!("-c {name}={value}"));
    config
        .application_name(APPLICATION)
        .options(session.join(" "))
        .ssl_mode(match url.get_ssl_mode() {
            PgSslMode::Disable => SslMode::Disable,
            PgSslMode::Allow | PgSslMode::Prefer => SslMode::Prefer,
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => SslMode::Require,
        });
    config
}

/// TLS as the URL's `sslmode` asks for it: `verify-ca` and `verify-full` check certificate and name against
/// `sslrootcert`, the other modes encrypt without a check, as the server's own clients do.
///
/// # Errors
/// If `sslrootcert` is needed and cannot be read.
pub(crate) fn tls(url: &PgConnectOptions) -> anyhow::Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("TLS of the database")?;
    let config = match url.get_ssl_mode() {
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => builder.with_root_certificates(roots(url)?),
        _ => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

fn roots(url: &PgConnectOptions) -> anyhow::Result<RootCertStore> {
    let text = url.to_url_lossy();
    let (_, path) = text
        .query_pairs()
        .find(|(name, _)| name == "sslrootcert")
        .context("sslmode=verify-ca and verify-full need sslrootcert=FILE in the database's URL")?;
    // As the driver writes what it was given: the name of a file.
    let path = path.strip_prefix("file: ").unwrap_or(&path);
    let unreadable = || format!("cannot read sslrootcert={path}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).with_context(unreadable)? {
        roots
            .add(certificate.with_context(unreadable)?)
            .with_context(unreadable)?;
    }
    ensure!(!roots.is_empty(), "sslrootcert={path} holds no certificate");
    Ok(roots)
}

/// Takes whatever certificate the server has: `sslmode=require` asks for encryption only.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    fn url(text: &str) -> PgConnectOptions {
        text.parse().expect("a URL")
    }

    #[test]
    fn both_drivers_are_told_the_same() {
        let url = url("postgres://app:p%40ss%20w%2Frd@db:5433/shop?sslmode=require");
        let config = config(&url, Duration::from_millis(900));
        assert_eq!(config.get_hosts(), [Host::Tcp("db".to_owned())]);
        assert_eq!(config.get_ports(), [5433]);
        assert_eq!(config.get_user(), Some("app"));
        assert_eq!(config.get_password(), Some(&b"p@ss w/rd"[..]));
        assert_eq!(config.get_dbname(), Some("shop"));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        let options = options(&url, Duration::from_millis(900));
        assert_eq!(config.get_options(), options.get_options());
        assert_eq!(
            config.get_application_name(),
            options.get_application_name()
        );
    }

    #[test]
    fn a_socket_is_a_folder() {
        let url = url("postgres://app@localhost/shop?host=/run/postgresql");
        let config = config(&url, Duration::from_secs(1));
        assert_eq!(config.get_hosts(), [Host::Unix("/run/postgresql".into())]);
    }

    #[test]
    fn a_certificate_that_cannot_be_checked_is_an_error_that_names_its_file() {
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
        ] {
            let url = url(&format!("postgres://app@db/shop?{query}"));
            let error = tls(&url)
                .err()
                .map(|error| format!("{error:#}"))
                .unwrap_or_default();
            assert!(error.contains(expected), "{query}: {error}");
        }
        assert!(tls(&url("postgres://app@db/shop?sslmode=require")).is_ok());
    }
}
