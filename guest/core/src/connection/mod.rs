//! The flows of a connection, written once over the
//! [`Platform`]: natively tested with a fake one, run in the component with the
//! host's imports.
//!
//! [`token`](Connection::token) is the heart; the renewal behind it is in
//! `renew`, the user's part in `authorize`, the rest in `manage`.

mod authorize;
mod interactive;
mod manage;
mod renew;
mod storage;

#[cfg(test)]
mod explore;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod provider_tests;
#[cfg(test)]
mod tests;

pub use authorize::Begun;
pub use interactive::{Arrival, Arrived, Listener, Outcome, UserAgent, UserAgentError};
pub use manage::{ConnectionState, LastRenewal, Status};

use crate::client_authentication::{self, Client};
use crate::config::{self, BasicEncoding, Config, Grant, Problem, Secret};
use crate::dialect::Field;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result, Violation, ViolationKind};
use crate::http;
use crate::metadata::{self, Server};
use crate::platform::{Platform, SecretError};
use crate::provider;
use crate::record::Credential;
use crate::secret::{SecretString, hex};
use crate::time::Timestamp;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use storage::Version;

/// What is asked of a token.
#[derive(Clone, Debug, Default)]
pub struct TokenOptions {
    /// The least validity wanted, in seconds.
    pub min_validity_seconds: u32,
    /// The access token that a resource server has just refused.
    pub rejected: Option<SecretString>,
}

/// A token that has not expired.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The access token.
    pub access_token: SecretString,
    /// Its type.
    pub token_type: String,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Until when it may be handed out again without asking.
    pub fresh_until: Option<Timestamp>,
    /// The scopes granted.
    pub scope: Vec<String>,
    /// Whether it can be renewed without the user.
    pub refreshable: bool,
}

/// A named connection. It holds the config and a copy of the stored record;
/// nothing is lost when it is dropped.
pub struct Connection<P> {
    name: String,
    config: Config,
    problems: Vec<Problem>,
    binding: String,
    platform: P,
    store_key: String,
    known: RefCell<Option<Version>>,
}

