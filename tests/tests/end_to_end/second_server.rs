//! The grants against a second real authorization server, which has no code in
//! common with the first: Authlib.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokenwell_tests::{AuthlibServer, Cli, Decision, RecordedRequest, eventually};

use crate::support::{REDIRECT_URI, begin, key_file, text, with};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The only request to the token endpoint so far.
#[track_caller]
fn only_token_request(server: &AuthlibServer) -> RecordedRequest {
    let mut requests = server.requests_to("/token");
    assert_eq!(requests.len(), 1, "the number of token requests");
    requests.remove(0)
}

/// The last request to the token endpoint, which is the one of that number.
#[track_caller]
fn token_request(server: &AuthlibServer, number: usize) -> RecordedRequest {
    let mut requests = server.requests_to("/token");
    assert_eq!(requests.len(), number, "the number of token requests");
    requests.remove(number - 1)
}

/// Insists that the server named the error and said nothing more.
#[track_caller]
fn expect_bare(request: &RecordedRequest, error: &str) {
    let body = request.response.as_ref().expect("a body in JSON");
    let members: Vec<_> = body
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    assert_eq!(members, [("error", &json!(error))]);
}

// ---- JWT bearer (RFC 7523 section 2.1) ------------------------------------------

fn robot(server: &AuthlibServer, algorithm: &str, key: Value) -> Value {
    json!({
        "issuer": server.issuer(),
        "client_id": format!("robot-{}", algorithm.to_lowercase()),
        "grant_type": "jwt_bearer",
        "assertion_subject": "alice",
        "signing_key": key,
        "scope": "read",
    })
}

/// The claims of an assertion, whose signature is for the server to verify.
fn claims(assertion: &str) -> Value {
    let payload = assertion.split('.').nth(1).expect("a JWT");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("claims in JSON")
}

/// Shows: RFC 7521, RFC 7523 section 2.1.
#[test]
fn an_assertion_that_the_component_signed_is_exchanged_for_a_token() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    for (made, algorithm) in ["ES256", "RS256"].into_iter().enumerate() {
        let cli = Cli::new();
        let key = server.client_key(algorithm).jwk.to_string();
        let config = robot(&server, algorithm, key_file(&cli, "robot.key", &key));
        cli.create("robot", &config).expect_code(0);
        let token = cli.token("robot");
        let known = server.introspect(text(&token, "access_token"));
        assert_eq!(
            (&known["active"], &known["sub"]),
            (&json!(true), &json!("alice"))
        );
        assert_eq!(known["scope"], "read");

        let request = token_request(&server, 2 * made + 1);
        assert_eq!(
            request.parameter("grant_type"),
            "urn:ietf:params:oauth:grant-type:jwt-bearer"
        );
        let first = claims(request.parameter("assertion"));
        assert_eq!(first["iss"], config["client_id"]);
        assert_eq!(first["sub"], "alice");
        assert_eq!(first["aud"], server.url("/token"));
        assert!(first["exp"].as_u64() > first["iat"].as_u64(), "{first}");

        // There is no refresh token: it is the grant that is run again.
        assert_eq!(token["refreshable"], true);
        cli.run(&["refresh", "robot"]).expect_code(0);
        let again = token_request(&server, 2 * made + 2);
        assert_ne!(claims(again.parameter("assertion"))["jti"], first["jti"]);
    }
}

/// Shows: RFC 7521, RFC 7523 section 2.1.
#[test]
fn an_assertion_signed_with_the_key_of_another_is_refused() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    let strange = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let config = robot(&server, "ES256", key_file(&cli, "robot.key", &strange));
    cli.create("robot", &config).expect_code(0);
    let outcome = cli.run(&["token", "robot", "--json"]);
    assert_eq!(outcome.expect_code(5).error()["code"], "invalid_grant");
    let claims = claims(only_token_request(&server).parameter("assertion"));
    assert_eq!(claims["iss"], "robot-es256");
}

// ---- password (RFC 6749 section 4.3) ----------------------------------------------

