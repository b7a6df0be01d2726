//! What is sent to the token endpoint (RFC 6749 section 4), and to the endpoints
//! that speak the same way: revocation (RFC 7009), introspection (RFC 7662),
//! device authorization (RFC 8628) and pushed authorization requests (RFC 9126).

use crate::client_authentication::Client;
use crate::config::{self, Config, Grant, Parameter};
use crate::dialect::{self, Dialect, Purpose};
use crate::endpoint::Endpoint;
use crate::http::{Method, Request};
use crate::secret::SecretString;

/// The parameters of a request, before the client's are added.
pub type Form = Vec<(&'static str, SecretString)>;

/// A grant with everything that it sends, secrets resolved.
#[derive(Debug)]
pub enum TokenGrant<'a> {
    /// RFC 6749 section 4.1.3.
    AuthorizationCode {
        /// The code.
        code: &'a SecretString,
        /// The redirect URI of the authorization request.
        redirect_uri: &'a str,
        /// The PKCE verifier (RFC 7636 section 4.5).
        code_verifier: Option<&'a SecretString>,
    },
    /// RFC 6749 section 6.
    RefreshToken(&'a SecretString),
    /// RFC 8628 section 3.4.
    DeviceCode(&'a SecretString),
    /// Any that asks for a token anew, by the value of its `grant_type`, with
    /// the parameters that are its own.
    Other(&'a str, Form),
}

/// What a grant sends.
pub fn form(config: &Config, grant: TokenGrant<'_>) -> Form {
    // A refresh token from elsewhere may have been given for more.
    let asks_for_scope = matches!(grant, TokenGrant::Other(..))
        || matches!(config.grant, Grant::RefreshToken { .. });
    let (grant_type, parameters) = match grant {
        TokenGrant::AuthorizationCode {
            code,
            redirect_uri,
            code_verifier,
        } => {
            let mut parameters = vec![
                ("code", code.clone()),
                ("redirect_uri", SecretString::new(redirect_uri)),
            ];
            if let Some(verifier) = code_verifier {
                parameters.push(("code_verifier", verifier.clone()));
            }
            ("authorization_code", parameters)
        }
        // Without `scope` the server gives what it gave before (RFC 6749
        // section 6).
        TokenGrant::RefreshToken(refresh_token) => (
            "refresh_token",
            vec![("refresh_token", refresh_token.clone())],
        ),
        TokenGrant::DeviceCode(code) => (
            "urn:ietf:params:oauth:grant-type:device_code",
            vec![("device_code", code.clone())],
        ),
        TokenGrant::Other(grant_type, parameters) => (grant_type, parameters),
    };
    let mut form = vec![("grant_type", SecretString::new(grant_type))];
    form.extend(parameters);
    if asks_for_scope {
        put_scope(&config.dialect, &config.scope, &mut form);
    }
    put_target(config, asks_for_scope, &mut form);
    form
}

/// Adds the scopes asked for, as the server separates them.
pub(crate) fn put_scope(dialect: &Dialect, scope: &[String], form: &mut Form) {
    if !scope.is_empty() {
        let scope = dialect.separate_scope(&scope.join(" "));
        form.push(("scope", SecretString::new(scope)));
    }
}

/// Adds where the token is to be used (RFC 8707 section 2), and by the older
/// habit too where a token is asked for anew.
pub(crate) fn put_target(config: &Config, asks_anew: bool, form: &mut Form) {
    for resource in &config.resource {
        form.push(("resource", SecretString::new(resource)));
    }
    for audience in config.audience.iter().filter(|_| asks_anew) {
        form.push(("audience", SecretString::new(audience)));
    }
}

/// Whether a parameter is not among those that are added: one that is has the
/// place of what is computed, since a request has each but once (RFC 6749
/// sections 3.1 and 3.2).
pub(crate) fn is_new(name: &str, further: &[Parameter]) -> bool {
    further.iter().all(|(added, _)| added != name)
}

/// The parameters that may be seen.
const SHOWN: &[&str] = &[
    "audience",
    "client_assertion_type",
    "client_id",
    "grant_type",
    "redirect_uri",
    "resource",
    "scope",
    "token_type_hint",
    "username",
];

/// Builds a request to an endpoint that the client authenticates at.
pub fn build(
    config: &Config,
    url: Endpoint,
    client: &Client<'_>,
    mut form: Form,
    further: &[Parameter],
    purpose: Purpose,
) -> Request {
    let mut headers = vec![
        (
            "content-type".to_owned(),
            SecretString::new("application/x-www-form-urlencoded"),
        ),
        // Some servers answer in a form unless asked for JSON.
        ("accept".to_owned(), SecretString::new("application/json")),
    ];
    client.authenticate(&mut form, &mut headers);
    let hidden = form.iter().filter(|(name, _)| !SHOWN.contains(name));
    let hidden = hidden.map(|(_, value)| value).chain(&client.secret);
    let mut secrets: Vec<_> = hidden.cloned().collect();
    for (name, value) in further {
        // Of an extension grant.
        if config::is_of_grant(name) && !SHOWN.contains(&name.as_str()) {
            secrets.push(SecretString::new(value));
        }
    }
    let request = Request {
        method: Method::Post,
        url,
        headers,
        body: SecretString::default(),
        secrets,
        timeout_millis: config.timeout_millis(),
    };
    dialect::write(config, client, request, form, further, purpose)
}

/// Builds a token request: what the config adds to it goes along, and what is
/// repeated of the redirect.
pub fn build_for_token(
    config: &Config,
    token_endpoint: Endpoint,
    client: &Client<'_>,
    form: Form,
    repeated: &[Parameter],
    purpose: Purpose,
) -> Request {
    let mut further = config.token_parameters.clone();
    for (name, value) in repeated {
        if is_new(name, &further) {
            further.push((name.clone(), value.clone()));
        }
    }
    let mut request = build(config, token_endpoint, client, form, &further, purpose);
    for (name, value) in &config.token_headers {
        let value = SecretString::new(value);
        request.secrets.push(value.clone());
        request.headers.push((name.to_ascii_lowercase(), value));
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BasicEncoding, ClientAuthentication};

    fn client() -> Client<'static> {
        Client {
            id: Some("id"),
            secret: None,
            assertion: None,
            method: ClientAuthentication::None,
            basic_encoding: BasicEncoding::FormUrlencoded,
            access_token: None,
        }
    }

    fn request(config: &Config, grant: TokenGrant<'_>) -> Request {
        let endpoint = Endpoint::parse("https://as.example/token").expect("an endpoint");
        let purpose = match grant {
            TokenGrant::RefreshToken(_) => Purpose::Refresh,
            _ => Purpose::Token,
        };
        build_for_token(
            config,
            endpoint,
            &client(),
            form(config, grant),
            &[],
            purpose,
        )
    }

    fn body(config: &Config, grant: TokenGrant<'_>) -> String {
        let request = request(config, grant);
        assert_eq!(request.method, Method::Post);
        request.body.reveal().to_owned()
    }

    fn client_credentials() -> TokenGrant<'static> {
        TokenGrant::Other("client_credentials", Vec::new())
    }

    fn with_scope() -> Config {
        Config {
            scope: vec!["a".to_owned(), "b".to_owned()],
            audience: vec!["api".to_owned()],
            resource: vec!["https://r.example/".to_owned()],
            ..Config::default()
        }
    }

    /// Shows: RFC 6749 section 4.1.
    #[test]
    fn a_code_is_exchanged_with_its_redirect_uri_and_verifier() {
        let (code, verifier) = (SecretString::new("c o"), SecretString::new("v"));
        let grant = TokenGrant::AuthorizationCode {
            code: &code,
            redirect_uri: "http://127.0.0.1:1/oauth2",
            code_verifier: Some(&verifier),
        };
        assert_eq!(
            body(&Config::default(), grant),
            "grant_type=authorization_code&code=c+o&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Foauth2&code_verifier=v&client_id=id"
        );
    }

    /// Shows: RFC 6749 section 6.
    #[test]
    fn a_refresh_asks_for_no_scope_but_names_the_resource() {
        let refresh = SecretString::new("r");
        assert_eq!(
            body(&with_scope(), TokenGrant::RefreshToken(&refresh)),
            "grant_type=refresh_token&refresh_token=r&resource=https%3A%2F%2Fr.example%2F&client_id=id"
        );
    }

    /// Shows: RFC 6749 section 6.
    #[test]
    fn a_refresh_token_from_elsewhere_is_used_for_the_scope_and_audience_of_the_config() {
        let refresh = SecretString::new("r");
        let config = Config {
            grant: Grant::RefreshToken {
                refresh_token: None,
            },
            ..with_scope()
        };
        assert_eq!(
            body(&config, TokenGrant::RefreshToken(&refresh)),
            "grant_type=refresh_token&refresh_token=r&scope=a+b&resource=https%3A%2F%2Fr.example%2F&audience=api&client_id=id"
        );
    }

    /// Shows: RFC 8707.
    #[test]
    fn a_grant_without_user_asks_for_scope_resource_and_audience() {
        assert_eq!(
            body(&with_scope(), client_credentials()),
            "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fr.example%2F&audience=api&client_id=id"
        );
    }

    #[test]
    fn what_the_config_adds_is_sent_as_it_is() {
        let config = Config {
            token_parameters: vec![("x".to_owned(), "1&2".to_owned())],
            token_headers: vec![("X-Tenant".to_owned(), "t".to_owned())],
            ..Config::default()
        };
        let request = request(&config, client_credentials());
        assert!(request.body.reveal().ends_with("&x=1%262"));
        let header = request.headers.iter().find(|(name, _)| name == "x-tenant");
        assert_eq!(header.map(|(_, value)| value.reveal()), Some("t"));
    }

    #[test]
    fn what_the_config_adds_takes_the_place_of_what_is_computed() {
        let config = Config {
            token_parameters: vec![("scope".to_owned(), "c".to_owned())],
            ..with_scope()
        };
        assert_eq!(
            body(&config, client_credentials()),
            "grant_type=client_credentials&resource=https%3A%2F%2Fr.example%2F&audience=api&client_id=id&scope=c"
        );
    }

    #[test]
    fn a_form_is_encoded_as_in_rfc_6749() {
        // RFC 6749 appendix B.
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/oauth.json")).expect("JSON");
        let text = |name: &str| vectors["form_encoding"][name].as_str().expect("text");
        let password = SecretString::new(text("input"));
        let grant = TokenGrant::Other("password", vec![("password", password)]);
        let sent = body(&Config::default(), grant);
        let wanted = format!("&password={}&", text("encoded"));
        assert!(sent.contains(&wanted), "{sent}");
    }

    #[test]
    fn a_request_does_not_print_what_it_carries() {
        let refresh = SecretString::new("very-secret");
        let request = request(&Config::default(), TokenGrant::RefreshToken(&refresh));
        assert_eq!(format!("{request:?}"), "POST https://as.example/token");
    }
}
