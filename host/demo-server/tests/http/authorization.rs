//! The authorization endpoint and its page, over HTTP.

use crate::support::{Peer, REDIRECT_URI, form_token, parameters};
use hyper::Method;
use hyper::header::{CONTENT_TYPE, COOKIE, HOST};
use tokenwell_demo_server::{DemoServer, Endpoint, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::test]
async fn metadata_names_the_issuer_it_is_fetched_from() {
    let peer = Peer::start().await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        let answer = peer.get(path).await;
        assert_eq!(answer.status, 200);
        let metadata = answer.json();
        assert_eq!(metadata["issuer"], peer.0.issuer());
        assert_eq!(
            metadata["code_challenge_methods_supported"],
            serde_json::json!(["S256"])
        );
        assert_eq!(
            metadata["authorization_response_iss_parameter_supported"],
            true
        );
        assert_eq!(
            metadata["token_endpoint"],
            format!("{}/token", peer.0.issuer())
        );
    }
}

#[tokio::test]
async fn consent_sends_the_user_back_with_code_state_and_issuer() {
    let peer = Peer::start().await;
    let url = format!("{}{}", peer.0.issuer(), peer.authorization_target(&[]));
    let callback = peer.0.consent(&url).await.expect("consent");
    assert!(
        callback.starts_with(&format!("{REDIRECT_URI}?")),
        "{callback}"
    );
    let parameters = parameters(&callback);
    assert_eq!(parameters["state"], "the state & more");
    assert_eq!(parameters["iss"], peer.0.issuer());
    assert_eq!(parameters["code"].len(), 43);
}

#[tokio::test]
async fn consent_to_another_servers_url_is_refused() {
    let peer = Peer::start().await;
    let other = Peer::start().await;
    let url = format!("{}{}", other.0.issuer(), other.authorization_target(&[]));
    assert!(peer.0.consent(&url).await.is_err());
    assert!(other.0.requests().is_empty());
}

#[tokio::test]
async fn denying_sends_access_denied_with_state_and_issuer_and_needs_no_password() {
    let peer = Peer::start().await;
    let (cookie, token) = peer.open_page().await;
    let answer = peer
        .decide(&cookie, &[("form_token", &token), ("decision", "deny")])
        .await;
    assert_eq!(answer.status, 303);
    let redirect = answer.redirect();
    assert_eq!(redirect["error"], "access_denied");
    assert_eq!(redirect["state"], "the state & more");
    assert_eq!(redirect["iss"], peer.0.issuer());
    assert!(!redirect.contains_key("code"));
}

#[tokio::test]
async fn a_form_token_works_once() {
    let peer = Peer::start().await;
    let (cookie, token) = peer.open_page().await;
    let form = [
        ("form_token", token.as_str()),
        ("user", "demo"),
        ("password", "x"),
        ("decision", "allow"),
    ];
    assert_eq!(peer.decide(&cookie, &form).await.status, 303);
    assert_eq!(peer.decide(&cookie, &form).await.status, 403);
}

#[tokio::test]
async fn a_form_without_its_token_is_refused() {
    let peer = Peer::start().await;
    let (cookie, _) = peer.open_page().await;
    let form = [("user", "demo"), ("password", "x"), ("decision", "allow")];
    assert_eq!(peer.decide(&cookie, &form).await.status, 403);
}

#[tokio::test]
async fn a_form_from_another_browser_is_refused_and_the_page_still_works() {
    let peer = Peer::start().await;
    let (cookie, token) = peer.open_page().await;
    let (other_cookie, _) = peer.open_page().await;
    let form = [
        ("form_token", token.as_str()),
        ("user", "demo"),
        ("password", "x"),
        ("decision", "allow"),
    ];
    assert_eq!(peer.decide(&other_cookie, &form).await.status, 403);
    assert_eq!(peer.post("/sign-in", &[], &form).await.status, 403);
    assert_eq!(peer.decide(&cookie, &form).await.status, 303);
}

#[tokio::test]
async fn one_browser_can_have_two_pages_open() {
    let peer = Peer::start().await;
    let (cookie, first) = peer.open_page().await;
    let target = peer.authorization_target(&[]);
    let page = peer
        .send(Method::GET, &target, &[(COOKIE, &cookie)], "")
        .await;
    assert!(!page.headers.contains_key("set-cookie"));
    for token in [first, form_token(&page.body)] {
        let form = [
            ("form_token", token.as_str()),
            ("user", "demo"),
            ("password", "x"),
            ("decision", "allow"),
        ];
        assert_eq!(peer.decide(&cookie, &form).await.status, 303);
    }
}

