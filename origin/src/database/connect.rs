//! How each driver is told where the server is, and what its sessions are like.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio_postgres::config::SslMode;

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

/// For `tokio-postgres`: the same server, user and session. What the URL's `options` ask for is asked for first: ours win.
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
    let options = options(url, statement_timeout);
    config
        .application_name(APPLICATION)
        .options(options.get_options().unwrap_or_default())
        .ssl_mode(match url.get_ssl_mode() {
            PgSslMode::Disable => SslMode::Disable,
            PgSslMode::Allow | PgSslMode::Prefer => SslMode::Prefer,
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => SslMode::Require,
        });
    config
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
    fn both_drivers_ask_for_what_the_url_asks_for() {
        for query in [
            "options=-c%20search_path%3Dmine%20-c%20work_mem%3D1MB",
            "options[search_path]=mine&options[work_mem]=1MB",
        ] {
            let url = url(&format!("postgres://app@db/shop?{query}"));
            let timeout = Duration::from_millis(900);
            let config = config(&url, timeout);
            let asked = config.get_options().unwrap_or_default();
            assert!(
                asked.starts_with("-c search_path=mine -c work_mem=1MB -c statement_timeout=900"),
                "{asked}"
            );
            assert_eq!(Some(asked), options(&url, timeout).get_options());
        }
    }

    #[test]
    fn a_socket_is_a_folder() {
        let url = url("postgres://app@localhost/shop?host=/run/postgresql");
        let config = config(&url, Duration::from_secs(1));
        assert_eq!(config.get_hosts(), [Host::Unix("/run/postgresql".into())]);
    }
}
