//! The flows of a connection, written once over the
//! [`Platform`]: natively tested with a fake one, run in the component with the
//! host's imports.
//!
//! [`token`](Connection::token) is the heart; the renewal behind it is in
//! `renew`, what becomes of the answer in `credential`, how the token is shown to
//! resource servers in `authorization_headers`, the user's part in `authorize` and
//! `device`, who the user is in `identity`, the rest in `manage`. How a request is
//! made is in `sending`, how its server is found in `discovery`.

mod authorization_headers;
mod authorize;
mod credential;
mod device;
mod discovery;
mod identity;
mod interactive;
mod manage;
mod renew;
mod sending;
mod storage;

#[cfg(test)]
mod explore;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_keys;
#[cfg(test)]
mod fake_server;
#[cfg(test)]
mod provider_tests;
#[cfg(test)]
mod tests;

pub use authorize::Begun;
pub use device::DevicePoll;
pub use discovery::{discover_resource, register_client};
pub use interactive::{Arrival, Arrived, Listener, Outcome, UserAgent, UserAgentError};
pub use manage::{ConnectionState, LastRenewal, Status};

use crate::config::{self, Config, Grant, Problem, Secret};
use crate::dialect::Field;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result, Violation, ViolationKind};
use crate::http;
use crate::metadata::Server;
use crate::platform::{Platform, SecretError};
use crate::provider;
use crate::record::{Credential, Record};
use crate::secret::{SecretString, hex};
use crate::time::Timestamp;
use identity::Keys;
use sha2::{Digest, Sha256};
use std::cell::{Cell, RefCell};
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
    /// The nonce that the authorization server wants in the next proof. It lives
    /// for minutes, and so is not stored.
    dpop_nonce: RefCell<Option<String>>,
    /// How far the server's clock was ahead when last looked, in milliseconds: what
    /// is stored is as old as the token.
    skew_millis: Cell<Option<i64>>,
    /// The keys that the server published when last looked.
    keys: RefCell<Option<Keys>>,
}

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
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
            dpop_nonce: RefCell::new(None),
            skew_millis: Cell::new(None),
            keys: RefCell::new(None),
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
            errors => Err(Error::NotConfigured(errors).into()),
        }
    }

    /// The authorization server: what the config names, completed by the
    /// metadata of its issuer where there is any.
    async fn discover(&self) -> Result<Server> {
        let by_hand = Server::from_config(&self.config);
        let declares_endpoints = self.config.declares_endpoints();
        let issuer = by_hand.issuer.clone().filter(|_| !declares_endpoints);
        let Some(issuer) = issuer else {
            return Ok(by_hand);
        };
        let by_hand = Some(by_hand).filter(|server| server.suffices_for(&self.config.grant));
        let timeout = self.config.timeout_millis();
        let server = discovery::discover(&self.platform, &issuer, by_hand, timeout).await?;
        Ok(server.overlaid_with(&self.config))
    }

    /// The config as it takes effect, the server's metadata included.
    ///
    /// # Errors
    /// Unavailable or a violation, where the metadata cannot be had.
    pub async fn resolve(&self) -> Result<Vec<config::ResolvedField>> {
        Ok(config::resolve(&self.config, &self.discover().await?))
    }

    /// The credential of a record, where it is this config's.
    fn credential_in<'a>(&self, record: &'a Record) -> Option<&'a Credential> {
        let credential = record.credential.as_ref();
        credential.filter(|credential| credential.binding == self.binding)
    }

    /// The server that issued a credential, as the config and the catalogue have
    /// it now.
    fn issuer_of(&self, credential: &Credential) -> Server {
        // The endpoints that a provider declares may have moved since; those of
        // the region that the user chose have not.
        let has_regions = self.config.dialect.has(Field::CALLBACK_SERVER_PARAMETER);
        if self.config.declares_endpoints() && !has_regions {
            return Server::from_config(&self.config);
        }
        credential.server.clone().overlaid_with(&self.config)
    }

    /// Whom an id_token must be from, where that is known.
    fn issuer_of_id_tokens<'a>(&'a self, server: &'a Server) -> Option<&'a str> {
        let declared = || self.config.dialect.get(Field::ID_TOKEN_ISSUER);
        server.issuer.as_deref().or_else(declared)
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
        let has_expired = |expiry| self.platform.now() >= expiry;
        self.config.grant.can_run_again()
            || credential.refresh_token.is_some()
                && !credential.refresh_expires_at.is_some_and(has_expired)
    }
}

/// What a credential is bound to, as a hash: the client, the server, the key of
/// its proofs, and for a grant that can simply be run again all that it asks for. A credential of
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
        // One part, as with either alone; neither has a space in it.
        (Some(issuer), Some(token_endpoint)) => {
            add(&[issuer.as_str(), token_endpoint.as_str()].join(" "));
        }
        (Some(server), None) | (None, Some(server)) => add(server),
        (None, None) => add(""),
    }
    fn text_of(secret: &Option<Secret>) -> &str {
        match secret {
            None => "",
            Some(Secret::Literal(value)) => value.reveal(),
            Some(Secret::Reference(reference)) => reference,
        }
    }
    match &config.grant {
        Grant::RefreshToken { refresh_token } => add(text_of(refresh_token)),
        Grant::TokenExchange {
            subject_token,
            subject_token_type,
            actor_token,
            actor_token_type,
            requested_token_type,
        } => {
            add(text_of(subject_token));
            add(text_of(actor_token));
            for text in [subject_token_type, actor_token_type, requested_token_type] {
                add(text.as_deref().unwrap_or_default());
            }
        }
        Grant::JwtBearer {
            assertion,
            issuer,
            subject,
            audience,
            claims,
        } => {
            add(text_of(assertion));
            for text in [issuer, subject, audience, claims, &config.signing_key] {
                add(text.as_deref().unwrap_or_default());
            }
        }
        Grant::Password { username, .. } => add(username.as_deref().unwrap_or_default()),
        Grant::AuthorizationCode
        | Grant::DeviceCode
        | Grant::ClientCredentials
        | Grant::Extension(_) => {}
    }
    // A token that is bound to a key is of no use with another (RFC 9449).
    if config.dpop {
        add("dpop");
        add(config.signing_key.as_deref().unwrap_or_default());
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
    Err(Error::not_configured(
        "name",
        "is not the name of a connection",
        "use at most 64 letters, digits, -, _ and ., beginning with a letter or digit",
    ))
}

fn from_http_failure(url: &Endpoint, failure: http::Failure) -> Box<Error> {
    let host = url.host();
    match failure {
        http::Failure::Forbidden(why) => Error::forbidden(why),
        http::Failure::TooLarge => Error::ProtocolViolation(too_large(url)).into(),
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

/// What the host says of the secret or key that a field of the config names.
fn from_secret_error(field: &str, error: SecretError) -> Box<Error> {
    match error {
        SecretError::NotFound(what) => Error::not_configured(
            field,
            &what,
            "provide what the reference names, or change it",
        ),
        SecretError::Denied(why) => Error::forbidden(why),
        SecretError::Unavailable(cause) => Error::unavailable(cause),
        SecretError::Unsupported(what) => Error::unsupported(what),
    }
}
