//! The types of `wit/types.wit`, written out so that they carry redacted
//! `Debug` and `Default`, which generated ones would not. A difference from
//! the WIT does not go unseen: the linker refuses the component.

use std::fmt;

use wasmtime::component::{ComponentType, Lift, Lower};

/// What `Debug` shows in place of a value that must not be seen.
const REDACTED: &str = "[redacted]";

/// Seconds since 1970-01-01T00:00:00Z.
pub type UnixSeconds = u64;

/// One name with its value.
#[derive(Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Parameter {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A value that must not be seen: given as it is, or as a reference that
/// the host resolves when the value is needed.
#[derive(Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum Secret {
    /// The value itself.
    #[component(name = "literal")]
    Literal(String),
    /// Where the host finds it: `env:NAME`, `file:PATH`, `keyring:NAME`,
    /// `sealed:NAME`, or a form of the host's own.
    #[component(name = "reference")]
    Reference(String),
}

/// How the client obtains a token (RFC 6749 section 1.3). The implicit
/// grant is left out on purpose (RFC 9700 section 2.1.2).
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum Grant {
    /// The authorization code grant (RFC 6749 section 4.1).
    #[component(name = "authorization-code")]
    AuthorizationCode,
    /// The client credentials grant (RFC 6749 section 4.4).
    #[component(name = "client-credentials")]
    ClientCredentials,
    /// The resource owner password credentials grant (RFC 6749 section
    /// 4.3). RFC 9700 forbids it; some servers have nothing else.
    #[component(name = "password")]
    Password(PasswordGrant),
    /// The device authorization grant (RFC 8628).
    #[component(name = "device-code")]
    DeviceCode,
    /// The JWT bearer assertion grant (RFC 7523 section 2.1).
    #[component(name = "jwt-bearer")]
    JwtBearer(JwtBearerGrant),
    /// The token exchange grant (RFC 8693).
    #[component(name = "token-exchange")]
    TokenExchange(TokenExchangeGrant),
    /// Start from a refresh token that was obtained elsewhere.
    #[component(name = "refresh-token")]
    RefreshToken(Option<Secret>),
    /// An extension grant by the value of its `grant_type`; its parameters
    /// go into `token-parameters` (RFC 6749 section 4.5).
    #[component(name = "extension")]
    Extension(String),
}

/// What the password grant sends.
#[derive(Clone, Debug, PartialEq, Eq, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub struct PasswordGrant {
    /// The resource owner's user name.
    pub username: Option<String>,
    /// The resource owner's password.
    pub password: Option<Secret>,
}

/// What the JWT bearer grant asserts. With `assertion` it is sent as it is;
/// without, one is made and signed with the config's `signing-key`.
#[derive(Clone, Debug, PartialEq, Eq, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub struct JwtBearerGrant {
    /// A finished assertion.
    pub assertion: Option<Secret>,
    /// The `iss` claim; the client identifier when absent.
    pub issuer: Option<String>,
    /// The `sub` claim; the issuer when absent.
    pub subject: Option<String>,
    /// The `aud` claim; the token endpoint when absent.
    pub audience: Option<String>,
    /// Further claims as one JSON object.
    pub claims: Option<String>,
}

/// What token exchange sends, by RFC 8693's names.
#[derive(Clone, Debug, PartialEq, Eq, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub struct TokenExchangeGrant {
    /// The token that is exchanged.
    #[component(name = "subject-token")]
    pub subject_token: Option<Secret>,
    /// Its type, a URI.
    #[component(name = "subject-token-type")]
    pub subject_token_type: Option<String>,
    /// The token of the acting party.
    #[component(name = "actor-token")]
    pub actor_token: Option<Secret>,
    /// Its type, a URI.
    #[component(name = "actor-token-type")]
    pub actor_token_type: Option<String>,
    /// The type of token wanted, a URI.
    #[component(name = "requested-token-type")]
    pub requested_token_type: Option<String>,
}

