//! What both stores on servers are tested for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokenwell::{Lease, Loaded, StoreError, Swapped, TokenStore};

pub const KEY: &str = "crm.tokens";

/// A store that keeps its server.
pub struct On<Server, Store> {
    pub store: Store,
    pub _server: Arc<Server>,
}

#[async_trait]
impl<Server: Send + Sync + 'static, Store: TokenStore> TokenStore for On<Server, Store> {
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        self.store.load(key, known).await
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        self.store
            .compare_and_swap(key, expected, value, fence)
            .await
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError> {
        self.store.delete(key, expected).await
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        self.store.acquire_lease(key, ttl, wait).await
    }
}

pub async fn put(store: &impl TokenStore, expected: Option<u64>, value: &[u8]) -> u64 {
    let swapped = store
        .compare_and_swap(KEY, expected, value.to_vec(), None)
        .await;
    match swapped {
        Ok(Swapped::Stored(version)) => version,
        other => panic!("not stored: {other:?}"),
    }
}

pub async fn held(store: &impl TokenStore, ttl: Duration, wait: Duration) -> Box<dyn Lease> {
    match store.acquire_lease(KEY, ttl, wait).await {
        Ok(Some(lease)) => lease,
        Ok(None) => panic!("somebody has the lease"),
        Err(error) => panic!("{error:?}"),
    }
}

/// The text of an error, which holds no password.
pub fn text(error: &StoreError) -> &str {
    let (StoreError::Unavailable(text) | StoreError::Denied(text) | StoreError::Corrupt(text)) =
        error;
    for secret in ["s3cret", "hunter2"] {
        assert!(!text.contains(secret), "{text}");
    }
    text
}

pub fn assert_unavailable<T: std::fmt::Debug>(answer: &Result<T, StoreError>, part: &str) {
    match answer {
        Err(error @ StoreError::Unavailable(_)) => {
            assert!(text(error).contains(part), "{}", text(error));
        }
        other => panic!("not unavailable: {other:?}"),
    }
}

pub fn assert_denied<T: std::fmt::Debug>(answer: &Result<T, StoreError>, part: &str) {
    match answer {
        Err(error @ StoreError::Denied(_)) => {
            assert!(text(error).contains(part), "{}", text(error));
        }
        other => panic!("not denied: {other:?}"),
    }
}

pub fn assert_corrupt<T: std::fmt::Debug>(answer: &Result<T, StoreError>, part: &str) {
    match answer {
        Err(error @ StoreError::Corrupt(_)) => {
            assert!(text(error).contains(part), "{}", text(error));
        }
        other => panic!("not corrupt: {other:?}"),
    }
}

pub async fn a_thousand_tasks_hold_the_lease_one_at_a_time(store: impl TokenStore + Clone) {
    let holders = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (store, holders) = (store.clone(), Arc::clone(&holders));
        tasks.spawn(async move {
            let ttl = Duration::from_secs(120);
            let lease = held(&store, ttl, ttl).await;
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
            lease.fence()
        });
    }
    let mut fences = tasks.join_all().await;
    eprintln!("1,000 leases in {:?}", begun.elapsed());
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 1000);
}

/// Longer than the deadline that a beat moves on.
pub async fn a_lease_is_kept_for_as_long_as_its_holder_lives(
    one: impl TokenStore,
    other: impl TokenStore,
) {
    let lease = held(&one, Duration::from_secs(120), Duration::ZERO).await;
    let begun = Instant::now();
    let ttl = Duration::from_secs(5);
    let taken = other.acquire_lease(KEY, ttl, Duration::from_secs(13)).await;
    assert!(matches!(taken, Ok(None)));
    assert!(begun.elapsed() >= Duration::from_secs(13));
    drop(lease);
    held(&other, ttl, Duration::from_secs(2)).await;
}

/// Although it beats.
pub async fn a_lease_ends_with_its_time(one: impl TokenStore, other: impl TokenStore) {
    let begun = Instant::now();
    let _lease = held(&one, Duration::from_secs(11), Duration::ZERO).await;
    let ttl = Duration::from_secs(5);
    let early = other
        .acquire_lease(KEY, ttl, Duration::from_millis(10_500))
        .await;
    assert!(matches!(early, Ok(None)));
    held(&other, ttl, Duration::from_secs(3)).await;
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_secs(11), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(12), "{elapsed:?}");
}

