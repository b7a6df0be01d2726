//! Origins, and how many requests are under way to each.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use http::uri::Scheme;
use tokenwell_core::endpoint::Endpoint;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Scheme, host and port (RFC 6454 section 4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of a request; none where the URI is not absolute, or neither
    /// http nor https.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let https = uri.scheme() == Some(&Scheme::HTTPS);
        if !https && uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        Some(Self {
            https,
            host: uri.host()?.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
        })
    }

    /// Reads an origin: scheme, host and port alone.
    ///
    /// # Errors
    /// What is wrong with it, as the second half of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let endpoint = Endpoint::parse(text)?;
        if endpoint.path_and_query() != "/" || text.ends_with('/') {
            return Err("has a path");
        }
        Self::of_endpoint(&endpoint).ok_or("is not a URL")
    }

    /// The origin of an endpoint.
    pub(crate) fn of_endpoint(endpoint: &Endpoint) -> Option<Self> {
        Self::of(&endpoint.to_string().parse().ok()?)
    }

    /// Host and port.
    pub(crate) fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Lets so many requests be under way to an origin and no more.
pub(crate) struct Gates {
    most: usize,
    gates: Mutex<HashMap<Origin, Arc<Semaphore>>>,
}

impl Gates {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            gates: Mutex::default(),
        }
    }

    /// Whether anybody has a place or waits for one.
    pub(crate) fn are_in_use(&self) -> bool {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.values().any(|gate| Arc::strong_count(gate) > 1)
    }

    /// Waits for a place; it is given back when what this returns is dropped.
    pub(crate) async fn enter(&self, origin: Origin) -> Option<OwnedSemaphorePermit> {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody goes through or waits at may be made anew.
            if gates.len() >= 1024 {
                gates.retain(|_, gate| Arc::strong_count(gate) > 1);
            }
            Arc::clone(
                gates
                    .entry(origin)
                    .or_insert_with(|| Arc::new(Semaphore::new(self.most))),
            )
        };
        // It is never closed.
        gate.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Option<String> {
        Origin::of(&url.parse().unwrap()).map(|origin| origin.to_string())
    }

    #[test]
    fn the_default_port_and_the_case_of_the_host_make_no_difference() {
        assert_eq!(
            origin("https://A.example/x"),
            origin("https://a.example:443")
        );
        assert_ne!(
            origin("https://a.example"),
            origin("https://a.example:8443")
        );
        assert_ne!(origin("https://127.0.0.1"), origin("http://127.0.0.1"));
    }

    #[test]
    fn what_is_not_http_has_no_origin() {
        assert_eq!(origin("/relative"), None);
        assert_eq!(origin("ftp://a.example/"), None);
    }

    #[tokio::test]
    async fn no_more_than_so_many_go_through_at_once() {
        let gates = Gates::new(2);
        let here = || Origin::of(&Uri::from_static("https://a.example")).unwrap();
        let there = Origin::of(&Uri::from_static("https://b.example")).unwrap();
        let first = gates.enter(here()).await;
        let _second = gates.enter(here()).await;
        let mut third = Box::pin(gates.enter(here()));
        assert!(polled(&mut third).is_none());
        assert!(gates.enter(there).await.is_some());
        drop(first);
        assert!(third.await.is_some());
    }

    fn polled<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
