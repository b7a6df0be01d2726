//! What a [`TokenStore`] must hold to, as checks that panic where it does not.
//! [`conformance_tests!`](crate::conformance_tests) makes a test of each, and
//! [`shared_conformance_tests!`](crate::shared_conformance_tests) of those that
//! look at one store from two sides, as two processes would.
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
/// wants `tokio` with its macros. With `, unless CONDITION` behind it, nothing is
/// checked where the condition holds: the machine has no such server, for one.
///
/// ```
/// tokenwell::conformance_tests!(tokenwell::MemoryStore::new());
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($store:expr) => {
        $crate::conformance_tests!($store, unless false);
    };
    ($store:expr, unless $lacking:expr) => {
        $crate::conformance_tests! { $store, $lacking =>
            what_was_never_stored_is_absent
            what_was_stored_is_loaded
            a_known_version_is_not_loaded_again
            an_empty_value_is_a_value
            a_large_value_is_a_value
            keys_do_not_share_a_value
            a_first_value_is_refused_where_there_is_one
            a_stale_swap_gets_the_current_entry
            a_swap_of_what_was_deleted_is_stale
            of_many_swaps_at_once_one_wins
            of_many_first_values_at_once_one_wins
            numbers_that_were_never_given_out_match_nothing
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
            a_lease_that_was_taken_for_nobody_is_free
            a_swap_that_is_given_up_is_whole_or_not_there
            loads_that_are_given_up_do_not_mix_up_the_others
        }
    };
    ($store:expr, $lacking:expr => $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                if $lacking {
                    return;
                }
                $crate::store::conformance::$check($store).await;
            }
        )*
    };
}

