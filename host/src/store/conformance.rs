//! What a [`TokenStore`] must hold to, as checks that panic where it does not.
//! [`conformance_tests!`](crate::conformance_tests) makes a test of each.
//!
//! Every check wants a store of its own, or one on which no other check runs.

use std::sync::Arc;
use std::time::Duration;

use super::{Lease, TokenStore};
use crate::contract::{Entry, Loaded, Swapped};

/// The key that the checks use.
const KEY: &str = "crm.tokens";

/// Longer than any check takes: what waits for it waits for an event.
const LONG: Duration = Duration::from_secs(60);

/// Makes a test of each check, run on the stores that an expression makes. It
/// wants `tokio` with its macros.
///
/// ```
/// tokenwell::conformance_tests!(tokenwell::MemoryStore::new());
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($store:expr) => {
        $crate::conformance_tests! { $store =>
            what_was_never_stored_is_absent
            what_was_stored_is_loaded
            a_known_version_is_not_loaded_again
            an_empty_value_is_a_value
            keys_do_not_share_a_value
            a_first_value_is_refused_where_there_is_one
            a_stale_swap_gets_the_current_entry
            a_swap_of_what_was_deleted_is_stale
            of_many_swaps_at_once_one_wins
            versions_grow
            a_version_does_not_return_after_a_deletion
            a_deletion_of_another_version_does_nothing
            a_lease_keeps_others_out
            a_dropped_lease_is_free
            a_waiting_caller_gets_a_dropped_lease
            a_lease_that_nobody_gives_back_lapses
            a_lapsed_lease_given_back_leaves_the_next_alone
            leases_of_two_keys_are_apart
            fences_grow
            the_latest_fence_may_write
            an_earlier_fence_may_not_write
            many_callers_hold_the_lease_one_at_a_time
            a_caller_that_gives_up_leaves_the_lease_free
        }
    };
    ($store:expr => $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                $crate::store::conformance::$check($store).await;
            }
        )*
    };
}

async fn put(store: &impl TokenStore, expected: Option<u64>, value: &[u8]) -> u64 {
    match store
        .compare_and_swap(KEY, expected, value.to_vec(), None)
        .await
    {
        Ok(Swapped::Stored(version)) => version,
        other => panic!("not stored: {other:?}"),
    }
}

async fn lease(store: &impl TokenStore, ttl: Duration, wait: Duration) -> Option<Box<dyn Lease>> {
    match store.acquire_lease(KEY, ttl, wait).await {
        Ok(lease) => lease,
        Err(error) => panic!("no answer about the lease: {error:?}"),
    }
}

async fn held(store: &impl TokenStore, ttl: Duration) -> Box<dyn Lease> {
    match lease(store, ttl, LONG).await {
        Some(lease) => lease,
        None => panic!("the lease could not be taken"),
    }
}

/// Nothing is loaded from an empty store.
pub async fn what_was_never_stored_is_absent(store: impl TokenStore) {
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Absent));
    assert_eq!(store.load(KEY, Some(1)).await, Ok(Loaded::Absent));
}

/// Value and version come back.
pub async fn what_was_stored_is_loaded(store: impl TokenStore) {
    let value: Vec<u8> = (0..=255).collect();
    let version = put(&store, None, &value).await;
    let entry = Entry { version, value };
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Entry(entry)));
}

/// The value is not transferred to one who has it.
pub async fn a_known_version_is_not_loaded_again(store: impl TokenStore) {
    let first = put(&store, None, b"one").await;
    assert_eq!(store.load(KEY, Some(first)).await, Ok(Loaded::Unchanged));
    let second = put(&store, Some(first), b"two").await;
    let entry = Entry {
        version: second,
        value: b"two".to_vec(),
    };
    assert_eq!(store.load(KEY, Some(first)).await, Ok(Loaded::Entry(entry)));
}

/// Empty is not absent.
pub async fn an_empty_value_is_a_value(store: impl TokenStore) {
    let version = put(&store, None, b"").await;
    let entry = Entry {
        version,
        value: Vec::new(),
    };
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Entry(entry)));
}

