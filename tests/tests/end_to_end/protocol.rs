//! The rest of the protocol, against the real authorization server: device
//! codes, assertions, certificates, pushed and signed requests, proofs,
//! introspection, userinfo, registration.

use std::fs;

use serde_json::{Value, json};
use tokenwell_tests::{
    Answer, Certificates, Cli, Decision, Lifetimes, OidcProvider, Part, ScriptedServer, Settings,
    query_parameter,
};

use crate::support::{REDIRECT_URI, key_file, text, with};

fn provider() -> Option<OidcProvider> {
    OidcProvider::start(Lifetimes::default())
}

/// Takes a connection through the authorization.
fn authorize(cli: &Cli, provider: &OidcProvider, name: &str) {
    let url = authorization_url(cli, name);
    let redirect = provider.decide(&url, Decision::Consent);
    cli.run(&["complete", name, &redirect]).expect_code(0);
}

/// Where the user is sent; in a pushed or signed request little more can be seen.
fn authorization_url(cli: &Cli, name: &str) -> String {
    let mut call = cli.start(&["authorize", name, "--no-browser", "--json"]);
    let url = text(&call.next_json(), "authorization_url").to_owned();
    call.finish().expect_code(0);
    url
}

// ---- device codes (RFC 8628) ----------------------------------------------

fn device_config(provider: &OidcProvider) -> Value {
    json!({
        "issuer": provider.issuer(),
        "client_id": "device",
        "grant_type": "device_code",
        "scope": "openid api:read",
    })
}

/// Shows: RFC 8628.
#[test]
fn a_device_is_authorized_by_the_code_that_it_shows() {
    let Some(provider) = provider() else { return };
    let cli = Cli::new();
    cli.create("tv", &device_config(&provider)).expect_code(0);
    let mut call = cli.start(&["authorize", "tv", "--device", "--no-browser", "--json"]);
    let shown = call.next_json();
    assert!(shown["expires_at"].is_u64() && shown["user_code"].is_string());
    assert!(text(&shown, "verification_uri").starts_with(provider.issuer()));
    provider.decide_for_device(text(&shown, "verification_uri_complete"), Decision::Consent);
    call.finish().expect_code(0);
    let token = cli.token("tv");
    assert!(provider.is_active(text(&token, "access_token")));
    assert_eq!(token["refreshable"], true);
    cli.run(&["refresh", "tv"]).expect_code(0);
}

/// Shows: RFC 8628.
#[test]
fn a_device_that_the_user_refuses_is_denied() {
    let Some(provider) = provider() else { return };
    let cli = Cli::new();
    cli.create("tv", &device_config(&provider)).expect_code(0);
    let mut call = cli.start(&["authorize", "tv", "--device", "--no-browser", "--json"]);
    let shown = call.next_json();
    provider.decide_for_device(text(&shown, "verification_uri_complete"), Decision::Deny);
    let error = call.finish().expect_code(5).error();
    assert_eq!(error["code"], "access_denied");
}

/// Shows: RFC 8628.
#[test]
fn a_device_code_that_expires_ends_the_wait() {
    let lifetimes = Lifetimes {
        device_code: Some(2),
        ..Lifetimes::default()
    };
    let Some(provider) = OidcProvider::start(lifetimes) else {
        return;
    };
    let cli = Cli::new();
    cli.create("tv", &device_config(&provider)).expect_code(0);
    let call = cli.start(&["authorize", "tv", "--device", "--no-browser", "--json"]);
    let error = call.finish().expect_code(4).error();
    assert!(text(&error, "message").contains("expired"), "{error}");
}

// ---- client authentication (RFC 7523, RFC 8705) -----------------------------

