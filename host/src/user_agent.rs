//! The user's browser, and the listener it is sent back to.

mod browser;
mod loopback;

use std::time::Duration;

use async_trait::async_trait;

pub use browser::Browser;
pub use loopback::LoopbackListener;

use crate::contract::{DeviceAuthorization, Outcome, Redirect, UserAgentError};

/// What reaches the user before the host.
#[async_trait]
pub trait UserAgent: Send + Sync + 'static {
    /// Opens a listener for the connection of that name: on the given redirect
    /// URI, or else where the user agent likes (RFC 8252 section 7.3).
    ///
    /// # Errors
    /// `Denied` where the host does not allow it, `Unavailable` where that URI
    /// cannot be listened on.
    async fn listen(
        &self,
        connection: &str,
        redirect_uri: Option<&str>,
    ) -> Result<Box<dyn Listener>, UserAgentError>;

    /// Opens a URL in the user's browser, or shows it.
    ///
    /// # Errors
    /// `Denied` where the host does not allow it, `Unavailable` where there is
    /// no browser.
    async fn open_url(&self, connection: &str, url: &str) -> Result<(), UserAgentError>;

    /// Shows a device code to the user (RFC 8628 section 3.3).
    ///
    /// # Errors
    /// `Denied` where the host does not allow it, `Unavailable` where there is
    /// no way to show it.
    async fn show_device_code(
        &self,
        connection: &str,
        device: &DeviceAuthorization,
    ) -> Result<(), UserAgentError>;
}

/// A listener for redirects, closed when dropped.
#[async_trait]
pub trait Listener: Send + 'static {
    /// Where the user must be sent back to.
    fn redirect_uri(&self) -> &str;

    /// Awaits the next redirect for at most so long; `None`: none came. May be
    /// dropped while it waits; no redirect is lost by that.
    ///
    /// # Errors
    /// `Unavailable` where the listener has failed.
    async fn next(&mut self, wait: Duration) -> Result<Option<Box<dyn Arrival>>, UserAgentError>;
}

/// A redirect that has arrived. The user's browser waits until `respond`;
/// dropped without it, the browser is told that nothing came of it.
#[async_trait]
pub trait Arrival: Send + 'static {
    /// What came.
    fn redirect(&self) -> Redirect;

    /// Tells the user how it went, and returns when the browser has been told.
    /// Only the first call has an effect.
    async fn respond(&mut self, outcome: Outcome);
}

/// The user agent of a host that has no user.
pub(crate) struct NoUser;

#[async_trait]
impl UserAgent for NoUser {
    async fn listen(&self, _: &str, _: Option<&str>) -> Result<Box<dyn Listener>, UserAgentError> {
        Err(no_user())
    }

    async fn open_url(&self, _: &str, _: &str) -> Result<(), UserAgentError> {
        Err(no_user())
    }

    async fn show_device_code(
        &self,
        _: &str,
        _: &DeviceAuthorization,
    ) -> Result<(), UserAgentError> {
        Err(no_user())
    }
}

fn no_user() -> UserAgentError {
    UserAgentError::Denied(
        "this host has no user agent; begin and complete the authorization in two steps".to_owned(),
    )
}