#[tokio::test]
async fn an_unknown_user_is_told_so_and_can_try_again() {
    let peer = Peer::start().await;
    let (cookie, token) = peer.open_page().await;
    let form = [
        ("form_token", token.as_str()),
        ("user", "<Eve>"),
        ("password", "x"),
        ("decision", "allow"),
    ];
    let answer = peer.decide(&cookie, &form).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("There is no such user here"));
    assert!(answer.body.contains("value=\"&lt;Eve&gt;\""));
    assert!(!answer.body.contains("<Eve>"));
    let again = form_token(&answer.body);
    assert_ne!(again, token);
    let form = [
        ("form_token", again.as_str()),
        ("user", "demo"),
        ("password", "x"),
        ("decision", "allow"),
    ];
    assert!(
        peer.decide(&cookie, &form)
            .await
            .redirect()
            .contains_key("code")
    );
}

#[tokio::test]
async fn signing_in_without_a_password_is_refused() {
    let peer = Peer::start().await;
    let (cookie, token) = peer.open_page().await;
    let form = [
        ("form_token", token.as_str()),
        ("user", "demo"),
        ("password", ""),
        ("decision", "allow"),
    ];
    assert_eq!(peer.decide(&cookie, &form).await.status, 422);
}

#[tokio::test]
async fn the_page_is_sent_under_a_strict_policy() {
    let peer = Peer::start().await;
    let page = peer.authorize(&[]).await;
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "style-src 'sha256-",
        "form-action 'self' http://127.0.0.1:49152;",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let cookie = page.header("set-cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
}

#[tokio::test]
async fn a_login_hint_is_filled_in_and_escaped() {
    let peer = Peer::start().await;
    let page = peer.authorize(&[("login_hint", "\"><script>")]).await;
    assert!(page.body.contains("value=\"&quot;&gt;&lt;script&gt;\""));
    assert!(!page.body.contains("<script"));
}

/// Asserts that the user is told and nobody is sent anywhere.
async fn assert_no_redirect(peer: &Peer, changes: &[(&str, &str)]) {
    let answer = peer.authorize(changes).await;
    assert_eq!(answer.status, 400, "{changes:?}");
    assert!(!answer.headers.contains_key("location"));
    assert!(answer.body.contains("This request cannot be answered"));
}

#[tokio::test]
async fn an_unknown_client_is_not_redirected() {
    let peer = Peer::start().await;
    assert_no_redirect(&peer, &[("client_id", "somebody-else")]).await;
    assert_no_redirect(&peer, &[("client_id", "")]).await;
    assert_no_redirect(&peer, &[("client_id", peer.0.confidential_client_id())]).await;
}

#[tokio::test]
async fn an_unregistered_redirect_uri_is_not_redirected_to() {
    let peer = Peer::start().await;
    for uri in [
        "",
        "http://127.0.0.1:49152/oauth2/",
        "http://127.0.0.1:49152/oauth2?a=b",
        "http://127.0.0.1:49152/OAUTH2",
        "https://127.0.0.1:49152/oauth2",
        "http://localhost:49152/oauth2",
        "http://127.0.0.1:49152@evil.example/oauth2",
        "http://127.0.0.1.evil.example/oauth2",
    ] {
        assert_no_redirect(&peer, &[("redirect_uri", uri)]).await;
    }
}

#[tokio::test]
async fn a_loopback_redirect_uri_may_have_any_port() {
    let peer = Peer::start().await;
    for uri in [
        "http://127.0.0.1:1/oauth2",
        "http://127.0.0.1/oauth2",
        "http://[::1]:65535/oauth2",
    ] {
        assert_eq!(
            peer.authorize(&[("redirect_uri", uri)]).await.status,
            200,
            "{uri}"
        );
    }
}

#[tokio::test]
async fn the_port_of_another_redirect_uri_must_be_the_registered_one() {
    let redirect_uris = vec!["https://client.example/callback".to_owned()];
    let peer = Peer::with(Options {
        redirect_uris,
        ..Options::default()
    })
    .await;
    let good = [("redirect_uri", "https://client.example/callback")];
    assert_eq!(peer.authorize(&good).await.status, 200);
    assert_no_redirect(
        &peer,
        &[("redirect_uri", "https://client.example:8443/callback")],
    )
    .await;
}

#[tokio::test]
async fn a_redirect_uri_that_is_none_keeps_the_server_from_starting() {
    let redirect_uris = vec!["https://client.example/#fragment".to_owned()];
    let error = DemoServer::start(Options {
        redirect_uris,
        ..Options::default()
    })
    .await
    .err();
    assert_eq!(
        error.expect("an error").kind(),
        std::io::ErrorKind::InvalidInput
    );
}

/// Asserts that the client is told by redirect.
async fn assert_error_redirect(changes: &[(&str, &str)], error: &str) {
    let peer = Peer::start().await;
    let answer = peer.authorize(changes).await;
    assert_eq!(answer.status, 303, "{changes:?}");
    assert!(
        answer
            .header("location")
            .starts_with(&format!("{REDIRECT_URI}?"))
    );
    let redirect = answer.redirect();
    assert_eq!(redirect["error"], error, "{changes:?}");
    assert_eq!(redirect["state"], "the state & more");
    assert_eq!(redirect["iss"], peer.0.issuer());
}

#[tokio::test]
async fn a_request_without_pkce_is_refused() {
    assert_error_redirect(&[("code_challenge", "")], "invalid_request").await;
}

#[tokio::test]
async fn the_plain_challenge_method_is_refused() {
    assert_error_redirect(&[("code_challenge_method", "plain")], "invalid_request").await;
    // Left out, it means plain (RFC 7636 section 4.3).
    assert_error_redirect(&[("code_challenge_method", "")], "invalid_request").await;
}

#[tokio::test]
async fn a_challenge_that_is_no_digest_is_refused() {
    assert_error_redirect(&[("code_challenge", "short")], "invalid_request").await;
}

#[tokio::test]
async fn another_response_type_is_refused() {
    assert_error_redirect(&[("response_type", "token")], "unsupported_response_type").await;
    assert_error_redirect(&[("response_type", "")], "invalid_request").await;
}

#[tokio::test]
async fn an_unknown_scope_is_refused() {
    assert_error_redirect(&[("scope", "notes:read admin")], "invalid_scope").await;
}

#[tokio::test]
async fn a_silent_request_is_told_that_nobody_is_signed_in() {
    assert_error_redirect(&[("prompt", "none")], "login_required").await;
}

#[tokio::test]
async fn a_request_object_is_not_supported() {
    assert_error_redirect(&[("request", "ey")], "request_not_supported").await;
    assert_error_redirect(&[("request_uri", "urn:x")], "request_uri_not_supported").await;
}

#[tokio::test]
async fn a_repeated_parameter_is_refused() {
    let peer = Peer::start().await;
    let twice = format!("{}&scope=notes%3Aread", peer.authorization_target(&[]));
    assert_eq!(
        peer.get(&twice).await.redirect()["error"],
        "invalid_request"
    );
}

#[tokio::test]
async fn a_repeated_redirect_uri_is_not_redirected_to() {
    let peer = Peer::start().await;
    let twice = format!(
        "{}&redirect_uri=http%3A%2F%2F127.0.0.1%2Foauth2",
        peer.authorization_target(&[])
    );
    let answer = peer.get(&twice).await;
    assert_eq!(answer.status, 400);
    assert!(!answer.headers.contains_key("location"));
}

#[tokio::test]
async fn another_host_name_is_misdirected() {
    let peer = Peer::start().await;
    let target = peer.authorization_target(&[]);
    let answer = peer
        .send(Method::GET, &target, &[(HOST, "rebound.example")], "")
        .await;
    assert_eq!(answer.status, 421);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let peer = Peer::start().await;
    for (method, target, allowed) in [
        (Method::POST, "/authorize", "GET"),
        (Method::GET, "/token", "POST"),
        (Method::GET, "/revoke", "POST"),
        (Method::DELETE, "/api/notes", "GET"),
    ] {
        let answer = peer.send(method, target, &[], "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, allowed),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let peer = Peer::start().await;
    let body = "a".repeat(70_000);
    let form = [(CONTENT_TYPE, "application/x-www-form-urlencoded")];
    let answer = peer.send(Method::POST, "/sign-in", &form, &body).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn the_log_tells_page_and_decision() {
    let peer = Peer::start().await;
    peer.code().await;
    let log = peer.0.requests();
    let seen: Vec<_> = log.iter().map(|r| (r.endpoint, r.status)).collect();
    assert_eq!(
        seen,
        [(Endpoint::Authorization, 200), (Endpoint::Decision, 303)]
    );
}

#[tokio::test]
async fn consent_is_followed_to_the_clients_page() {
    let peer = Peer::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let callback = format!("http://{}/oauth2", listener.local_addr().expect("it"));
    let target = peer.authorization_target(&[("redirect_uri", &callback)]);
    let url = format!("{}{target}", peer.0.issuer());
    let client = async {
        let (mut stream, _) = listener.accept().await.expect("a browser");
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.expect("a request");
        let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        stream.write_all(answer).await.expect("sent");
        String::from_utf8_lossy(&request[..length]).into_owned()
    };
    let (status, request) = tokio::join!(peer.0.consent_and_follow(&url), client);
    assert_eq!(status.expect("a page"), 204);
    assert!(request.starts_with("GET /oauth2?code="), "{request}");
}
