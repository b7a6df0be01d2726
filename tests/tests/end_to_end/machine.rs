//! Grants without a user: client credentials and password.

use base64::Engine as _;
use serde_json::{Value, json};
use tokenwell_tests::{
    Answer, Cli, Lifetimes, OidcProvider, RecordedRequest, ScriptedServer, eventually, only,
};

use crate::support::{SECRET, access_token, scripted_config, text, tokens, with};

/// A token by client credentials from the real server, and the one request
/// that the server saw.
fn client_credentials(config: Value) -> Option<RecordedRequest> {
    let provider = OidcProvider::start(Lifetimes::default())?;
    let base = json!({
        "issuer": provider.issuer(),
        "grant_type": "client_credentials",
        "scope": "api:read",
    });
    let cli = Cli::new();
    cli.create("machine", &with(base, config)).expect_code(0);
    let token = cli.token("machine");
    assert!(provider.is_active(text(&token, "access_token")));
    let again = cli.token("machine");
    assert_eq!(again, token, "a fresh token was not kept");
    let mut requests = provider.requests_to("/token");
    assert_eq!(requests.len(), 1);
    let request = requests.remove(0);
    assert_eq!(request.parameter("grant_type"), "client_credentials");
    assert_eq!(request.parameter("scope"), "api:read");
    Some(request)
}

/// Shows: RFC 6749 section 2.3.1.
/// Shows: RFC 6749 section 4.4.
/// Shows: OpenID Connect Discovery.
#[test]
fn a_client_authenticates_by_basic_unless_told_otherwise() {
    let config = json!({
        "client_id": "machine-basic",
        "client_secret": "machine-basic-secret-77d0",
    });
    let Some(request) = client_credentials(config) else {
        return;
    };
    assert!(request.headers["authorization"].starts_with("Basic "));
    assert_eq!(request.parameter("client_secret"), "");
}

/// Shows: RFC 6749 section 2.3.1.
#[test]
fn a_client_authenticates_in_the_body_where_told_so() {
    let config = json!({
        "client_id": "machine-post",
        "client_secret": "machine-post-secret-c24e",
        "token_endpoint_auth_method": "client_secret_post",
    });
    let Some(request) = client_credentials(config) else {
        return;
    };
    assert!(!request.headers.contains_key("authorization"));
    assert_eq!(request.parameter("client_id"), "machine-post");
    assert_eq!(
        request.parameter("client_secret"),
        "machine-post-secret-c24e"
    );
}

/// Shows: RFC 6749 section 2.3.1.
#[test]
fn odd_characters_in_identifier_and_secret_survive_basic() {
    let config = json!({
        "client_id": "odd:client id+%/~",
        "client_secret": "p:ss w%rd+/=&?~!",
    });
    let Some(request) = client_credentials(config) else {
        return;
    };
    assert!(request.headers["authorization"].starts_with("Basic "));
}

/// Shows: RFC 6749 section 4.4.
#[test]
fn a_token_by_client_credentials_is_obtained_anew_when_it_has_expired() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    let fields = json!({"grant_type": "client_credentials"});
    let mut config = with(scripted_config(&server), fields);
    for field in ["authorization_endpoint", "redirect_uri"] {
        config.as_object_mut().map(|fields| fields.remove(field));
    }
    cli.create("machine", &config).expect_code(0);
    server.answer("/token", Answer::json(200, &tokens(1, 1)));
    assert_eq!(text(&cli.token("machine"), "access_token"), access_token(1));
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    eventually("the second token", || {
        (text(&cli.token("machine"), "access_token") == access_token(2)).then_some(())
    });
    let requests = server.requests_to("/token");
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(only(&request.form(), "grant_type"), "client_credentials");
    }
}

/// Shows: RFC 6749 section 4.3.
#[test]
fn the_password_grant_sends_what_its_section_says() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    let config = json!({
        "client_id": "client",
        "client_secret": SECRET,
        "grant_type": "password",
        "username": "ålice & co",
        "password": "p+w=ö%",
        "token_endpoint": server.url("/token"),
        "scope": "read write",
    });
    cli.create("legacy", &config).expect_code(0);
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    assert_eq!(text(&cli.token("legacy"), "access_token"), access_token(1));

    let request = server.only_request_to("/token");
    assert_eq!(
        (request.method.as_str(), request.query.as_str()),
        ("POST", "")
    );
    assert_eq!(
        request.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(request.header("accept"), Some("application/json"));
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("client:{SECRET}"));
    assert_eq!(
        request.header("authorization"),
        Some(format!("Basic {credentials}").as_str())
    );
    let form = request.form();
    assert_eq!(only(&form, "grant_type"), "password");
    assert_eq!(only(&form, "username"), "ålice & co");
    assert_eq!(only(&form, "password"), "p+w=ö%");
    assert_eq!(only(&form, "scope"), "read write");
    assert!(form.iter().all(|(name, _)| name != "client_secret"));
    let warnings = cli.status("legacy")["warnings"].to_string();
    assert!(
        warnings.contains("grant_type"),
        "the risk is not told: {warnings}"
    );
}

#[test]
fn a_token_request_tells_its_length() {
    // Many servers and proxies take no chunked request (RFC 9110 section 15.5.12).
    let server = ScriptedServer::start();
    let cli = Cli::new();
    let config = json!({
        "client_id": "client",
        "client_secret": SECRET,
        "grant_type": "client_credentials",
        "token_endpoint": server.url("/token"),
    });
    cli.create("machine", &config).expect_code(0);
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    cli.token("machine");
    let request = server.only_request_to("/token");
    let length = request.body.len().to_string();
    assert_eq!(request.header("content-length"), Some(length.as_str()));
    assert_eq!(request.header("transfer-encoding"), None);
}