/// How the client proves at the token endpoint who it is (the registered
/// values of `token_endpoint_auth_method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum ClientAuthentication {
    /// No authentication: a public client, `client_id` in the body.
    #[component(name = "none")]
    None,
    /// The `Authorization: Basic` header (RFC 6749 section 2.3.1).
    #[component(name = "client-secret-basic")]
    ClientSecretBasic,
    /// `client_id` and `client_secret` in the body (section 2.3.1).
    #[component(name = "client-secret-post")]
    ClientSecretPost,
    /// An assertion keyed with the secret (RFC 7523 section 2.2).
    #[component(name = "client-secret-jwt")]
    ClientSecretJwt,
    /// An assertion signed with a private key (RFC 7523 section 2.2).
    #[component(name = "private-key-jwt")]
    PrivateKeyJwt,
    /// A TLS client certificate from a PKI (RFC 8705 section 2.1).
    #[component(name = "tls-client-auth")]
    TlsClientAuth,
    /// A self-signed TLS client certificate (RFC 8705 section 2.2).
    #[component(name = "self-signed-tls-client-auth")]
    SelfSignedTlsClientAuth,
}

/// How identifier and secret are written into the Basic header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum BasicEncoding {
    /// Form-encoded first, as RFC 6749 section 2.3.1 says.
    #[component(name = "form-urlencoded")]
    FormUrlencoded,
    /// As they are, for servers that do not decode.
    #[component(name = "raw")]
    Raw,
}

/// What the authorization server shall ask the user (OpenID Connect Core
/// section 3.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum Prompt {
    /// Nothing: an error if it cannot be silent.
    #[component(name = "none")]
    None,
    /// Sign in again.
    #[component(name = "login")]
    Login,
    /// Consent again.
    #[component(name = "consent")]
    Consent,
    /// Choose an account.
    #[component(name = "select-account")]
    SelectAccount,
}

/// How the authorization response comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum ResponseMode {
    /// In the query of the redirect, the default for codes.
    #[component(name = "query")]
    Query,
    /// In the body of a POST (OAuth 2.0 Form Post Response Mode).
    #[component(name = "form-post")]
    FormPost,
}

/// Whether the authorization request is pushed first (RFC 9126).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum PushedAuthorization {
    /// When the server's metadata requires it.
    #[component(name = "auto")]
    Auto,
    /// Always.
    #[component(name = "always")]
    Always,
    /// Never.
    #[component(name = "never")]
    Never,
}

/// How the certificate of a server is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum TlsMode {
    /// Against the system's roots.
    #[component(name = "verify")]
    Verify,
    /// Imported on first use; a different one later is refused.
    #[component(name = "trust")]
    Trust,
    /// Not at all. Only where the host's policy allows it.
    #[component(name = "off")]
    Off,
}

/// When and how a token is renewed. What is absent is as the provider or
/// the component has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub struct RenewalPolicy {
    /// Renew this many seconds before expiry; by default the lesser of
    /// five minutes and a tenth of the lifetime, less a jitter.
    #[component(name = "early-seconds")]
    pub early_seconds: Option<u32>,
    /// How often one call sends a renewal that fails transiently; 1, and
    /// at most 10.
    #[component(name = "max-attempts")]
    pub max_attempts: Option<u32>,
    /// The pause after a first transient failure, doubled with each
    /// further one; 1.
    #[component(name = "first-retry-seconds")]
    pub first_retry_seconds: Option<u32>,
    /// The longest such pause; 300. `Retry-After` may ask for up to an
    /// hour.
    #[component(name = "max-retry-seconds")]
    pub max_retry_seconds: Option<u32>,
    /// The lifetime to assume where the response names none; without it
    /// such a token is used until a server refuses it.
    #[component(name = "default-lifetime-seconds")]
    pub default_lifetime_seconds: Option<u32>,
}

