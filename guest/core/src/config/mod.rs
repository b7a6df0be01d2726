//! What a host says of a connection, what is wrong with it, and its JSON form.

mod check;
mod json;
mod resolve;

pub use check::check;
pub(crate) use check::{check_with, errors_in, is_computed, is_of_grant};
pub(crate) use json::nearest;
pub use json::{SECRET_FIELDS, format, parse, registered_grant_type};
pub use resolve::{ResolvedField, ValueOrigin, resolve};

use crate::dialect::{Dialect, Field};
use crate::metadata::Server;
use crate::secret::SecretString;
use std::fmt;

/// The longest a request may take unless the config says otherwise.
pub const DEFAULT_TIMEOUT_SECONDS: u32 = 30;

/// A value that must not be seen: itself, or where the host finds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Secret {
    /// The value itself.
    Literal(SecretString),
    /// A reference such as `env:NAME`.
    Reference(String),
}

/// Defines an enum whose cases have registered names.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$case_meta:meta])* $case:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$case_meta])* $case,)* }

        impl $name {
            /// Every case, by its name.
            pub const NAMES: &'static [(&'static str, Self)] = &[$(($text, Self::$case)),*];

            /// The registered name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$case => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// How the client proves at the token endpoint who it is (RFC 7591 section 2,
    /// OpenID Connect Core section 9, RFC 8705).
    ClientAuthentication {
        /// A public client: `client_id` in the body.
        None = "none",
        /// The `Authorization: Basic` header (RFC 6749 section 2.3.1).
        ClientSecretBasic = "client_secret_basic",
        /// `client_id` and `client_secret` in the body.
        ClientSecretPost = "client_secret_post",
        /// An assertion keyed with the secret (RFC 7523).
        ClientSecretJwt = "client_secret_jwt",
        /// An assertion signed with a private key (RFC 7523).
        PrivateKeyJwt = "private_key_jwt",
        /// A TLS client certificate from a PKI (RFC 8705 section 2.1).
        TlsClientAuth = "tls_client_auth",
        /// A self-signed TLS client certificate (RFC 8705 section 2.2).
        SelfSignedTlsClientAuth = "self_signed_tls_client_auth",
    }
}

impl ClientAuthentication {
    /// Whether it is made with the client secret.
    pub fn needs_secret(self) -> bool {
        matches!(
            self,
            Self::ClientSecretBasic | Self::ClientSecretPost | Self::ClientSecretJwt
        )
    }
}

named! {
    /// Which redirect URIs a provider accepts.
    RedirectUris {
        /// Those of the loopback address with any port (RFC 8252 section 7.3).
        Loopback = "loopback",
        /// Those that are registered, as they are, port included.
        Exact = "exact",
        /// Those that are registered and `https`.
        Https = "https",
    }
}

named! {
    /// How identifier and secret are written into the Basic header.
    BasicEncoding {
        /// Form-encoded first, as RFC 6749 section 2.3.1 says.
        FormUrlencoded = "form_urlencoded",
        /// As they are, for servers that do not decode.
        Raw = "raw",
    }
}

named! {
    /// What the authorization server shall ask the user (OpenID Connect Core
    /// section 3.1.2.1).
    Prompt {
        /// Nothing: an error if it cannot be silent.
        None = "none",
        /// Sign in again.
        Login = "login",
        /// Consent again.
        Consent = "consent",
        /// Choose an account.
        SelectAccount = "select_account",
    }
}

named! {
    /// How the authorization response comes back.
    ResponseMode {
        /// In the query of the redirect.
        Query = "query",
        /// In the body of a POST.
        FormPost = "form_post",
    }
}

named! {
    /// How the certificate of a server is judged.
    TlsMode {
        /// Against the system's roots.
        Verify = "verify",
        /// Imported on first use; a different one later is refused.
        Trust = "trust",
        /// Not at all.
        Off = "off",
    }
}

/// Whether the authorization request is pushed first (RFC 9126).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PushedAuthorization {
    /// When the server's metadata requires it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How a token is obtained (RFC 6749 section 1.3). The implicit grant is left
/// out on purpose (RFC 9700 section 2.1.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Grant {
    /// RFC 6749 section 4.1.
    #[default]
    AuthorizationCode,
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 6749 section 4.3.
    Password {
        /// `username`.
        username: Option<String>,
        /// `password`.
        password: Option<Secret>,
    },
    /// RFC 8628.
    DeviceCode,
    /// RFC 7523 section 2.1.
    JwtBearer {
        /// A finished assertion, sent as it is.
        assertion: Option<Secret>,
        /// The `iss` claim.
        issuer: Option<String>,
        /// The `sub` claim.
        subject: Option<String>,
        /// The `aud` claim.
        audience: Option<String>,
        /// Further claims, one JSON object.
        claims: Option<String>,
    },
    /// RFC 8693.
    TokenExchange {
        /// `subject_token`.
        subject_token: Option<Secret>,
        /// `subject_token_type`.
        subject_token_type: Option<String>,
        /// `actor_token`.
        actor_token: Option<Secret>,
        /// `actor_token_type`.
        actor_token_type: Option<String>,
        /// `requested_token_type`.
        requested_token_type: Option<String>,
    },
    /// RFC 6749 section 6, from a refresh token obtained elsewhere.
    RefreshToken {
        /// `refresh_token`.
        refresh_token: Option<Secret>,
    },
    /// RFC 6749 section 4.5, by the value of its `grant_type`.
    Extension(String),
}