/// The client `legacy`, with the fields of a grant.
fn legacy_with(server: &AuthlibServer, grant: Value) -> Value {
    let client = json!({
        "issuer": server.issuer(),
        "client_id": "legacy",
        "client_secret": "legacy-secret-20f7",
        "scope": "read write",
    });
    with(client, grant)
}

fn legacy(server: &AuthlibServer) -> Value {
    let alice = json!({"grant_type": "password", "username": "alice", "password": "wonderland"});
    legacy_with(server, alice)
}

/// Shows: RFC 6749 section 2.3.1.
/// Shows: RFC 6749 section 4.3.
/// Shows: RFC 6749 section 6.
#[test]
fn a_password_is_sent_once_and_the_refresh_token_ever_after() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    cli.create("legacy", &legacy(&server)).expect_code(0);
    let first = cli.token("legacy");
    let request = only_token_request(&server);
    for (name, value) in [
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", "wonderland"),
        ("scope", "read write"),
        ("client_secret", ""),
    ] {
        assert_eq!(request.parameter(name), value, "{name}");
    }
    assert!(request.headers["authorization"].starts_with("Basic "));
    let refresh_token = request.issued("refresh_token").expect("a refresh token");

    cli.run(&["refresh", "legacy"]).expect_code(0);
    let renewal = token_request(&server, 2);
    assert_eq!(renewal.parameter("grant_type"), "refresh_token");
    assert_eq!(renewal.parameter("refresh_token"), refresh_token);
    assert_eq!(renewal.parameter("password"), "");
    let second = cli.token("legacy");
    assert_eq!(
        renewal.issued("access_token"),
        second["access_token"].as_str()
    );
    let known = |token: &Value| server.introspect(text(token, "access_token"));
    assert_eq!(known(&second)["sub"], "alice");
    assert_eq!(known(&first)["active"], false);
}

/// Shows: RFC 6749 section 4.3.
#[test]
fn a_wrong_password_is_refused_in_the_servers_own_words() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    let config = with(legacy(&server), json!({"password": "looking-glass"}));
    cli.create("legacy", &config).expect_code(0);
    let error = cli
        .run(&["token", "legacy", "--json"])
        .expect_code(5)
        .error();
    let request = only_token_request(&server);
    assert_eq!(request.parameter("password"), "looking-glass");
    assert_eq!(error["code"].as_str(), request.issued("error"));
    let description = request.issued("error_description").expect("a description");
    assert!(text(&error, "message").contains(description), "{error}");
}

// ---- device codes (RFC 8628) --------------------------------------------------

/// A device that has begun to wait for its user: the call, and the code it shows.
fn device(server: &AuthlibServer, cli: &Cli) -> (tokenwell_tests::Running, String) {
    let config = json!({
        "issuer": server.issuer(),
        "client_id": "tv",
        "grant_type": "device_code",
        "scope": "read",
    });
    cli.create("tv", &config).expect_code(0);
    let mut call = cli.start(&["authorize", "tv", "--device", "--no-browser", "--json"]);
    let shown = call.next_json();
    assert_eq!(shown["verification_uri"], server.url("/device"));
    (call, text(&shown, "user_code").to_owned())
}

/// What the server said to each poll: the error, or nothing with a token.
fn answers(server: &AuthlibServer) -> Vec<Option<String>> {
    let polls = server.requests_to("/token");
    let answers = polls
        .iter()
        .map(|poll| poll.issued("error").map(str::to_owned));
    answers.collect()
}