/// Shows: RFC 7521, RFC 7523 section 2.2.
#[test]
fn a_client_signs_its_assertion_by_every_algorithm() {
    let Some(provider) = provider() else { return };
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let key = provider.client_key(algorithm);
        for (form, content) in [("pem", key.pem.clone()), ("jwk", key.jwk.to_string())] {
            // PEM does not say which of the two RSA algorithms is meant.
            if (algorithm, form) == ("PS256", "pem") {
                continue;
            }
            let cli = Cli::new();
            let config = json!({
                "issuer": provider.issuer(),
                "client_id": format!("jwt-{}", algorithm.to_lowercase()),
                "grant_type": "client_credentials",
                "token_endpoint_auth_method": "private_key_jwt",
                "signing_key": key_file(&cli, "client.key", &content),
                "scope": "api:read",
            });
            provider.forget_requests();
            cli.create("machine", &config).expect_code(0);
            let token = cli.token("machine");
            assert!(provider.is_active(text(&token, "access_token")));
            let requests = provider.requests_to("/token");
            let request = requests.first().expect("a token request");
            assert_eq!(
                request.parameter("client_assertion_type"),
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            );
            assert!(
                !request.headers.contains_key("authorization"),
                "{algorithm} {form}"
            );
        }
    }
}

/// Shows: RFC 7521, RFC 7523 section 2.2.
#[test]
fn a_client_keys_its_assertion_with_the_secret() {
    let Some(provider) = provider() else { return };
    let cli = Cli::new();
    let secret = "jwt-secret-8f1d5c7790ab24e6c3d2b1a09f8e7d6c5b4a39281706f5e4";
    let config = json!({
        "issuer": provider.issuer(),
        "client_id": "jwt-secret",
        "client_secret": secret,
        "grant_type": "client_credentials",
        "token_endpoint_auth_method": "client_secret_jwt",
    });
    cli.create("machine", &config).expect_code(0);
    let token = cli.token("machine");
    assert!(provider.is_active(text(&token, "access_token")));
    let requests = provider.requests_to("/token");
    assert!(!format!("{requests:?}").contains(secret));
}

/// Shows: RFC 8705.
#[test]
fn a_client_shows_its_certificate() {
    if Part::Node.is_lacking() {
        return;
    }
    let certificates = Certificates::new();
    let Some(provider) = OidcProvider::start_with(Settings {
        certificates: Some(&certificates),
        ..Settings::default()
    }) else {
        return;
    };
    for (client, method, files) in [
        ("mtls", "tls_client_auth", "client"),
        (
            "mtls-self-signed",
            "self_signed_tls_client_auth",
            "self-signed",
        ),
    ] {
        let mut cli = Cli::new();
        let authority = certificates.file("ca.pem");
        cli.set(
            "SSL_CERT_FILE",
            authority.to_str().expect("a path in UTF-8"),
        );
        let read = |name: String| {
            fs::read_to_string(certificates.file(&name)).expect("a certificate or key")
        };
        let config = |certificate: &Value, key: &Value| {
            json!({
                "issuer": provider.issuer(),
                "client_id": client,
                "grant_type": "client_credentials",
                "token_endpoint_auth_method": method,
                "client_certificate": certificate,
                "client_certificate_key": key,
            })
        };
        let certificate = key_file(&cli, "own.pem", &read(format!("{files}.pem")));
        let key = key_file(&cli, "own.key", &read(format!("{files}.key")));
        cli.create("machine", &config(&certificate, &key))
            .expect_code(0);
        cli.token("machine");

        let stranger = key_file(&cli, "stranger.pem", &read("server.pem".to_owned()));
        let its_key = key_file(&cli, "stranger.key", &read("server.key".to_owned()));
        cli.create("stranger", &config(&stranger, &its_key))
            .expect_code(0);
        let error = cli
            .run(&["token", "stranger", "--json"])
            .expect_code(5)
            .error();
        assert_eq!(error["code"], "invalid_client", "{method}");

        let nothing = key_file(&cli, "nothing.pem", "");
        cli.create("nothing", &config(&nothing, &key))
            .expect_code(0);
        let error = cli
            .run(&["token", "nothing", "--json"])
            .expect_code(3)
            .error();
        assert!(error.to_string().contains("client_certificate"), "{error}");
    }
}

// ---- the authorization request (RFC 9126, RFC 9101, RFC 8707) ---------------