/// Makes a test of each check that looks at one store from two sides. The
/// expression makes a pair: two stores that share nothing in this process and
/// keep their records in one place, each with a connection of its own. It wants
/// `tokio` with its macros.
///
/// ```
/// tokenwell::shared_conformance_tests!({
///     let store = tokenwell::MemoryStore::new();
///     (store.clone(), store) // The best that a store in memory can do.
/// });
/// ```
#[macro_export]
macro_rules! shared_conformance_tests {
    ($stores:expr) => {
        $crate::shared_conformance_tests!($stores, unless false);
    };
    ($stores:expr, unless $lacking:expr) => {
        $crate::shared_conformance_tests! { $stores, $lacking =>
            both_sides_see_what_either_stored
            a_swap_on_one_side_makes_the_other_stale
            of_many_swaps_on_two_sides_one_wins
            a_version_does_not_return_on_the_other_side
            a_lease_keeps_the_other_side_out
            a_caller_on_the_other_side_gets_a_dropped_lease
            fences_grow_on_both_sides
            a_holder_that_comes_back_is_fenced
            a_lapsed_lease_given_back_leaves_the_other_side_alone
            callers_on_two_sides_hold_the_lease_one_at_a_time
        }
    };
    ($stores:expr, $lacking:expr => $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                if $lacking {
                    return;
                }
                let (one, other) = $stores;
                $crate::store::conformance::$check(one, other).await;
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

/// It comes back whole, however many pieces it is carried in.
pub async fn a_large_value_is_a_value(store: impl TokenStore) {
    let value: Vec<u8> = (0..1 << 20_u32).map(|i: u32| (i % 251) as u8).collect();
    let version = put(&store, None, &value).await;
    let entry = Entry { version, value };
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

/// Nor is it less so where there is nothing yet to compare with.
pub async fn of_many_first_values_at_once_one_wins(store: impl TokenStore) {
    let store = Arc::new(store);
    let mut swaps = tokio::task::JoinSet::new();
    for contender in 0..16_u8 {
        let store = Arc::clone(&store);
        swaps.spawn(async move {
            store
                .compare_and_swap(KEY, None, vec![contender], None)
                .await
        });
    }
    let mut winners = 0;
    for swapped in swaps.join_all().await {
        match swapped {
            Ok(Swapped::Stored(_)) => winners += 1,
            Ok(Swapped::Stale(Some(_))) => {}
            other => panic!("neither stored nor stale: {other:?}"),
        }
    }
    assert_eq!(winners, 1);
}

/// However great they are: a caller may be wrong about them.
pub async fn numbers_that_were_never_given_out_match_nothing(store: impl TokenStore) {
    let first = put(&store, None, b"one").await;
    for never in [0, first + 1, i64::MAX as u64, 1 << 63, u64::MAX] {
        let loaded = store.load(KEY, Some(never)).await;
        assert!(matches!(loaded, Ok(Loaded::Entry(_))), "{loaded:?}");
        let swapped = store
            .compare_and_swap(KEY, Some(never), b"two".to_vec(), None)
            .await;
        assert!(
            matches!(swapped, Ok(Swapped::Stale(Some(_)))),
            "{swapped:?}"
        );
        assert_eq!(store.delete(KEY, never).await, Ok(false));
    }
    let swapped = store
        .compare_and_swap(KEY, Some(first), b"two".to_vec(), Some(u64::MAX))
        .await;
    let Ok(Swapped::Stored(second)) = swapped else {
        panic!("not stored: {swapped:?}");
    };
    assert!(second > first);
    let lease = held(&store, LONG).await;
    assert!(lease.fence() < u64::MAX);
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

/// A caller whose future is dropped just as it gets the lease does not keep it,
/// or not for long.
pub async fn a_lease_that_was_taken_for_nobody_is_free(store: impl TokenStore) {
    for step in 0..40 {
        let taking = lease(&store, LONG, Duration::ZERO);
        let _ = tokio::time::timeout(Duration::from_micros(50 * step), taking).await;
    }
    let free = tokio::time::timeout(Duration::from_secs(30), held(&store, LONG)).await;
    assert!(free.is_ok(), "somebody who has gone has the lease");
}

/// Nothing of it is stored, or all.
pub async fn a_swap_that_is_given_up_is_whole_or_not_there(store: impl TokenStore) {
    let mut last = Entry {
        version: put(&store, None, b"0").await,
        value: b"0".to_vec(),
    };
    for step in 1..40_u64 {
        let value = step.to_string().into_bytes();
        let swap = store.compare_and_swap(KEY, Some(last.version), value.clone(), None);
        let _ = tokio::time::timeout(Duration::from_micros(50 * step), swap).await;
        // It may still be under way, but it is under way once.
        let swapped = store
            .compare_and_swap(KEY, Some(last.version), value.clone(), None)
            .await;
        last = match swapped {
            Ok(Swapped::Stored(version)) => Entry { version, value },
            Ok(Swapped::Stale(Some(entry))) => {
                assert_eq!(entry.value, value);
                assert!(entry.version > last.version);
                entry
            }
            other => panic!("neither stored nor stale: {other:?}"),
        };
        assert_eq!(
            store.load(KEY, None).await,
            Ok(Loaded::Entry(last.clone())),
            "after step {step}"
        );
    }
}

/// Answers go to those who asked.
pub async fn loads_that_are_given_up_do_not_mix_up_the_others(store: impl TokenStore) {
    let store = Arc::new(store);
    let key = |number: u64| format!("crm{number}.tokens");
    for number in 0..8 {
        let value = number.to_string().into_bytes();
        let swapped = store
            .compare_and_swap(&key(number), None, value, None)
            .await;
        assert!(matches!(swapped, Ok(Swapped::Stored(_))), "{swapped:?}");
    }
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            for step in 0..50 {
                let other = key((number + step) % 8);
                let given_up = store.load(&other, None);
                let _ = tokio::time::timeout(Duration::from_micros(10 * step), given_up).await;
                match store.load(&key(number), None).await {
                    Ok(Loaded::Entry(entry)) => {
                        assert_eq!(entry.value, number.to_string().into_bytes());
                    }
                    other => panic!("not loaded: {other:?}"),
                }
            }
        });
    }
    callers.join_all().await;
}

/// In both directions.
pub async fn both_sides_see_what_either_stored(one: impl TokenStore, other: impl TokenStore) {
    let first = put(&one, None, b"one").await;
    let entry = Entry {
        version: first,
        value: b"one".to_vec(),
    };
    assert_eq!(other.load(KEY, None).await, Ok(Loaded::Entry(entry)));
    assert_eq!(other.load(KEY, Some(first)).await, Ok(Loaded::Unchanged));
    let second = put(&other, Some(first), b"two").await;
    let entry = Entry {
        version: second,
        value: b"two".to_vec(),
    };
    assert_eq!(one.load(KEY, Some(first)).await, Ok(Loaded::Entry(entry)));
    assert_eq!(one.delete(KEY, second).await, Ok(true));
    assert_eq!(other.load(KEY, Some(second)).await, Ok(Loaded::Absent));
}

/// It learns what is there.
pub async fn a_swap_on_one_side_makes_the_other_stale(
    one: impl TokenStore,
    other: impl TokenStore,
) {
    let first = put(&one, None, b"one").await;
    let second = put(&other, Some(first), b"two").await;
    let entry = Entry {
        version: second,
        value: b"two".to_vec(),
    };
    let swapped = one
        .compare_and_swap(KEY, Some(first), b"three".to_vec(), None)
        .await;
    assert_eq!(swapped, Ok(Swapped::Stale(Some(entry))));
}

/// The loser is shown the winner's value, not the one that was there before.
pub async fn of_many_swaps_on_two_sides_one_wins(one: impl TokenStore, other: impl TokenStore) {
    let (one, other) = (Arc::new(one), Arc::new(other));
    let mut version = put(&*one, None, b"zero").await;
    for round in 0..20_u8 {
        let mut swaps = tokio::task::JoinSet::new();
        for contender in 0..4_u8 {
            let value = vec![round, contender];
            let (one, other) = (Arc::clone(&one), Arc::clone(&other));
            swaps.spawn(async move {
                if contender % 2 == 0 {
                    one.compare_and_swap(KEY, Some(version), value, None).await
                } else {
                    other
                        .compare_and_swap(KEY, Some(version), value, None)
                        .await
                }
            });
        }
        let (mut stored, mut shown) = (Vec::new(), Vec::new());
        for swapped in swaps.join_all().await {
            match swapped {
                Ok(Swapped::Stored(version)) => stored.push(version),
                Ok(Swapped::Stale(Some(entry))) => shown.push(entry.version),
                other => panic!("neither stored nor stale: {other:?}"),
            }
        }
        let [winner] = stored[..] else {
            panic!("not one winner: {stored:?}");
        };
        assert_eq!(shown, [winner; 3]);
        version = winner;
    }
}

/// Whichever side deletes and stores.
pub async fn a_version_does_not_return_on_the_other_side(
    one: impl TokenStore,
    other: impl TokenStore,
) {
    let mut version = put(&one, None, b"same").await;
    for _ in 0..10 {
        assert_eq!(other.delete(KEY, version).await, Ok(true));
        let next = put(&one, None, b"same").await;
        assert!(next > version, "{next} after {version}");
        assert_eq!(one.delete(KEY, next).await, Ok(true));
        version = put(&other, None, b"same").await;
        assert!(version > next, "{version} after {next}");
    }
}

/// As it does on its own.
pub async fn a_lease_keeps_the_other_side_out(one: impl TokenStore, other: impl TokenStore) {
    let _held = held(&one, LONG).await;
    assert!(lease(&other, LONG, Duration::ZERO).await.is_none());
    assert!(
        lease(&other, LONG, Duration::from_millis(50))
            .await
            .is_none()
    );
}

/// And soon.
pub async fn a_caller_on_the_other_side_gets_a_dropped_lease(
    one: impl TokenStore,
    other: impl TokenStore,
) {
    let first = held(&one, LONG).await;
    let waiting = held(&other, LONG);
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "two leases at once");
    let fence = first.fence();
    drop(first);
    let second = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    let Ok(second) = second else {
        panic!("the lease was given back and not seen to be free");
    };
    assert!(second.fence() > fence);
}

