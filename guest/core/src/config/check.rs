//! What is wrong with a config: what it lacks, what contradicts itself, and
//! what the security profile (RFC 9700, RFC 8252, OAuth 2.1) advises against.

use super::{
    ClientAuthentication, Config, Grant, Problem, Prompt, PushedAuthorization, RedirectUris,
    Secret, Severity, TlsMode,
};
use crate::dialect::{Dialect, Field};
use crate::endpoint::{Endpoint, lacks_port, redirect_uri_problem};
use crate::json;
use crate::provider;

/// Everything that is wrong with a config, errors first.
pub fn check(config: &Config) -> Vec<Problem> {
    check_with(config, &provider::dialect(config))
}

/// The same, given what the provider declares.
pub(crate) fn check_with(
    config: &Config,
    declared: &Result<Dialect, Vec<Problem>>,
) -> Vec<Problem> {
    let mut problems = declared.as_ref().err().cloned().unwrap_or_default();
    let dialect = declared.as_ref().ok();
    check_endpoints(config, dialect, &mut problems);
    check_client(config, dialect, &mut problems);
    check_grant(config, &mut problems);
    check_authorization(config, dialect, &mut problems);
    check_parameters(config, &mut problems);
    check_profile(config, dialect, &mut problems);
    let (mut errors, warnings) = problems
        .into_iter()
        .partition::<Vec<_>, _>(|problem| problem.severity == Severity::Error);
    errors.extend(warnings);
    errors
}

/// Whether a list of problems keeps the connection from working.
pub(crate) fn errors_in(problems: &[Problem]) -> Vec<Problem> {
    problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .cloned()
        .collect()
}

fn check_endpoints(config: &Config, dialect: Option<&Dialect>, problems: &mut Vec<Problem>) {
    let issuer = ("issuer", &config.issuer);
    for (field, url) in std::iter::once(issuer).chain(config.endpoints.iter()) {
        if let Some(text) = url {
            check_url(field, text, problems);
        }
    }
    // RFC 8414 section 2: an issuer has neither query nor fragment.
    if let Some(issuer) = &config.issuer
        && issuer.contains('?')
    {
        problems.push(Problem::error(
            "issuer",
            "contains a query",
            "write it as the server's metadata has it",
        ));
    }
    // What is wrong with the provider is told already.
    let Some(dialect) = dialect else {
        return;
    };
    let is_discovered = dialect.has(Field::ISSUER) && !dialect.has(Field::TOKEN_ENDPOINT);
    if config.issuer.is_some() || is_discovered {
        return;
    }
    let mut need = |field: &str, by_hand: &Option<String>, declared: Field| {
        if by_hand.is_some() || dialect.has(declared) {
            return;
        }
        if dialect.is_standard() || declared == Field::TOKEN_ENDPOINT {
            problems.push(Problem::error(
                field,
                "is missing",
                "name it, or the issuer so that it is discovered",
            ));
        } else {
            problems.push(Problem::error(
                field,
                "is missing: the provider has none",
                "set grant_type to one that the provider has, or name the endpoint, or the parameter that the provider has for it",
            ));
        }
    };
    let endpoints = &config.endpoints;
    need("token_endpoint", &endpoints.token, Field::TOKEN_ENDPOINT);
    if config.grant == Grant::AuthorizationCode {
        need(
            "authorization_endpoint",
            &endpoints.authorization,
            Field::AUTHORIZATION_ENDPOINT,
        );
    }
    if config.grant == Grant::DeviceCode {
        need(
            "device_authorization_endpoint",
            &endpoints.device_authorization,
            Field::DEVICE_AUTHORIZATION_ENDPOINT,
        );
    }
    if config.pushed_authorization == PushedAuthorization::Always
        && endpoints.pushed_authorization_request.is_none()
        && !dialect.has(Field::PUSHED_AUTHORIZATION_REQUEST_ENDPOINT)
    {
        problems.push(Problem::error(
            "pushed_authorization_request_endpoint",
            "is missing for par",
            "name it, or the issuer so that it is discovered",
        ));
    }
}