/// Shows: RFC 7636.
/// Shows: RFC 9126.
#[test]
fn an_authorization_request_is_pushed() {
    let Some(provider) = provider() else { return };
    let cli = Cli::new();
    let config = json!({
        "issuer": provider.issuer(),
        "client_id": "pushing",
        "client_secret": "pushing-secret-50c2",
        "redirect_uri": REDIRECT_URI,
        "scope": "openid api:read",
        "par": true,
    });
    cli.create("web", &config).expect_code(0);
    authorize(&cli, &provider, "web");
    let pushed = provider.requests_to("/request");
    assert_eq!(pushed.len(), 1);
    assert_eq!(pushed[0].parameter("code_challenge_method"), "S256");
    assert!(provider.is_active(text(&cli.token("web"), "access_token")));
}

/// Shows: RFC 9101.
#[test]
fn an_authorization_request_is_signed() {
    let Some(provider) = provider() else { return };
    let cli = Cli::new();
    let key = provider.client_key("ES256");
    let config = json!({
        "issuer": provider.issuer(),
        "client_id": "signing",
        "token_endpoint_auth_method": "private_key_jwt",
        "signing_key": key_file(&cli, "client.key", &key.pem),
        "redirect_uri": REDIRECT_URI,
        "scope": "openid api:read",
        "request_object": true,
    });
    cli.create("web", &config).expect_code(0);
    let url = authorization_url(&cli, "web");
    assert_eq!(query_parameter(&url, "request").split('.').count(), 3);
    let redirect = provider.decide(&url, Decision::Consent);
    cli.run(&["complete", "web", &redirect]).expect_code(0);
    assert!(provider.is_active(text(&cli.token("web"), "access_token")));
}

/// Shows: RFC 8707.
#[test]
fn a_token_is_for_the_resource_that_is_named() {
    let Some(provider) = provider() else { return };
    let cli = Cli::new();
    let config = json!({
        "issuer": provider.issuer(),
        "client_id": "machine-basic",
        "client_secret": "machine-basic-secret-77d0",
        "grant_type": "client_credentials",
        "scope": "api:read",
        "resource": "https://api.client.example/",
    });
    cli.create("machine", &config).expect_code(0);
    cli.token("machine");
    let requests = provider.requests_to("/token");
    assert_eq!(
        requests[0].parameter("resource"),
        "https://api.client.example/"
    );
    let elsewhere = with(config, json!({"resource": "https://elsewhere.example/"}));
    cli.create("elsewhere", &elsewhere).expect_code(0);
    let error = cli
        .run(&["token", "elsewhere", "--json"])
        .expect_code(5)
        .error();
    assert_eq!(error["code"], "invalid_target");
}

// ---- proofs (RFC 9449) -----------------------------------------------------

/// Shows: RFC 9449.
#[test]
fn a_token_is_bound_to_a_key_and_used_with_proofs_and_nonces() {
    for demands_nonces in [false, true] {
        let Some(provider) = OidcProvider::start_with(Settings {
            demands_nonces,
            ..Settings::default()
        }) else {
            return;
        };
        let cli = Cli::new();
        let key = provider.client_key("ES256");
        let config = json!({
            "issuer": provider.issuer(),
            "client_id": "bound",
            "token_endpoint_auth_method": "none",
            "signing_key": key_file(&cli, "client.key", &key.pem),
            "dpop": true,
            "redirect_uri": REDIRECT_URI,
            "scope": "openid api:read",
        });
        cli.create("web", &config).expect_code(0);
        authorize(&cli, &provider, "web");
        assert_eq!(cli.token("web")["token_type"], "DPoP");
        cli.run(&["refresh", "web"]).expect_code(0);

        // The userinfo endpoint is a resource like any other.
        let claims = cli.run(&["request", "web", &provider.url("/me"), "--fail"]);
        assert_eq!(claims.expect_code(0).json()["sub"], "alice");
        let requests = provider.requests_to("/me");
        let last = requests.last().expect("a request");
        assert!(last.headers["authorization"].starts_with("DPoP "));
        assert!(last.headers.contains_key("dpop"));
        // A header that can be copied would not do.
        cli.run(&["token", "web", "--header"]).expect_code(1);
    }
}

// ---- introspection and userinfo (RFC 7662, OpenID Connect Core 5.3) ---------

