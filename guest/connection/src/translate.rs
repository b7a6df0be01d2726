//! Between the contract's types and core's.

use crate::bindings::tokenwell::oauth2::types as wit;
use tokenwell_core::authorization::AuthorizationOptions;
use tokenwell_core::config::{self, Config, EndpointUrls, Grant, RenewalPolicy, Secret};
use tokenwell_core::connection::{self, Status, Token, TokenOptions};
use tokenwell_core::device_authorization::DeviceAuthorization;
use tokenwell_core::dialect::Dialect;
use tokenwell_core::error::{Error, ServerError, StorageFailureKind, ViolationKind};
use tokenwell_core::event::Event;
use tokenwell_core::provider::Provider;
use tokenwell_core::record::RenewalReason;
use tokenwell_core::secret::SecretString;

/// Translates an enum whose cases bear the same names on both sides.
macro_rules! same_cases {
    ($into:ident, $from:ident, $core:ty, $wit:ty, { $($case:ident),* $(,)? }) => {
        fn $into(value: $wit) -> $core {
            match value { $(<$wit>::$case => <$core>::$case,)* }
        }
        same_cases!($from, $core, $wit, { $($case),* });
    };
    ($from:ident, $core:ty, $wit:ty, { $($case:ident),* $(,)? }) => {
        fn $from(value: $core) -> $wit {
            match value { $(<$core>::$case => <$wit>::$case,)* }
        }
    };
}

same_cases!(into_authentication, from_authentication, config::ClientAuthentication, wit::ClientAuthentication, {
    None, ClientSecretBasic, ClientSecretPost, ClientSecretJwt, PrivateKeyJwt, TlsClientAuth,
    SelfSignedTlsClientAuth,
});
same_cases!(into_basic_encoding, from_basic_encoding, config::BasicEncoding, wit::BasicEncoding, {
    FormUrlencoded, Raw,
});
same_cases!(into_prompt, from_prompt, config::Prompt, wit::Prompt, {
    None, Login, Consent, SelectAccount,
});
same_cases!(into_response_mode, from_response_mode, config::ResponseMode, wit::ResponseMode, {
    Query, FormPost,
});
same_cases!(into_pushed, from_pushed, config::PushedAuthorization, wit::PushedAuthorization, {
    Auto, Always, Never,
});
same_cases!(from_redirect_uris, config::RedirectUris, wit::RedirectUris, {
    Loopback, Exact, Https,
});
same_cases!(from_violation_kind, ViolationKind, wit::ViolationKind, {
    State, Issuer, Nonce, Redirect, Response, Metadata, IdToken,
});
same_cases!(from_storage_failure_kind, StorageFailureKind, wit::StorageFailureKind, {
    Unavailable, WrongKey, Corrupt, NewerVersion,
});
same_cases!(from_renewal_reason, RenewalReason, wit::RenewalReason, {
    Authorization, FirstToken, Expired, Early, MinValidity, Rejected, Requested, ConfigChanged,
});
same_cases!(into_tls, from_tls, config::TlsMode, wit::TlsMode, { Verify, Trust, Off });

fn into_parameters(parameters: Vec<wit::Parameter>) -> Vec<config::Parameter> {
    let pairs = parameters.into_iter();
    pairs
        .map(|parameter| (parameter.name, parameter.value))
        .collect()
}

fn from_parameters(parameters: Vec<config::Parameter>) -> Vec<wit::Parameter> {
    let pairs = parameters.into_iter();
    pairs
        .map(|(name, value)| wit::Parameter { name, value })
        .collect()
}

fn into_secret(secret: wit::Secret) -> Secret {
    match secret {
        wit::Secret::Literal(value) => Secret::Literal(SecretString::new(value)),
        wit::Secret::Reference(reference) => Secret::Reference(reference),
    }
}

fn from_secret(secret: Secret) -> wit::Secret {
    match secret {
        Secret::Literal(value) => wit::Secret::Literal(value.reveal().to_owned()),
        Secret::Reference(reference) => wit::Secret::Reference(reference),
    }
}

