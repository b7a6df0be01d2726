//! The harness itself: what the other tests stand on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use tokenwell_tests::{
    Answer, Browser, Decision, Lifetimes, OidcProvider, PATIENCE, ScriptedServer, query_parameter,
};

fn authorization_url(provider: &OidcProvider, redirect_uri: &str) -> String {
    let mut url = url::Url::parse(&provider.url("/auth")).expect("a URL");
    url.query_pairs_mut().extend_pairs([
        ("client_id", "native"),
        ("response_type", "code"),
        ("redirect_uri", redirect_uri),
        ("scope", "openid"),
        ("state", "some-state"),
        (
            "code_challenge",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        ),
        ("code_challenge_method", "S256"),
    ]);
    url.into()
}

/// Sends a request as raw bytes.
fn send(server: &ScriptedServer, path: &str) -> TcpStream {
    let url = url::Url::parse(&server.url(path)).expect("a URL");
    let address = url.socket_addrs(|| None).expect("an address")[0];
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
    )
    .expect("sent");
    stream
}

/// Everything that comes before the server closes the connection.
fn whole_answer(server: &ScriptedServer, path: &str) -> String {
    let mut received = Vec::new();
    send(server, path)
        .read_to_end(&mut received)
        .expect("the server closes the connection");
    String::from_utf8_lossy(&received).into_owned()
}

/// Whether nothing comes for a while and the connection stays open.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a timeout");
    stream.read(&mut [0]).is_err()
}

#[test]
fn a_user_gets_through_the_real_server_in_the_real_browser() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let Some(browser) = Browser::find() else {
        return;
    };
    let client = ScriptedServer::start();
    client.answer(
        "/oauth2",
        Answer::new(200, "text/html", "<title>Back</title>at the client"),
    );
    let url = authorization_url(&provider, &client.url("/oauth2"));
    let page = browser.decide(&url, Decision::Consent, None);
    assert_eq!(
        (page.title.as_str(), page.text.as_str()),
        ("Back", "at the client")
    );
    assert_eq!(query_parameter(&page.url, "state"), "some-state");
    assert!(!query_parameter(&page.url, "code").is_empty());
    let page = browser.decide(&url, Decision::Deny, None);
    assert_eq!(query_parameter(&page.url, "error"), "access_denied");
}

#[test]
fn a_user_gets_through_the_real_server_without_a_browser() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let url = authorization_url(&provider, "http://127.0.0.1:1/oauth2");
    let redirect = provider.decide(&url, Decision::Consent);
    assert!(
        redirect.starts_with("http://127.0.0.1:1/oauth2?"),
        "{redirect}"
    );
    assert!(!query_parameter(&redirect, "code").is_empty());
    assert_eq!(query_parameter(&redirect, "iss"), provider.issuer());
    let redirect = provider.decide(&url, Decision::Deny);
    assert_eq!(query_parameter(&redirect, "error"), "access_denied");
}

#[test]
fn the_real_server_tells_what_clients_sent() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    assert!(!provider.is_active("no token of this server"));
    let seen = provider.requests_to("/token/introspection");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].parameter("token"), "no token of this server");
    assert!(seen[0].headers["authorization"].starts_with("Basic "));
    provider.forget_requests();
    assert!(provider.requests().is_empty());
}

#[test]
fn a_scripted_server_answers_by_its_script_and_remembers() {
    let server = ScriptedServer::start();
    server.answer(
        "/token",
        Answer::json(201, &json!({"a": 1})).with_header("x-more", "yes"),
    );
    let received = whole_answer(&server, "/token");
    assert!(received.starts_with("HTTP/1.1 201 "), "{received}");
    assert!(
        received.contains("x-more: yes") && received.ends_with(r#"{"a":1}"#),
        "{received}"
    );
    assert_eq!(server.only_request_to("/token").method, "GET");
    assert!(whole_answer(&server, "/other").starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_scripted_server_breaks_off_in_the_middle() {
    let server = ScriptedServer::start();
    server.answer(
        "/half",
        Answer::half_then_reset(&json!({"access_token": "never whole"})),
    );
    let half = whole_answer(&server, "/half");
    assert!(
        half.contains(r#"{"access_t"#) && !half.contains("whole"),
        "{half}"
    );
}

#[test]
fn a_scripted_server_closes_without_an_answer() {
    let server = ScriptedServer::start();
    server.answer("/close", Answer::close());
    assert_eq!(whole_answer(&server, "/close"), "");
}

#[test]
fn a_scripted_server_hangs() {
    let server = ScriptedServer::start();
    server.answer("/hang", Answer::hang());
    assert!(is_silent(&mut send(&server, "/hang")));
}

#[test]
fn a_scripted_server_stalls_in_the_middle() {
    let server = ScriptedServer::start();
    server.answer(
        "/stall",
        Answer::half_then_stall(&json!({"access_token": "never whole"})),
    );
    let mut stream = send(&server, "/stall");
    let mut received = Vec::new();
    while !received.ends_with(br#"{"access_token""#) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("the first half"), 1);
        received.extend(byte);
    }
    assert!(is_silent(&mut stream));
}

#[test]
fn a_scripted_server_sends_without_end() {
    let server = ScriptedServer::start();
    server.answer("/endless", Answer::endless());
    let mut received = vec![0; 4 * 1024 * 1024];
    send(&server, "/endless")
        .read_exact(&mut received)
        .expect("more than any limit allows");
}