/// A runtime that is shut down is as dead as a process: nothing beats any more,
/// nothing is given back.
pub async fn the_lease_of_one_that_died_lapses_long_before_its_time(
    dies: impl TokenStore,
    other: impl TokenStore,
) {
    let fence = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let fence = runtime.block_on(async {
            let lease = held(&dies, Duration::from_secs(120), Duration::ZERO).await;
            let fence = lease.fence();
            std::mem::forget(lease);
            fence
        });
        runtime.shutdown_background();
        fence
    })
    .join()
    .unwrap();
    let begun = Instant::now();
    let lease = held(&other, Duration::from_secs(5), Duration::from_secs(30)).await;
    assert!(lease.fence() > fence);
    let elapsed = begun.elapsed();
    assert!(elapsed > Duration::from_secs(8), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(11), "{elapsed:?}");
}

/// `stop` and `start` act on the server.
pub async fn a_store_survives_its_server(
    store: impl TokenStore,
    mut stop: impl FnMut(),
    mut start: impl FnMut(),
) {
    let first = put(&store, None, b"one").await;
    let lease = held(&store, Duration::from_secs(120), Duration::ZERO).await;
    for round in 0..2 {
        stop();
        let begun = Instant::now();
        assert_unavailable(&store.load(KEY, None).await, "127.0.0.1");
        let swapped = store
            .compare_and_swap(KEY, Some(first), b"lost".to_vec(), None)
            .await;
        assert_unavailable(&swapped, "127.0.0.1");
        assert_unavailable(&store.delete(KEY, first).await, "127.0.0.1");
        let other_key = store
            .acquire_lease("erp.tokens", Duration::from_secs(1), Duration::from_secs(1))
            .await
            .map(|lease| lease.is_some());
        assert_unavailable(&other_key, "127.0.0.1");
        assert!(begun.elapsed() < Duration::from_secs(5), "{round}");
        start();
        assert_eq!(store.load(KEY, Some(first)).await, Ok(Loaded::Unchanged));
    }
    let swapped = store
        .compare_and_swap(KEY, Some(first), b"two".to_vec(), Some(lease.fence()))
        .await;
    assert!(matches!(swapped, Ok(Swapped::Stored(_))), "{swapped:?}");
    drop(lease);
    held(&store, Duration::from_secs(1), Duration::ZERO).await;
}

/// What was confirmed is there after a crash of the server in the middle of it.
pub async fn what_was_confirmed_survives_a_crash(
    store: impl TokenStore + Clone,
    crash: impl FnOnce(),
    start: impl FnOnce(),
) {
    let first = put(&store, None, b"0").await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut confirmed = first;
            for step in 1..=u64::MAX {
                let swapped = store
                    .compare_and_swap(KEY, Some(confirmed), step.to_string().into_bytes(), None)
                    .await;
                match swapped {
                    Ok(Swapped::Stored(version)) => confirmed = version,
                    Err(StoreError::Unavailable(_)) => return (confirmed, step),
                    other => panic!("{other:?}"),
                }
            }
            unreachable!()
        })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Where the store's tasks run on this thread, they go on meanwhile.
    tokio::task::block_in_place(crash);
    let (confirmed, step) = writer.await.unwrap();
    assert!(step > 10, "{step}");
    tokio::task::block_in_place(start);
    let Ok(Loaded::Entry(entry)) = store.load(KEY, None).await else {
        panic!("nothing is left");
    };
    // The last write may have been done and not confirmed.
    if entry.version == confirmed {
        assert_eq!(entry.value, (step - 1).to_string().into_bytes());
    } else {
        assert!(entry.version > confirmed);
        assert_eq!(entry.value, step.to_string().into_bytes());
    }
}

/// `suspend` and `resume` act on the server.
pub async fn a_server_that_hangs_is_unavailable(
    store: impl TokenStore + Clone,
    suspend: impl FnOnce(),
    resume: impl FnOnce(),
) {
    let version = put(&store, None, b"one").await;
    suspend();
    let begun = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        calls.spawn(async move { store.load(KEY, None).await });
    }
    for answer in calls.join_all().await {
        assert_unavailable(&answer, "no answer within 10 s");
    }
    assert!(begun.elapsed() < Duration::from_secs(12));
    let begun = Instant::now();
    assert_unavailable(&store.load(KEY, None).await, "127.0.0.1");
    assert!(begun.elapsed() < Duration::from_secs(11));
    resume();
    assert_eq!(store.load(KEY, Some(version)).await, Ok(Loaded::Unchanged));
}
