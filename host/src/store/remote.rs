//! What the stores on a server have in common: one connection for all calls,
//! replaced when it is lost; a time limit on each call; leases whose holder
//! proves that it lives.
//!
//! # Calls
//! Every call runs in a task of its own. Dropping the call leaves the task to
//! its end, so nothing is ever half done, and a lease that was taken for nobody
//! is given back.
//!
//! # Leases
//! A lease may be meant for minutes, but a process that dies must not keep the
//! others out for as long. So the server keeps two times for a lease: when it
//! ends at the latest, and a deadline [`DEADLINE`] ahead, which the holder moves
//! on every [`BEAT`]. A lease is free when its deadline is over. All times are
//! by the server's clock.
//!
//! Dropping a lease cannot wait for the server. It notes the fence as given back
//! in this process, and a task tells the server. Whoever takes the lease next in
//! this process names that fence and need not wait for the task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{self, Instant};

use super::turnstile::{Attempt, Turnstile, Turnstiles};
use super::{LONGEST_LEASE, Lease, check_key};
use crate::contract::{Loaded, StoreError, Swapped};

/// The longest that a call takes, waiting for a lease aside.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The longest that connecting takes: half, so that a call which has waited in
/// vain for another's attempt has time for one of its own.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A connection that has not been used for so long is replaced. What lies
/// between may have forgotten it without telling, and a write that gets no
/// answer is worse than connecting again.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// How long a lease outlives its holder.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// How often the holder of a lease says that it lives: one beat may be lost, and
/// the next one late.
const BEAT: Duration = Duration::from_secs(3);

/// The pauses between two looks at a lease that another process holds grow from
/// one to the other.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A server to connect to.
#[async_trait]
pub(super) trait Server: Send + Sync + 'static {
    type Connection: Connection;

    /// What it is and where, as errors name it.
    fn name(&self) -> &str;

    async fn connect(&self) -> Result<Self::Connection, Failure>;
}

/// A connection on which any number of calls can be under way. Each method does
/// one thing on the server, atomically.
#[async_trait]
pub(super) trait Connection: Send + Sync + 'static {
    /// Whether it is known to be of no more use.
    fn is_closed(&self) -> bool;

    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, Failure>;

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
        fence: Option<u64>,
    ) -> Result<Swapped, Failure>;

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, Failure>;

    /// Takes the lease where it is free, or held under the fence `given_back`,
    /// and returns its fence.
    async fn take_lease(
        &self,
        key: &str,
        ttl: Duration,
        given_back: Option<u64>,
    ) -> Result<Option<u64>, Failure>;

    /// Moves the deadline on, and tells whether the lease is still that one.
    async fn renew_lease(&self, key: &str, fence: u64) -> Result<bool, Failure>;

    /// Frees the lease where it is still that one.
    async fn release_lease(&self, key: &str, fence: u64) -> Result<(), Failure>;
}

/// Why a server did not do it.
#[derive(Debug)]
pub(super) struct Failure {
    kind: FailureKind,
    text: String,
    what_next: WhatNext,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureKind {
    Unavailable,
    Denied,
    Corrupt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhatNext {
    /// The connection is good.
    GoOn,
    /// The connection is not.
    Reconnect,
    /// Nothing was done, for no other reason than that somebody else was
    /// quicker.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code))]
    Repeat,
}

impl Failure {
    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(FailureKind::Unavailable, text)
    }

    pub(super) fn denied(text: impl Into<String>) -> Self {
        Self::new(FailureKind::Denied, text)
    }

    pub(super) fn corrupt(text: impl Into<String>) -> Self {
        Self::new(FailureKind::Corrupt, text)
    }

    /// On another connection it may work.
    pub(super) fn and_reconnect(mut self) -> Self {
        self.what_next = WhatNext::Reconnect;
        self
    }

    /// The same again may work.
    #[cfg(feature = "postgres")]
    pub(super) fn and_repeat(mut self) -> Self {
        self.what_next = WhatNext::Repeat;
        self
    }

    /// The same, with where.
    #[cfg(feature = "postgres")]
    pub(super) fn at(mut self, place: &str) -> Self {
        self.text = format!("{place}: {}", self.text);
        self
    }

    /// The same, with what it comes from.
    pub(super) fn because(mut self, cause: Self) -> Self {
        self.text = format!("{} ({})", self.text, cause.text);
        self
    }

    fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            what_next: WhatNext::GoOn,
        }
    }

    fn into_error(self, server: &str) -> StoreError {
        let text = format!("{server}: {}", self.text);
        match self.kind {
            FailureKind::Unavailable => StoreError::Unavailable(text),
            FailureKind::Denied => StoreError::Denied(text),
            FailureKind::Corrupt => StoreError::Corrupt(text),
        }
    }
}