/// Everything a host says of one connection. It may be incomplete: `status`
/// and `check` tell what is missing. Fields bear the registered
/// names of RFC 7591 and RFC 8414 where there is one.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Config {
    /// An identifier of the provider catalogue; absent: custom.
    pub provider: Option<String>,
    /// The provider's parameters, such as `tenant`.
    pub parameters: Vec<Parameter>,
    /// The client identifier (RFC 6749 section 2.2).
    #[component(name = "client-id")]
    pub client_id: Option<String>,
    /// The client secret, raw: every encoding is done by the component.
    #[component(name = "client-secret")]
    pub client_secret: Option<Secret>,
    /// How the client authenticates; by default the provider's way, then
    /// what the metadata offers, then Basic with a secret, `private_key_jwt`
    /// with a signing key that is for nothing else, none without either.
    #[component(name = "token-endpoint-auth-method")]
    pub token_endpoint_auth_method: Option<ClientAuthentication>,
    /// How Basic credentials are encoded; by default as RFC 6749 says.
    #[component(name = "client-secret-basic-encoding")]
    pub client_secret_basic_encoding: Option<BasicEncoding>,
    /// The key that signs assertions and proofs: a reference.
    #[component(name = "signing-key")]
    pub signing_key: Option<String>,
    /// The TLS client certificate: a reference.
    #[component(name = "client-certificate")]
    pub client_certificate: Option<String>,
    /// Its private key: a reference.
    #[component(name = "client-certificate-key")]
    pub client_certificate_key: Option<String>,
    /// How a token is obtained; by default the authorization code.
    pub grant: Grant,
    /// The scopes asked for, no more and no less.
    pub scope: Vec<String>,
    /// Resource indicators (RFC 8707).
    pub resource: Vec<String>,
    /// The older habit of naming the resource server.
    pub audience: Vec<String>,
    /// The authorization server's issuer (RFC 8414 section 2): where the
    /// endpoints are discovered, and what its responses must name.
    pub issuer: Option<String>,
    /// `authorization_endpoint` (RFC 6749 section 3.1).
    #[component(name = "authorization-endpoint")]
    pub authorization_endpoint: Option<String>,
    /// `token_endpoint` (RFC 6749 section 3.2).
    #[component(name = "token-endpoint")]
    pub token_endpoint: Option<String>,
    /// `revocation_endpoint` (RFC 7009).
    #[component(name = "revocation-endpoint")]
    pub revocation_endpoint: Option<String>,
    /// `introspection_endpoint` (RFC 7662).
    #[component(name = "introspection-endpoint")]
    pub introspection_endpoint: Option<String>,
    /// `userinfo_endpoint` (OpenID Connect Core section 5.3).
    #[component(name = "userinfo-endpoint")]
    pub userinfo_endpoint: Option<String>,
    /// `device_authorization_endpoint` (RFC 8628).
    #[component(name = "device-authorization-endpoint")]
    pub device_authorization_endpoint: Option<String>,
    /// `pushed_authorization_request_endpoint` (RFC 9126).
    #[component(name = "pushed-authorization-request-endpoint")]
    pub pushed_authorization_request_endpoint: Option<String>,
    /// `jwks_uri` (RFC 8414).
    #[component(name = "jwks-uri")]
    pub jwks_uri: Option<String>,
    /// Where the user is sent back to; by default what the host's listener
    /// offers.
    #[component(name = "redirect-uri")]
    pub redirect_uri: Option<String>,
    /// How the response comes back; by default in the query.
    #[component(name = "response-mode")]
    pub response_mode: Option<ResponseMode>,
    /// PKCE with S256 (RFC 7636); `true` by default.
    pub pkce: bool,
    /// What to ask the user; by default `consent` where offline access is
    /// asked for, else nothing.
    pub prompt: Vec<Prompt>,
    /// The oldest sign-in accepted, in seconds (OpenID Connect Core
    /// section 3.1.2.1).
    #[component(name = "max-age")]
    pub max_age: Option<u32>,
    /// Ask for a refresh token in the provider's way; by default `true`
    /// for the grants that take a user: authorization and device code.
    #[component(name = "offline-access")]
    pub offline_access: Option<bool>,
    /// Further parameters of the authorization request, sent as they are.
    #[component(name = "authorization-parameters")]
    pub authorization_parameters: Vec<Parameter>,
    /// Further parameters of the token request, sent as they are.
    #[component(name = "token-parameters")]
    pub token_parameters: Vec<Parameter>,
    /// Further headers of the token request, sent as they are.
    #[component(name = "token-headers")]
    pub token_headers: Vec<Parameter>,
    /// Bind tokens to a key (RFC 9449).
    pub dpop: bool,
    /// Push the authorization request (RFC 9126).
    pub par: PushedAuthorization,
    /// Send the authorization request as a signed object (RFC 9101).
    #[component(name = "request-object")]
    pub request_object: bool,
    /// How certificates are judged. The host applies it.
    pub tls: TlsMode,
    /// The longest a request may take, in seconds; 30 by default.
    pub timeout: Option<u32>,
    /// Give no warning where a response's cookie breaks the policy.
    #[component(name = "ignore-cookie-policy")]
    pub ignore_cookie_policy: bool,
    /// When and how tokens are renewed.
    pub renewal: RenewalPolicy,
}