/// One key's value is not another's.
pub async fn keys_do_not_share_a_value(store: impl TokenStore) {
    put(&store, None, b"one").await;
    assert_eq!(store.load("crm.pending", None).await, Ok(Loaded::Absent));
}

/// `expected: None` means that there is none.
pub async fn a_first_value_is_refused_where_there_is_one(store: impl TokenStore) {
    let version = put(&store, None, b"one").await;
    let entry = Entry {
        version,
        value: b"one".to_vec(),
    };
    let swapped = store
        .compare_and_swap(KEY, None, b"two".to_vec(), None)
        .await;
    assert_eq!(swapped, Ok(Swapped::Stale(Some(entry))));
}

/// The loser learns what is there.
pub async fn a_stale_swap_gets_the_current_entry(store: impl TokenStore) {
    let first = put(&store, None, b"one").await;
    let second = put(&store, Some(first), b"two").await;
    let entry = Entry {
        version: second,
        value: b"two".to_vec(),
    };
    let swapped = store
        .compare_and_swap(KEY, Some(first), b"three".to_vec(), None)
        .await;
    assert_eq!(swapped, Ok(Swapped::Stale(Some(entry.clone()))));
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Entry(entry)));
}

/// What has been deleted cannot be replaced.
pub async fn a_swap_of_what_was_deleted_is_stale(store: impl TokenStore) {
    let version = put(&store, None, b"one").await;
    assert_eq!(store.delete(KEY, version).await, Ok(true));
    let swapped = store
        .compare_and_swap(KEY, Some(version), b"two".to_vec(), None)
        .await;
    assert_eq!(swapped, Ok(Swapped::Stale(None)));
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Absent));
}

/// The swap is atomic.
pub async fn of_many_swaps_at_once_one_wins(store: impl TokenStore) {
    let store = Arc::new(store);
    let first = put(&*store, None, b"zero").await;
    let mut swaps = tokio::task::JoinSet::new();
    for contender in 0..16_u8 {
        let store = Arc::clone(&store);
        swaps.spawn(async move {
            let swapped = store
                .compare_and_swap(KEY, Some(first), vec![contender], None)
                .await;
            (contender, swapped)
        });
    }
    let mut winners = Vec::new();
    for (contender, swapped) in swaps.join_all().await {
        match swapped {
            Ok(Swapped::Stored(version)) => winners.push((contender, version)),
            Ok(Swapped::Stale(Some(_))) => {}
            other => panic!("neither stored nor stale: {other:?}"),
        }
    }
    let [(contender, version)] = winners[..] else {
        panic!("not one winner: {winners:?}");
    };
    let entry = Entry {
        version,
        value: vec![contender],
    };
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Entry(entry)));
}

/// A later value has a greater version.
pub async fn versions_grow(store: impl TokenStore) {
    let mut version = put(&store, None, b"same").await;
    for _ in 0..20 {
        let next = put(&store, Some(version), b"same").await;
        assert!(next > version, "{next} after {version}");
        version = next;
    }
}

/// Not even then.
pub async fn a_version_does_not_return_after_a_deletion(store: impl TokenStore) {
    let mut version = put(&store, None, b"same").await;
    for _ in 0..20 {
        assert_eq!(store.delete(KEY, version).await, Ok(true));
        let next = put(&store, None, b"same").await;
        assert!(next > version, "{next} after {version}");
        version = next;
    }
}

/// Only what is meant is deleted.
pub async fn a_deletion_of_another_version_does_nothing(store: impl TokenStore) {
    assert_eq!(store.delete(KEY, 1).await, Ok(false));
    let first = put(&store, None, b"one").await;
    let second = put(&store, Some(first), b"two").await;
    assert_eq!(store.delete(KEY, first).await, Ok(false));
    assert_eq!(store.load(KEY, Some(second)).await, Ok(Loaded::Unchanged));
}