/// A store on a server. Clones share its connection and wait for leases in one
/// queue.
pub(super) struct Remote<S: Server>(Arc<Shared<S>>);

impl<S: Server> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<S: Server> {
    server: S,
    slot: tokio::sync::Mutex<Slot<S::Connection>>,
    turnstiles: Turnstiles,
    /// The greatest fence that was given back in this process, for each key of
    /// which the server may not know yet.
    given_back: Mutex<HashMap<String, u64>>,
    /// The tasks that tell the server of leases that were dropped.
    releasing: Mutex<Vec<JoinHandle<()>>>,
}

/// The place of the one connection.
struct Slot<C> {
    connection: Option<Arc<C>>,
    last_used: Instant,
    /// When the last attempt to connect began, if it failed, and why.
    failed: Option<(Instant, StoreError)>,
}

/// Whether a call may be made twice, where it is unknown what became of it. (A
/// lease that was taken unknown to its taker lapses.)
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twice {
    Harmless,
    No,
}

impl<S: Server> Remote<S> {
    pub(super) fn new(server: S) -> Self {
        Self(Arc::new(Shared {
            server,
            slot: tokio::sync::Mutex::new(Slot {
                connection: None,
                last_used: Instant::now(),
                failed: None,
            }),
            turnstiles: Turnstiles::default(),
            given_back: Mutex::default(),
            releasing: Mutex::default(),
        }))
    }

    pub(super) fn server(&self) -> &S {
        &self.0.server
    }

    pub(super) async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        let key = checked(key)?;
        self.call(Twice::Harmless, move |connection| {
            let key = Arc::clone(&key);
            async move { connection.load(&key, known).await }
        })
        .await
    }

    pub(super) async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        let key = checked(key)?;
        let value = Arc::new(value);
        self.call(Twice::No, move |connection| {
            let (key, value) = (Arc::clone(&key), Arc::clone(&value));
            async move {
                connection
                    .compare_and_swap(&key, expected, &value, fence)
                    .await
            }
        })
        .await
    }

    pub(super) async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError> {
        let key = checked(key)?;
        self.call(Twice::No, move |connection| {
            let key = Arc::clone(&key);
            async move { connection.delete(&key, expected).await }
        })
        .await
    }

    pub(super) async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        let key = checked(key)?;
        let ttl = ttl.min(LONGEST_LEASE);
        let turnstile = self.0.turnstiles.at(&key);
        let mut pause = SHORTEST_PAUSE;
        turnstile
            .pass(wait, || {
                let again = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                let (key, turnstile) = (Arc::clone(&key), Arc::clone(&turnstile));
                let shared = Arc::clone(&self.0);
                async move {
                    // Where the caller has gone, the lease is dropped with the
                    // task.
                    let taking = in_a_task(shared.take_lease(key, turnstile, ttl));
                    Ok(match taking.await? {
                        Some(lease) => Attempt::Taken(Box::new(lease) as Box<dyn Lease>),
                        None => Attempt::Held(again),
                    })
                }
            })
            .await
    }

    /// Waits until the server knows of every lease that was dropped.
    pub(super) async fn settle(&self) {
        let tasks = std::mem::take(&mut *self.0.releasing());
        for task in tasks {
            // It gives up by itself where the server is away.
            let _ = task.await;
        }
    }

    async fn call<T, F>(
        &self,
        twice: Twice,
        work: impl Fn(Arc<S::Connection>) -> F + Send + Sync + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let shared = Arc::clone(&self.0);
        in_a_task(async move { shared.run(twice, work).await }).await
    }
}