/// How grave a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum Severity {
    /// The connection cannot work.
    #[component(name = "error")]
    Error,
    /// It works, but less safely or not as expected.
    #[component(name = "warning")]
    Warning,
}

/// One thing that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Problem {
    /// The field, by its name in JSON; `renewal.early_seconds` inside one.
    pub field: String,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

/// Where a value of a resolved config comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum ValueOrigin {
    /// The config itself.
    #[component(name = "config")]
    Config,
    /// The provider catalogue.
    #[component(name = "provider")]
    Provider,
    /// The authorization server's metadata.
    #[component(name = "metadata")]
    Metadata,
    /// The component's default.
    #[component(name = "default")]
    Default,
}

/// A field of a config as it takes effect.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct ResolvedField {
    /// The field, by its name in JSON.
    pub field: String,
    /// Its value, as JSON writes it; a secret as `***`.
    pub value: String,
    /// Where it comes from.
    pub origin: ValueOrigin,
}

/// A provider, in one line.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct ProviderSummary {
    /// The identifier that a config names.
    pub id: String,
    /// The name people know it by.
    pub name: String,
}

/// A value that a provider needs beside the client's own.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct ProviderParameter {
    /// The name, as in the config's `parameters`.
    pub name: String,
    /// What it is and where to find it.
    pub help: String,
    /// The regular expression that a value must match in full.
    pub pattern: String,
    /// Whether there is no doing without it.
    pub required: bool,
    /// The value taken when none is given.
    pub default: Option<String>,
}

/// Which redirect URIs a provider accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum RedirectUris {
    /// Those of the loopback address with any port (RFC 8252 section 7.3).
    #[component(name = "loopback")]
    Loopback,
    /// Those that are registered, as they are, port included.
    #[component(name = "exact")]
    Exact,
    /// Those that are registered and `https`.
    #[component(name = "https")]
    Https,
}

/// Everything the catalogue knows of a provider.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Provider {
    /// The identifier that a config names.
    pub id: String,
    /// The name people know it by.
    pub name: String,
    /// What it needs to be told.
    pub parameters: Vec<ProviderParameter>,
    /// The fields of a config that it sets, by their names in JSON, with the
    /// provider's parameters in braces.
    pub defaults: Vec<Parameter>,
    /// Where the component sends because of it, by the names in its catalogue
    /// entry, with the provider's parameters in braces: its `issuer`, and its
    /// endpoints except the `authorization_endpoint`, to which the browser goes;
    /// `refresh_endpoint` and `exchange_endpoint`; and as `callback_servers`,
    /// once for each, the servers that a redirect may name.
    pub endpoints: Vec<Parameter>,
    /// Which redirect URIs it accepts, where that is known.
    #[component(name = "redirect-uris")]
    pub redirect_uris: Option<RedirectUris>,
    /// The page where a client is registered.
    #[component(name = "registration-page")]
    pub registration_page: Option<String>,
    /// The page that documents the provider's OAuth.
    #[component(name = "documentation-page")]
    pub documentation_page: Option<String>,
    /// What is peculiar about it, a sentence each.
    pub peculiarities: Vec<String>,
}

/// What is asked of a token.
#[derive(Clone, PartialEq, Eq, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub struct TokenOptions {
    /// The least validity wanted, in seconds. A token that has less left
    /// is renewed first.
    #[component(name = "min-validity-seconds")]
    pub min_validity_seconds: Option<u32>,
    /// The value of a token that a resource server has just refused. It is
    /// renewed, unless it has been replaced meanwhile, or the server has just
    /// given the same one again.
    pub rejected: Option<String>,
}