/// In turns.
pub async fn fences_grow_on_both_sides(one: impl TokenStore, other: impl TokenStore) {
    let mut fence = held(&one, LONG).await.fence();
    for _ in 0..10 {
        let next = held(&other, LONG).await.fence();
        assert!(next > fence, "{next} after {fence}");
        fence = held(&one, LONG).await.fence();
        assert!(fence > next, "{fence} after {next}");
    }
}

/// What it held has passed to the other side meanwhile.
pub async fn a_holder_that_comes_back_is_fenced(one: impl TokenStore, other: impl TokenStore) {
    let version = put(&one, None, b"one").await;
    let first = held(&one, Duration::from_millis(20)).await;
    let second = held(&other, LONG).await;
    let swapped = other
        .compare_and_swap(KEY, Some(version), b"two".to_vec(), Some(second.fence()))
        .await;
    let Ok(Swapped::Stored(version)) = swapped else {
        panic!("the holder could not write: {swapped:?}");
    };
    // Even where it knows the version.
    let swapped = one
        .compare_and_swap(KEY, Some(version), b"late".to_vec(), Some(first.fence()))
        .await;
    assert_eq!(swapped, Ok(Swapped::Fenced));
}

/// It is the other side's now.
pub async fn a_lapsed_lease_given_back_leaves_the_other_side_alone(
    one: impl TokenStore,
    other: impl TokenStore,
) {
    let first = held(&one, Duration::from_millis(20)).await;
    let _second = held(&other, LONG).await;
    drop(first);
    // Time for what a store does after the drop.
    assert!(
        lease(&one, LONG, Duration::from_millis(200))
            .await
            .is_none()
    );
}

/// However many want it, wherever they are.
pub async fn callers_on_two_sides_hold_the_lease_one_at_a_time(
    one: impl TokenStore,
    other: impl TokenStore,
) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let (one, other) = (Arc::new(one), Arc::new(other));
    let holders = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..40 {
        let (one, other) = (Arc::clone(&one), Arc::clone(&other));
        let holders = Arc::clone(&holders);
        callers.spawn(async move {
            let lease = if caller % 2 == 0 {
                held(&*one, LONG).await
            } else {
                held(&*other, LONG).await
            };
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
            lease.fence()
        });
    }
    let mut fences = callers.join_all().await;
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 40);
}
