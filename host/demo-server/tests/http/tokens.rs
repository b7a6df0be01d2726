//! The token endpoint, revocation and the protected resource, over HTTP.

use std::time::Duration;

use crate::support::{Peer, VERIFIER, tokens_in};
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use tokenwell_demo_server::{Endpoint, GrantType, Options, TokenHash};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

#[tokio::test]
async fn a_code_brings_a_token_that_opens_the_resource() {
    let peer = Peer::start().await;
    let answer = peer.redeem(&peer.code().await, &[]).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 8);
    assert_eq!(body["scope"], "notes:read offline_access");
    let notes = peer.notes(&tokens_in(&answer).0).await;
    assert_eq!(notes.status, 200);
    assert_eq!(notes.json()["notes"][0]["id"], 1);
}

#[tokio::test]
async fn token_answers_are_dated_and_not_to_be_stored() {
    let peer = Peer::start().await;
    for answer in [
        peer.redeem(&peer.code().await, &[]).await,
        peer.refresh("unknown").await,
    ] {
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("content-type"), "application/json");
        assert!(answer.header("date").ends_with(" GMT"));
    }
}

#[tokio::test]
async fn a_wrong_verifier_is_refused_and_uses_the_code_up() {
    let peer = Peer::start().await;
    let code = peer.code().await;
    let wrong = "x".repeat(43);
    let answer = peer.redeem(&code, &[("code_verifier", &wrong)]).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, "invalid_grant")
    );
    assert_eq!(peer.redeem(&code, &[]).await.error(), "invalid_grant");
}

#[tokio::test]
async fn a_missing_or_malformed_verifier_is_refused() {
    let peer = Peer::start().await;
    let code = peer.code().await;
    for verifier in ["", "too-short", &format!("{VERIFIER}!"), &"a".repeat(129)] {
        let answer = peer.redeem(&code, &[("code_verifier", verifier)]).await;
        assert_eq!(answer.error(), "invalid_request", "{verifier}");
    }
}

#[tokio::test]
async fn another_redirect_uri_than_the_codes_is_refused() {
    let peer = Peer::start().await;
    let code = peer.code().await;
    let other = [("redirect_uri", "http://127.0.0.1:49153/oauth2")];
    assert_eq!(peer.redeem(&code, &other).await.error(), "invalid_grant");
}

#[tokio::test]
async fn a_code_used_twice_takes_back_what_it_brought() {
    let peer = Peer::start().await;
    let code = peer.code().await;
    let (access_token, refresh_token) = tokens_in(&peer.redeem(&code, &[]).await);
    assert_eq!(peer.redeem(&code, &[]).await.error(), "invalid_grant");
    assert_eq!(peer.notes(&access_token).await.status, 401);
    assert_eq!(peer.refresh(&refresh_token).await.error(), "invalid_grant");
}

#[tokio::test]
async fn an_expired_code_is_refused() {
    let code_lifetime = Duration::ZERO;
    let peer = Peer::with(Options {
        code_lifetime,
        ..Options::default()
    })
    .await;
    let code = peer.code().await;
    assert_eq!(peer.redeem(&code, &[]).await.error(), "invalid_grant");
}

#[tokio::test]
async fn a_refresh_rotates_the_refresh_token() {
    let peer = Peer::start().await;
    let (first_access, first_refresh) = peer.tokens().await;
    let answer = peer.refresh(&first_refresh).await;
    assert_eq!(answer.status, 200);
    let (second_access, second_refresh) = tokens_in(&answer);
    assert_ne!(first_access, second_access);
    assert_ne!(first_refresh, second_refresh);
    assert_eq!(peer.notes(&second_access).await.status, 200);
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_family() {
    let peer = Peer::start().await;
    let (_, first) = peer.tokens().await;
    let (access_token, second) = tokens_in(&peer.refresh(&first).await);
    assert_eq!(peer.refresh(&first).await.error(), "invalid_grant");
    assert_eq!(peer.refresh(&second).await.error(), "invalid_grant");
    assert_eq!(peer.notes(&access_token).await.status, 401);
}

#[tokio::test]
async fn the_end_of_one_family_leaves_another_alone() {
    let peer = Peer::start().await;
    let (_, stolen) = peer.tokens().await;
    let (access_token, refresh_token) = peer.tokens().await;
    peer.refresh(&stolen).await;
    peer.refresh(&stolen).await;
    assert_eq!(peer.notes(&access_token).await.status, 200);
    assert_eq!(peer.refresh(&refresh_token).await.status, 200);
}

#[tokio::test]
async fn a_refresh_may_narrow_the_scope_and_not_widen_it() {
    let peer = Peer::start().await;
    let (_, refresh_token) = peer.tokens().await;
    let client_id = peer.0.client_id();
    let refresh = |scope: &'static str| {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", client_id),
            ("refresh_token", &refresh_token),
            ("scope", scope),
        ];
        let peer = &peer;
        async move { peer.post("/token", &[], &form).await }
    };
    // What is refused does not use the refresh token up.
    assert_eq!(refresh("notes:read admin").await.error(), "invalid_scope");
    let answer = refresh("offline_access").await;
    assert_eq!(answer.json()["scope"], "offline_access");
    let notes = peer.notes(&tokens_in(&answer).0).await;
    assert_eq!(notes.status, 403);
    assert!(
        notes
            .header("www-authenticate")
            .contains("error=\"insufficient_scope\"")
    );
}