fn check_url(field: &str, text: &str, problems: &mut Vec<Problem>) {
    if let Err(what) = Endpoint::parse(text) {
        problems.push(Problem::error(
            field,
            &format!("{what}: {}", without_user(text)),
            "write an https URL; http is for this machine alone",
        ));
    }
}

/// A URL that is wrong, to be shown: what may be a password is out of sight.
pub(super) fn without_user(url: &str) -> String {
    let Some((before, after)) = url.rsplit_once('@') else {
        return url.to_owned();
    };
    let scheme = before.find("://").map_or("", |end| &before[..end + 3]);
    [scheme, "***@", after].concat()
}

fn check_client(config: &Config, dialect: Option<&Dialect>, problems: &mut Vec<Problem>) {
    let method = config.client_authentication;
    // RFC 7523 section 2.1 and RFC 8693 section 2.1 leave the client out where
    // the assertion or token says enough.
    let client_optional = matches!(
        config.grant,
        Grant::JwtBearer { .. } | Grant::TokenExchange { .. }
    );
    match &config.client_id {
        None if !client_optional => problems.push(Problem::error(
            "client_id",
            "is missing",
            "take it from the page where the client is registered",
        )),
        Some(text) if text.is_empty() => problems.push(Problem::error(
            "client_id",
            "is empty",
            "take it from the page where the client is registered",
        )),
        _ => {}
    }
    // RFC 6749 section 2.3.1: with Basic, and no other way, it may be empty.
    let declares_basic = || {
        let declared = dialect.and_then(|one| one.get(Field::TOKEN_ENDPOINT_AUTH_METHOD));
        declared == Some(ClientAuthentication::ClientSecretBasic.as_str())
    };
    let is_basic = method.map_or_else(declares_basic, |method| {
        method == ClientAuthentication::ClientSecretBasic
    });
    if let Some(Secret::Literal(text)) = &config.client_secret
        && text.is_empty()
        && !is_basic
    {
        problems.push(Problem::error(
            "client_secret",
            "is empty",
            "remove it for a public client; where the server wants an empty one, set token_endpoint_auth_method to client_secret_basic",
        ));
    }
    let makes_secret = dialect.is_some_and(|dialect| dialect.makes_secret(config));
    if makes_secret && dialect.is_some_and(|dialect| !dialect.has(Field::ASSERTION_ISSUER)) {
        problems.push(Problem::error(
            "parameters",
            "lack the issuer of the client secret that is made with signing_key",
            "add the parameter that the provider has for it, or a finished client_secret",
        ));
    }
    if method.is_some_and(ClientAuthentication::needs_secret)
        && config.client_secret.is_none()
        && !makes_secret
    {
        problems.push(Problem::error(
            "client_secret",
            "is missing for the client authentication chosen",
            "add it, or set token_endpoint_auth_method to none",
        ));
    }
    if method == Some(ClientAuthentication::None) && config.client_secret.is_some() {
        problems.push(Problem::warning(
            "client_secret",
            "is not used with token_endpoint_auth_method none",
            "remove one of the two",
        ));
    }
    if method == Some(ClientAuthentication::PrivateKeyJwt) && config.signing_key.is_none() {
        problems.push(Problem::error(
            "signing_key",
            "is missing for private_key_jwt",
            "add a reference to the key",
        ));
    }
    let shows_certificate = matches!(
        method,
        Some(ClientAuthentication::TlsClientAuth | ClientAuthentication::SelfSignedTlsClientAuth)
    );
    let (certificate, key) = (&config.client_certificate, &config.client_certificate_key);
    for (field, reference, other) in [
        ("client_certificate", certificate, key),
        ("client_certificate_key", key, certificate),
    ] {
        if reference.is_some() {
            continue;
        }
        if shows_certificate {
            problems.push(Problem::error(
                field,
                "is missing for the client authentication chosen",
                "add a reference to it",
            ));
        } else if other.is_some() {
            problems.push(Problem::error(
                field,
                "is missing: a certificate and its key are of use together",
                "add a reference to it, or remove the other",
            ));
        }
    }
    if config.grant == Grant::ClientCredentials
        && config.client_secret.is_none()
        && config.signing_key.is_none()
        && config.client_certificate.is_none()
    {
        // RFC 6749 section 4.4: confidential clients only.
        problems.push(Problem::error(
            "client_secret",
            "is missing for the client credentials grant",
            "add the secret, or another way for the client to authenticate",
        ));
    }
    if config.dpop && config.signing_key.is_none() {
        problems.push(Problem::error(
            "signing_key",
            "is missing for dpop",
            "add a reference to the key",
        ));
    }
    if config.request_object && config.signing_key.is_none() {
        problems.push(Problem::error(
            "signing_key",
            "is missing for request_object",
            "add a reference to the key",
        ));
    }
}

