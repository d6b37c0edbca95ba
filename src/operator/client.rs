//! The two clients of the API server: one for the watches, one for everything else.
//!
//! Neither has timeouts or retries of its own. Every call and every wait of a watch has a limit where it is made, and
//! every failed pass its own back-off; retries below would hide both.

use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config, Error};
use tower::{BoxError, ServiceBuilder};

/// What a connection of a watch reads at once, bytes, and so the longest head of an answer. Heads of lists and watches
/// have less than 1 KiB.
///
/// Without a size, hyper's buffer grows with what it reads: to 256 KiB after some pages of a list. The connection keeps
/// that while it is idle, and during the whole watch that follows.
const WATCH_BYTES: usize = 8 << 10;
/// The same for all other requests. The head of an answer to a write may have 4096 characters of warnings from other
/// people's admission webhooks.
const CALL_BYTES: usize = 32 << 10;

/// A client for lists and watches. Each watch has a connection for as long as it runs.
pub fn watching(config: &Config) -> Result<Client, Error> {
    client(config, WATCH_BYTES)
}

/// A client for all other requests.
pub fn calling(config: &Config) -> Result<Client, Error> {
    client(config, CALL_BYTES)
}

fn client(config: &Config, read_bytes: usize) -> Result<Client, Error> {
    let connector = config.rustls_https_connector()?;
    let client: legacy::Client<_, Body> =
        legacy::Client::builder(TokioExecutor::new()).http1_read_buf_exact_size(read_bytes).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}
