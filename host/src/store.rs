//! Where records are kept.

mod file;
mod memory;
mod turnstile;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use file::FileStore;
pub use memory::MemoryStore;

use crate::contract::{Loaded, StoreError, Swapped};

/// Keeps records under keys. Values are opaque bytes, sealed by the component.
/// [`conformance`](crate::store) says what a store must hold to; every call may
/// be dropped while it waits.
#[async_trait]
pub trait TokenStore: Send + Sync + 'static {
    /// Reads the entry under a key. With the version that the caller has
    /// already, an unchanged value is not transferred.
    ///
    /// # Errors
    /// `Corrupt` where the entry is not what the store wrote; it is left as it
    /// is. `Denied`, `Unavailable` as they say.
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError>;

    /// Stores a value where the entry still has the expected version (`None`:
    /// where there is none), atomically among all processes that share the
    /// store. With a fence number, only while no later lease on the key has
    /// been given out. When it answers `Stored`, the value survives a crash.
    ///
    /// # Errors
    /// As [`TokenStore::load`].
    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError>;

    /// Deletes the entry where it still has that version, and tells whether.
    ///
    /// # Errors
    /// As [`TokenStore::load`].
    async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError>;

    /// Takes the lease on a key for at most `ttl`, waiting for its present
    /// holder for at most `wait`; `None`: it is held. The lease of a process
    /// that has died, or of a holder whose time has run out, does not hold.
    ///
    /// # Errors
    /// `Denied`, `Unavailable` as they say.
    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError>;
}

#[async_trait]
impl<S: TokenStore + ?Sized> TokenStore for Arc<S> {
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        (**self).load(key, known).await
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        (**self).compare_and_swap(key, expected, value, fence).await
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError> {
        (**self).delete(key, expected).await
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        (**self).acquire_lease(key, ttl, wait).await
    }
}

/// The right to renew what is under a key. Released when dropped; lost when its
/// time runs out.
pub trait Lease: Send + 'static {
    /// A number greater than that of every earlier lease on the key.
    fn fence(&self) -> u64;
}
