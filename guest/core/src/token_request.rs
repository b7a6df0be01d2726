//! What is sent to the token endpoint (RFC 6749 section 4), and to the
//! revocation endpoint (RFC 7009), which speaks the same way.

use crate::client_authentication::Client;
use crate::config::Config;
use crate::dialect;
use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::http::Request;
use crate::secret::SecretString;

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
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 6749 section 4.3.
    Password {
        /// `username`.
        username: &'a str,
        /// `password`.
        password: &'a SecretString,
    },
    /// RFC 6749 section 4.5: all else is in the config's `token_parameters`.
    Extension(&'a str),
}

/// Builds a token request.
///
/// # Errors
/// Unsupported, where the client authentication is.
pub fn build(
    config: &Config,
    token_endpoint: Endpoint,
    client: &Client<'_>,
    grant: &TokenGrant<'_>,
) -> Result<Request> {
    let mut form: Vec<(&'static str, SecretString)> = Vec::new();
    let mut put = |name, value: &str| form.push((name, SecretString::new(value)));
    let asks_for_scope = match grant {
        TokenGrant::AuthorizationCode {
            code,
            redirect_uri,
            code_verifier,
        } => {
            put("grant_type", "authorization_code");
            put("code", code.reveal());
            put("redirect_uri", redirect_uri);
            if let Some(verifier) = code_verifier {
                put("code_verifier", verifier.reveal());
            }
            false
        }
        // Without `scope` the server gives what it gave before (RFC 6749
        // section 6).
        TokenGrant::RefreshToken(refresh_token) => {
            put("grant_type", "refresh_token");
            put("refresh_token", refresh_token.reveal());
            false
        }
        TokenGrant::ClientCredentials => {
            put("grant_type", "client_credentials");
            true
        }
        TokenGrant::Password { username, password } => {
            put("grant_type", "password");
            put("username", username);
            put("password", password.reveal());
            true
        }
        TokenGrant::Extension(grant_type) => {
            put("grant_type", grant_type);
            true
        }
    };
    if asks_for_scope && !config.scope.is_empty() {
        put("scope", &config.scope.join(" "));
    }
    for resource in &config.resource {
        put("resource", resource);
    }
    if asks_for_scope {
        for audience in &config.audience {
            put("audience", audience);
        }
    }
    let mut request = form_request(
        config,
        token_endpoint,
        client,
        form,
        &config.token_parameters,
    )?;
    for (name, value) in &config.token_headers {
        let name = name.to_ascii_lowercase();
        request.headers.push((name, SecretString::new(value)));
    }
    Ok(request)
}

/// Builds a revocation request (RFC 7009 section 2.1).
///
/// # Errors
/// Unsupported, where the client authentication is.
pub fn build_revocation(
    config: &Config,
    revocation_endpoint: Endpoint,
    client: &Client<'_>,
    token: &SecretString,
    token_type_hint: &str,
) -> Result<Request> {
    let form = vec![
        ("token", token.clone()),
        ("token_type_hint", SecretString::new(token_type_hint)),
    ];
    form_request(config, revocation_endpoint, client, form, &[])
}

/// The parameters that may be seen.
const SHOWN: &[&str] = &[
    "audience",
    "client_id",
    "grant_type",
    "redirect_uri",
    "resource",
    "scope",
    "token_type_hint",
    "username",
];

fn form_request(
    config: &Config,
    url: Endpoint,
    client: &Client<'_>,
    mut form: Vec<(&'static str, SecretString)>,
    further: &[(String, String)],
) -> Result<Request> {
    let mut headers = vec![
        (
            "content-type".to_owned(),
            SecretString::new("application/x-www-form-urlencoded"),
        ),
        // Some servers answer in a form unless asked for JSON.
        ("accept".to_owned(), SecretString::new("application/json")),
    ];
    client.authenticate(&mut form, &mut headers)?;
    let hidden = form.iter().filter(|(name, _)| !SHOWN.contains(name));
    let hidden = hidden.map(|(_, value)| value).chain(&client.secret);
    let secrets = hidden.cloned().collect();
    Ok(dialect::write(
        config, client, url, headers, form, further, secrets,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BasicEncoding, ClientAuthentication};
    use crate::http::Method;

    fn client() -> Client<'static> {
        Client {
            id: Some("id"),
            secret: None,
            method: ClientAuthentication::None,
            basic_encoding: BasicEncoding::FormUrlencoded,
        }
    }

    fn body(config: &Config, grant: &TokenGrant<'_>) -> String {
        let endpoint = Endpoint::parse("https://as.example/token").expect("an endpoint");
        let request = build(config, endpoint, &client(), grant).expect("supported");
        assert_eq!(request.method, Method::Post);
        request.body.reveal().to_owned()
    }

    fn with_scope() -> Config {
        Config {
            scope: vec!["a".to_owned(), "b".to_owned()],
            audience: vec!["api".to_owned()],
            resource: vec!["https://r.example/".to_owned()],
            ..Config::default()
        }
    }

    #[test]
    fn a_code_is_exchanged_with_its_redirect_uri_and_verifier() {
        let (code, verifier) = (SecretString::new("c o"), SecretString::new("v"));
        let grant = TokenGrant::AuthorizationCode {
            code: &code,
            redirect_uri: "http://127.0.0.1:1/oauth2",
            code_verifier: Some(&verifier),
        };
        assert_eq!(
            body(&Config::default(), &grant),
            "grant_type=authorization_code&code=c+o&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Foauth2&code_verifier=v&client_id=id"
        );
    }

    #[test]
    fn a_refresh_asks_for_no_scope_but_names_the_resource() {
        let refresh = SecretString::new("r");
        assert_eq!(
            body(&with_scope(), &TokenGrant::RefreshToken(&refresh)),
            "grant_type=refresh_token&refresh_token=r&resource=https%3A%2F%2Fr.example%2F&client_id=id"
        );
    }

    #[test]
    fn a_grant_without_user_asks_for_scope_resource_and_audience() {
        assert_eq!(
            body(&with_scope(), &TokenGrant::ClientCredentials),
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
        let endpoint = Endpoint::parse("https://as.example/token").expect("an endpoint");
        let request =
            build(&config, endpoint, &client(), &TokenGrant::ClientCredentials).expect("supported");
        assert!(request.body.reveal().ends_with("&x=1%262"));
        let header = request.headers.iter().find(|(name, _)| name == "x-tenant");
        assert_eq!(header.map(|(_, value)| value.reveal()), Some("t"));
    }

    #[test]
    fn a_request_does_not_print_what_it_carries() {
        let refresh = SecretString::new("very-secret");
        let endpoint = Endpoint::parse("https://as.example/token").expect("an endpoint");
        let grant = TokenGrant::RefreshToken(&refresh);
        let request = build(&Config::default(), endpoint, &client(), &grant).expect("supported");
        assert_eq!(format!("{request:?}"), "POST https://as.example/token");
    }
}
