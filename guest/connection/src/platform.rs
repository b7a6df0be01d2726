//! The flows' platform, by the host's imports.

use crate::bindings::tokenwell::oauth2::{events, secrets, token_store};
use crate::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use crate::bindings::wasi::random::random;
use crate::{outgoing, translate};
use tokenwell_core::event::Event;
use tokenwell_core::http;
use tokenwell_core::platform::{
    Entry, Lease, Loaded, Platform, Random, SealingKey, SecretError, StoreError, Swapped,
};
use tokenwell_core::secret::SecretString;
use tokenwell_core::time::Timestamp;

/// The host.
pub struct Host;

impl Random for Host {
    fn fill(&self, bytes: &mut [u8]) {
        let random = random::get_random_bytes(bytes.len() as u64);
        bytes.copy_from_slice(&random);
    }
}

impl Lease for token_store::Lease {
    fn fence(&self) -> u64 {
        token_store::Lease::fence(self)
    }
}

impl Platform for Host {
    type Lease = token_store::Lease;

    async fn send(&self, request: http::Request) -> Result<http::Response, http::Failure> {
        outgoing::send(&request)
    }

    fn now(&self) -> Timestamp {
        let now = wall_clock::now();
        Timestamp::from_seconds(now.seconds).plus_millis(u64::from(now.nanoseconds) / 1_000_000)
    }

    async fn sleep(&self, millis: u64) {
        monotonic_clock::subscribe_duration(millis.saturating_mul(1_000_000)).block();
    }

    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        match token_store::load(key, known) {
            Ok(token_store::Loaded::Absent) => Ok(Loaded::Absent),
            Ok(token_store::Loaded::Unchanged) => Ok(Loaded::Unchanged),
            Ok(token_store::Loaded::Entry(entry)) => Ok(Loaded::Entry(from_entry(entry))),
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
        match token_store::compare_and_swap(key, expected, value, fence) {
            Ok(token_store::Swapped::Stored(version)) => Ok(Swapped::Stored(version)),
            Ok(token_store::Swapped::Stale(current)) => Ok(Swapped::Stale(current.map(from_entry))),
            Ok(token_store::Swapped::Fenced) => Ok(Swapped::Fenced),
            Err(error) => Err(from_store_error(error)),
        }
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl_millis: u64,
        wait_millis: u64,
    ) -> Result<Option<Self::Lease>, StoreError> {
        token_store::acquire_lease(key, ttl_millis, wait_millis).map_err(from_store_error)
    }

    async fn resolve_secret(&self, reference: &str) -> Result<SecretString, SecretError> {
        secrets::resolve(reference)
            .map(SecretString::new)
            .map_err(from_secret_error)
    }

    async fn sealing_keys(&self, needed: Option<&str>) -> Result<Vec<SealingKey>, SecretError> {
        let keys = secrets::sealing_keys(needed).map_err(from_secret_error)?;
        keys.into_iter().map(from_sealing_key).collect()
    }

    async fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, SecretError> {
        secrets::sign(key, algorithm, data).map_err(from_secret_error)
    }

    async fn public_key(&self, key: &str) -> Result<String, SecretError> {
        secrets::public_key(key).map_err(from_secret_error)
    }

    async fn verify(
        &self,
        jwk: &str,
        algorithm: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, SecretError> {
        secrets::verify(jwk, algorithm, data, signature).map_err(from_secret_error)
    }

    fn emit(&self, connection: &str, event: &Event) {
        events::emit(&translate::event(connection, event));
    }
}

fn from_entry(entry: token_store::Entry) -> Entry {
    Entry {
        version: entry.version,
        value: entry.value,
    }
}

fn from_store_error(error: token_store::StoreError) -> StoreError {
    match error {
        token_store::StoreError::Unavailable(text) => StoreError::Unavailable(text),
        token_store::StoreError::Denied(text) => StoreError::Denied(text),
        token_store::StoreError::Corrupt(text) => StoreError::Corrupt(text),
    }
}

fn from_secret_error(error: secrets::SecretError) -> SecretError {
    match error {
        secrets::SecretError::NotFound(text) => SecretError::NotFound(text),
        secrets::SecretError::Denied(text) => SecretError::Denied(text),
        secrets::SecretError::Unavailable(text) => SecretError::Unavailable(text),
        secrets::SecretError::Unsupported(text) => SecretError::Unsupported(text),
    }
}

fn from_sealing_key(key: secrets::SealingKey) -> Result<SealingKey, SecretError> {
    let bytes: [u8; 32] = key.key.as_slice().try_into().map_err(|_| {
        SecretError::Unavailable(format!("the sealing key {} is not 32 bytes long", key.id))
    })?;
    Ok(SealingKey {
        id: key.id,
        key: bytes,
    })
}