fn check_grant(config: &Config, problems: &mut Vec<Problem>) {
    let mut missing = |field: &str, absent: bool| {
        if absent {
            let grant = config.grant.grant_type();
            problems.push(Problem::error(
                field,
                &format!("is missing for the grant {grant}"),
                "add it",
            ));
        }
    };
    match &config.grant {
        Grant::AuthorizationCode
        | Grant::ClientCredentials
        | Grant::DeviceCode
        | Grant::Extension(_) => {}
        Grant::Password { username, password } => {
            missing("username", username.is_none());
            missing("password", password.is_none());
        }
        Grant::JwtBearer {
            assertion,
            issuer,
            claims,
            ..
        } => {
            let is_made = assertion.is_none();
            missing("signing_key", is_made && config.signing_key.is_none());
            let claims = claims.as_deref().unwrap_or("{}");
            let claims = json::parse_object(claims.as_bytes());
            // RFC 7523 section 3: it has an issuer, which is the client unless
            // another is named.
            let is_issued = issuer.is_some()
                || config.client_id.is_some()
                || claims
                    .as_ref()
                    .is_ok_and(|claims| claims.contains_key("iss"));
            missing("assertion_issuer", is_made && !is_issued);
            if claims.is_err() {
                problems.push(Problem::error(
                    "assertion_claims",
                    "is not a JSON object",
                    "write one JSON object",
                ));
            }
        }
        Grant::TokenExchange {
            subject_token,
            subject_token_type,
            actor_token,
            actor_token_type,
            ..
        } => {
            missing("subject_token", subject_token.is_none());
            missing("subject_token_type", subject_token_type.is_none());
            // RFC 8693 section 2.1: the type goes with the token.
            missing(
                "actor_token_type",
                actor_token.is_some() && actor_token_type.is_none(),
            );
        }
        Grant::RefreshToken { refresh_token } => missing("refresh_token", refresh_token.is_none()),
    }
}

fn check_authorization(config: &Config, dialect: Option<&Dialect>, problems: &mut Vec<Problem>) {
    if let Some(text) = &config.redirect_uri
        && let Some(what) = redirect_uri_problem(text)
    {
        problems.push(Problem::error(
            "redirect_uri",
            &format!("{what}: {}", without_user(text)),
            "write it as it is registered: https, http://127.0.0.1, or the application's own scheme",
        ));
    } else if config.grant == Grant::AuthorizationCode
        && let Some(accepted) = dialect.and_then(Dialect::redirect_uris)
    {
        check_acceptance(config.redirect_uri.as_deref(), accepted, problems);
    }
    if config.prompt.contains(&Prompt::None) && config.prompt.len() > 1 {
        // OpenID Connect Core section 3.1.2.1.
        problems.push(Problem::error(
            "prompt",
            "none goes with no other prompt",
            "remove none or the others",
        ));
    }
    if config.max_age.is_some() && config.grant == Grant::AuthorizationCode && !config.is_openid() {
        problems.push(Problem::warning(
            "max_age",
            "is not held against anything: only an id_token tells of the sign-in",
            "add openid to scope, or remove it",
        ));
    }
}

/// Whether the provider accepts the redirect URI. Without one in the config it is
/// the listener's, with the port that happens to be free.
fn check_acceptance(uri: Option<&str>, accepted: RedirectUris, problems: &mut Vec<Problem>) {
    let (message, mend) = match accepted {
        RedirectUris::Exact if uri.is_none_or(lacks_port) => (
            "names no port: the provider accepts a redirect URI only as it is registered, port included",
            "register one with a port, such as http://127.0.0.1:8765/oauth2, and set the same here",
        ),
        RedirectUris::Https if uri.is_none_or(|uri| uri.starts_with("http:")) => (
            "is not https: the provider accepts no other",
            "register an https URL, and set the same here",
        ),
        _ => return,
    };
    problems.push(Problem::warning("redirect_uri", message, mend));
}