fn into_grant(grant: wit::Grant) -> Grant {
    match grant {
        wit::Grant::AuthorizationCode => Grant::AuthorizationCode,
        wit::Grant::ClientCredentials => Grant::ClientCredentials,
        wit::Grant::Password(grant) => Grant::Password {
            username: grant.username,
            password: grant.password.map(into_secret),
        },
        wit::Grant::DeviceCode => Grant::DeviceCode,
        wit::Grant::JwtBearer(grant) => Grant::JwtBearer {
            assertion: grant.assertion.map(into_secret),
            issuer: grant.issuer,
            subject: grant.subject,
            audience: grant.audience,
            claims: grant.claims,
        },
        wit::Grant::TokenExchange(grant) => Grant::TokenExchange {
            subject_token: grant.subject_token.map(into_secret),
            subject_token_type: grant.subject_token_type,
            actor_token: grant.actor_token.map(into_secret),
            actor_token_type: grant.actor_token_type,
            requested_token_type: grant.requested_token_type,
        },
        wit::Grant::RefreshToken(refresh_token) => Grant::RefreshToken {
            refresh_token: refresh_token.map(into_secret),
        },
        wit::Grant::Extension(grant_type) => Grant::Extension(grant_type),
    }
}

fn from_grant(grant: Grant) -> wit::Grant {
    match grant {
        Grant::AuthorizationCode => wit::Grant::AuthorizationCode,
        Grant::ClientCredentials => wit::Grant::ClientCredentials,
        Grant::Password { username, password } => wit::Grant::Password(wit::PasswordGrant {
            username,
            password: password.map(from_secret),
        }),
        Grant::DeviceCode => wit::Grant::DeviceCode,
        Grant::JwtBearer {
            assertion,
            issuer,
            subject,
            audience,
            claims,
        } => wit::Grant::JwtBearer(wit::JwtBearerGrant {
            assertion: assertion.map(from_secret),
            issuer,
            subject,
            audience,
            claims,
        }),
        Grant::TokenExchange {
            subject_token,
            subject_token_type,
            actor_token,
            actor_token_type,
            requested_token_type,
        } => wit::Grant::TokenExchange(wit::TokenExchangeGrant {
            subject_token: subject_token.map(from_secret),
            subject_token_type,
            actor_token: actor_token.map(from_secret),
            actor_token_type,
            requested_token_type,
        }),
        Grant::RefreshToken { refresh_token } => {
            wit::Grant::RefreshToken(refresh_token.map(from_secret))
        }
        Grant::Extension(grant_type) => wit::Grant::Extension(grant_type),
    }
}

/// A config of the contract, as core has it.
pub fn into_config(config: wit::Config) -> Config {
    Config {
        provider: config.provider,
        parameters: into_parameters(config.parameters),
        client_id: config.client_id,
        client_secret: config.client_secret.map(into_secret),
        client_authentication: config.token_endpoint_auth_method.map(into_authentication),
        basic_encoding: config.client_secret_basic_encoding.map(into_basic_encoding),
        signing_key: config.signing_key,
        client_certificate: config.client_certificate,
        client_certificate_key: config.client_certificate_key,
        grant: into_grant(config.grant),
        scope: config.scope,
        resource: config.resource,
        audience: config.audience,
        issuer: config.issuer,
        endpoints: EndpointUrls {
            authorization: config.authorization_endpoint,
            token: config.token_endpoint,
            revocation: config.revocation_endpoint,
            introspection: config.introspection_endpoint,
            userinfo: config.userinfo_endpoint,
            device_authorization: config.device_authorization_endpoint,
            pushed_authorization_request: config.pushed_authorization_request_endpoint,
            jwks: config.jwks_uri,
        },
        redirect_uri: config.redirect_uri,
        response_mode: config.response_mode.map(into_response_mode),
        pkce: config.pkce,
        prompt: config.prompt.into_iter().map(into_prompt).collect(),
        max_age: config.max_age,
        offline_access: config.offline_access,
        authorization_parameters: into_parameters(config.authorization_parameters),
        token_parameters: into_parameters(config.token_parameters),
        token_headers: into_parameters(config.token_headers),
        dpop: config.dpop,
        pushed_authorization: into_pushed(config.par),
        request_object: config.request_object,
        tls: into_tls(config.tls),
        timeout: config.timeout,
        ignore_cookie_policy: config.ignore_cookie_policy,
        renewal: RenewalPolicy {
            early_seconds: config.renewal.early_seconds,
            max_attempts: config.renewal.max_attempts,
            first_retry_seconds: config.renewal.first_retry_seconds,
            max_retry_seconds: config.renewal.max_retry_seconds,
            default_lifetime_seconds: config.renewal.default_lifetime_seconds,
        },
        dialect: Dialect::default(),
    }
}

