use std::time::Duration;

use wasmtime::component::Resource;

use crate::contract::bindings::tokenwell::oauth2::token_store::{Host, HostLease};
use crate::contract::{Loaded, StoreError, Swapped};
use crate::engine::State;
use crate::store::Lease;

/// A lease in the hands of an instance.
pub struct HeldLease(Box<dyn Lease>);

impl Host for State {
    async fn load(
        &mut self,
        key: String,
        known: Option<u64>,
    ) -> wasmtime::Result<Result<Loaded, StoreError>> {
        let loaded = self.services.store.load(&key, known).await;
        self.seen = match &loaded {
            Ok(Loaded::Entry(entry)) => Some((key, entry.version)),
            Ok(Loaded::Unchanged) => known.map(|version| (key, version)),
            Ok(Loaded::Absent) | Err(_) => None,
        };
        Ok(loaded)
    }

    async fn compare_and_swap(
        &mut self,
        key: String,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> wasmtime::Result<Result<Swapped, StoreError>> {
        let store = &self.services.store;
        let swapped = store.compare_and_swap(&key, expected, value, fence).await;
        self.seen = match &swapped {
            Ok(Swapped::Stored(version)) => {
                self.progress().settle();
                Some((key, *version))
            }
            _ => None,
        };
        Ok(swapped)
    }

    async fn delete(
        &mut self,
        key: String,
        expected: u64,
    ) -> wasmtime::Result<Result<bool, StoreError>> {
        let deleted = self.services.store.delete(&key, expected).await;
        if let Ok(true) = deleted {
            self.progress().settle();
        }
        Ok(deleted)
    }

    async fn acquire_lease(
        &mut self,
        key: String,
        ttl_milliseconds: u64,
        wait_milliseconds: u64,
    ) -> wasmtime::Result<Result<Option<Resource<HeldLease>>, StoreError>> {
        let ttl = Duration::from_millis(ttl_milliseconds);
        let wait = Duration::from_millis(wait_milliseconds);
        match self.services.store.acquire_lease(&key, ttl, wait).await {
            Ok(Some(lease)) => Ok(Ok(Some(self.table.push(HeldLease(lease))?))),
            Ok(None) => Ok(Ok(None)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl HostLease for State {
    async fn fence(&mut self, lease: Resource<HeldLease>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&lease)?.0.fence())
    }

    async fn drop(&mut self, lease: Resource<HeldLease>) -> wasmtime::Result<()> {
        self.table.delete(lease)?;
        Ok(())
    }
}
