//! A config with every default filled in, for an "Advanced" form.

use super::check::without_user;
use super::{Config, DEFAULT_TIMEOUT_SECONDS, Grant, ResponseMode};
use crate::authorization;
use crate::client_authentication;
use crate::dialect::{Dialect, Field};
use crate::endpoint::Endpoint;
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

/// Fills in the defaults of a config that its provider has completed, given the
/// server as it was discovered. What the config itself says comes from its own
/// JSON form, so that no field is forgotten.
pub fn resolve(config: &Config, server: &Server) -> Vec<ResolvedField> {
    let mut given = super::json::write(&mut config.clone());
    hide_secrets(&mut given, &config.dialect);
    let mut fields = given.clone();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put("grant_type", Value::from(config.grant.grant_type()));
    put("tls", Value::from(config.tls.as_str()));
    put(
        "timeout",
        Value::from(config.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
    );
    put("offline_access", Value::from(config.wants_offline_access()));
    let method = client_authentication::choose(config, server);
    put("token_endpoint_auth_method", Value::from(method.as_str()));
    let issuer = ("issuer", &server.issuer);
    for (name, url) in server.endpoints.iter().chain([issuer]) {
        if let Some(url) = url {
            put(name, Value::from(url.as_str()));
        }
    }
    for (name, is_on) in [
        ("dpop", config.dpop),
        ("ignore_cookie_policy", config.ignore_cookie_policy),
    ] {
        put(name, Value::from(is_on));
    }
    let scope = authorization::requested_scope(config, server);
    if config.grant.needs_user() && !scope.is_empty() {
        put("scope", Value::from(scope.join(" ")));
    }
    if config.grant == Grant::AuthorizationCode {
        let mode = config.response_mode.unwrap_or(ResponseMode::Query);
        put("response_mode", Value::from(mode.as_str()));
        put("par", Value::from(config.pushes(server)));
        put("request_object", Value::from(config.signs_requests(server)));
        put("pkce", Value::from(config.pkce));
        let prompt = authorization::effective_prompt(&[], config, &scope);
        let prompt: Vec<_> = prompt.iter().map(|prompt| prompt.as_str()).collect();
        if !prompt.is_empty() {
            put("prompt", Value::from(prompt.join(" ")));
        }
    }
    let mut resolved = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let is_said = given.get(&name) == Some(&value);
        let origin = if config.dialect.filled.contains(&name.as_str()) {
            ValueOrigin::Provider
        } else if is_said {
            ValueOrigin::Config
        } else if is_declared(&name, &value, config) {
            ValueOrigin::Provider
        } else if is_from_metadata(&name, server) {
            // A server whose endpoints are declared is not asked; some may have
            // moved to that of the token endpoint.
            match config.declares_endpoints() {
                true => ValueOrigin::Provider,
                false => ValueOrigin::Metadata,
            }
        } else {
            ValueOrigin::Default
        };
        let value = match &value {
            Value::String(url) if url.contains("://") && Endpoint::parse(url).is_err() => {
                Value::from(without_user(url))
            }
            _ => value,
        };
        let value = json::text(&value);
        resolved.push(ResolvedField {
            name,
            value,
            origin,
        });
    }
    resolved
}

/// Whether the provider says so, beside the fields that it fills in.
fn is_declared(name: &str, value: &Value, config: &Config) -> bool {
    let dialect = &config.dialect;
    match name {
        "scope" => dialect.has(Field::OFFLINE_SCOPE),
        "prompt" => dialect.has(Field::OFFLINE_PROMPT),
        // An endpoint or the issuer.
        _ => dialect
            .lines()
            .any(|line| Some(line.value) == value.as_str()),
    }
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

/// Puts literal secrets out of sight. References, which are objects, may be seen;
/// of what is sent as it is to the token endpoint, what the provider declares.
fn hide_secrets(fields: &mut Object, dialect: &Dialect) {
    let hidden = || Value::from("***");
    for name in super::SECRET_FIELDS {
        if let Some(value) = fields.get_mut(*name).filter(|value| value.is_string()) {
            *value = hidden();
        }
    }
    for (field, declared) in [
        ("token_parameters", Field::TOKEN_PARAMETERS),
        ("token_headers", Field::TOKEN_HEADERS),
    ] {
        let Some(Value::Object(sent)) = fields.get_mut(field) else {
            continue;
        };
        for (name, value) in sent {
            if dialect.named(declared, name) != value.as_str() {
                *value = hidden();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn resolved() -> Vec<ResolvedField> {
        let config = Config {
            client_id: Some("id".to_owned()),
            client_secret: Some(Secret::Literal("hunter2".to_owned().into())),
            token_parameters: vec![("assertion".to_owned(), "hunter2".to_owned())],
            redirect_uri: Some("https://u:hunter2@app.example/cb".to_owned()),
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
    fn a_literal_secret_is_not_handed_back_nor_a_password_in_a_url() {
        let fields = resolved();
        assert!(fields.iter().all(|field| !field.value.contains("hunter2")));
        let is_redirect = |field: &&ResolvedField| field.name == "redirect_uri";
        let redirect_uri = fields.iter().find(is_redirect).expect("one");
        assert_eq!(redirect_uri.value, "\"https://***@app.example/cb\"");
    }
}
