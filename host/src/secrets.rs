//! Secrets and keys that the host holds.

mod key_file;
mod keyring;
mod local;
mod password;
mod sealing;
mod signing;
mod transfer;

use std::io;
use std::path::Path;

use async_trait::async_trait;
use tokio::task::spawn_blocking;

pub use local::{LocalSecrets, check_sealed_name};
pub use password::MasterPassword;
pub use sealing::KeySource;
pub use tokenwell_core::platform::SealingKey;
pub use transfer::{Import, Transfer};

use crate::contract::{SecretError, StoreError};

/// Holds what the component must not: the values behind references, and private
/// keys. The texts of its errors are free of secrets.
#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// The value behind a reference, such as `env:NAME`.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    async fn resolve(&self, reference: &str) -> Result<String, SecretError>;

    /// The keys that seal stored records: the first seals, all open. `needed` is
    /// the identifier of the key that a stored record names; one that can be had
    /// only by its identifier is given among the others.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    async fn sealing_keys(&self, needed: Option<&str>) -> Result<Vec<SealingKey>, SecretError>;

    /// Signs with a key that does not leave the host. `algorithm` is a JWS
    /// algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1); the signature is
    /// in JWS form.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    async fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, SecretError>;

    /// The public half of such a key, as a JWK (RFC 7517).
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    async fn public_key(&self, key: &str) -> Result<String, SecretError>;

    /// Checks a JWS signature with a public key given as a JWK (RFC 7517).
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    async fn verify(
        &self,
        jwk: &str,
        algorithm: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, SecretError>;
}

/// Runs what waits for the machine where waiting is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SecretError> + Send + 'static,
) -> Result<T, SecretError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SecretError::Unavailable(error.to_string())),
    }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> SecretError {
    let text = format!("{doing} {} failed: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => SecretError::NotFound(text),
        _ => SecretError::Unavailable(text),
    }
}

fn from_store_error(error: StoreError) -> SecretError {
    match error {
        StoreError::Denied(why) => SecretError::Denied(why),
        StoreError::Unavailable(cause) | StoreError::Corrupt(cause) => {
            SecretError::Unavailable(cause)
        }
    }
}