/// Shows: RFC 8628 section 3.5.
#[test]
fn a_device_that_is_told_to_slow_down_waits_longer_until_it_has_its_token() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    let (call, user_code) = device(&server, &cli);
    // Once the user has decided, this server minds no poll: not before the second.
    eventually("the second poll", || {
        (answers(&server).len() >= 2).then_some(())
    });
    server.decide_for_device(&user_code, Decision::Consent);
    call.finish().expect_code(0);

    let polls = server.requests_to("/token");
    for poll in &polls {
        assert_eq!(
            poll.parameter("grant_type"),
            "urn:ietf:params:oauth:grant-type:device_code"
        );
        assert_eq!(poll.parameter("client_id"), "tv");
    }
    // The server says it to the first poll, and would say it again to one that
    // comes after the interval it named at first.
    expect_bare(&polls[0], "slow_down");
    let later = &answers(&server)[1..];
    assert!(!later.contains(&Some("slow_down".to_owned())), "{later:?}");
    assert_eq!(later.last(), Some(&None));
    let token = cli.token("tv");
    assert_eq!(
        server.introspect(text(&token, "access_token"))["sub"],
        "alice"
    );
}

/// Shows: RFC 8628.
#[test]
fn a_device_whose_user_says_no_is_denied() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    let (call, user_code) = device(&server, &cli);
    server.decide_for_device(&user_code, Decision::Deny);
    let error = call.finish().expect_code(5).error();
    assert_eq!(error["code"], "access_denied");
    assert_eq!(
        answers(&server).last(),
        Some(&Some("access_denied".to_owned()))
    );
}

// ---- bare error bodies (RFC 6749 section 5.2) -----------------------------------

/// Shows: RFC 6749 section 4.5.
/// Shows: RFC 6749 section 5.2.
#[test]
fn an_error_without_a_description_says_what_is_to_be_done_all_the_same() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    let config = legacy_with(&server, json!({"grant_type": "urn:example:no-such-grant"}));
    cli.create("legacy", &config).expect_code(0);
    let error = cli
        .run(&["token", "legacy", "--json"])
        .expect_code(5)
        .error();
    expect_bare(&only_token_request(&server), "unsupported_grant_type");
    assert_eq!(error["code"], "unsupported_grant_type");
    let message = text(&error, "message");
    assert!(message.contains("unsupported_grant_type"), "{message}");
    assert!(
        !message.contains("null") && !message.contains("None"),
        "{message}"
    );
}

/// Shows: RFC 6749 section 5.2.
#[test]
fn a_refresh_token_that_the_server_knows_no_more_ends_the_authorization() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    let given = json!({"grant_type": "refresh_token", "refresh_token": "long-gone-8d21"});
    let config = legacy_with(&server, given);
    cli.create("legacy", &config).expect_code(0);
    let outcome = cli.run(&["token", "legacy", "--json"]).expect_code(4);
    let request = only_token_request(&server);
    assert_eq!(request.parameter("refresh_token"), "long-gone-8d21");
    expect_bare(&request, "invalid_grant");
    let error = outcome.error();
    assert!(error.to_string().contains("invalid_grant"), "{error}");
    assert!(!error.to_string().contains("long-gone-8d21"), "{error}");
    // It is not sent a second time.
    cli.run(&["token", "legacy", "--json"]).expect_code(4);
    only_token_request(&server);
}

// ---- token exchange (RFC 8693) ---------------------------------------------------

fn gateway(server: &AuthlibServer, subject_token: &str) -> Value {
    json!({
        "issuer": server.issuer(),
        "client_id": "gateway",
        "client_secret": "gateway-secret-b83e",
        "grant_type": "token_exchange",
        "subject_token": subject_token,
        "subject_token_type": ACCESS_TOKEN,
        "requested_token_type": ACCESS_TOKEN,
        "audience": "orders",
        "scope": "read",
    })
}

