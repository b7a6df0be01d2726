//! What the host is compared with: the component's own core, compiled natively,
//! on the same store and keys, and the `oauth2` crate on a pooled client.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oauth2::basic::BasicClient;
use oauth2::{ClientId, ClientSecret, EndpointNotSet, EndpointSet, Scope, TokenUrl};
use reqwest::redirect;
use tokenwell::{LocalSecrets, Secrets, TokenStore};
use tokenwell_core::connection::Connection;
use tokenwell_core::event::Event;
use tokenwell_core::http;
use tokenwell_core::platform::{
    Entry, Lease, Loaded, Platform, Random, SealingKey, SecretError, StoreError, Swapped,
};
use tokenwell_core::secret::SecretString;
use tokenwell_core::time::Timestamp;

use crate::server::Server;
use crate::{CLIENT_ID, CLIENT_SECRET, Failure, SCOPE};

/// A client that keeps its connections, and trusts the server.
pub fn http_client(server: &Server) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .tcp_nodelay(true)
        .no_proxy();
    if let Some(certificate) = &server.certificate {
        builder = builder.add_root_certificate(reqwest::Certificate::from_der(certificate)?);
    }
    Ok(builder.build()?)
}

/// The `oauth2` crate's client.
pub struct Peer {
    client:
        BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>,
    http: reqwest::Client,
}

impl Peer {
    pub fn new(server: &Server) -> Result<Self, Failure> {
        let client = BasicClient::new(ClientId::new(CLIENT_ID.to_owned()))
            .set_client_secret(ClientSecret::new(CLIENT_SECRET.to_owned()))
            .set_token_uri(TokenUrl::new(format!("{}/token", server.origin))?);
        Ok(Self {
            client,
            http: http_client(server)?,
        })
    }

    /// Asks for a token.
    pub async fn token(&self) -> Result<(), Failure> {
        let request = self.client.exchange_client_credentials();
        let request = request.add_scope(Scope::new(SCOPE.to_owned()));
        request.request_async(&self.http).await?;
        Ok(())
    }
}

/// The core's platform without a sandbox: the host's store and keys, and a pooled
/// client.
#[derive(Clone)]
pub struct Native {
    pub store: Arc<dyn TokenStore>,
    pub secrets: LocalSecrets,
    pub http: reqwest::Client,
}

impl Native {
    /// The connection of that name and config.
    pub fn open(&self, name: &str, config: &str) -> Result<Connection<Self>, Failure> {
        let config = tokenwell_core::config::parse(config)
            .map_err(|problems| format!("the config has problems: {problems:?}"))?;
        Ok(Connection::open(name, config, self.clone())?)
    }
}

/// A lease of the store.
pub struct Held(Box<dyn tokenwell::Lease>);

impl Lease for Held {
    fn fence(&self) -> u64 {
        self.0.fence()
    }
}

impl Random for Native {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system has random numbers");
    }
}

impl Platform for Native {
    type Lease = Held;

    async fn send(&self, request: http::Request) -> Result<http::Response, http::Failure> {
        let url = request.url.to_string();
        let mut builder = match request.method {
            http::Method::Get => self.http.get(url),
            http::Method::Post => self.http.post(url).body(request.body.reveal().to_owned()),
            http::Method::Delete => self.http.delete(url).body(request.body.reveal().to_owned()),
        };
        builder = builder.timeout(Duration::from_millis(request.timeout_millis));
        for (name, value) in &request.headers {
            builder = builder.header(name, value.reveal());
        }
        let in_doubt = |error: reqwest::Error| http::Failure::InDoubt(error.to_string());
        let response = builder.send().await.map_err(in_doubt)?;
        let headers = response.headers().iter().filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        Ok(http::Response {
            status: response.status().as_u16(),
            headers: headers.collect(),
            arrived_at: self.now(),
            body: response.bytes().await.map_err(in_doubt)?.into(),
        })
    }

    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let since_epoch = since_epoch.unwrap_or_default();
        Timestamp::from_seconds(since_epoch.as_secs())
            .plus_millis(u64::from(since_epoch.subsec_millis()))
    }

    async fn sleep(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        match self.store.load(key, known).await {
            Ok(tokenwell::Loaded::Absent) => Ok(Loaded::Absent),
            Ok(tokenwell::Loaded::Unchanged) => Ok(Loaded::Unchanged),
            Ok(tokenwell::Loaded::Entry(entry)) => Ok(Loaded::Entry(from_entry(entry))),
            Err(error) => Err(from_store_error(error)),
        }
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        let value = value.to_vec();
        let swapped = self.store.compare_and_swap(key, expected, value, fence);
        match swapped.await {
            Ok(tokenwell::Swapped::Stored(version)) => Ok(Swapped::Stored(version)),
            Ok(tokenwell::Swapped::Stale(entry)) => Ok(Swapped::Stale(entry.map(from_entry))),
            Ok(tokenwell::Swapped::Fenced) => Ok(Swapped::Fenced),
            Err(error) => Err(from_store_error(error)),
        }
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl_millis: u64,
        wait_millis: u64,
    ) -> Result<Option<Held>, StoreError> {
        let ttl = Duration::from_millis(ttl_millis);
        let wait = Duration::from_millis(wait_millis);
        let lease = self.store.acquire_lease(key, ttl, wait).await;
        Ok(lease.map_err(from_store_error)?.map(Held))
    }

    async fn resolve_secret(&self, reference: &str) -> Result<SecretString, SecretError> {
        let resolved = self.secrets.resolve(reference).await;
        resolved.map(SecretString::new).map_err(from_secret_error)
    }

    async fn sealing_keys(&self, needed: Option<&str>) -> Result<Vec<SealingKey>, SecretError> {
        let keys = self.secrets.sealing_keys(needed).await;
        keys.map_err(from_secret_error)
    }

    async fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, SecretError> {
        let signed = self.secrets.sign(key, algorithm, data).await;
        signed.map_err(from_secret_error)
    }

    async fn public_key(&self, key: &str) -> Result<String, SecretError> {
        self.secrets
            .public_key(key)
            .await
            .map_err(from_secret_error)
    }

    async fn verify(
        &self,
        jwk: &str,
        algorithm: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, SecretError> {
        let verified = self.secrets.verify(jwk, algorithm, data, signature).await;
        verified.map_err(from_secret_error)
    }

    // A host without a sink does nothing with it either.
    fn emit(&self, _: &str, _: &Event) {}
}

fn from_entry(entry: tokenwell::Entry) -> Entry {
    Entry {
        version: entry.version,
        value: entry.value,
    }
}

fn from_store_error(error: tokenwell::StoreError) -> StoreError {
    match error {
        tokenwell::StoreError::Unavailable(text) => StoreError::Unavailable(text),
        tokenwell::StoreError::Denied(text) => StoreError::Denied(text),
        tokenwell::StoreError::Corrupt(text) => StoreError::Corrupt(text),
    }
}

fn from_secret_error(error: tokenwell::SecretError) -> SecretError {
    match error {
        tokenwell::SecretError::NotFound(text) => SecretError::NotFound(text),
        tokenwell::SecretError::Denied(text) => SecretError::Denied(text),
        tokenwell::SecretError::Unavailable(text) => SecretError::Unavailable(text),
        tokenwell::SecretError::Unsupported(text) => SecretError::Unsupported(text),
    }
}
