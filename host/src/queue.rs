//! Whose turn it is: calls wait here for those of the same connection and of the
//! same server, before they take one of the instances that all connections share.
//! So a server that does not answer holds up its own connections alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places that a call has; given back when dropped.
#[derive(Default)]
pub(crate) struct Places {
    held: Vec<OwnedSemaphorePermit>,
    /// Whether others had them first.
    pub(crate) waited: bool,
}

impl Places {
    /// Takes a place in each of the queues, one after the other.
    pub(crate) async fn take(queues: [&Arc<Semaphore>; 2]) -> Self {
        let mut places = Self::default();
        for queue in queues {
            let queue = Arc::clone(queue);
            if let Ok(place) = Arc::clone(&queue).try_acquire_owned() {
                places.held.push(place);
                continue;
            }
            places.waited = true;
            // A queue is never closed.
            places.held.extend(queue.acquire_owned().await.ok());
        }
        places
    }
}

/// The queues before the servers.
pub(crate) struct Servers {
    /// How many calls may have an instance at once for the sake of one server.
    share: usize,
    queues: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Servers {
    /// One server has at most a quarter of the instances.
    pub(crate) fn sharing(instances: usize) -> Self {
        Self {
            share: instances.div_ceil(4),
            queues: Mutex::default(),
        }
    }

    /// The queue before a server.
    pub(crate) fn queue(&self, server: &str) -> Arc<Semaphore> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(server).and_then(Weak::upgrade) {
            return queue;
        }
        // Before the map has to grow, those are left out that nobody has any more.
        if queues.len() == queues.capacity() {
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::new(Semaphore::new(self.share));
        queues.insert(server.to_owned(), Arc::downgrade(&queue));
        queue
    }
}