/// Shows: RFC 8693.
#[test]
fn a_token_is_exchanged_for_a_narrower_one_on_behalf_of_its_user() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    cli.create("legacy", &legacy(&server)).expect_code(0);
    let subject = text(&cli.token("legacy"), "access_token").to_owned();
    let config = gateway(&server, &subject);
    cli.create("gateway", &config).expect_code(0);
    let token = cli.token("gateway");
    assert_eq!(token["scope"], "read");
    let known = server.introspect(text(&token, "access_token"));
    assert_eq!(
        (&known["sub"], &known["client_id"], &known["scope"]),
        (&json!("alice"), &json!("gateway"), &json!("read"))
    );
    let request = token_request(&server, 2);
    for (name, value) in [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("subject_token", &subject),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("audience", "orders"),
        ("actor_token", ""),
        ("actor_token_type", ""),
    ] {
        assert_eq!(request.parameter(name), value, "{name}");
    }

    let acting = with(
        config,
        json!({"actor_token": subject, "actor_token_type": ACCESS_TOKEN}),
    );
    cli.create("acting", &acting).expect_code(0);
    cli.token("acting");
    let request = token_request(&server, 3);
    assert_eq!(request.parameter("actor_token"), subject);
    assert_eq!(request.parameter("actor_token_type"), ACCESS_TOKEN);
}

/// Shows: RFC 8693.
#[test]
fn a_subject_token_that_the_server_does_not_know_is_refused() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    let config = gateway(&server, "nobody's-token-61c0");
    cli.create("gateway", &config).expect_code(0);
    let error = cli
        .run(&["token", "gateway", "--json"])
        .expect_code(5)
        .error();
    assert_eq!(error["code"], "invalid_request");
    assert!(
        !error.to_string().contains("nobody's-token-61c0"),
        "{error}"
    );
    assert_eq!(
        only_token_request(&server).parameter("subject_token"),
        "nobody's-token-61c0"
    );
}

// ---- the authorization code (RFC 6749 section 4.1) -------------------------------

fn web(server: &AuthlibServer) -> Value {
    json!({
        "issuer": server.issuer(),
        "client_id": "web",
        "client_secret": "web-secret-5a1c",
        "redirect_uri": REDIRECT_URI,
        "scope": "read",
    })
}

/// Shows: RFC 6749 section 4.1.
/// Shows: RFC 7009.
/// Shows: RFC 7636.
/// Shows: RFC 7662.
/// Shows: RFC 8414.
/// Shows: RFC 9207.
#[test]
fn a_server_whose_metadata_is_where_rfc_8414_puts_it_is_found_and_used() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    cli.create("web", &web(&server)).expect_code(0);
    let begun = begin(&cli, "web");
    let elsewhere = server.requests_to("/.well-known/openid-configuration");
    assert!(elsewhere.iter().all(|request| request.status == Some(404)));
    assert!(
        begun
            .authorization_url
            .starts_with(&server.url("/authorize?"))
    );
    let redirect = server.decide(&begun.authorization_url, Decision::Consent);
    assert_eq!(
        tokenwell_tests::query_parameter(&redirect, "iss"),
        server.issuer()
    );
    cli.run(&["complete", "web", &redirect]).expect_code(0);
    // The server has held it against the challenge.
    let request = only_token_request(&server);
    assert_eq!(request.parameter("grant_type"), "authorization_code");
    assert!((43..=128).contains(&request.parameter("code_verifier").len()));

    let first = cli.token("web");
    cli.run(&["refresh", "web"]).expect_code(0);
    let second = cli.token("web");
    assert_ne!(first["access_token"], second["access_token"]);
    let known = cli.run(&["introspect", "web"]).expect_code(0).json();
    assert_eq!(
        (&known["active"], &known["sub"]),
        (&json!(true), &json!("alice"))
    );
    cli.run(&["revoke", "web"]).expect_code(0);
    let revoked = server.introspect(text(&second, "access_token"));
    assert_eq!(revoked["active"], false);
}

/// Shows: RFC 6749 section 4.1.2.1.
#[test]
fn a_user_of_the_second_server_who_says_no_is_heard() {
    let Some(server) = AuthlibServer::start() else {
        return;
    };
    let cli = Cli::new();
    cli.create("web", &web(&server)).expect_code(0);
    let begun = begin(&cli, "web");
    let redirect = server.decide(&begun.authorization_url, Decision::Deny);
    let outcome = cli.run(&["complete", "web", &redirect, "--json"]);
    assert_eq!(outcome.expect_code(5).error()["code"], "access_denied");
    assert!(server.requests_to("/token").is_empty());
}
