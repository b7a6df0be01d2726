//! Where records are kept.

mod file;
mod location;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod remote;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod tls;
mod turnstile;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use file::FileStore;
pub use location::{directory_of, open};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use redis::RedisStore;

use crate::contract::{Loaded, StoreError, Swapped};

/// Keeps records under keys. Values are opaque bytes, sealed by the component.
/// [`conformance`](crate::store) says what a store must hold to; every call may
/// be dropped while it waits.
#[async_trait]
pub trait TokenStore: Send + Sync + 'static {
    /// Reads the entry under a key, which is one that [`check_key`] allows. With the version that the caller has
    /// already, an unchanged value is not transferred.
    ///
    /// # Errors
    /// `Corrupt` where the entry is not what the store wrote; it is left as it
    /// is. `Denied`, `Unavailable` as they say.
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError>;

    /// Stores a value where the entry still has the expected version (`None`:
    /// where there is none), atomically among all processes that share the
    /// store. With a fence number, only while no later lease on the key has
    /// been given out. When it answers `Stored`, the value survives a crash; when
    /// it answers `Unavailable`, the value may be stored or not.
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

    /// Deletes the entry, whichever version it has, and tells whether there was
    /// one.
    ///
    /// # Errors
    /// As [`TokenStore::load`].
    async fn forget(&self, key: &str) -> Result<bool, StoreError> {
        loop {
            let Loaded::Entry(entry) = self.load(key, None).await? else {
                return Ok(false);
            };
            if self.delete(key, entry.version).await? {
                return Ok(true);
            }
            // Somebody else has written it meanwhile.
        }
    }

    /// Takes the lease on a key for at most `ttl`, waiting for its present
    /// holder for at most `wait`; `None`: it is held. The lease of a holder
    /// whose time has run out does not hold, and that of a process that has died
    /// not for longer than it takes to notice: seconds at most.
    ///
    /// # Errors
    /// `Denied`, `Unavailable` as they say.
    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError>;

    /// Waits until leases that were dropped are given back. A store on a server
    /// does that in its own time; a process that ends without waiting leaves
    /// others to find out that it is gone.
    async fn settle(&self) {}
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

    async fn forget(&self, key: &str) -> Result<bool, StoreError> {
        (**self).forget(key).await
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        (**self).acquire_lease(key, ttl, wait).await
    }

    async fn settle(&self) {
        (**self).settle().await;
    }
}

/// The longest that a lease is given for; whoever asks for more gets this.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// The right to renew what is under a key. Released when dropped; lost when its
/// time runs out.
pub trait Lease: Send + 'static {
    /// A number greater than that of every earlier lease on the key.
    fn fence(&self) -> u64;
}

/// Says whether a store takes that key: letters, digits, `.`, `_` and `-`, no
/// leading dot, at most 100 of them.
///
/// # Errors
/// `Denied` where it does not.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    let is_safe = !key.is_empty()
        && key.len() <= 100
        && !key.starts_with('.')
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if is_safe {
        return Ok(());
    }
    Err(StoreError::Denied(
        "a key has letters, digits, `.`, `_` and `-`, no leading dot, and at most 100 of them"
            .to_owned(),
    ))
}

/// A URL that names no store. The text says what was found and what a URL must
/// be like, and repeats no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUrl(pub(crate) String);

impl std::fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidUrl {}
