//! A call under way, as it is seen from outside of its instance: how long the
//! component has been computing, and whether the call can still be broken off
//! without loss.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time;

/// What is known of a call. The call, its instance and what its instance sends
/// through share it.
pub(crate) struct Progress {
    begun: Instant,
    /// For how long the call has been computing, without the part that it is at;
    /// in microseconds.
    computed: AtomicU64,
    /// When the part began that it is at, in microseconds since `begun`; `AT_REST`
    /// while it waits.
    resumed: AtomicU64,
    unsettled: AtomicBool,
}

const AT_REST: u64 = u64::MAX;

impl Default for Progress {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            computed: AtomicU64::new(0),
            resumed: AtomicU64::new(AT_REST),
            unsettled: AtomicBool::new(false),
        }
    }
}

impl Progress {
    /// Does the work of the call, and measures what of its time is not spent
    /// waiting.
    pub(crate) async fn measure<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.resumed.store(self.elapsed(), Ordering::Relaxed);
            let polled = work.as_mut().poll(context);
            self.computed
                .store(self.computing_time(), Ordering::Relaxed);
            self.resumed.store(AT_REST, Ordering::Relaxed);
            polled
        })
        .await
    }

    /// For how long the call has been computing.
    pub(crate) fn computed(&self) -> Duration {
        Duration::from_micros(self.computing_time())
    }

    fn computing_time(&self) -> u64 {
        let before = self.computed.load(Ordering::Relaxed);
        match self.resumed.load(Ordering::Relaxed) {
            AT_REST => before,
            resumed => before + self.elapsed().saturating_sub(resumed),
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(AT_REST - 1)
    }

    /// A request is sent that its server acts on: what it answers, such as the
    /// successor of a refresh token, must not be lost.
    pub(crate) fn unsettle(&self) {
        self.unsettled.store(true, Ordering::Relaxed);
    }

    /// What came of it is stored.
    pub(crate) fn settle(&self) {
        self.unsettled.store(false, Ordering::Relaxed);
    }
}

/// Has a receiver for each call that goes on by itself.
static GOING_ON: LazyLock<watch::Sender<()>> = LazyLock::new(|| watch::Sender::new(()));

/// Waits until none of this process's calls goes on by itself any more, as one
/// does that was dropped while a server may have been acting on its request (see
/// [`Connection`](crate::Connection)). A program that ends before loses what
/// that server answers, such as the next refresh token.
pub async fn dropped_calls_ended() {
    GOING_ON.closed().await;
}

/// A call that is awaited. Where it is dropped while it is unsettled, it goes on
/// without anybody waiting for it until its end, or for as long as it has patience.
pub(crate) struct Underway<T: Send + 'static> {
    work: Option<Work<T>>,
    progress: Arc<Progress>,
    patience: Duration,
    /// Where it goes on; a future can be dropped where no runtime is at hand.
    runtime: Option<Handle>,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T: Send + 'static> Underway<T> {
    pub(crate) fn new(
        progress: Arc<Progress>,
        patience: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let measuring = Arc::clone(&progress);
        Self {
            work: Some(Box::pin(async move { measuring.measure(work).await })),
            progress,
            patience,
            runtime: Handle::try_current().ok(),
        }
    }
}

impl<T: Send + 'static> Future for Underway<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Underway<T> {
    fn drop(&mut self) {
        if self.progress.unsettled.load(Ordering::Relaxed)
            && let (Some(work), Some(runtime)) = (self.work.take(), &self.runtime)
        {
            let (going_on, patience) = (GOING_ON.subscribe(), self.patience);
            runtime.spawn(async move {
                // Whether it is done or has lost its patience is nobody's concern.
                let _ = time::timeout(patience, work).await;
                drop(going_on);
            });
        }
    }
}
