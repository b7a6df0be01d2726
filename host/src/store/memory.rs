use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::turnstile::{Attempt, Turnstile, Turnstiles};
use super::{Lease, TokenStore};
use crate::contract::{Entry, Loaded, StoreError, Swapped};

/// Keeps records in the memory of this process. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    slots: Mutex<HashMap<String, Slot>>,
    turnstiles: Turnstiles,
}

/// All that is known of a key. It stays when the entry is deleted, for the
/// numbers' sake.
#[derive(Default)]
struct Slot {
    value: Option<Vec<u8>>,
    version: u64,
    fence: u64,
    held_until: Option<Instant>,
}

impl Slot {
    fn entry(&self) -> Option<Entry> {
        self.value.as_ref().map(|value| Entry {
            version: self.version,
            value: value.clone(),
        })
    }

    fn current(&self) -> Option<u64> {
        self.value.as_ref().map(|_| self.version)
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        let slots = self.shared.slots();
        let Some(slot) = slots.get(key) else {
            return Ok(Loaded::Absent);
        };
        Ok(match slot.current() {
            None => Loaded::Absent,
            current if current == known => Loaded::Unchanged,
            Some(_) => slot.entry().map_or(Loaded::Absent, Loaded::Entry),
        })
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        let mut slots = self.shared.slots();
        let slot = slots.entry(key.to_owned()).or_default();
        if fence.is_some_and(|fence| fence < slot.fence) {
            return Ok(Swapped::Fenced);
        }
        if slot.current() != expected {
            return Ok(Swapped::Stale(slot.entry()));
        }
        slot.version += 1;
        slot.value = Some(value);
        Ok(Swapped::Stored(slot.version))
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError> {
        let mut slots = self.shared.slots();
        let Some(slot) = slots.get_mut(key) else {
            return Ok(false);
        };
        let is_expected = slot.current() == Some(expected);
        if is_expected {
            slot.value = None;
        }
        Ok(is_expected)
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        let turnstile = self.shared.turnstiles.at(key);
        turnstile
            .pass(wait, || async {
                let mut slots = self.shared.slots();
                let slot = slots.entry(key.to_owned()).or_default();
                let now = Instant::now();
                if let Some(until) = slot.held_until
                    && until > now
                {
                    return Ok(Attempt::Held(until - now));
                }
                slot.fence += 1;
                slot.held_until = now.checked_add(ttl);
                let lease = MemoryLease {
                    shared: Arc::clone(&self.shared),
                    turnstile: Arc::clone(&turnstile),
                    key: key.to_owned(),
                    fence: slot.fence,
                };
                Ok(Attempt::Taken(Box::new(lease) as Box<dyn Lease>))
            })
            .await
    }
}

struct MemoryLease {
    shared: Arc<Shared>,
    turnstile: Arc<Turnstile>,
    key: String,
    fence: u64,
}

impl Lease for MemoryLease {
    fn fence(&self) -> u64 {
        self.fence
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        if let Some(slot) = self.shared.slots().get_mut(&self.key)
            && slot.fence == self.fence
        {
            slot.held_until = None;
        }
        self.turnstile.release();
    }
}

#[cfg(test)]
mod tests {
    crate::conformance_tests!(super::MemoryStore::new());
    crate::shared_conformance_tests!({
        let store = super::MemoryStore::new();
        (store.clone(), store)
    });
}
