//! The interface `connections`.

use crate::bindings::exports::tokenwell::oauth2::connections::{self, Guest, GuestConnection};
use crate::bindings::tokenwell::oauth2::types as wit;
use crate::platform::Host;
use crate::{Component, run, translate};
use tokenwell_core::config;
use tokenwell_core::connection::Connection;
use tokenwell_core::error::Error;
use tokenwell_core::provider;

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
        config::format(&translate::into_config(config))
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
        _method: String,
        _url: String,
        options: wit::TokenOptions,
        _dpop_nonce: Option<String>,
    ) -> Result<Vec<wit::Parameter>, wit::Error> {
        let options = translate::into_token_options(options);
        let header = run(self.0.authorization_header(&options)).map_err(translate::error)?;
        Ok(vec![wit::Parameter {
            name: "Authorization".to_owned(),
            value: header.reveal().to_owned(),
        }])
    }

    fn response_json(&self) -> Result<String, wit::Error> {
        run(self.0.response_json())
            .map(|json| json.reveal().to_owned())
            .map_err(translate::error)
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
        Err(unsupported("device authorization"))
    }

    fn poll_device_authorization(&self) -> Result<wit::DevicePoll, wit::Error> {
        Err(unsupported("device authorization"))
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
        Err(unsupported("introspection"))
    }

    fn userinfo(&self) -> Result<String, wit::Error> {
        Err(unsupported("userinfo"))
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

fn unsupported(what: &str) -> wit::Error {
    translate::error(Error::Unsupported(what.to_owned()))
}