/// A token that has not expired.
#[derive(Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Token {
    /// The access token.
    #[component(name = "access-token")]
    pub access_token: String,
    /// Its type, such as `Bearer` (RFC 6749 section 7.1).
    #[component(name = "token-type")]
    pub token_type: String,
    /// When it expires by the host's clock; absent: not known.
    #[component(name = "expires-at")]
    pub expires_at: Option<UnixSeconds>,
    /// Until when a host may hand it out again without asking; absent: as
    /// long as no server refuses it.
    #[component(name = "fresh-until")]
    pub fresh_until: Option<UnixSeconds>,
    /// The scopes granted.
    pub scope: Vec<String>,
    /// Whether it can be renewed without the user.
    pub refreshable: bool,
}

/// Why a token was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum RenewalReason {
    /// The user authorized the connection.
    #[component(name = "authorization")]
    Authorization,
    /// There was no token yet.
    #[component(name = "first-token")]
    FirstToken,
    /// The token had expired.
    #[component(name = "expired")]
    Expired,
    /// It was within the early window.
    #[component(name = "early")]
    Early,
    /// It had less validity left than was asked for.
    #[component(name = "min-validity")]
    MinValidity,
    /// A resource server refused it.
    #[component(name = "rejected")]
    Rejected,
    /// `refresh` was called.
    #[component(name = "requested")]
    Requested,
    /// The config has changed since.
    #[component(name = "config-changed")]
    ConfigChanged,
}

/// A renewal that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Renewal {
    /// When.
    pub at: UnixSeconds,
    /// Why.
    pub reason: RenewalReason,
}

/// Where a connection stands.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum ConnectionState {
    /// The config lacks something.
    #[component(name = "not-configured")]
    NotConfigured(Vec<Problem>),
    /// The config is complete, a token has yet to be obtained.
    #[component(name = "not-authorized")]
    NotAuthorized,
    /// A token is at hand or can be had without the user.
    #[component(name = "authorized")]
    Authorized,
    /// The last attempt failed, and this is how.
    #[component(name = "error")]
    Error(Error),
}

/// Where a connection stands, in full.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Status {
    /// The state.
    pub state: ConnectionState,
    /// When the access token expires.
    #[component(name = "expires-at")]
    pub expires_at: Option<UnixSeconds>,
    /// Whether it can be renewed without the user.
    pub refreshable: bool,
    /// When the refresh token expires, where the server said so.
    #[component(name = "refresh-expires-at")]
    pub refresh_expires_at: Option<UnixSeconds>,
    /// The scopes granted.
    pub scope: Vec<String>,
    /// When the connection was authorized.
    #[component(name = "authorized-at")]
    pub authorized_at: Option<UnixSeconds>,
    /// The last renewal.
    #[component(name = "last-renewal")]
    pub last_renewal: Option<Renewal>,
    /// When a failed renewal is tried again.
    #[component(name = "next-retry-at")]
    pub next_retry_at: Option<UnixSeconds>,
    /// What works but should be otherwise.
    pub warnings: Vec<Problem>,
}

/// What is asked of an authorization, beside what the config says.
#[derive(Clone, Debug, PartialEq, Eq, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub struct AuthorizationOptions {
    /// The redirect URI of the listener in use.
    #[component(name = "redirect-uri")]
    pub redirect_uri: Option<String>,
    /// In place of the config's prompt.
    pub prompt: Vec<Prompt>,
    /// The user expected to sign in (OpenID Connect Core section 3.1.2.1).
    #[component(name = "login-hint")]
    pub login_hint: Option<String>,
    /// Further parameters of this one request.
    pub parameters: Vec<Parameter>,
}

/// An authorization under way.
#[derive(Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct PendingAuthorization {
    /// The URL for the user's browser.
    #[component(name = "authorization-url")]
    pub authorization_url: String,
    /// The `state` that the response must bear.
    pub state: String,
    /// Where the user is sent back to.
    #[component(name = "redirect-uri")]
    pub redirect_uri: String,
    /// When it is too late.
    #[component(name = "expires-at")]
    pub expires_at: UnixSeconds,
    /// Until when the URL can be opened, where the server has said so of the
    /// request that was pushed to it (RFC 9126 section 2.2).
    #[component(name = "url-expires-at")]
    pub url_expires_at: Option<UnixSeconds>,
}