fn checked(key: &str) -> Result<Arc<str>, StoreError> {
    check_key(key)?;
    Ok(Arc::from(key))
}

/// Runs what must not stop half-way.
async fn in_a_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(StoreError::Unavailable(error.to_string())),
    }
}

impl<S: Server> Shared<S> {
    /// Does it on the connection, within the time limit.
    async fn run<T, F>(
        &self,
        twice: Twice,
        work: impl Fn(Arc<S::Connection>) -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let until = Instant::now() + CALL_LIMIT;
        let mut may_reconnect = twice == Twice::Harmless;
        loop {
            let connection = match time::timeout_at(until, self.connection()).await {
                Ok(connection) => connection?,
                Err(_) => return Err(self.timed_out()),
            };
            let Ok(done) = time::timeout_at(until, work(Arc::clone(&connection))).await else {
                self.discard(&connection).await;
                return Err(self.timed_out());
            };
            let failure = match done {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            match failure.what_next {
                WhatNext::Repeat if Instant::now() < until => {
                    time::sleep(SHORTEST_PAUSE).await;
                    continue;
                }
                WhatNext::Reconnect => {
                    self.discard(&connection).await;
                    // Most likely the server has been restarted since the last
                    // call.
                    if std::mem::take(&mut may_reconnect) {
                        continue;
                    }
                }
                WhatNext::GoOn | WhatNext::Repeat => {}
            }
            return Err(failure.into_error(self.server.name()));
        }
    }

    async fn connection(&self) -> Result<Arc<S::Connection>, StoreError> {
        let asked = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection
            && !connection.is_closed()
            && slot.last_used.elapsed() < IDLE_LIMIT
        {
            let connection = Arc::clone(connection);
            slot.last_used = Instant::now();
            return Ok(connection);
        }
        slot.connection = None;
        // One attempt speaks for all that waited for it.
        if let Some((begun, error)) = &slot.failed
            && *begun >= asked
        {
            return Err(error.clone());
        }
        let begun = Instant::now();
        let error = match time::timeout(CONNECT_LIMIT, self.server.connect()).await {
            Ok(Ok(connection)) => {
                let connection = Arc::new(connection);
                slot.connection = Some(Arc::clone(&connection));
                slot.last_used = Instant::now();
                slot.failed = None;
                return Ok(connection);
            }
            Ok(Err(failure)) => failure.into_error(self.server.name()),
            Err(_) => Failure::unavailable(format!(
                "connecting took longer than {} s",
                CONNECT_LIMIT.as_secs()
            ))
            .into_error(self.server.name()),
        };
        slot.failed = Some((begun, error.clone()));
        Err(error)
    }

    /// Sees to it that nobody else gets that connection.
    async fn discard(&self, connection: &Arc<S::Connection>) {
        let mut slot = self.slot.lock().await;
        if let Some(present) = &slot.connection
            && Arc::ptr_eq(present, connection)
        {
            slot.connection = None;
        }
    }

    fn timed_out(&self) -> StoreError {
        Failure::unavailable(format!("no answer within {} s", CALL_LIMIT.as_secs()))
            .into_error(self.server.name())
    }

    fn given_back(&self, key: &str) -> Option<u64> {
        let given_back = self.given_back.lock();
        let given_back = given_back.unwrap_or_else(PoisonError::into_inner);
        given_back.get(key).copied()
    }

    fn give_back(&self, key: &Arc<str>, fence: u64) {
        let given_back = self.given_back.lock();
        let mut given_back = given_back.unwrap_or_else(PoisonError::into_inner);
        let greatest = given_back.entry(key.to_string()).or_default();
        *greatest = fence.max(*greatest);
    }

    /// The server knows of the fence that was given back.
    fn has_been_told(&self, key: &str, fence: u64) {
        let given_back = self.given_back.lock();
        let mut given_back = given_back.unwrap_or_else(PoisonError::into_inner);
        if given_back.get(key) == Some(&fence) {
            given_back.remove(key);
        }
    }

    fn releasing(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.releasing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn take_lease(
        self: Arc<Self>,
        key: Arc<str>,
        turnstile: Arc<Turnstile>,
        ttl: Duration,
    ) -> Result<Option<RemoteLease<S>>, StoreError> {
        let given_back = self.given_back(&key);
        let begun = Instant::now();
        let taken = self
            .run(Twice::Harmless, |connection| {
                let key = Arc::clone(&key);
                async move { connection.take_lease(&key, ttl, given_back).await }
            })
            .await?;
        let Some(fence) = taken else {
            return Ok(None);
        };
        let (dropped, is_dropped) = oneshot::channel();
        let holder = Arc::clone(&self).hold(Arc::clone(&key), fence, begun, ttl, is_dropped);
        let holding = tokio::spawn(holder);
        Ok(Some(RemoteLease {
            holding: Some(holding),
            shared: self,
            turnstile,
            key,
            fence,
            _dropped: dropped,
        }))
    }

    /// Keeps a lease until it is dropped or over. Ends early where somebody else
    /// has it.
    async fn hold(
        self: Arc<Self>,
        key: Arc<str>,
        fence: u64,
        begun: Instant,
        ttl: Duration,
        mut is_dropped: oneshot::Receiver<()>,
    ) {
        let over = begun + ttl;
        let mut next = if ttl > DEADLINE { begun + BEAT } else { over };
        loop {
            tokio::select! {
                _ = &mut is_dropped => break,
                () = time::sleep_until(next.min(over)) => {}
            }
            if Instant::now() >= over {
                return;
            }
            next = Instant::now() + BEAT;
            let renewed = self
                .run(Twice::Harmless, |connection| {
                    let key = Arc::clone(&key);
                    async move { connection.renew_lease(&key, fence).await }
                })
                .await;
            // Where the server is away, it may be back for the next beat.
            if let Ok(false) = renewed {
                return;
            }
        }
        let released = self
            .run(Twice::Harmless, |connection| {
                let key = Arc::clone(&key);
                async move { connection.release_lease(&key, fence).await }
            })
            .await;
        // Where the server cannot be told, it will see by the deadline.
        if released.is_ok() {
            self.has_been_told(&key, fence);
        }
    }
}

struct RemoteLease<S: Server> {
    shared: Arc<Shared<S>>,
    turnstile: Arc<Turnstile>,
    key: Arc<str>,
    fence: u64,
    holding: Option<JoinHandle<()>>,
    /// Tells the holding task by being dropped.
    _dropped: oneshot::Sender<()>,
}

impl<S: Server> Lease for RemoteLease<S> {
    fn fence(&self) -> u64 {
        self.fence
    }
}

impl<S: Server> Drop for RemoteLease<S> {
    fn drop(&mut self) {
        self.shared.give_back(&self.key, self.fence);
        let mut releasing = self.shared.releasing();
        releasing.retain(|task| !task.is_finished());
        releasing.extend(self.holding.take());
        drop(releasing);
        self.turnstile.release();
    }
}

/// An error and what caused it, in one sentence.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    /// A server that keeps no values, and notes what it is asked.
    #[derive(Clone, Default)]
    struct Fake(Arc<Noted>);

    #[derive(Default)]
    struct Noted {
        connections: AtomicUsize,
        is_away: AtomicBool,
        /// Loses the connection of the next call.
        loses_one: AtomicBool,
        hangs: AtomicBool,
        loads: AtomicUsize,
        swaps: AtomicUsize,
        renewals: AtomicUsize,
        releases: AtomicUsize,
        fence: AtomicUsize,
        is_held: AtomicBool,
    }

    impl Fake {
        async fn answer(&self) -> Result<(), Failure> {
            if self.0.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if self.0.loses_one.swap(false, Ordering::SeqCst) {
                return Err(Failure::unavailable("lost").and_reconnect());
            }
            Ok(())
        }
    }

    #[async_trait]
    impl Server for Fake {
        type Connection = Self;

        fn name(&self) -> &str {
            "Fake at nowhere"
        }

        async fn connect(&self) -> Result<Self, Failure> {
            self.0.connections.fetch_add(1, Ordering::SeqCst);
            time::sleep(Duration::from_millis(10)).await;
            if self.0.is_away.load(Ordering::SeqCst) {
                return Err(Failure::unavailable("away"));
            }
            Ok(self.clone())
        }
    }

    #[async_trait]
    impl Connection for Fake {
        fn is_closed(&self) -> bool {
            false
        }

        async fn load(&self, _: &str, _: Option<u64>) -> Result<Loaded, Failure> {
            self.0.loads.fetch_add(1, Ordering::SeqCst);
            self.answer().await?;
            Ok(Loaded::Absent)
        }

        async fn compare_and_swap(
            &self,
            _: &str,
            _: Option<u64>,
            _: &[u8],
            _: Option<u64>,
        ) -> Result<Swapped, Failure> {
            self.0.swaps.fetch_add(1, Ordering::SeqCst);
            self.answer().await?;
            Ok(Swapped::Stored(1))
        }

        async fn delete(&self, _: &str, _: u64) -> Result<bool, Failure> {
            self.answer().await?;
            Ok(false)
        }

        async fn take_lease(
            &self,
            _: &str,
            _: Duration,
            given_back: Option<u64>,
        ) -> Result<Option<u64>, Failure> {
            self.answer().await?;
            time::sleep(Duration::from_millis(10)).await;
            let last = self.0.fence.load(Ordering::SeqCst) as u64;
            if self.0.is_held.swap(true, Ordering::SeqCst) && given_back != Some(last) {
                return Ok(None);
            }
            self.0.fence.fetch_add(1, Ordering::SeqCst);
            Ok(Some(last + 1))
        }

        async fn renew_lease(&self, _: &str, fence: u64) -> Result<bool, Failure> {
            self.0.renewals.fetch_add(1, Ordering::SeqCst);
            self.answer().await?;
            Ok(self.0.fence.load(Ordering::SeqCst) as u64 == fence)
        }

        async fn release_lease(&self, _: &str, fence: u64) -> Result<(), Failure> {
            self.0.releases.fetch_add(1, Ordering::SeqCst);
            self.answer().await?;
            if self.0.fence.load(Ordering::SeqCst) as u64 == fence {
                self.0.is_held.store(false, Ordering::SeqCst);
            }
            Ok(())
        }
    }

    fn fake() -> (Remote<Fake>, Arc<Noted>) {
        let server = Fake::default();
        let noted = Arc::clone(&server.0);
        (Remote::new(server), noted)
    }

    async fn taken(remote: &Remote<Fake>, ttl: u64) -> Box<dyn Lease> {
        let ttl = Duration::from_secs(ttl);
        match remote.acquire_lease("k", ttl, Duration::ZERO).await {
            Ok(Some(lease)) => lease,
            _ => panic!("not taken"),
        }
    }

    fn count(number: &AtomicUsize) -> usize {
        number.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn settling_waits_until_the_server_knows_of_dropped_leases() {
        let (remote, noted) = fake();
        let kept = taken(&remote, 120).await;
        remote.settle().await;
        assert_eq!(count(&noted.releases), 0);
        drop(kept);
        assert_eq!(count(&noted.releases), 0);
        remote.settle().await;
        assert_eq!(count(&noted.releases), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn all_calls_share_one_connection() {
        let (remote, noted) = fake();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let remote = remote.clone();
            calls.spawn(async move { remote.load("k", None).await });
        }
        assert!(calls.join_all().await.iter().all(Result::is_ok));
        assert_eq!(count(&noted.connections), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_attempt_to_connect_speaks_for_all_that_wait() {
        let (remote, noted) = fake();
        noted.is_away.store(true, Ordering::SeqCst);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let remote = remote.clone();
            calls.spawn(async move { remote.load("k", None).await });
        }
        assert!(calls.join_all().await.iter().all(Result::is_err));
        assert!(count(&noted.connections) <= 2);
        // Whoever comes later may find the server back.
        noted.is_away.store(false, Ordering::SeqCst);
        assert!(remote.load("k", None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_idle_for_long_is_replaced() {
        let (remote, noted) = fake();
        for pause in [0, 59, 59, 61] {
            time::advance(Duration::from_secs(pause)).await;
            assert!(remote.load("k", None).await.is_ok());
        }
        assert_eq!(count(&noted.connections), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_whose_connection_is_lost_is_made_again() {
        let (remote, noted) = fake();
        noted.loses_one.store(true, Ordering::SeqCst);
        assert!(remote.load("k", None).await.is_ok());
        assert_eq!((count(&noted.loads), count(&noted.connections)), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_swap_whose_connection_is_lost_is_not_made_again() {
        let (remote, noted) = fake();
        noted.loses_one.store(true, Ordering::SeqCst);
        let swapped = remote.compare_and_swap("k", None, Vec::new(), None).await;
        let text = "Fake at nowhere: lost".to_owned();
        assert_eq!(swapped, Err(StoreError::Unavailable(text)));
        assert_eq!(count(&noted.swaps), 1);
        let swapped = remote.compare_and_swap("k", None, Vec::new(), None).await;
        assert_eq!(swapped, Ok(Swapped::Stored(1)));
        assert_eq!(count(&noted.connections), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_costs_no_more_than_the_limit() {
        let (remote, noted) = fake();
        noted.hangs.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        assert!(remote.load("k", None).await.is_err());
        assert!(begun.elapsed() < CALL_LIMIT + Duration::from_millis(20));
        noted.hangs.store(false, Ordering::SeqCst);
        assert!(remote.load("k", None).await.is_ok());
        assert_eq!(count(&noted.connections), 2, "it hung on that connection");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_renewed_until_its_time_is_over() {
        let (remote, noted) = fake();
        let _lease = taken(&remote, 20).await;
        time::sleep(Duration::from_secs(19)).await;
        assert_eq!(count(&noted.renewals), 6);
        time::sleep(Duration::from_secs(100)).await;
        assert_eq!(count(&noted.renewals), 6);
        assert_eq!(count(&noted.releases), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_lease_is_not_renewed() {
        let (remote, noted) = fake();
        let _lease = taken(&remote, 10).await;
        time::sleep(Duration::from_secs(20)).await;
        assert_eq!(count(&noted.renewals), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_somebody_else_has_is_renewed_no_more() {
        let (remote, noted) = fake();
        let _lease = taken(&remote, 120).await;
        noted.fence.fetch_add(1, Ordering::SeqCst);
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(count(&noted.renewals), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn renewing_goes_on_when_the_server_is_back() {
        let (remote, noted) = fake();
        let _lease = taken(&remote, 120).await;
        for _ in 0..3 {
            noted.loses_one.store(true, Ordering::SeqCst);
            noted.is_away.store(true, Ordering::SeqCst);
            time::sleep(Duration::from_secs(3)).await;
            noted.is_away.store(false, Ordering::SeqCst);
            time::sleep(Duration::from_secs(3)).await;
        }
        assert!(count(&noted.renewals) >= 6, "{}", count(&noted.renewals));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_lease_is_released_once() {
        let (remote, noted) = fake();
        drop(taken(&remote, 120).await);
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(count(&noted.releases), 1);
        assert_eq!(count(&noted.renewals), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_back_is_remembered_until_the_server_knows() {
        let (remote, _) = fake();
        let lease = taken(&remote, 120).await;
        let fence = lease.fence();
        drop(lease);
        assert_eq!(remote.0.given_back("k"), Some(fence));
        remote.settle().await;
        assert_eq!(remote.0.given_back("k"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_lease_is_free_here_before_the_server_knows() {
        let (remote, noted) = fake();
        let first = taken(&remote, 120).await;
        noted.loses_one.store(true, Ordering::SeqCst);
        noted.is_away.store(true, Ordering::SeqCst);
        drop(first);
        time::sleep(Duration::from_secs(1)).await;
        assert!(noted.is_held.load(Ordering::SeqCst), "it could be told");
        noted.is_away.store(false, Ordering::SeqCst);
        taken(&remote, 120).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_taken_for_nobody_is_released() {
        let (remote, noted) = fake();
        assert!(remote.load("k", None).await.is_ok());
        let taking = remote.acquire_lease("k", Duration::from_secs(120), Duration::ZERO);
        let given_up = time::timeout(Duration::from_millis(5), taking).await;
        assert!(given_up.is_err());
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!((count(&noted.fence), count(&noted.releases)), (1, 1));
    }
}