impl Grant {
    /// The value of `grant_type` on the wire.
    pub fn grant_type(&self) -> &str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::ClientCredentials => "client_credentials",
            Self::Password { .. } => "password",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::JwtBearer { .. } => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::TokenExchange { .. } => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::RefreshToken { .. } => "refresh_token",
            Self::Extension(grant_type) => grant_type,
        }
    }

    /// Whether it takes a user at a browser, so that it cannot simply be run
    /// again.
    pub fn needs_user(&self) -> bool {
        matches!(self, Self::AuthorizationCode | Self::DeviceCode)
    }

    /// Whether it can be run again without the user and without what an earlier
    /// run brought.
    pub fn can_run_again(&self) -> bool {
        !self.needs_user() && !matches!(self, Self::RefreshToken { .. })
    }
}

/// When and how a token is renewed; what is absent is as the component has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenewalPolicy {
    /// Renew so many seconds before expiry.
    pub early_seconds: Option<u32>,
    /// How often one call sends a renewal that fails transiently.
    pub max_attempts: Option<u32>,
    /// The pause after a first transient failure, in seconds.
    pub first_retry_seconds: Option<u32>,
    /// The longest such pause, in seconds.
    pub max_retry_seconds: Option<u32>,
    /// The lifetime to assume where a response names none, in seconds.
    pub default_lifetime_seconds: Option<u32>,
}

/// The endpoints that a config may name, each by its registered name (RFC 8414
/// section 2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointUrls {
    /// `authorization_endpoint`.
    pub authorization: Option<String>,
    /// `token_endpoint`.
    pub token: Option<String>,
    /// `revocation_endpoint`.
    pub revocation: Option<String>,
    /// `introspection_endpoint`.
    pub introspection: Option<String>,
    /// `userinfo_endpoint`.
    pub userinfo: Option<String>,
    /// `device_authorization_endpoint`.
    pub device_authorization: Option<String>,
    /// `pushed_authorization_request_endpoint`.
    pub pushed_authorization_request: Option<String>,
    /// `jwks_uri`.
    pub jwks: Option<String>,
}

impl EndpointUrls {
    /// Each endpoint with its registered name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Option<String>)> {
        [
            ("authorization_endpoint", &self.authorization),
            ("token_endpoint", &self.token),
            ("revocation_endpoint", &self.revocation),
            ("introspection_endpoint", &self.introspection),
            ("userinfo_endpoint", &self.userinfo),
            ("device_authorization_endpoint", &self.device_authorization),
            (
                "pushed_authorization_request_endpoint",
                &self.pushed_authorization_request,
            ),
            ("jwks_uri", &self.jwks),
        ]
        .into_iter()
    }

    /// The same, to be written to.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Option<String>)> {
        [
            ("authorization_endpoint", &mut self.authorization),
            ("token_endpoint", &mut self.token),
            ("revocation_endpoint", &mut self.revocation),
            ("introspection_endpoint", &mut self.introspection),
            ("userinfo_endpoint", &mut self.userinfo),
            (
                "device_authorization_endpoint",
                &mut self.device_authorization,
            ),
            (
                "pushed_authorization_request_endpoint",
                &mut self.pushed_authorization_request,
            ),
            ("jwks_uri", &mut self.jwks),
        ]
        .into_iter()
    }
}

/// The case of a registered name.
pub(crate) fn named<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    let found = names.iter().find(|(known, _)| *known == name);
    found.map(|(_, case)| *case)
}

/// One name with its value.
pub type Parameter = (String, String);

