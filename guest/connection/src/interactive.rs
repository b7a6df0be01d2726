//! The interface `interactive`, and the user agent that it needs.

use crate::bindings::exports::tokenwell::oauth2::connections::ConnectionBorrow;
use crate::bindings::exports::tokenwell::oauth2::interactive::{AuthorizeOptions, Guest};
use crate::bindings::tokenwell::oauth2::{types as wit, user_agent};
use crate::exports::OpenConnection;
use crate::{Component, run, translate};
use tokenwell_core::connection::{Arrival, Arrived, Listener, Outcome, UserAgent, UserAgentError};
use tokenwell_core::device_authorization::DeviceAuthorization;

/// How long to wait for the user unless told otherwise, in seconds.
const PATIENCE_SECONDS: u32 = 300;

impl Guest for Component {
    fn authorize(
        connection: ConnectionBorrow<'_>,
        options: AuthorizeOptions,
    ) -> Result<(), wit::Error> {
        let connection = &connection.get::<OpenConnection>().0;
        let patience = options.timeout_seconds.unwrap_or(PATIENCE_SECONDS);
        if options.device {
            let authorized = connection.authorize_device(&Host, patience);
            return run(authorized).map_err(translate::error);
        }
        let options = translate::into_authorization_options(options.authorization);
        run(connection.authorize(&Host, &options, patience)).map_err(translate::error)
    }
}

/// The host's user agent.
struct Host;

impl UserAgent for Host {
    type Listener = user_agent::Listener;

    async fn listen(
        &self,
        connection: &str,
        redirect_uri: Option<&str>,
    ) -> Result<Self::Listener, UserAgentError> {
        user_agent::listen(connection, redirect_uri).map_err(from_user_agent_error)
    }

    async fn open_url(&self, connection: &str, url: &str) -> Result<(), UserAgentError> {
        user_agent::open_url(connection, url).map_err(from_user_agent_error)
    }

    async fn show_device_code(
        &self,
        connection: &str,
        device: &DeviceAuthorization,
    ) -> Result<(), UserAgentError> {
        let device = translate::device_authorization(device.clone());
        user_agent::show_device_code(connection, &device).map_err(from_user_agent_error)
    }
}

impl Listener for user_agent::Listener {
    type Arrival = user_agent::Arrival;

    fn redirect_uri(&self) -> String {
        user_agent::Listener::redirect_uri(self)
    }

    async fn next(&self, wait_millis: u64) -> Result<Option<Self::Arrival>, UserAgentError> {
        user_agent::Listener::next(self, wait_millis).map_err(from_user_agent_error)
    }
}

impl Arrival for user_agent::Arrival {
    fn arrived(&self) -> Arrived {
        translate::into_redirect(self.redirect())
    }

    async fn respond(&self, outcome: Outcome) {
        user_agent::Arrival::respond(
            self,
            &match outcome {
                Outcome::Authorized => user_agent::Outcome::Authorized,
                Outcome::Failed(why) => user_agent::Outcome::Failed(why),
                Outcome::Refused(why) => user_agent::Outcome::Refused(why),
            },
        );
    }
}

fn from_user_agent_error(error: user_agent::UserAgentError) -> UserAgentError {
    match error {
        user_agent::UserAgentError::Denied(why) => UserAgentError::Denied(why),
        user_agent::UserAgentError::Unavailable(cause) => UserAgentError::Unavailable(cause),
    }
}
