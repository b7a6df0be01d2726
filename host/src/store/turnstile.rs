//! Waiting for a lease in the order of arrival. Of all that wait for a key in
//! this process only the first tries to take it, so that a thousand callers
//! cost no more than one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{self, Instant};

/// One turnstile for each key whose lease somebody has or waits for.
#[derive(Default)]
pub(super) struct Turnstiles(Mutex<HashMap<String, Weak<Turnstile>>>);

impl Turnstiles {
    pub(super) fn at(&self, key: &str) -> Arc<Turnstile> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turnstile) = keys.get(key).and_then(Weak::upgrade) {
            return turnstile;
        }
        // Before the map has to grow, those are left out that nobody has any more.
        if keys.len() == keys.capacity() {
            keys.retain(|_, turnstile| turnstile.strong_count() > 0);
        }
        let turnstile = Arc::<Turnstile>::default();
        keys.insert(key.to_owned(), Arc::downgrade(&turnstile));
        turnstile
    }
}

#[derive(Default)]
pub(super) struct Turnstile {
    first: tokio::sync::Mutex<()>,
    released: Notify,
}

/// What came of trying to take a lease.
pub(super) enum Attempt<L> {
    Taken(L),
    /// Somebody has it. It is worth another attempt after so long.
    Held(Duration),
}

impl Turnstile {
    /// Attempts until the lease is taken or the time is over.
    pub(super) async fn pass<L, E, F>(
        &self,
        wait: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<Option<L>, E>
    where
        F: Future<Output = Result<Attempt<L>, E>>,
    {
        let begun = Instant::now();
        let Ok(_first) = time::timeout(wait, self.first.lock()).await else {
            return Ok(None);
        };
        loop {
            let pause = match attempt().await? {
                Attempt::Taken(lease) => return Ok(Some(lease)),
                Attempt::Held(pause) => pause,
            };
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            // A release ends the pause early.
            let _ = time::timeout(pause.min(left), self.released.notified()).await;
        }
    }

    /// Says that the lease has been given back.
    pub(super) fn release(&self) {
        self.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turnstile_is_kept_for_as_long_as_somebody_has_it() {
        let turnstiles = Turnstiles::default();
        let first = turnstiles.at("first");
        for key in 0..1000 {
            turnstiles.at(&key.to_string());
        }
        assert!(Arc::ptr_eq(&first, &turnstiles.at("first")));
        assert!(turnstiles.0.lock().unwrap().len() < 10);
    }
}