#[tokio::test]
async fn a_refresh_cannot_ask_for_a_scope_that_was_not_granted() {
    let peer = Peer::start().await;
    let code = peer.code_for(&[("scope", "notes:read")]).await;
    let (_, refresh_token) = tokens_in(&peer.redeem(&code, &[]).await);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", peer.0.client_id()),
        ("refresh_token", &refresh_token),
        ("scope", "notes:read offline_access"),
    ];
    assert_eq!(
        peer.post("/token", &[], &form).await.error(),
        "invalid_scope"
    );
}

#[tokio::test]
async fn client_credentials_bring_a_token_without_a_refresh_token() {
    let peer = Peer::start().await;
    let form = [("grant_type", "client_credentials")];
    let answer = peer
        .post("/token", &[(AUTHORIZATION, &peer.basic())], &form)
        .await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert!(body.get("refresh_token").is_none());
    let access_token = body["access_token"].as_str().expect("a token");
    assert_eq!(peer.notes(access_token).await.status, 200);
}

#[tokio::test]
async fn client_credentials_may_come_in_the_body() {
    let peer = Peer::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", peer.0.confidential_client_id()),
        ("client_secret", peer.0.confidential_client_secret()),
    ];
    assert_eq!(peer.post("/token", &[], &form).await.status, 200);
}

#[tokio::test]
async fn client_credentials_in_both_places_are_refused() {
    let peer = Peer::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_secret", peer.0.confidential_client_secret()),
    ];
    let answer = peer
        .post("/token", &[(AUTHORIZATION, &peer.basic())], &form)
        .await;
    assert_eq!(answer.error(), "invalid_request");
}

#[tokio::test]
async fn a_wrong_secret_is_an_invalid_client() {
    let peer = Peer::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", peer.0.confidential_client_id()),
        ("client_secret", "wrong"),
    ];
    let answer = peer.post("/token", &[], &form).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (401, "invalid_client")
    );
}

#[tokio::test]
async fn a_wrong_secret_in_the_header_is_answered_with_a_challenge() {
    let peer = Peer::start().await;
    let form = [("grant_type", "client_credentials")];
    // "a:b"
    let answer = peer
        .post("/token", &[(AUTHORIZATION, "Basic YTpi")], &form)
        .await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (401, "invalid_client")
    );
    assert!(answer.header("www-authenticate").starts_with("Basic "));
}

#[tokio::test]
async fn a_client_without_a_secret_has_no_client_credentials() {
    let peer = Peer::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", peer.0.client_id()),
    ];
    assert_eq!(
        peer.post("/token", &[], &form).await.error(),
        "unauthorized_client"
    );
}

#[tokio::test]
async fn the_confidential_client_cannot_use_anothers_code() {
    let peer = Peer::start().await;
    let code = peer.code().await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
    ];
    let answer = peer
        .post("/token", &[(AUTHORIZATION, &peer.basic())], &form)
        .await;
    assert_eq!(answer.error(), "unauthorized_client");
    assert_eq!(peer.redeem(&code, &[]).await.status, 200);
}

#[tokio::test]
async fn an_unknown_grant_type_is_not_supported() {
    let peer = Peer::start().await;
    let form = [
        ("grant_type", "password"),
        ("client_id", peer.0.client_id()),
    ];
    assert_eq!(
        peer.post("/token", &[], &form).await.error(),
        "unsupported_grant_type"
    );
}

#[tokio::test]
async fn a_missing_or_repeated_parameter_is_an_invalid_request() {
    let peer = Peer::start().await;
    let id = peer.0.client_id();
    assert_eq!(
        peer.post("/token", &[], &[("client_id", id)]).await.error(),
        "invalid_request"
    );
    let twice = [
        ("grant_type", "refresh_token"),
        ("client_id", id),
        ("client_id", id),
    ];
    assert_eq!(
        peer.post("/token", &[], &twice).await.error(),
        "invalid_request"
    );
}

#[tokio::test]
async fn a_body_that_is_no_form_is_an_invalid_request() {
    let peer = Peer::start().await;
    let json = [(CONTENT_TYPE, "application/json")];
    let answer = peer.send(Method::POST, "/token", &json, "{}").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, "invalid_request")
    );
}