/// Shows: RFC 7662.
/// Shows: OpenID Connect Core section 5.3.
#[test]
fn the_server_tells_what_it_knows_of_token_and_user() {
    let Some(provider) = provider() else { return };
    let cli = crate::support::authorized_web(&provider);
    let known = cli.run(&["introspect", "web"]).expect_code(0).json();
    assert_eq!(known["active"], true);
    assert_eq!(known["client_id"], "web-basic");
    let claims = cli.run(&["userinfo", "web"]).expect_code(0).json();
    assert_eq!(claims["sub"], "alice");
    cli.run(&["revoke", "web"]).expect_code(0);
    cli.run(&["introspect", "web"]).expect_code(4);
}

// ---- registration and resources (RFC 7591, RFC 9728) ------------------------

/// Shows: RFC 7591.
/// Shows: RFC 9728.
#[test]
fn a_client_is_registered_where_the_resource_says() {
    let Some(provider) = provider() else { return };
    let resource = ScriptedServer::start();
    let url = resource.url("/orders");
    let metadata = resource.url("/metadata");
    resource.answer(
        "/orders",
        Answer::new(401, "text/plain", "no token").with_header(
            "www-authenticate",
            &format!("Bearer resource_metadata=\"{metadata}\""),
        ),
    );
    resource.answer(
        "/metadata",
        Answer::json(
            200,
            &json!({"resource": url, "authorization_servers": [provider.issuer()]}),
        ),
    );
    let cli = Cli::new();
    let created = cli.run(&[
        "create",
        "shop",
        "--for",
        &url,
        "--scope",
        "openid api:read",
        "--set",
        &format!("redirect_uri={REDIRECT_URI}"),
        "--set",
        "resource=null",
        "--json",
        "--register",
    ]);
    created.expect_code(0);
    let config = cli.run(&["show", "shop", "--json"]).expect_code(0).json();
    let config = config.get("config").unwrap_or(&config);
    assert_eq!(config["issuer"], provider.issuer());
    assert!(config["client_id"].is_string(), "{config}");
    authorize(&cli, &provider, "shop");
    assert!(provider.is_active(text(&cli.token("shop"), "access_token")));
}

// ---- the catalogue ----------------------------------------------------------

#[test]
fn a_provider_is_found_explained_and_used() {
    let cli = Cli::new();
    let all = cli.run(&["providers", "--json"]).expect_code(0).json();
    assert!(all.as_array().is_some_and(|all| all.len() >= 120));
    let found = cli.run(&["providers", "MICROSOFT"]).expect_code(0).stdout;
    assert!(
        found.contains("microsoft-entra") && !found.contains("google"),
        "{found}"
    );
    cli.run(&["providers", "no-such-thing"]).expect_code(2);

    let explained = cli.run(&["providers", "google"]).expect_code(0).stdout;
    for part in [
        "register at",
        "redirect URI",
        "accounts.google.com",
        "offline",
    ] {
        assert!(explained.contains(part), "no {part} in:\n{explained}");
    }
    let created = cli.run(&[
        "create",
        "mail",
        "--provider",
        "google",
        "--client-id",
        "abc",
        "--client-secret",
        "s",
        "--scope",
        "https://mail.google.com/",
    ]);
    created.expect_code(0);
    let begun = cli
        .start(&["authorize", "mail", "--no-browser", "--json"])
        .next_json();
    let url = text(&begun, "authorization_url");
    assert!(
        url.starts_with("https://accounts.google.com/o/oauth2/"),
        "{url}"
    );
    assert_eq!(query_parameter(url, "access_type"), "offline");
}

#[test]
fn a_parameter_that_smuggles_a_path_or_a_host_is_refused() {
    let cli = Cli::new();
    for tenant in ["a/b", "evil.example/x", "a?b", "a#b", "a@evil.example", ""] {
        let outcome = cli.run(&[
            "create",
            "work",
            "--provider",
            "microsoft-entra",
            "--client-id",
            "abc",
            "--parameter",
            &format!("tenant={tenant}"),
            "--json",
        ]);
        let error = outcome.expect_code(3).error();
        assert!(error.to_string().contains("parameters.tenant"), "{error}");
    }
}
