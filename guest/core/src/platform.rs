//! What the flows ask of the world. Natively it is a fake with a paused clock;
//! in the component it is the host's imports.

use crate::event::Event;
use crate::http;
use crate::secret::SecretString;
use crate::time::Timestamp;
use std::fmt;
use zeroize::Zeroize;

/// The host's source of random numbers, fit for cryptography.
pub trait Random {
    /// Fills the slice.
    fn fill(&self, bytes: &mut [u8]);
}

/// A stored value with its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Which value it is.
    pub version: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// What a load found.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// Nothing.
    Absent,
    /// The value that is known already.
    Unchanged,
    /// This.
    Entry(Entry),
}

/// What became of a swap.
#[derive(Clone, Debug, PartialEq)]
pub enum Swapped {
    /// The value is stored, under this version.
    Stored(u64),
    /// Another value is there than was expected: this one, or none.
    Stale(Option<Entry>),
    /// A later lease has been given out.
    Fenced,
}

/// Why a store could not do it.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreError {
    /// Another time it may work.
    Unavailable(String),
    /// It does not allow it.
    Denied(String),
    /// What is stored is not what the store wrote.
    Corrupt(String),
}

/// Why the host gives no secret or key.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretError {
    /// There is nothing under that reference.
    NotFound(String),
    /// The host does not allow it.
    Denied(String),
    /// It cannot be had now.
    Unavailable(String),
    /// The host knows no such form of reference.
    Unsupported(String),
}

/// A key that seals records.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey {
    /// A name that says which key it is and nothing about it.
    pub id: String,
    /// The key.
    pub key: [u8; 32],
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealingKey({})", self.id)
    }
}

impl Drop for SealingKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The right to renew, released when dropped.
pub trait Lease {
    /// A number greater than that of every earlier lease on the key.
    fn fence(&self) -> u64;
}

/// The world, as far as the flows see it. Futures need not be `Send`: an
/// instance runs one flow at a time.
#[allow(
    async_fn_in_trait,
    reason = "every user is in this workspace and single-threaded"
)]
pub trait Platform: Random {
    /// The store's lease.
    type Lease: Lease;

    /// Sends one request and reads the response to its end; follows no
    /// redirect.
    async fn send(&self, request: http::Request) -> Result<http::Response, http::Failure>;

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Waits.
    async fn sleep(&self, millis: u64);

    /// Reads an entry; unchanged where it still has the known version.
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError>;

    /// Stores a value where the entry has the expected version, durably.
    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError>;

    /// Takes the lease on a key; `None` where it is still held after the wait.
    async fn acquire_lease(
        &self,
        key: &str,
        ttl_millis: u64,
        wait_millis: u64,
    ) -> Result<Option<Self::Lease>, StoreError>;

    /// The value behind a reference.
    async fn resolve_secret(&self, reference: &str) -> Result<SecretString, SecretError>;

    /// The sealing keys: the first seals, all open. `needed` is the identifier
    /// of the key that a stored record names.
    async fn sealing_keys(&self, needed: Option<&str>) -> Result<Vec<SealingKey>, SecretError>;

    /// Signs with a key that the host holds, by a JWS algorithm (RFC 7518
    /// section 3.1, RFC 8037); the signature is in JWS form.
    async fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, SecretError>;

    /// The public half of such a key, as a JWK (RFC 7517).
    async fn public_key(&self, key: &str) -> Result<String, SecretError>;

    /// Whether a JWS signature is that of the public key, which is given as a
    /// JWK.
    async fn verify(
        &self,
        jwk: &str,
        algorithm: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, SecretError>;

    /// Takes note of an event of the connection.
    fn emit(&self, connection: &str, event: &Event);
}