/// Nobody else gets it meanwhile.
pub async fn a_lease_keeps_others_out(store: impl TokenStore) {
    let _held = held(&store, LONG).await;
    assert!(lease(&store, LONG, Duration::ZERO).await.is_none());
    assert!(
        lease(&store, LONG, Duration::from_millis(20))
            .await
            .is_none()
    );
}

/// Dropping gives it back.
pub async fn a_dropped_lease_is_free(store: impl TokenStore) {
    drop(held(&store, LONG).await);
    assert!(lease(&store, LONG, Duration::ZERO).await.is_some());
}

/// Whoever waits gets it then.
pub async fn a_waiting_caller_gets_a_dropped_lease(store: impl TokenStore) {
    let first = held(&store, LONG).await;
    let waiting = held(&store, LONG);
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
    assert!(early.is_err(), "two leases at once");
    let fence = first.fence();
    drop(first);
    assert!(waiting.await.fence() > fence);
}

/// A holder that stalls loses it.
pub async fn a_lease_that_nobody_gives_back_lapses(store: impl TokenStore) {
    let first = held(&store, Duration::from_millis(20)).await;
    let second = held(&store, LONG).await;
    assert!(second.fence() > first.fence());
}

/// What has been lost cannot be given back.
pub async fn a_lapsed_lease_given_back_leaves_the_next_alone(store: impl TokenStore) {
    let first = held(&store, Duration::from_millis(20)).await;
    let _second = held(&store, LONG).await;
    drop(first);
    assert!(lease(&store, LONG, Duration::ZERO).await.is_none());
}

/// A lease is on one key.
pub async fn leases_of_two_keys_are_apart(store: impl TokenStore) {
    let _held = held(&store, LONG).await;
    let other = store
        .acquire_lease("erp.tokens", LONG, Duration::ZERO)
        .await;
    assert!(matches!(other, Ok(Some(_))));
}

/// A later lease has a greater number.
pub async fn fences_grow(store: impl TokenStore) {
    let mut fence = held(&store, LONG).await.fence();
    for _ in 0..20 {
        let next = held(&store, LONG).await.fence();
        assert!(next > fence, "{next} after {fence}");
        fence = next;
    }
}

/// The holder may write, even when its lease has lapsed but nobody has taken it.
pub async fn the_latest_fence_may_write(store: impl TokenStore) {
    let lease = held(&store, LONG).await;
    let fence = Some(lease.fence());
    let swapped = store
        .compare_and_swap(KEY, None, b"one".to_vec(), fence)
        .await;
    let Ok(Swapped::Stored(first)) = swapped else {
        panic!("not stored: {swapped:?}");
    };
    drop(lease);
    let swapped = store
        .compare_and_swap(KEY, Some(first), b"two".to_vec(), fence)
        .await;
    assert!(matches!(swapped, Ok(Swapped::Stored(_))), "{swapped:?}");
}

/// A holder that stalled may not.
pub async fn an_earlier_fence_may_not_write(store: impl TokenStore) {
    let first = held(&store, Duration::from_millis(1)).await;
    let _second = held(&store, LONG).await;
    let swapped = store
        .compare_and_swap(KEY, None, b"late".to_vec(), Some(first.fence()))
        .await;
    assert_eq!(swapped, Ok(Swapped::Fenced));
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Absent));
}

/// However many want it.
pub async fn many_callers_hold_the_lease_one_at_a_time(store: impl TokenStore) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let store = Arc::new(store);
    let holders = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (store, holders) = (Arc::clone(&store), Arc::clone(&holders));
        callers.spawn(async move {
            let lease = held(&*store, LONG).await;
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
            lease.fence()
        });
    }
    let mut fences = callers.join_all().await;
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 100);
}

/// A caller whose future is dropped while it waits takes nothing with it.
pub async fn a_caller_that_gives_up_leaves_the_lease_free(store: impl TokenStore) {
    let first = held(&store, LONG).await;
    for _ in 0..10 {
        let waiting = lease(&store, LONG, LONG);
        let given_up = tokio::time::timeout(Duration::from_millis(2), waiting).await;
        assert!(given_up.is_err());
    }
    drop(first);
    held(&store, LONG).await;
}
