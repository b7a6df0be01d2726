//! Where a connection's own requests may go: to the origins that its config and
//! its provider name, and to those in the metadata of its issuer, which the host
//! fetches and verifies itself. What the component asks for is not taken as a
//! reason.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use tokenwell_core::config::{Config as CoreConfig, EndpointUrls};
use tokenwell_core::endpoint::Endpoint;
use tokenwell_core::metadata::{self, Server};
use tokenwell_core::provider;
use tokio::time::Instant;

use super::origin::Origin;
use super::{HttpClient, each_within, whole};
use crate::contract::Config;

/// The longest metadata that is read, in bytes.
const METADATA_LIMIT: usize = 1 << 20;

/// How long an issuer is not asked again for metadata that do not name an origin.
const REDISCOVERY_PAUSE: Duration = Duration::from_secs(60);

/// The origins of one connection.
#[derive(Debug)]
pub(crate) struct Egress {
    named: HashSet<Origin>,
    issuer: Option<String>,
    timeout: Duration,
    /// The origins in the issuer's metadata, once they have been had.
    discovered: Mutex<HashSet<Origin>>,
    /// When the issuer was asked last, once it has answered. Who asks holds it.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

/// Why a request may not go where it was to go.
#[derive(Debug, PartialEq)]
pub(crate) enum Denial {
    /// Nothing names that origin.
    Unnamed(String),
    /// Whether the metadata names it could not be found out.
    Undecided,
}

impl Egress {
    pub(crate) fn of(config: &Config, timeout: Duration) -> Self {
        let (issuer, urls) = named_by(config);
        Self {
            named: origins_of(&urls),
            issuer,
            timeout,
            discovered: Mutex::default(),
            asked: tokio::sync::Mutex::default(),
        }
    }

    /// Where an issuer's own endpoints are, for what is asked of it beyond any
    /// connection.
    pub(crate) fn of_issuer(issuer: &str, timeout: Duration) -> Self {
        let config = Config {
            issuer: Some(issuer.to_owned()),
            ..Config::default()
        };
        Self::of(&config, timeout)
    }

    /// Whether a request may go there. Asks the issuer for its metadata where
    /// that is what decides, and again where it may have moved an endpoint since.
    pub(crate) async fn permits(&self, uri: &Uri, client: &HttpClient) -> Result<(), Denial> {
        let Some(origin) = Origin::of(uri) else {
            return Err(Denial::Unnamed("no URL".to_owned()));
        };
        if self.named.contains(&origin) || self.is_discovered(&origin) {
            return Ok(());
        }
        let unnamed = || Denial::Unnamed(origin.to_string());
        let issuer = self.issuer.as_deref().ok_or_else(unnamed)?;
        let mut asked = self.asked.lock().await;
        // Somebody else may have asked meanwhile.
        if self.is_discovered(&origin) {
            return Ok(());
        }
        if asked.is_some_and(|asked| asked.elapsed() < REDISCOVERY_PAUSE) {
            return Err(unnamed());
        }
        let discovered = discover(issuer, client, self.timeout).await;
        if asked.is_some() || discovered.is_some() {
            *asked = Some(Instant::now());
        }
        let discovered = discovered.ok_or(Denial::Undecided)?;
        let is_named = discovered.contains(&origin);
        *self.discovered() = discovered;
        if is_named { Ok(()) } else { Err(unnamed()) }
    }

    fn is_discovered(&self, origin: &Origin) -> bool {
        self.discovered().contains(origin)
    }

    fn discovered(&self) -> MutexGuard<'_, HashSet<Origin>> {
        let discovered = self.discovered.lock();
        discovered.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The issuer of a config, and every URL that the config and its provider name.
fn named_by(config: &Config) -> (Option<String>, Vec<String>) {
    let mut core = CoreConfig {
        provider: config.provider.clone(),
        parameters: config
            .parameters
            .iter()
            .map(|parameter| (parameter.name.clone(), parameter.value.clone()))
            .collect(),
        client_id: config.client_id.clone(),
        issuer: config.issuer.clone(),
        endpoints: EndpointUrls {
            authorization: config.authorization_endpoint.clone(),
            token: config.token_endpoint.clone(),
            revocation: config.revocation_endpoint.clone(),
            introspection: config.introspection_endpoint.clone(),
            userinfo: config.userinfo_endpoint.clone(),
            device_authorization: config.device_authorization_endpoint.clone(),
            pushed_authorization_request: config.pushed_authorization_request_endpoint.clone(),
            jwks: config.jwks_uri.clone(),
        },
        ..CoreConfig::default()
    };
    let mut urls = Vec::new();
    // With parameters that do not fit the component sends nothing at all.
    if let Ok(dialect) = provider::dialect(&core) {
        let values = dialect.lines().flat_map(|line| line.value.split(' '));
        urls.extend(values.map(str::to_owned));
        provider::complete(&mut core, dialect);
    }
    let server = Server::from_config(&core);
    urls.extend(urls_of(&server));
    (server.issuer, urls)
}

/// Every URL of a server.
fn urls_of(server: &Server) -> Vec<String> {
    let sets = [&server.endpoints, &server.mtls_endpoints];
    let endpoints = sets.into_iter().flat_map(EndpointUrls::iter);
    endpoints
        .filter_map(|(_, url)| url.clone())
        .chain(server.registration_endpoint.clone())
        .chain(server.issuer.clone())
        .collect()
}

/// The origins of the URLs that may be endpoints.
fn origins_of(urls: &[String]) -> HashSet<Origin> {
    let endpoints = urls.iter().filter_map(|url| Endpoint::parse(url).ok());
    endpoints
        .filter_map(|endpoint| Origin::of_endpoint(&endpoint))
        .collect()
}

/// The origins in the metadata of an issuer, which is its own (RFC 8414 section
/// 3.3); none where it cannot be had.
async fn discover(issuer: &str, client: &HttpClient, timeout: Duration) -> Option<HashSet<Origin>> {
    for url in metadata::discovery_urls(&Endpoint::parse(issuer).ok()?) {
        if let Some(body) = fetch(&url, client, timeout).await
            && let Ok(server) = metadata::parse(issuer, &body)
        {
            return Some(origins_of(&urls_of(&server)));
        }
    }
    None
}

async fn fetch(url: &Endpoint, client: &HttpClient, timeout: Duration) -> Option<Bytes> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get(url.to_string())
        .header(ACCEPT, "application/json")
        .body(body)
        .ok()?;
    let response = client.send(request, each_within(timeout)).await.ok()?;
    if response.status() != StatusCode::OK {
        return None;
    }
    whole(response.into_body(), METADATA_LIMIT).await.ok()?
}
