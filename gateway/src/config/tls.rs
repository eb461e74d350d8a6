//! `[tls]`: the encrypted listener beside the plain one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::check::Check;

/// `[tls]`: the encrypted listener; with it the plain one sends every request there, with 308.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Its address.
    pub listen: SocketAddr,
    /// A file with the certificate and those that lead to its root (PEM); read again when it changes.
    #[schemars(example = "/etc/gateway/chain.pem")]
    pub certificate_file: Option<PathBuf>,
    /// A file with the certificate's private key (PEM).
    #[schemars(example = "/etc/gateway/key.pem")]
    pub key_file: Option<PathBuf>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Requests at once on one HTTP/2 connection at most.
    pub http2_streams_max: u32,
    /// The port that clients reach this listener at, for redirects.
    pub public_port: u16,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)),
            certificate_file: None,
            key_file: None,
            http2: true,
            http2_streams_max: 100,
            public_port: 443,
        }
    }
}

impl Check {
    /// The rules of this file's settings.
    pub(super) fn tls(&mut self, config: &Config) {
        let Some(tls) = &config.tls else {
            return;
        };
        let files = [
            ("tls.certificate_file", &tls.certificate_file),
            ("tls.key_file", &tls.key_file),
        ];
        for (key, file) in files {
            if file.is_none() {
                self.report(key, "required: a PEM file");
            }
        }
        let is_taken = tls.listen == config.listen
            || config
                .admin
                .as_ref()
                .is_some_and(|admin| admin.listen == tls.listen);
        if is_taken && tls.listen.port() != 0 {
            self.report_beside("tls.listen", "listen", "another listener has this address");
        }
        self.within("tls.http2_streams_max", tls.http2_streams_max, 1, 10_000);
        self.within("tls.public_port", tls.public_port, 1, u16::MAX);
    }

    /// The files of this file's settings.
    pub(super) fn tls_files(&mut self, config: &Config) {
        if let Some(tls) = &config.tls
            && let (Some(chain), Some(key)) = (&tls.certificate_file, &tls.key_file)
            && let Err(error) = crate::tls::read(chain, key)
        {
            self.report("tls.certificate_file", format!("{error:#}"));
        }
    }
}