/// The parameters that are computed and cannot be overridden by an extra one:
/// a second copy would break RFC 6749 section 3.1, or take the protection away.
const AUTHORIZATION_RESERVED: &[&str] = &[
    "client_id",
    "redirect_uri",
    "response_type",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "dpop_jkt",
    "request",
    "request_uri",
];

/// Whether a parameter of the authorization request is set by the component.
pub(crate) fn is_computed(name: &str) -> bool {
    AUTHORIZATION_RESERVED.contains(&name.to_ascii_lowercase().as_str())
}

const TOKEN_RESERVED: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "refresh_token",
];

/// Those that are a grant's own; an extension grant may have any of them, which
/// nothing computes then.
const GRANT_RESERVED: &[&str] = &[
    "code",
    "redirect_uri",
    "code_verifier",
    "username",
    "password",
    "device_code",
    "assertion",
    "subject_token",
    "actor_token",
];

/// Whether a parameter of the token request is the grant's own.
pub(crate) fn is_of_grant(name: &str) -> bool {
    GRANT_RESERVED.contains(&name.to_ascii_lowercase().as_str())
}

const HEADERS_RESERVED: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "dpop",
    "host",
    "transfer-encoding",
];

fn check_parameters(config: &Config, problems: &mut Vec<Problem>) {
    for (field, parameters, reserved) in [
        (
            "authorization_parameters",
            &config.authorization_parameters,
            AUTHORIZATION_RESERVED,
        ),
        ("token_parameters", &config.token_parameters, TOKEN_RESERVED),
        ("token_headers", &config.token_headers, HEADERS_RESERVED),
    ] {
        for (name, value) in parameters {
            let lower = name.to_ascii_lowercase();
            let is_header = field == "token_headers";
            let is_reserved = reserved.contains(&lower.as_str())
                || field == "token_parameters"
                    && is_of_grant(name)
                    && !matches!(config.grant, Grant::Extension(_));
            if is_reserved {
                problems.push(Problem::error(
                    &format!("{field}.{name}"),
                    "is set by the component",
                    "remove it and use the field that is for it",
                ));
            } else if is_header && !is_header_name(&lower) {
                problems.push(Problem::error(
                    &format!("{field}.{name}"),
                    "is not the name of a header",
                    "use letters, digits and hyphens",
                ));
            } else if is_header && value.bytes().any(|byte| byte < 32 || byte == 127) {
                problems.push(Problem::error(
                    &format!("{field}.{name}"),
                    "contains a control character",
                    "write it on one line",
                ));
            }
        }
    }
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What older servers need and the security profile forbids: allowed, and said.
fn check_profile(config: &Config, dialect: Option<&Dialect>, problems: &mut Vec<Problem>) {
    if config.provider.is_none() && !config.parameters.is_empty() {
        problems.push(Problem::warning(
            "parameters",
            "are a provider's, and none is named",
            "name the provider, or remove them",
        ));
    }
    if matches!(config.grant, Grant::Password { .. }) {
        problems.push(Problem::warning(
            "grant_type",
            "the password grant shows the user's password to the client (RFC 9700 section 2.4)",
            "use authorization_code where the server has it",
        ));
    }
    if config.grant == Grant::AuthorizationCode && !config.pkce {
        if dialect.is_some_and(|dialect| dialect.get(Field::PKCE) == Some("required")) {
            problems.push(Problem::error(
                "pkce",
                "is off, and the provider requires it",
                "leave it on",
            ));
        }
        problems.push(Problem::warning(
            "pkce",
            "without it a stolen code can be used (RFC 9700 section 2.1.1)",
            "leave it on unless the server refuses it",
        ));
    }
    if dialect.is_some_and(|dialect| {
        dialect.has(Field::EXCHANGE_ENDPOINT)
            || dialect.get(Field::TOKEN_REQUEST_FORMAT) == Some("query")
    }) {
        problems.push(Problem::warning(
            "provider",
            "it takes the secret or a token in the query of a URL, which servers write into their logs (RFC 6750 section 5.3)",
            "nothing can be done: the provider has no other way",
        ));
    }
    match config.tls {
        TlsMode::Verify => {}
        TlsMode::Trust => problems.push(Problem::warning(
            "tls",
            "the first certificate met is trusted unseen",
            "use verify where the server has a certificate from a known authority",
        )),
        TlsMode::Off => problems.push(Problem::warning(
            "tls",
            "certificates are not verified: anybody on the way can take the token",
            "use verify, or trust",
        )),
    }
    if config.timeout == Some(0) {
        problems.push(Problem::error(
            "timeout",
            "is 0 seconds",
            "write at least 1, or remove it for 30",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn fields(text: &str, severity: Severity) -> Vec<String> {
        let config = parse(text).expect("it is well-formed");
        let found = check(&config);
        let of_severity = found.into_iter().filter(|p| p.severity == severity);
        of_severity.map(|problem| problem.field).collect()
    }

    fn errors(text: &str) -> Vec<String> {
        fields(text, Severity::Error)
    }

    const COMPLETE: &str = r#"{"client_id": "id", "issuer": "https://as.example"}"#;

    #[test]
    fn a_client_with_an_issuer_is_complete() {
        assert_eq!(check(&parse(COMPLETE).expect("well-formed")), []);
    }

    #[test]
    fn an_assertion_that_is_made_here_has_an_issuer() {
        let with = |further: &str| {
            errors(&format!(
                r#"{{"grant_type": "jwt_bearer", "token_endpoint": "https://as.example/token"{further}}}"#
            ))
        };
        let key = r#", "signing_key": {"ref": "file:key.pem"}"#;
        assert_eq!(with(key), ["assertion_issuer"]);
        for further in [
            r#", "client_id": "id""#,
            r#", "assertion_issuer": "robot@example""#,
            r#", "assertion_claims": {"iss": "robot@example"}"#,
        ] {
            assert!(with(&[key, further].concat()).is_empty(), "{further}");
        }
        assert!(with(r#", "assertion": {"ref": "env:ASSERTION"}"#).is_empty());
    }

    #[test]
    fn an_empty_config_lacks_client_and_endpoints() {
        assert_eq!(
            errors("{}"),
            ["token_endpoint", "authorization_endpoint", "client_id"]
        );
    }

    #[test]
    fn client_credentials_need_a_way_to_authenticate() {
        let config = r#"{"client_id": "id", "grant_type": "client_credentials", "token_endpoint": "https://as.example/t"}"#;
        assert_eq!(errors(config), ["client_secret"]);
    }

    #[test]
    fn a_certificate_and_its_key_go_together() {
        for (given, missing) in [
            ("client_certificate", "client_certificate_key"),
            ("client_certificate_key", "client_certificate"),
        ] {
            let config = COMPLETE.replacen(
                '{',
                &format!(r#"{{"{given}": {{"ref": "file:x.pem"}}, "#),
                1,
            );
            assert_eq!(errors(&config), [missing]);
        }
    }

    #[test]
    fn a_field_that_nothing_comes_of_is_warned_of() {
        let warnings = |further: &str| {
            let config = COMPLETE.replacen('{', &format!("{{{further}, "), 1);
            fields(&config, Severity::Warning)
        };
        assert_eq!(warnings(r#""parameters": {"tenant": "t"}"#), ["parameters"]);
        assert_eq!(warnings(r#""max_age": 60"#), ["max_age"]);
        assert!(warnings(r#""max_age": 60, "scope": "openid""#).is_empty());
    }

    #[test]
    fn what_is_to_be_pushed_needs_a_place_to_go_to() {
        let config = r#"{"client_id": "id", "par": true, "token_endpoint": "https://as.example/t",
            "authorization_endpoint": "https://as.example/a"}"#;
        assert_eq!(errors(config), ["pushed_authorization_request_endpoint"]);
        assert_eq!(
            errors(&COMPLETE.replacen('{', r#"{"par": true, "#, 1)),
            [""; 0]
        );
    }

    #[test]
    fn plain_http_beyond_this_machine_is_an_error() {
        let config = r#"{"client_id": "id", "token_endpoint": "http://as.example/t", "authorization_endpoint": "nonsense"}"#;
        assert_eq!(errors(config), ["authorization_endpoint", "token_endpoint"]);
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for url in [
            "https://id:hunter2@as.example/token",
            "https://id:hunter2/x@as.example/token",
            "https://id:hunter2 @as.example/token",
            "ftp://hunter2@as.example/",
            "id:hunter2@as.example",
        ] {
            for field in ["token_endpoint", "issuer", "redirect_uri"] {
                let config = format!(r#"{{"client_id": "id", "{field}": "{url}"}}"#);
                let told = check(&parse(&config).expect("well-formed"));
                assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
                let is_shown = |problem: &Problem| problem.message.contains("***@as.example");
                assert!(
                    told.iter().any(is_shown) || field == "redirect_uri",
                    "{told:?}"
                );
            }
        }
    }

    #[test]
    fn a_redirect_uri_is_https_or_loopback_without_fragment() {
        for (uri, wrong) in [
            ("https://app.example/cb", false),
            ("http://127.0.0.1/cb", false),
            ("com.example.app:/cb", false),
            ("http://app.example/cb", true),
            ("https://app.example/cb#x", true),
            ("javascript:alert(1)", true),
            ("/cb", true),
        ] {
            let config = format!(
                r#"{{"client_id": "id", "issuer": "https://as.example", "redirect_uri": "{uri}"}}"#
            );
            assert_eq!(!errors(&config).is_empty(), wrong, "{uri}");
        }
    }

    #[test]
    fn a_redirect_uri_that_the_provider_does_not_accept_is_warned_of() {
        for (provider, uri, is_warned_of) in [
            ("github", None, false),
            ("discord", None, true),
            ("discord", Some("http://127.0.0.1/cb"), true),
            ("discord", Some("http://[::1]/cb"), true),
            ("discord", Some("http://127.0.0.1:8765/cb"), false),
            ("discord", Some("https://app.example/cb"), false),
            ("slack", None, true),
            ("slack", Some("http://127.0.0.1:8765/cb"), true),
            ("slack", Some("https://app.example/cb"), false),
        ] {
            let uri_field = uri.map(|uri| format!(r#", "redirect_uri": "{uri}""#));
            let config = format!(
                r#"{{"client_id": "id", "client_secret": "s", "provider": "{provider}"{}}}"#,
                uri_field.unwrap_or_default()
            );
            let told = check(&parse(&config).expect("well-formed"));
            let is_of_it = |problem: &Problem| problem.field == "redirect_uri";
            assert_eq!(
                told.iter().any(is_of_it),
                is_warned_of,
                "{provider} {uri:?}"
            );
        }
    }

    #[test]
    fn a_computed_parameter_cannot_be_overridden() {
        let config = r#"{"client_id": "id", "issuer": "https://as.example",
            "authorization_parameters": {"state": "x", "audience": "y"},
            "token_parameters": {"Grant_Type": "x"},
            "token_headers": {"Authorization": "x", "X-Y": "a\r\nb", "bad name": "v"}}"#;
        assert_eq!(
            errors(config),
            [
                "authorization_parameters.state",
                "token_parameters.Grant_Type",
                "token_headers.Authorization",
                "token_headers.X-Y",
                "token_headers.bad name"
            ]
        );
    }

    #[test]
    fn an_extension_grant_has_its_parameters_among_those_of_the_token_request() {
        let with = |name: &str| {
            errors(&format!(
                r#"{{"client_id": "id", "grant_type": "urn:ietf:params:oauth:grant-type:saml2-bearer",
                    "token_endpoint": "https://as.example/token", "token_parameters": {{"{name}": "x"}}}}"#
            ))
        };
        // RFC 7522 section 2.1.
        assert!(with("assertion").is_empty());
        assert!(with("username").is_empty());
        for name in ["grant_type", "client_id", "client_secret", "refresh_token"] {
            assert_eq!(with(name), [["token_parameters.", name].concat()]);
        }
    }

    #[test]
    fn a_secret_may_be_empty_where_basic_is_said_or_declared() {
        for (further, is_error) in [
            (r#""issuer": "https://as.example""#, true),
            (
                r#""issuer": "https://as.example", "token_endpoint_auth_method": "client_secret_post""#,
                true,
            ),
            (
                r#""issuer": "https://as.example", "token_endpoint_auth_method": "client_secret_basic""#,
                false,
            ),
            (r#""provider": "reddit""#, false),
            (
                r#""provider": "reddit", "token_endpoint_auth_method": "client_secret_post""#,
                true,
            ),
        ] {
            let config = format!(r#"{{"client_id": "id", "client_secret": "", {further}}}"#);
            let is_told = errors(&config).contains(&"client_secret".to_owned());
            assert_eq!(is_told, is_error, "{further}");
        }
    }

    #[test]
    fn what_the_profile_forbids_is_a_warning() {
        let config =
            r#"{"client_id": "id", "issuer": "https://as.example", "pkce": false, "tls": "off"}"#;
        assert_eq!(fields(config, Severity::Warning), ["pkce", "tls"]);
    }

    #[test]
    fn errors_come_before_warnings() {
        let config = parse(r#"{"pkce": false}"#).expect("well-formed");
        let severities: Vec<_> = check(&config).iter().map(|p| p.severity).collect();
        assert!(severities.is_sorted(), "{severities:?}");
    }

    #[test]
    fn whatever_a_config_lacks_for_what_it_wants_is_an_error() {
        for (wants, lacks) in [
            (
                r#""token_endpoint_auth_method": "client_secret_post""#,
                &["client_secret"][..],
            ),
            (
                r#""token_endpoint_auth_method": "private_key_jwt""#,
                &["signing_key"],
            ),
            (
                r#""token_endpoint_auth_method": "tls_client_auth""#,
                &["client_certificate", "client_certificate_key"],
            ),
            (r#""dpop": true"#, &["signing_key"]),
            (r#""request_object": true"#, &["signing_key"]),
            (r#""grant_type": "password""#, &["username", "password"]),
            (
                r#""grant_type": "token_exchange""#,
                &["subject_token", "subject_token_type"],
            ),
            (
                r#""grant_type": "token_exchange", "subject_token": "x", "subject_token_type": "y",
                "actor_token": "z""#,
                &["actor_token_type"],
            ),
            (r#""grant_type": "jwt_bearer""#, &["signing_key"]),
            (r#""grant_type": "refresh_token""#, &["refresh_token"]),
            (r#""prompt": "none login""#, &["prompt"]),
            (r#""timeout": 0"#, &["timeout"]),
        ] {
            let config =
                format!(r#"{{"client_id": "id", "issuer": "https://as.example", {wants}}}"#);
            assert_eq!(fields(&config, Severity::Error), lacks, "{wants}");
        }
    }

    #[test]
    fn what_protects_a_request_cannot_be_set_beside_it_in_any_spelling() {
        const AUTHORIZATION: &str = "client_id redirect_uri response_type state nonce code_challenge \
            code_challenge_method dpop_jkt request request_uri";
        const TOKEN: &str = "grant_type client_id client_secret client_assertion client_assertion_type \
            refresh_token code redirect_uri code_verifier username password device_code assertion \
            subject_token actor_token";
        const HEADERS: &str = "authorization connection content-length content-type cookie dpop host \
            transfer-encoding";
        for (field, names) in [
            ("authorization_parameters", AUTHORIZATION),
            ("token_parameters", TOKEN),
            ("token_headers", HEADERS),
        ] {
            for name in names.split_whitespace() {
                for name in [name.to_owned(), name.to_uppercase()] {
                    let config = format!(
                        r#"{{"client_id": "id", "issuer": "https://as.example", "{field}": {{"{name}": "x"}}}}"#
                    );
                    assert_eq!(
                        fields(&config, Severity::Error),
                        [format!("{field}.{name}")]
                    );
                }
            }
        }
    }
}