impl<P: Platform> Connection<P> {
    /// Opens a connection; neither the store nor the network is touched.
    ///
    /// # Errors
    /// Not configured, where the name is none: it becomes part of store keys.
    pub fn open(name: &str, config: Config, platform: P) -> Result<Self> {
        check_name(name)?;
        let (declared, binding) = (provider::dialect(&config), binding(&config));
        let problems = config::check_with(&config, &declared);
        let mut config = config;
        // Where nothing is declared the problems say why, and nothing is sent.
        if let Ok(dialect) = declared {
            provider::complete(&mut config, dialect);
        }
        Ok(Self {
            problems,
            binding,
            store_key: format!("{name}.tokens"),
            known: RefCell::new(None),
            name: name.to_owned(),
            config,
            platform,
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything that is wrong with the config, errors first.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Ends a flow before it begins where the config does not allow it to work.
    fn ensure_configured(&self) -> Result<()> {
        match config::errors_in(&self.problems) {
            errors if errors.is_empty() => Ok(()),
            errors => Err(Error::NotConfigured(errors)),
        }
    }

    /// The authorization server: what the config names, completed by the
    /// metadata of its issuer where something is missing.
    async fn discover(&self) -> Result<Server> {
        let by_hand = Server::from_config(&self.config);
        let declares_endpoints =
            self.config.issuer.is_none() && self.config.dialect.has(Field::TOKEN_ENDPOINT);
        let Some(issuer) = by_hand.issuer.as_ref().filter(|_| !declares_endpoints) else {
            return Ok(by_hand);
        };
        let url = Endpoint::parse(issuer)
            .map_err(|what| Error::NotAuthorized(format!("the issuer {what}")))?;
        let mut failure = None;
        for candidate in metadata::discovery_urls(&url) {
            let request = http::Request {
                method: http::Method::Get,
                url: candidate.clone(),
                headers: vec![("accept".to_owned(), SecretString::new("application/json"))],
                body: SecretString::default(),
                secrets: Vec::new(),
                timeout_millis: self.config.timeout_millis(),
            };
            match self.platform.send(request).await {
                Ok(response) if response.status == 200 => {
                    let server = metadata::parse(issuer, &response.body)?;
                    return Ok(server.overlaid_with(&self.config));
                }
                // Where there is nothing the next place is tried.
                Ok(response) if response.status < 500 && response.status != 429 => {}
                Ok(response) => {
                    failure = Some(Error::unavailable(format!(
                        "{candidate} answered with the status {}",
                        response.status
                    )));
                }
                Err(error) => return Err(from_http_failure(&candidate, error)),
            }
        }
        Err(failure.unwrap_or_else(|| {
            Error::violation(
                ViolationKind::Metadata,
                format!(
                    "{issuer} has no metadata at the well-known places; name the endpoints by hand"
                ),
            )
        }))
    }

    /// The config as it takes effect, the server's metadata included.
    ///
    /// # Errors
    /// Unavailable or a violation, where the metadata cannot be had.
    pub async fn resolve(&self) -> Result<Vec<config::ResolvedField>> {
        Ok(config::resolve(&self.config, &self.discover().await?))
    }

    /// The client as it authenticates to that server, its secret resolved.
    async fn client(&self, server: &Server) -> Result<Client<'_>> {
        let method = client_authentication::choose(&self.config, server);
        let secret = match &self.config.client_secret {
            Some(secret) if method.needs_secret() => Some(self.reveal(secret).await?),
            _ => None,
        };
        Ok(Client {
            id: self.config.client_id.as_deref(),
            secret,
            method,
            basic_encoding: self
                .config
                .basic_encoding
                .unwrap_or(BasicEncoding::FormUrlencoded),
        })
    }

    /// Whom an id_token must be from, where that is known.
    fn issuer_of_id_tokens<'a>(&'a self, server: &'a Server) -> Option<&'a str> {
        let declared = || self.config.dialect.get(Field::ID_TOKEN_ISSUER);
        server.issuer.as_deref().or_else(declared)
    }

    async fn reveal(&self, secret: &Secret) -> Result<SecretString> {
        match secret {
            Secret::Literal(value) => Ok(value.clone()),
            Secret::Reference(reference) => self
                .platform
                .resolve_secret(reference)
                .await
                .map_err(from_secret_error),
        }
    }

    fn token_of(&self, credential: &Credential) -> Token {
        Token {
            access_token: credential.access_token.clone(),
            token_type: credential.token_type.clone(),
            expires_at: credential.expires_at,
            fresh_until: credential.fresh_until,
            scope: credential.scope.clone(),
            refreshable: self.is_refreshable(credential),
        }
    }

    /// Whether a token can be had without the user.
    fn is_refreshable(&self, credential: &Credential) -> bool {
        self.config.grant.can_run_again() || credential.refresh_token.is_some()
    }
}

/// What a credential is bound to, as a hash: the client, the server, and for a
/// grant that can simply be run again all that it asks for. A credential of
/// another binding is neither handed out nor sent anywhere: a changed
/// `token_endpoint` is not told the refresh token of the old one.
pub fn binding(config: &Config) -> String {
    let mut hash = Sha256::new();
    // Each part ends with a byte that text does not contain.
    let mut add = |text: &str| {
        hash.update(text.as_bytes());
        hash.update([0xff]);
    };
    add(config.grant.grant_type());
    add(config.client_id.as_deref().unwrap_or_default());
    add(config.provider.as_deref().unwrap_or_default());
    for (name, value) in &config.parameters {
        add(name);
        add(value);
    }
    match (&config.issuer, &config.endpoints.token) {
        (Some(issuer), _) => add(issuer),
        (None, token_endpoint) => add(token_endpoint.as_deref().unwrap_or_default()),
    }
    let mut add_secret = |secret: &Option<Secret>| match secret {
        None => add(""),
        Some(Secret::Literal(value)) => add(value.reveal()),
        Some(Secret::Reference(reference)) => add(reference),
    };
    match &config.grant {
        Grant::RefreshToken { refresh_token } => add_secret(refresh_token),
        Grant::TokenExchange {
            subject_token,
            actor_token,
            ..
        } => {
            add_secret(subject_token);
            add_secret(actor_token);
        }
        Grant::JwtBearer {
            assertion, subject, ..
        } => {
            add_secret(assertion);
            add(subject.as_deref().unwrap_or_default());
        }
        Grant::Password { username, .. } => add(username.as_deref().unwrap_or_default()),
        Grant::AuthorizationCode
        | Grant::DeviceCode
        | Grant::ClientCredentials
        | Grant::Extension(_) => {}
    }
    if !config.grant.needs_user() {
        for list in [&config.scope, &config.resource, &config.audience] {
            for text in list {
                add(text);
            }
            add("");
        }
        for (name, value) in &config.token_parameters {
            add(name);
            add(value);
        }
    }
    hex(&hash.finalize()[..16])
}

fn check_name(name: &str) -> Result<()> {
    let is_name = name.len() <= 64
        && name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_name {
        return Ok(());
    }
    Err(Error::NotConfigured(vec![Problem {
        field: "name".to_owned(),
        severity: config::Severity::Error,
        message: "is not the name of a connection".to_owned(),
        mend: "use at most 64 letters, digits, -, _ and ., beginning with a letter or digit"
            .to_owned(),
    }]))
}

fn from_http_failure(url: &Endpoint, failure: http::Failure) -> Error {
    let host = url.host();
    match failure {
        http::Failure::Forbidden(why) => Error::Forbidden(why),
        http::Failure::TooLarge => Error::ProtocolViolation(too_large(url)),
        failure => Error::unavailable(format!("{host}: {failure}")),
    }
}

/// What came was larger than any answer of an authorization server.
fn too_large(url: &Endpoint) -> Violation {
    Violation {
        kind: ViolationKind::Response,
        message: format!("{}: {}", url.host(), http::Failure::TooLarge),
    }
}

fn from_secret_error(error: SecretError) -> Error {
    match error {
        SecretError::NotFound(what) => Error::NotConfigured(vec![Problem {
            field: "ref".to_owned(),
            severity: config::Severity::Error,
            message: what,
            mend: "provide what the reference names, or change it".to_owned(),
        }]),
        SecretError::Denied(why) => Error::Forbidden(why),
        SecretError::Unavailable(cause) => Error::unavailable(cause),
        SecretError::Unsupported(what) => Error::Unsupported(what),
    }
}
