//! Secrets and keys that the host holds.

mod local;

use std::fmt;

use async_trait::async_trait;

pub use local::LocalSecrets;

use crate::contract::SecretError;

/// Holds what the component must not: the values behind references, and private
/// keys. The texts of its errors are free of secrets.
#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// The value behind a reference, such as `env:NAME`.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    async fn resolve(&self, reference: &str) -> Result<String, SecretError>;

    /// The keys that seal stored records: the first seals, all open.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    async fn sealing_keys(&self) -> Result<Vec<SealingKey>, SecretError>;

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

/// A key that seals stored records (ChaCha20-Poly1305, RFC 8439).
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey {
    /// A short name that says which key it is and nothing about it.
    pub id: String,
    /// The key.
    pub key: [u8; 32],
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
