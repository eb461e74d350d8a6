//! Bounds on one HTTP/2 connection (RFC 9113 section 10.5), over those that Pingora sets.

use pingora::protocols::http::v2::server::{H2Options, default_h2_options};

use crate::config::Config;

/// Streams of one HTTP/2 connection that were reset and are still accounted for, at most; with more it ends.
const HTTP2_RESETS_MAX: usize = 50;
/// Bytes of answers that wait on one HTTP/2 stream: at least a frame.
const HTTP2_SEND_BYTES_MIN: usize = 16 * 1024;

/// What a client may hold open, queue or reset on one connection.
pub(super) fn options(config: &Config) -> H2Options {
    let mut options = default_h2_options();
    let header_bytes = u32::try_from(config.limits.header_bytes_max.0).unwrap_or(u32::MAX);
    options.max_header_list_size(header_bytes);
    if let Some(tls) = &config.tls {
        options.max_concurrent_streams(tls.http2_streams_max);
    }
    options.max_concurrent_reset_streams(HTTP2_RESETS_MAX);
    options.max_pending_accept_reset_streams(HTTP2_RESETS_MAX);
    options.max_send_buffer_size(
        config
            .limits
            .write_buffer
            .as_usize()
            .max(HTTP2_SEND_BYTES_MIN),
    );
    options
}