/// A provider of the catalogue.
pub fn provider(provider: Provider) -> wit::Provider {
    let parameters = provider.parameters();
    let parameters = parameters.map(|parameter| wit::ProviderParameter {
        name: parameter.name.to_owned(),
        help: parameter.help.to_owned(),
        pattern: parameter.pattern.to_owned(),
        required: parameter.required,
        default: parameter.default.map(str::to_owned),
    });
    wit::Provider {
        name: provider.name().to_owned(),
        parameters: parameters.collect(),
        defaults: from_parameters(provider.defaults()),
        endpoints: from_parameters(provider.endpoints()),
        redirect_uris: provider.redirect_uris().map(from_redirect_uris),
        registration_page: provider.registration_page().map(str::to_owned),
        documentation_page: provider.documentation_page().map(str::to_owned),
        peculiarities: provider.peculiarities(),
        id: provider.id,
    }
}

/// A config of core's, as the contract has it.
pub fn from_config(config: Config) -> wit::Config {
    wit::Config {
        provider: config.provider,
        parameters: from_parameters(config.parameters),
        client_id: config.client_id,
        client_secret: config.client_secret.map(from_secret),
        token_endpoint_auth_method: config.client_authentication.map(from_authentication),
        client_secret_basic_encoding: config.basic_encoding.map(from_basic_encoding),
        signing_key: config.signing_key,
        client_certificate: config.client_certificate,
        client_certificate_key: config.client_certificate_key,
        grant: from_grant(config.grant),
        scope: config.scope,
        resource: config.resource,
        audience: config.audience,
        issuer: config.issuer,
        authorization_endpoint: config.endpoints.authorization,
        token_endpoint: config.endpoints.token,
        revocation_endpoint: config.endpoints.revocation,
        introspection_endpoint: config.endpoints.introspection,
        userinfo_endpoint: config.endpoints.userinfo,
        device_authorization_endpoint: config.endpoints.device_authorization,
        pushed_authorization_request_endpoint: config.endpoints.pushed_authorization_request,
        jwks_uri: config.endpoints.jwks,
        redirect_uri: config.redirect_uri,
        response_mode: config.response_mode.map(from_response_mode),
        pkce: config.pkce,
        prompt: config.prompt.into_iter().map(from_prompt).collect(),
        max_age: config.max_age,
        offline_access: config.offline_access,
        authorization_parameters: from_parameters(config.authorization_parameters),
        token_parameters: from_parameters(config.token_parameters),
        token_headers: from_parameters(config.token_headers),
        dpop: config.dpop,
        par: from_pushed(config.pushed_authorization),
        request_object: config.request_object,
        tls: from_tls(config.tls),
        timeout: config.timeout,
        ignore_cookie_policy: config.ignore_cookie_policy,
        renewal: wit::RenewalPolicy {
            early_seconds: config.renewal.early_seconds,
            max_attempts: config.renewal.max_attempts,
            first_retry_seconds: config.renewal.first_retry_seconds,
            max_retry_seconds: config.renewal.max_retry_seconds,
            default_lifetime_seconds: config.renewal.default_lifetime_seconds,
        },
    }
}