/// Everything a host says of one connection; it may be incomplete.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The catalogue's identifier; absent: custom.
    pub provider: Option<String>,
    /// The provider's parameters.
    pub parameters: Vec<Parameter>,
    /// `client_id` (RFC 6749 section 2.2).
    pub client_id: Option<String>,
    /// `client_secret`.
    pub client_secret: Option<Secret>,
    /// `token_endpoint_auth_method`.
    pub client_authentication: Option<ClientAuthentication>,
    /// How Basic credentials are encoded.
    pub basic_encoding: Option<BasicEncoding>,
    /// A reference to the key that signs assertions and proofs.
    pub signing_key: Option<String>,
    /// A reference to the TLS client certificate.
    pub client_certificate: Option<String>,
    /// A reference to its private key.
    pub client_certificate_key: Option<String>,
    /// How a token is obtained.
    pub grant: Grant,
    /// The scopes asked for.
    pub scope: Vec<String>,
    /// `resource` (RFC 8707).
    pub resource: Vec<String>,
    /// `audience`.
    pub audience: Vec<String>,
    /// The authorization server's issuer.
    pub issuer: Option<String>,
    /// The endpoints named by hand.
    pub endpoints: EndpointUrls,
    /// `redirect_uri`.
    pub redirect_uri: Option<String>,
    /// `response_mode`.
    pub response_mode: Option<ResponseMode>,
    /// PKCE (RFC 7636).
    pub pkce: bool,
    /// `prompt`.
    pub prompt: Vec<Prompt>,
    /// `max_age`, in seconds.
    pub max_age: Option<u32>,
    /// Whether to ask for a refresh token.
    pub offline_access: Option<bool>,
    /// Further parameters of the authorization request.
    pub authorization_parameters: Vec<Parameter>,
    /// Further parameters of the token request.
    pub token_parameters: Vec<Parameter>,
    /// Further headers of the token request.
    pub token_headers: Vec<Parameter>,
    /// Bind tokens to a key (RFC 9449).
    pub dpop: bool,
    /// Push the authorization request (RFC 9126).
    pub pushed_authorization: PushedAuthorization,
    /// Sign the authorization request (RFC 9101).
    pub request_object: bool,
    /// How certificates are judged.
    pub tls: TlsMode,
    /// The longest a request may take, in seconds.
    pub timeout: Option<u32>,
    /// Give no warning of cookies.
    pub ignore_cookie_policy: bool,
    /// When and how tokens are renewed.
    pub renewal: RenewalPolicy,
    /// How the server departs from the standard. No host says this: it is filled
    /// in from the catalogue (see [`provider::complete`](crate::provider::complete)).
    pub dialect: Dialect,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: None,
            parameters: Vec::new(),
            client_id: None,
            client_secret: None,
            client_authentication: None,
            basic_encoding: None,
            signing_key: None,
            client_certificate: None,
            client_certificate_key: None,
            grant: Grant::AuthorizationCode,
            scope: Vec::new(),
            resource: Vec::new(),
            audience: Vec::new(),
            issuer: None,
            endpoints: EndpointUrls::default(),
            redirect_uri: None,
            response_mode: None,
            pkce: true,
            prompt: Vec::new(),
            max_age: None,
            offline_access: None,
            authorization_parameters: Vec::new(),
            token_parameters: Vec::new(),
            token_headers: Vec::new(),
            dpop: false,
            pushed_authorization: PushedAuthorization::Auto,
            request_object: false,
            tls: TlsMode::Verify,
            timeout: None,
            ignore_cookie_policy: false,
            renewal: RenewalPolicy::default(),
            dialect: Dialect::default(),
        }
    }
}

impl Config {
    /// The longest a request may take: 30 seconds unless the config says
    /// otherwise.
    pub fn timeout_millis(&self) -> u64 {
        u64::from(self.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS)) * 1000
    }

    /// Whether a refresh token is asked for: by default for the grants of a
    /// user.
    pub fn wants_offline_access(&self) -> bool {
        self.offline_access.unwrap_or(self.grant.needs_user())
    }

    /// Whether authorization requests are pushed to that server (RFC 9126).
    pub fn pushes(&self, server: &Server) -> bool {
        match self.pushed_authorization {
            PushedAuthorization::Always => true,
            PushedAuthorization::Never => false,
            PushedAuthorization::Auto => server.requires_pushed_authorization,
        }
    }

    /// Whether authorization requests to that server are signed (RFC 9101).
    pub fn signs_requests(&self, server: &Server) -> bool {
        self.request_object || server.requires_signed_requests
    }

    /// Whether the provider declares where the server's endpoints are, so that
    /// nothing is discovered.
    pub fn declares_endpoints(&self) -> bool {
        self.issuer.is_none() && self.dialect.has(Field::TOKEN_ENDPOINT)
    }

    /// Whether this is an OpenID Connect request (OpenID Connect Core section
    /// 3.1.2.1).
    pub fn is_openid(&self) -> bool {
        self.scope.iter().any(|scope| scope == "openid")
    }
}

/// How grave a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The connection cannot work.
    Error,
    /// It works, but less safely or not as expected.
    Warning,
}

/// One thing that is wrong with a config.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The field, by its name in JSON.
    pub field: String,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

impl Problem {
    // Not generic, and not inlined: it is called in some fifty places.
    #[inline(never)]
    pub(crate) fn error(field: &str, message: &str, mend: &str) -> Self {
        Self {
            field: field.to_owned(),
            severity: Severity::Error,
            message: message.to_owned(),
            mend: mend.to_owned(),
        }
    }

    fn warning(field: &str, message: &str, mend: &str) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(field, message, mend)
        }
    }
}