/// What came back from the authorization endpoint.
#[derive(Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum Redirect {
    /// The callback URL, whole.
    #[component(name = "url")]
    Url(String),
    /// The body of a form post (OAuth 2.0 Form Post Response Mode).
    #[component(name = "form-post")]
    FormPost(String),
}

/// A device authorization under way (RFC 8628 section 3.2).
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct DeviceAuthorization {
    /// What the user types.
    #[component(name = "user-code")]
    pub user_code: String,
    /// Where.
    #[component(name = "verification-uri")]
    pub verification_uri: String,
    /// The same with the code in it.
    #[component(name = "verification-uri-complete")]
    pub verification_uri_complete: Option<String>,
    /// When it is too late.
    #[component(name = "expires-at")]
    pub expires_at: UnixSeconds,
    /// How long to wait between polls, in seconds.
    #[component(name = "interval-seconds")]
    pub interval_seconds: u32,
}

/// What a poll found.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum DevicePoll {
    /// The user has not decided; poll again after so many seconds.
    #[component(name = "pending")]
    Pending(u32),
    /// The connection is authorized.
    #[component(name = "authorized")]
    Authorized,
}

/// One thing that happened. Neither a secret nor a token is ever in one;
/// a token is told by eight hexadecimal digits of its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Event {
    /// When.
    pub at: UnixSeconds,
    /// The connection it happened to.
    pub connection: String,
    /// What, in one word of a list that grows: `authorization-begun`,
    /// `authorized`, `authorization-failed`, `renewed`, `renewal-failed`,
    /// `renewal-interrupted`, `reauthorization-required`, `cleared`,
    /// `revoked`, `quirk-applied`, `redirect-refused`. What a host does
    /// for a connection it tells by words of its own.
    pub kind: String,
    /// What, in one sentence.
    pub message: String,
    /// The particulars.
    pub details: Vec<Parameter>,
}

impl Event {
    /// Something that the host did itself.
    pub(crate) fn now(connection: &str, kind: &str, message: String) -> Self {
        Self {
            at: crate::now(),
            connection: connection.to_owned(),
            kind: kind.to_owned(),
            message,
            details: Vec::new(),
        }
    }

    /// Adds a particular.
    pub(crate) fn detail(&mut self, name: &str, value: &str) {
        self.details.push(Parameter {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
}

/// What an authorization server said (RFC 6749 sections 4.1.2.1 and 5.2).
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct ServerError {
    /// `error`.
    pub code: String,
    /// `error_description`, with `error_uri` where there is one.
    pub description: Option<String>,
    /// The HTTP status; absent where it came in a redirect.
    #[component(name = "http-status")]
    pub http_status: Option<u16>,
}

/// Which rule a response broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum ViolationKind {
    /// `state` is unknown, used, expired or missing.
    #[component(name = "state")]
    State,
    /// The issuer of the authorization response is another, or missing where it
    /// must be.
    #[component(name = "issuer")]
    Issuer,
    /// The `nonce` is another, or missing.
    #[component(name = "nonce")]
    Nonce,
    /// The redirect is malformed.
    #[component(name = "redirect")]
    Redirect,
    /// The token endpoint's response is malformed.
    #[component(name = "response")]
    Response,
    /// The metadata is malformed, or that of another issuer or resource.
    #[component(name = "metadata")]
    Metadata,
    /// The id_token is not to be believed.
    #[component(name = "id-token")]
    IdToken,
}

/// What a store could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum StorageFailureKind {
    /// It cannot be reached, read or written.
    #[component(name = "unavailable")]
    Unavailable,
    /// No key given by the host opens the record.
    #[component(name = "wrong-key")]
    WrongKey,
    /// The record is damaged.
    #[component(name = "corrupt")]
    Corrupt,
    /// The record was written by a later version.
    #[component(name = "newer-version")]
    NewerVersion,
}

/// Everything that can go wrong, by what a host can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum ErrorKind {
    /// Complete the config.
    #[component(name = "not-configured")]
    NotConfigured,
    /// Authorize the connection.
    #[component(name = "not-authorized")]
    NotAuthorized,
    /// Authorize the connection again.
    #[component(name = "reauthorization-required")]
    ReauthorizationRequired,
    /// The authorization endpoint said no.
    #[component(name = "denied")]
    Denied,
    /// The token endpoint, or another endpoint of the server, said no.
    #[component(name = "refused")]
    Refused,
    /// Try again later.
    #[component(name = "unavailable")]
    Unavailable,
    /// Do not go on: a response broke the protocol.
    #[component(name = "protocol-violation")]
    ProtocolViolation,
    /// Mend the store.
    #[component(name = "storage")]
    Storage,
    /// The host's policy says no.
    #[component(name = "forbidden")]
    Forbidden,
    /// This version cannot do it.
    #[component(name = "unsupported")]
    Unsupported,
}