/// Problems, as the contract has them.
pub fn problems(problems: Vec<config::Problem>) -> Vec<wit::Problem> {
    let problems = problems.into_iter();
    problems
        .map(|problem| wit::Problem {
            field: problem.field,
            severity: match problem.severity {
                config::Severity::Error => wit::Severity::Error,
                config::Severity::Warning => wit::Severity::Warning,
            },
            message: problem.message,
            mend: problem.mend,
        })
        .collect()
}

/// A resolved config, as the contract has it.
pub fn resolved(fields: Vec<config::ResolvedField>) -> Vec<wit::ResolvedField> {
    let fields = fields.into_iter();
    fields
        .map(|field| wit::ResolvedField {
            field: field.name,
            value: field.value,
            origin: match field.origin {
                config::ValueOrigin::Config => wit::ValueOrigin::Config,
                config::ValueOrigin::Provider => wit::ValueOrigin::Provider,
                config::ValueOrigin::Metadata => wit::ValueOrigin::Metadata,
                config::ValueOrigin::Default => wit::ValueOrigin::Default,
            },
        })
        .collect()
}

/// What is asked of a token, as core has it.
pub fn into_token_options(options: wit::TokenOptions) -> TokenOptions {
    TokenOptions {
        min_validity_seconds: options.min_validity_seconds.unwrap_or(0),
        rejected: options.rejected.map(SecretString::new),
    }
}

/// What is asked of an authorization, as core has it.
pub fn into_authorization_options(options: wit::AuthorizationOptions) -> AuthorizationOptions {
    AuthorizationOptions {
        redirect_uri: options.redirect_uri,
        prompt: options.prompt.into_iter().map(into_prompt).collect(),
        login_hint: options.login_hint,
        parameters: into_parameters(options.parameters),
    }
}

/// A redirect, as core has it.
pub fn into_redirect(redirect: wit::Redirect) -> connection::Arrived {
    match redirect {
        wit::Redirect::Url(url) => connection::Arrived::Url(url),
        wit::Redirect::FormPost(form) => connection::Arrived::FormPost(form),
    }
}

/// An authorization under way, as the contract has it.
pub fn pending(begun: connection::Begun) -> wit::PendingAuthorization {
    wit::PendingAuthorization {
        authorization_url: begun.authorization_url,
        state: begun.state.reveal().to_owned(),
        redirect_uri: begun.redirect_uri,
        expires_at: begun.expires_at.seconds(),
        url_expires_at: begun.url_expires_at.map(|at| at.seconds()),
    }
}

/// What the user is shown, as the contract has it.
pub fn device_authorization(shown: DeviceAuthorization) -> wit::DeviceAuthorization {
    wit::DeviceAuthorization {
        user_code: shown.user_code,
        verification_uri: shown.verification_uri,
        verification_uri_complete: shown.verification_uri_complete,
        expires_at: shown.expires_at.seconds(),
        interval_seconds: seconds(shown.interval_seconds),
    }
}

/// What a poll found, as the contract has it.
pub fn device_poll(found: connection::DevicePoll) -> wit::DevicePoll {
    match found {
        connection::DevicePoll::Pending(wait) => wit::DevicePoll::Pending(seconds(wait)),
        connection::DevicePoll::Authorized => wit::DevicePoll::Authorized,
    }
}

