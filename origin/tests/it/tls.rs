//! TLS to Postgres with a certificate of the client's: every kind of connection shows it.

use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::support::{DEADLINE, TestApp};

/// Makes an authority, a server named `localhost` and a client, as files of PEM.
fn sign_all(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("authority.crt"), authority.pem()).unwrap();
    for (file, name) in [("server", "localhost"), ("client", "app")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(dir.join(format!("{file}.crt")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

/// A server that takes nobody whose certificate is not of the authority's.
fn acceptor(dir: &Path) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let certificate = |file: &str| CertificateDer::from_pem_file(dir.join(file)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("authority.crt")).unwrap();
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![certificate("server.crt")],
            PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor) -> TlsStream<TcpStream> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = [0; 8];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "a request for TLS");
    stream.write_all(b"S").await.unwrap();
    acceptor.accept(stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_reads_and_the_tail_show_the_certificate_that_the_url_names() {
    let dir = tempfile::tempdir().unwrap();
    sign_all(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let url = format!(
        "postgres://app@localhost:{}/shop?sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
        listener.local_addr().unwrap().port(),
        file("authority.crt"),
        file("client.crt"),
        file("client.key"),
    );
    let one_of_each = [
        "--pool-size=1",
        "--read-connections=1",
        "--connect-timeout-ms=60000",
    ];
    TestApp::over(&url, &one_of_each).await;
    let acceptor = acceptor(dir.path());
    // None is answered, so each of the three waits for its own.
    let mut held = Vec::new();
    for _ in 0..3 {
        let accepted = timeout(DEADLINE, accept(&listener, &acceptor)).await;
        held.push(accepted.expect("another connection"));
    }
    for stream in &mut held {
        let (_, tls) = stream.get_ref();
        assert_eq!(tls.peer_certificates().map(<[_]>::len), Some(1));
        let mut startup = vec![0; 1024];
        let length = stream.read(&mut startup).await.unwrap();
        let startup = String::from_utf8_lossy(&startup[..length]).into_owned();
        assert!(startup.contains("user\0app\0"), "{startup:?}");
    }
}
