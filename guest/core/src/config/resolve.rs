//! A config with every default filled in, for an "Advanced" form.

use super::{Config, DEFAULT_TIMEOUT_SECONDS, Grant, Secret};
use crate::authorization;
use crate::client_authentication;
use crate::json::{self, Object};
use crate::metadata::Server;
use serde_json::Value;

/// Where a value of a resolved config comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueOrigin {
    /// The config itself.
    Config,
    /// The provider catalogue.
    Provider,
    /// The authorization server's metadata.
    Metadata,
    /// The component's default.
    Default,
}

/// A field of a config as it takes effect.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedField {
    /// The field, by its name in JSON.
    pub name: String,
    /// Its value, as JSON writes it; a secret as `***`.
    pub value: String,
    /// Where it comes from.
    pub origin: ValueOrigin,
}

/// Fills in the defaults, given the server as it was discovered. What the config
/// itself says comes from its own JSON form, so that no field is forgotten.
pub fn resolve(config: &Config, server: &Server) -> Vec<ResolvedField> {
    let given = as_object(&without_secrets(config));
    let mut effective = config.clone();
    effective.client_authentication = Some(client_authentication::choose(config, server));
    effective.endpoints = server.endpoints.clone();
    effective.offline_access = Some(config.wants_offline_access());
    effective.timeout = Some(config.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS));
    if config.grant == Grant::AuthorizationCode {
        effective.scope = authorization::requested_scope(config, server);
        effective.prompt = authorization::effective_prompt(&[], &config.prompt, &effective.scope);
    }
    let mut fields = as_object(&without_secrets(&effective));
    // Left out at their defaults, and worth being seen.
    for (name, value) in [
        ("grant_type", Value::from(config.grant.grant_type())),
        ("pkce", Value::from(config.pkce)),
        ("tls", Value::from(config.tls.as_str())),
    ] {
        fields.entry(name).or_insert(value);
    }
    fields
        .into_iter()
        .map(|(name, value)| {
            let origin = if given.get(&name) == Some(&value) {
                ValueOrigin::Config
            } else if is_from_metadata(&name, server) {
                ValueOrigin::Metadata
            } else {
                ValueOrigin::Default
            };
            let value = json::text(&value);
            ResolvedField {
                name,
                value,
                origin,
            }
        })
        .collect()
}

fn is_from_metadata(name: &str, server: &Server) -> bool {
    match name {
        "token_endpoint_auth_method" => !server.client_authentication.is_empty(),
        "scope" => server.scopes.is_some(),
        name => server
            .endpoints
            .iter()
            .any(|(endpoint, _)| endpoint == name),
    }
}

fn as_object(config: &Config) -> Object {
    json::parse_object(super::format(config).as_bytes()).unwrap_or_default()
}

/// The config with its literal secrets out of sight. References may be seen.
fn without_secrets(config: &Config) -> Config {
    let hide = |secret: &mut Option<Secret>| {
        if let Some(Secret::Literal(value)) = secret {
            *value = "***".to_owned().into();
        }
    };
    let mut shown = config.clone();
    hide(&mut shown.client_secret);
    match &mut shown.grant {
        Grant::Password { password, .. } => hide(password),
        Grant::JwtBearer { assertion, .. } => hide(assertion),
        Grant::TokenExchange {
            subject_token,
            actor_token,
            ..
        } => {
            hide(subject_token);
            hide(actor_token);
        }
        Grant::RefreshToken { refresh_token } => hide(refresh_token),
        Grant::AuthorizationCode
        | Grant::ClientCredentials
        | Grant::DeviceCode
        | Grant::Extension(_) => {}
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved() -> Vec<ResolvedField> {
        let config = Config {
            client_id: Some("id".to_owned()),
            client_secret: Some(Secret::Literal("hunter2".to_owned().into())),
            issuer: Some("https://as.example".to_owned()),
            scope: vec!["openid".to_owned()],
            timeout: Some(5),
            ..Config::default()
        };
        let mut server = Server::from_config(&config);
        server.endpoints.token = Some("https://as.example/t".to_owned());
        server.client_authentication = vec!["client_secret_post".to_owned()];
        resolve(&config, &server)
    }

    #[test]
    fn each_value_tells_where_it_comes_from() {
        let fields = resolved();
        let found = |wanted: &str| {
            let field = fields.iter().find(|field| field.name == wanted);
            field.map(|field| (field.value.as_str(), field.origin))
        };
        assert_eq!(found("client_id"), Some(("\"id\"", ValueOrigin::Config)));
        assert_eq!(
            found("token_endpoint"),
            Some(("\"https://as.example/t\"", ValueOrigin::Metadata))
        );
        assert_eq!(
            found("token_endpoint_auth_method"),
            Some(("\"client_secret_post\"", ValueOrigin::Metadata))
        );
        assert_eq!(
            found("scope"),
            Some(("\"openid offline_access\"", ValueOrigin::Default))
        );
        assert_eq!(found("prompt"), Some(("\"consent\"", ValueOrigin::Default)));
        assert_eq!(found("timeout"), Some(("5", ValueOrigin::Config)));
        assert_eq!(found("tls"), Some(("\"verify\"", ValueOrigin::Default)));
        assert_eq!(found("revocation_endpoint"), None);
    }

    #[test]
    fn a_literal_secret_is_not_handed_back() {
        let fields = resolved();
        assert!(fields.iter().all(|field| !field.value.contains("hunter2")));
    }
}