fn seconds(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Headers, as the contract has them.
pub fn headers(headers: Vec<(&'static str, SecretString)>) -> Vec<wit::Parameter> {
    let headers = headers.into_iter();
    headers
        .map(|(name, value)| wit::Parameter {
            name: name.to_owned(),
            value: value.reveal().to_owned(),
        })
        .collect()
}

/// A token, as the contract has it.
pub fn token(token: Token) -> wit::Token {
    wit::Token {
        access_token: token.access_token.reveal().to_owned(),
        token_type: token.token_type,
        expires_at: token.expires_at.map(|at| at.seconds()),
        fresh_until: token.fresh_until.map(|at| at.seconds()),
        scope: token.scope,
        refreshable: token.refreshable,
    }
}

/// A status, as the contract has it.
pub fn status(status: Status) -> wit::Status {
    wit::Status {
        state: match status.state {
            connection::ConnectionState::NotConfigured(found) => {
                wit::ConnectionState::NotConfigured(problems(found))
            }
            connection::ConnectionState::NotAuthorized => wit::ConnectionState::NotAuthorized,
            connection::ConnectionState::Authorized => wit::ConnectionState::Authorized,
            connection::ConnectionState::Error(found) => {
                wit::ConnectionState::Error(error(found.into()))
            }
        },
        expires_at: status.expires_at.map(|at| at.seconds()),
        refreshable: status.refreshable,
        refresh_expires_at: status.refresh_expires_at.map(|at| at.seconds()),
        scope: status.scope,
        authorized_at: status.authorized_at.map(|at| at.seconds()),
        last_renewal: status.last_renewal.map(|renewal| wit::Renewal {
            at: renewal.at.seconds(),
            reason: from_renewal_reason(renewal.reason),
        }),
        next_retry_at: status.next_retry_at.map(|at| at.seconds()),
        warnings: problems(status.warnings),
    }
}

/// An event, as the contract has it.
pub fn event(connection: &str, event: &Event) -> wit::Event {
    wit::Event {
        at: event.at.seconds(),
        connection: connection.to_owned(),
        kind: event.kind.as_str().to_owned(),
        message: event.message.clone(),
        details: from_parameters(event.details.clone()),
    }
}

fn server_error(error: ServerError) -> wit::ServerError {
    wit::ServerError {
        code: error.code,
        description: error.description,
        http_status: error.http_status,
    }
}

/// An error, as the contract has it.
#[expect(
    clippy::boxed_local,
    reason = "the box is opened here, and not once in each export"
)]
pub fn error(error: Box<Error>) -> wit::Error {
    let mut translated = wit::Error {
        kind: wit::ErrorKind::NotConfigured,
        message: String::new(),
        problems: Vec::new(),
        server_error: None,
        retry_at: None,
        violation: None,
        storage: None,
    };
    (translated.kind, translated.message) = match *error {
        Error::NotConfigured(found) => {
            translated.problems = problems(found);
            let message = "the configuration cannot work as it is".to_owned();
            (wit::ErrorKind::NotConfigured, message)
        }
        Error::NotAuthorized(why) => (wit::ErrorKind::NotAuthorized, why),
        Error::ReauthorizationRequired(cause) => {
            translated.server_error = cause.error.map(server_error);
            (wit::ErrorKind::ReauthorizationRequired, cause.reason)
        }
        Error::Denied(error) => {
            let message = error.to_string();
            translated.server_error = Some(server_error(error));
            (wit::ErrorKind::Denied, message)
        }
        Error::Refused(error) => {
            let message = error.to_string();
            translated.server_error = Some(server_error(error));
            (wit::ErrorKind::Refused, message)
        }
        Error::Unavailable(failure) => {
            translated.retry_at = failure.retry_at.map(|at| at.seconds());
            (wit::ErrorKind::Unavailable, failure.cause)
        }
        Error::ProtocolViolation(violation) => {
            translated.violation = Some(from_violation_kind(violation.kind));
            (wit::ErrorKind::ProtocolViolation, violation.message)
        }
        Error::Storage(failure) => {
            translated.storage = Some(from_storage_failure_kind(failure.kind));
            (wit::ErrorKind::Storage, failure.message)
        }
        Error::Forbidden(why) => (wit::ErrorKind::Forbidden, why),
        Error::Unsupported(what) => (wit::ErrorKind::Unsupported, what),
    };
    translated
}