/// What went wrong, as the component tells it: what belongs to the kind is
/// filled in.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Error {
    /// What a host can do about it.
    pub kind: ErrorKind,
    /// What happened, in one sentence.
    pub message: String,
    /// What is wrong with the config.
    pub problems: Vec<Problem>,
    /// What the server said.
    #[component(name = "server-error")]
    pub server_error: Option<ServerError>,
    /// When the next try is due.
    #[component(name = "retry-at")]
    pub retry_at: Option<UnixSeconds>,
    /// Which rule was broken.
    pub violation: Option<ViolationKind>,
    /// What the store could not do.
    pub storage: Option<StorageFailureKind>,
}

impl Error {
    /// Of a kind that nothing more belongs to.
    pub(crate) fn new(kind: ErrorKind, message: String) -> Self {
        Self {
            kind,
            message,
            problems: Vec::new(),
            server_error: None,
            retry_at: None,
            violation: None,
            storage: None,
        }
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameter")
            .field("name", &self.name)
            .field("value", &REDACTED)
            .finish()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Literal(_) => f.debug_tuple("Literal").field(&REDACTED).finish(),
            Secret::Reference(reference) => f.debug_tuple("Reference").field(reference).finish(),
        }
    }
}

impl fmt::Debug for TokenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenOptions")
            .field("min_validity_seconds", &self.min_validity_seconds)
            .field("rejected", &self.rejected.as_ref().map(|_| REDACTED))
            .finish()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("access_token", &REDACTED)
            .field("token_type", &self.token_type)
            .field("expires_at", &self.expires_at)
            .field("fresh_until", &self.fresh_until)
            .field("scope", &self.scope)
            .field("refreshable", &self.refreshable)
            .finish()
    }
}

impl fmt::Debug for PendingAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingAuthorization")
            .field("authorization_url", &REDACTED)
            .field("state", &REDACTED)
            .field("redirect_uri", &self.redirect_uri)
            .field("expires_at", &self.expires_at)
            .field("url_expires_at", &self.url_expires_at)
            .finish()
    }
}

impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Redirect::Url(_) => "Url",
            Redirect::FormPost(_) => "FormPost",
        };
        f.debug_tuple(kind).field(&REDACTED).finish()
    }
}

/// The authorization code grant with PKCE, certificates verified, nothing else
/// said: what an empty JSON config stands for.
impl Default for Config {
    fn default() -> Self {
        Self {
            provider: None,
            parameters: Vec::new(),
            client_id: None,
            client_secret: None,
            token_endpoint_auth_method: None,
            client_secret_basic_encoding: None,
            signing_key: None,
            client_certificate: None,
            client_certificate_key: None,
            grant: Grant::AuthorizationCode,
            scope: Vec::new(),
            resource: Vec::new(),
            audience: Vec::new(),
            issuer: None,
            authorization_endpoint: None,
            token_endpoint: None,
            revocation_endpoint: None,
            introspection_endpoint: None,
            userinfo_endpoint: None,
            device_authorization_endpoint: None,
            pushed_authorization_request_endpoint: None,
            jwks_uri: None,
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
            par: PushedAuthorization::Auto,
            request_object: false,
            tls: TlsMode::Verify,
            timeout: None,
            ignore_cookie_policy: false,
            renewal: RenewalPolicy::default(),
        }
    }
}
