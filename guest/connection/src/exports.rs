//! The interface `connections`.

use crate::bindings::exports::tokenwell::oauth2::connections::{self, Guest, GuestConnection};
use crate::bindings::tokenwell::oauth2::types as wit;
use crate::platform::Host;
use crate::{Component, run, translate};
use tokenwell_core::config;
use tokenwell_core::connection::{self, Connection};
use tokenwell_core::error::Error;
use tokenwell_core::provider;
use tokenwell_core::secret::SecretString;

/// The resource `connection`.
pub struct OpenConnection(pub Connection<Host>);

impl Guest for Component {
    type Connection = OpenConnection;

    fn list_providers() -> Vec<wit::ProviderSummary> {
        provider::all()
            .map(|provider| wit::ProviderSummary {
                name: provider.name().to_owned(),
                id: provider.id,
            })
            .collect()
    }

    fn show_provider(id: String) -> Option<wit::Provider> {
        provider::find(&id).map(translate::provider)
    }

    fn parse_config(json: String) -> Result<wit::Config, Vec<wit::Problem>> {
        config::parse(&json)
            .map(translate::from_config)
            .map_err(translate::problems)
    }

    fn format_config(config: wit::Config) -> String {
        config::format(translate::into_config(config))
    }

    fn discover_resource(url: String) -> Result<String, wit::Error> {
        run(connection::discover_resource(&Host, &url)).map_err(translate::error)
    }

    fn register_client(
        issuer: String,
        metadata: String,
        initial_access_token: Option<String>,
    ) -> Result<String, wit::Error> {
        let token = initial_access_token.map(SecretString::new);
        let registered = connection::register_client(&Host, &issuer, &metadata, token.as_ref());
        revealed(run(registered))
    }
}

impl GuestConnection for OpenConnection {
    fn open(name: String, config: wit::Config) -> Result<connections::Connection, wit::Error> {
        Connection::open(&name, translate::into_config(config), Host)
            .map(|connection| connections::Connection::new(Self(connection)))
            .map_err(translate::error)
    }

    fn check(&self) -> Vec<wit::Problem> {
        translate::problems(self.0.problems().to_vec())
    }

    fn resolve(&self) -> Result<Vec<wit::ResolvedField>, wit::Error> {
        run(self.0.resolve())
            .map(translate::resolved)
            .map_err(translate::error)
    }

    fn status(&self) -> Result<wit::Status, wit::Error> {
        run(self.0.status())
            .map(translate::status)
            .map_err(translate::error)
    }

    fn token(&self, options: wit::TokenOptions) -> Result<wit::Token, wit::Error> {
        run(self.0.token(&translate::into_token_options(options)))
            .map(translate::token)
            .map_err(translate::error)
    }

    fn authorization_headers(
        &self,
        method: String,
        url: String,
        options: wit::TokenOptions,
        dpop_nonce: Option<String>,
    ) -> Result<Vec<wit::Parameter>, wit::Error> {
        let options = translate::into_token_options(options);
        let nonce = dpop_nonce.as_deref();
        let headers = self.0.authorization_headers(&method, &url, &options, nonce);
        run(headers)
            .map(translate::headers)
            .map_err(translate::error)
    }

    fn response_json(&self) -> Result<String, wit::Error> {
        revealed(run(self.0.response_json()))
    }

    fn begin_authorization(
        &self,
        options: wit::AuthorizationOptions,
    ) -> Result<wit::PendingAuthorization, wit::Error> {
        let options = translate::into_authorization_options(options);
        run(self.0.begin_authorization(&options))
            .map(translate::pending)
            .map_err(translate::error)
    }

    fn complete_authorization(&self, redirect: wit::Redirect) -> Result<(), wit::Error> {
        translate::into_redirect(redirect)
            .redirect()
            .and_then(|redirect| run(self.0.complete_authorization(redirect)))
            .map_err(translate::error)
    }

    fn begin_device_authorization(&self) -> Result<wit::DeviceAuthorization, wit::Error> {
        run(self.0.begin_device_authorization())
            .map(translate::device_authorization)
            .map_err(translate::error)
    }

    fn poll_device_authorization(&self) -> Result<wit::DevicePoll, wit::Error> {
        run(self.0.poll_device_authorization())
            .map(translate::device_poll)
            .map_err(translate::error)
    }

    fn refresh(&self) -> Result<wit::Token, wit::Error> {
        run(self.0.refresh())
            .map(translate::token)
            .map_err(translate::error)
    }

    fn clear(&self) -> Result<(), wit::Error> {
        run(self.0.clear()).map_err(translate::error)
    }

    fn revoke(&self) -> Result<(), wit::Error> {
        run(self.0.revoke()).map_err(translate::error)
    }

    fn introspect(&self) -> Result<String, wit::Error> {
        revealed(run(self.0.introspect()))
    }

    fn userinfo(&self) -> Result<String, wit::Error> {
        revealed(run(self.0.userinfo()))
    }

    fn history(&self) -> Result<Vec<wit::Event>, wit::Error> {
        let events = run(self.0.history()).map_err(translate::error)?;
        let events = events.iter();
        Ok(events
            .map(|event| translate::event(self.0.name(), event))
            .collect())
    }

    fn reseal(&self) -> Result<(), wit::Error> {
        run(self.0.reseal()).map_err(translate::error)
    }
}

#[allow(clippy::result_large_err, reason = "it is the contract's")]
fn revealed(json: Result<SecretString, Box<Error>>) -> Result<String, wit::Error> {
    json.map(|json| json.reveal().to_owned())
        .map_err(translate::error)
}
