//! Authorization in one call, for hosts that have a user before them.

use super::{Connection, DevicePoll};
use crate::authorization::{AuthorizationOptions, Redirect};
use crate::config::Grant;
use crate::device_authorization::DeviceAuthorization;
use crate::error::{Error, Result, ViolationKind};
use crate::platform::Platform;
use crate::time::Timestamp;

/// Why the user's part could not be done.
#[derive(Clone, Debug, PartialEq)]
pub enum UserAgentError {
    /// The host does not allow it.
    Denied(String),
    /// There is no browser, or no port to listen on.
    Unavailable(String),
}

/// How an authorization went, for the page that the user is left with.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The connection is authorized.
    Authorized,
    /// It is not; the text says why.
    Failed(String),
    /// This was not the answer that is awaited; the text says why.
    Refused(String),
}

/// What arrived at the listener.
#[derive(Clone, Debug)]
pub enum Arrived {
    /// A callback URL.
    Url(String),
    /// The body of a form post.
    FormPost(String),
}

impl Arrived {
    /// Reads it as a redirect.
    ///
    /// # Errors
    /// A violation.
    pub fn redirect(&self) -> Result<Redirect> {
        match self {
            Self::Url(url) => Redirect::from_url(url),
            Self::FormPost(form) => Redirect::from_form(form),
        }
    }
}

/// A redirect that has arrived; the user's browser waits.
#[allow(async_fn_in_trait, reason = "as for the platform")]
#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
pub trait Arrival {
    /// What came.
    fn arrived(&self) -> Arrived;

    /// Tells the user how it went.
    async fn respond(&self, outcome: Outcome);
}

/// A listener for redirects, closed when dropped.
#[allow(async_fn_in_trait, reason = "as for the platform")]
#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
pub trait Listener {
    /// A redirect that has arrived.
    type Arrival: Arrival;

    /// Where the user must be sent back to.
    fn redirect_uri(&self) -> String;

    /// Awaits the next redirect; `None` where none came in time.
    async fn next(
        &self,
        wait_millis: u64,
    ) -> std::result::Result<Option<Self::Arrival>, UserAgentError>;
}

/// The user's browser, and the listener it is sent back to.
#[allow(async_fn_in_trait, reason = "as for the platform")]
#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
pub trait UserAgent {
    /// Its listener.
    type Listener: Listener;

    /// Opens a listener, on the given redirect URI where there is one.
    async fn listen(
        &self,
        connection: &str,
        redirect_uri: Option<&str>,
    ) -> std::result::Result<Self::Listener, UserAgentError>;

    /// Opens a URL in the user's browser.
    async fn open_url(
        &self,
        connection: &str,
        url: &str,
    ) -> std::result::Result<(), UserAgentError>;

    /// Shows a device code to the user.
    async fn show_device_code(
        &self,
        connection: &str,
        device: &DeviceAuthorization,
    ) -> std::result::Result<(), UserAgentError>;
}

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// Authorizes the connection: opens the listener just before the browser,
    /// awaits the redirect, obtains the token, and tells the user how it went. A
    /// redirect that is not the answer is refused and the wait goes on. A grant
    /// that needs no user is run.
    ///
    /// # Errors
    /// Not authorized, where the user does not come back in time; else as
    /// beginning and completing have them.
    pub async fn authorize(
        &self,
        user_agent: &impl UserAgent,
        options: &AuthorizationOptions,
        timeout_seconds: u32,
    ) -> Result<()> {
        if !self.config.grant.needs_user() {
            return self.refresh().await.map(drop);
        }
        self.ensure_configured()?;
        if self.config.grant == Grant::DeviceCode {
            return self.authorize_device(user_agent, timeout_seconds).await;
        }
        let configured = options
            .redirect_uri
            .as_ref()
            .or(self.config.redirect_uri.as_ref());
        let listener = user_agent
            .listen(&self.name, configured.map(String::as_str))
            .await
            .map_err(from_user_agent_error)?;
        let options = AuthorizationOptions {
            redirect_uri: Some(listener.redirect_uri()),
            ..options.clone()
        };
        let begun = self.begin_authorization(&options).await?;
        user_agent
            .open_url(&self.name, &begun.authorization_url)
            .await
            .map_err(from_user_agent_error)?;
        let patience = self
            .platform
            .now()
            .plus_millis(u64::from(timeout_seconds) * 1000);
        self.await_redirect(
            &listener,
            begun.state.reveal(),
            patience.min(begun.expires_at),
        )
        .await
    }

    /// The same with a code for another device (RFC 8628) in place of the browser:
    /// shows it, and polls until the user has decided.
    ///
    /// # Errors
    /// Not authorized, where the user does not decide in time; else as beginning
    /// and polling have them.
    pub async fn authorize_device(
        &self,
        user_agent: &impl UserAgent,
        timeout_seconds: u32,
    ) -> Result<()> {
        let device = self.begin_device_authorization().await?;
        user_agent
            .show_device_code(&self.name, &device)
            .await
            .map_err(from_user_agent_error)?;
        let patience = self
            .platform
            .now()
            .plus_millis(u64::from(timeout_seconds) * 1000);
        let mut wait = device.interval_seconds;
        loop {
            let left = patience.millis_since(self.platform.now());
            if left == 0 {
                return Err(Error::not_authorized(
                    "the user did not decide in time".to_owned(),
                ));
            }
            let pause = wait.saturating_mul(1000).min(left);
            self.platform.sleep(pause).await;
            match self.poll_device_authorization().await? {
                DevicePoll::Authorized => return Ok(()),
                DevicePoll::Pending(seconds) => wait = seconds,
            }
        }
    }

    async fn await_redirect(
        &self,
        listener: &impl Listener,
        state: &str,
        patience: Timestamp,
    ) -> Result<()> {
        loop {
            let wait = patience.millis_since(self.platform.now());
            let arrival = if wait == 0 {
                None
            } else {
                listener.next(wait).await.map_err(from_user_agent_error)?
            };
            let Some(arrival) = arrival else {
                return Err(Error::not_authorized(
                    "the user did not come back from the authorization server in time".to_owned(),
                ));
            };
            let completed = match arrival.arrived().redirect() {
                Ok(redirect) if redirect.bears_state(state) => {
                    self.complete_authorization(redirect).await
                }
                Ok(_) => Err(Error::violation(
                    ViolationKind::State,
                    "the redirect answers another authorization than the one awaited",
                )),
                Err(error) => Err(error),
            };
            match completed {
                Ok(()) => {
                    arrival.respond(Outcome::Authorized).await;
                    return Ok(());
                }
                // Not the answer: the real one may still come.
                Err(error) if is_foreign(&error) => {
                    arrival.respond(Outcome::Refused(error.to_string())).await;
                }
                Err(error) => {
                    arrival.respond(Outcome::Failed(error.to_string())).await;
                    return Err(error);
                }
            }
        }
    }
}

/// Whether an error says that a redirect was not the one awaited.
fn is_foreign(error: &Error) -> bool {
    matches!(error, Error::ProtocolViolation(violation) if matches!(
        violation.kind,
        ViolationKind::State | ViolationKind::Redirect | ViolationKind::Issuer
    ))
}

fn from_user_agent_error(error: UserAgentError) -> Box<Error> {
    match error {
        UserAgentError::Denied(why) => Error::forbidden(why),
        UserAgentError::Unavailable(cause) => Error::unavailable(cause),
    }
}