#[tokio::test]
async fn an_expired_access_token_is_an_invalid_token() {
    let access_token_lifetime = Duration::ZERO;
    let peer = Peer::with(Options {
        access_token_lifetime,
        ..Options::default()
    })
    .await;
    let (access_token, _) = peer.tokens().await;
    let answer = peer.notes(&access_token).await;
    assert_eq!(answer.status, 401);
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer "), "{challenge}");
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
}

#[tokio::test]
async fn no_token_is_answered_with_a_challenge_without_an_error() {
    let peer = Peer::start().await;
    let answer = peer.get("/api/notes").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"notes\"");
}

#[tokio::test]
async fn an_access_token_in_the_query_is_not_looked_at() {
    let peer = Peer::start().await;
    let (access_token, _) = peer.tokens().await;
    let answer = peer
        .get(&format!("/api/notes?access_token={access_token}"))
        .await;
    assert_eq!(answer.status, 401);
}

async fn revoke(peer: &Peer, token: &str) -> u16 {
    let form = [("token", token), ("client_id", peer.0.client_id())];
    peer.post("/revoke", &[], &form).await.status
}

#[tokio::test]
async fn revoking_a_refresh_token_ends_its_family() {
    let peer = Peer::start().await;
    let (access_token, refresh_token) = peer.tokens().await;
    assert_eq!(revoke(&peer, &refresh_token).await, 200);
    assert_eq!(peer.notes(&access_token).await.status, 401);
    assert_eq!(peer.refresh(&refresh_token).await.error(), "invalid_grant");
}

#[tokio::test]
async fn revoking_an_access_token_leaves_the_refresh_token() {
    let peer = Peer::start().await;
    let (access_token, refresh_token) = peer.tokens().await;
    assert_eq!(revoke(&peer, &access_token).await, 200);
    assert_eq!(peer.notes(&access_token).await.status, 401);
    assert_eq!(peer.refresh(&refresh_token).await.status, 200);
}

#[tokio::test]
async fn revoking_an_unknown_token_succeeds() {
    let peer = Peer::start().await;
    assert_eq!(revoke(&peer, "never-issued").await, 200);
}

#[tokio::test]
async fn a_client_cannot_revoke_anothers_token() {
    let peer = Peer::start().await;
    let (access_token, refresh_token) = peer.tokens().await;
    for token in [&access_token, &refresh_token] {
        let form = [("token", token.as_str())];
        let answer = peer
            .post("/revoke", &[(AUTHORIZATION, &peer.basic())], &form)
            .await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (400, "invalid_grant")
        );
    }
    assert_eq!(peer.notes(&access_token).await.status, 200);
}

#[tokio::test]
async fn the_log_tells_of_rotation_and_shows_no_token() {
    let peer = Peer::start().await;
    let (_, first) = peer.tokens().await;
    let (access_token, second) = tokens_in(&peer.refresh(&first).await);
    peer.notes(&access_token).await;
    let log = peer.0.requests();
    let [.., refresh, resource] = log.as_slice() else {
        panic!("{log:?}")
    };
    assert_eq!(refresh.endpoint, Endpoint::Token);
    assert_eq!(refresh.grant_type, Some(GrantType::RefreshToken));
    assert_eq!(refresh.refresh_token_presented, Some(TokenHash::of(&first)));
    assert_eq!(refresh.refresh_token_issued, Some(TokenHash::of(&second)));
    assert_eq!(
        refresh.access_token_issued,
        Some(TokenHash::of(&access_token))
    );
    assert_eq!(
        resource.access_token_presented,
        Some(TokenHash::of(&access_token))
    );
    let shown = format!("{log:?}{:?}", peer.0);
    for secret in [
        &first,
        &second,
        &access_token,
        peer.0.confidential_client_secret(),
    ] {
        assert!(!shown.contains(secret));
    }
}

#[tokio::test]
async fn the_log_tells_the_error_that_was_answered() {
    let peer = Peer::start().await;
    peer.refresh("unknown").await;
    let log = peer.0.requests();
    let last = log.last().expect("an entry");
    assert_eq!((last.status, last.error), (400, Some("invalid_grant")));
}

#[tokio::test]
async fn a_dropped_server_closes_its_connections() {
    let peer = Peer::start().await;
    let address = peer.0.issuer().trim_start_matches("http://").to_owned();
    // An answer on it shows that the server has taken the connection.
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    let request = format!("GET /api/notes HTTP/1.1\r\nHost: {address}\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes())
        .await
        .expect("sent");
    let mut first = [0; 1];
    stream.read_exact(&mut first).await.expect("an answer");
    drop(peer);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("the end");
    assert!(rest.starts_with(b"TTP/1.1 401"));
}

#[tokio::test]
async fn a_stopped_server_listens_no_more() {
    let peer = Peer::start().await;
    let address = peer.0.issuer().trim_start_matches("http://").to_owned();
    peer.0.stop().await;
    let error = TcpStream::connect(address).await.expect_err("nobody there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
