//! How the client authenticates, held against a server that looks.

use super::*;
use crate::config::ClientAuthentication;

fn config(further: &str) -> String {
    format!(
        r#"{{"client_id": "id", "grant_type": "client_credentials", "issuer": "https://as.example", {further}}}"#
    )
}

/// A client of the server, which takes it by this way alone.
fn client(method: ClientAuthentication, further: &str) -> (Rc<World>, Crm) {
    let world = World::with_metadata();
    world.publish(&[(
        "token_endpoint_auth_methods_supported",
        vec![method.as_str()].into(),
    )]);
    world.server.borrow_mut().authentication = Some(method);
    let connection = world.open(&config(further));
    (world, connection)
}

/// Answers with the metadata first, where the answers thereafter are out of turn.
fn answer_metadata(world: &World) {
    let place = "https://as.example/.well-known/openid-configuration";
    let metadata = world.documents.borrow()[place].clone();
    world.answer_with(Answer::status(200, &metadata));
}

/// Shows: RFC 6749 section 2.3.1.
#[test]
fn a_secret_authenticates_in_each_of_its_three_ways() {
    for method in [
        ClientAuthentication::ClientSecretBasic,
        ClientAuthentication::ClientSecretPost,
        ClientAuthentication::ClientSecretJwt,
    ] {
        let (_world, connection) = client(method, r#""client_secret": "secret""#);
        assert_eq!(token(&connection), ok("access-1"), "{method}");
    }
}

#[test]
fn a_secret_that_is_empty_makes_a_header_all_the_same() {
    // RFC 6749 section 2.3.1.
    let world = World::new();
    let connection = world.open(&CLIENT_CREDENTIALS.replace(
        r#""secret""#,
        r#""", "token_endpoint_auth_method": "client_secret_basic""#,
    ));
    token(&connection).expect("a token");
    let sent = world.sent_to("/token");
    // base64 of "id:".
    assert_eq!(sent[0].headers["authorization"], "Basic aWQ6");
}

#[test]
fn a_wrong_secret_is_refused_in_each_way() {
    for method in [
        ClientAuthentication::ClientSecretBasic,
        ClientAuthentication::ClientSecretPost,
        ClientAuthentication::ClientSecretJwt,
    ] {
        let (_world, connection) = client(method, r#""client_secret": "other""#);
        assert!(
            matches!(token(&connection).unboxed(), Err(Error::Refused(_))),
            "{method}"
        );
    }
}

/// Shows: RFC 7521, RFC 7523 section 2.2.
#[test]
fn a_private_key_signs_with_rsa_a_nist_curve_and_ed25519() {
    for (key, algorithm) in [
        ("key:rsa", "RS256"),
        ("key:ec", "ES256"),
        ("key:ed", "EdDSA"),
    ] {
        let further = format!(r#""signing_key": {{"ref": "{key}"}}"#);
        let (world, connection) = client(ClientAuthentication::PrivateKeyJwt, &further);
        assert_eq!(token(&connection), ok("access-1"), "{key}");
        let assertion = world.last_sent("client_assertion").expect("an assertion");
        let assertion = crate::jws::Received::parse(&assertion).expect("a JWT");
        assert_eq!(assertion.algorithm(), algorithm);
    }
}

#[test]
fn a_key_that_is_for_nothing_else_authenticates_where_the_server_does_not_say() {
    let method = |further: &str| {
        let world = World::new();
        let config = format!(
            r#"{{"client_id": "id", "signing_key": {{"ref": "key:ec"}}, "redirect_uri": "http://127.0.0.1:1/oauth2",
                "authorization_endpoint": "https://as.example/auth", "token_endpoint": "https://as.example/token"{further}}}"#
        );
        let resolved = run(world.open(&config).resolve()).expect("resolved");
        let mut named = resolved
            .into_iter()
            .filter(|field| field.name == "token_endpoint_auth_method");
        named.next().map(|field| field.value).unwrap_or_default()
    };
    let robot = r#", "grant_type": "client_credentials""#;
    for (further, expected) in [
        (robot, "private_key_jwt"),
        (&[robot, r#", "dpop": true"#].concat(), "private_key_jwt"),
        ("", "private_key_jwt"),
        (r#", "dpop": true"#, "none"),
        (r#", "request_object": true"#, "none"),
        (r#", "grant_type": "jwt_bearer""#, "none"),
        (r#", "client_secret": "s""#, "client_secret_basic"),
        (r#", "token_endpoint_auth_method": "none""#, "none"),
    ] {
        assert_eq!(method(further), format!("\"{expected}\""), "{further}");
    }
    let world = World::new();
    let config = CLIENT_CREDENTIALS.replace(
        r#""client_secret": "secret""#,
        r#""signing_key": {"ref": "key:ec"}"#,
    );
    token(&world.open(&config)).expect("a token");
    assert!(world.last_sent("client_assertion").is_some());
}

#[test]
fn the_algorithm_is_one_that_the_server_accepts() {
    let (world, connection) = client(
        ClientAuthentication::PrivateKeyJwt,
        r#""signing_key": {"ref": "key:rsa"}"#,
    );
    world.publish(&[
        (
            "token_endpoint_auth_methods_supported",
            vec!["private_key_jwt"].into(),
        ),
        (
            "token_endpoint_auth_signing_alg_values_supported",
            vec!["PS256"].into(),
        ),
    ]);
    assert_eq!(token(&connection), ok("access-1"));
    let assertion = world.last_sent("client_assertion").expect("an assertion");
    let assertion = crate::jws::Received::parse(&assertion).expect("a JWT");
    assert_eq!(assertion.algorithm(), "PS256");
}

/// Shows: RFC 7521, RFC 7523 section 2.2.
#[test]
fn every_request_has_an_assertion_of_its_own() {
    // The server takes no `jti` twice.
    let (world, connection) = client(
        ClientAuthentication::PrivateKeyJwt,
        r#""signing_key": {"ref": "key:ec"}"#,
    );
    for number in 1..=3 {
        assert_eq!(token(&connection), ok(&format!("access-{number}")));
        world.pass(1000);
    }
    run(connection.introspect()).expect("introspected");
    run(connection.revoke()).expect("revoked");
}

#[test]
fn an_assertion_is_dated_by_the_servers_clock() {
    let (world, connection) = client(
        ClientAuthentication::PrivateKeyJwt,
        r#""signing_key": {"ref": "key:ec"}"#,
    );
    // The fake world begins on 9 September 2001 at 01:46:40; the server is an
    // hour ahead, and says so with its first answer.
    world.answer_with(Answer::Http(
        200,
        Vec::new(),
        super::super::fake_server::metadata().to_string().replacen(
            '{',
            r#"{"token_endpoint_auth_methods_supported": ["private_key_jwt"], "#,
            1,
        ),
    ));
    world.answer_with(Answer::Http(
        200,
        vec![("date", "Sun, 09 Sep 2001 02:46:40 GMT")],
        r#"{"access_token": "a", "token_type": "Bearer", "expires_in": 10}"#.to_owned(),
    ));
    assert_eq!(token(&connection), ok("a"));
    world.pass(10);
    token(&connection).expect_err("the server's clock is right in fact");
    let assertion = world.last_sent("client_assertion").expect("an assertion");
    let assertion = crate::jws::Received::parse(&assertion).expect("a JWT");
    assert_eq!(assertion.claims["iat"], 1_000_000_000 + 3600 + 10);
}

#[test]
fn an_assertion_that_a_clock_put_right_made_too_old_is_made_anew() {
    let (world, connection) = client(
        ClientAuthentication::PrivateKeyJwt,
        r#""signing_key": {"ref": "key:ec"}"#,
    );
    // When the first token comes, our clock is an hour ahead.
    answer_metadata(&world);
    world.answer_with(Answer::Http(
        200,
        vec![("date", "Sun, 09 Sep 2001 00:46:40 GMT")],
        r#"{"access_token": "a", "token_type": "Bearer", "expires_in": 10}"#.to_owned(),
    ));
    assert_eq!(token(&connection), ok("a"));
    // It is put right, and the server says so while it refuses.
    world.pass(600);
    world.answer_with(Answer::Http(
        401,
        vec![("date", "Sun, 09 Sep 2001 01:56:40 GMT")],
        r#"{"error": "invalid_client"}"#.to_owned(),
    ));
    assert!(token(&connection).is_ok());
    let issued: Vec<_> = world
        .sent_to("/token")
        .iter()
        .map(|sent| {
            let assertion = &sent.form["client_assertion"];
            let assertion = crate::jws::Received::parse(assertion).expect("a JWT");
            assertion.claims["iat"].as_i64().expect("a time") - 1_000_000_000
        })
        .collect();
    assert_eq!(issued[1..], [600 - 3600, 600]);
}

#[test]
fn a_refusal_by_a_server_whose_clock_is_known_is_one() {
    let (world, connection) = client(
        ClientAuthentication::PrivateKeyJwt,
        r#""signing_key": {"ref": "key:ec"}"#,
    );
    answer_metadata(&world);
    world.answer_with(Answer::Http(
        401,
        vec![("date", "Sun, 09 Sep 2001 01:46:43 GMT")],
        r#"{"error": "invalid_client"}"#.to_owned(),
    ));
    assert!(matches!(
        token(&connection).unboxed(),
        Err(Error::Refused(_))
    ));
    assert_eq!(world.token_requests(), 1);
}

/// Shows: RFC 8705.
#[test]
fn a_certificate_authenticates_at_the_endpoints_for_such_with_the_identifier_alone() {
    for method in [
        ClientAuthentication::TlsClientAuth,
        ClientAuthentication::SelfSignedTlsClientAuth,
    ] {
        let certificate = r#""client_certificate": {"ref": "file:c"}, "client_certificate_key": {"ref": "file:k"}"#;
        let (world, connection) = client(method, certificate);
        world.publish(&[
            (
                "token_endpoint_auth_methods_supported",
                vec![method.as_str()].into(),
            ),
            (
                "mtls_endpoint_aliases",
                serde_json::json!({"token_endpoint": "https://mtls.as.example/token"}),
            ),
        ]);
        world.answer_with(Answer::Http(
            200,
            Vec::new(),
            world.documents.borrow()["https://as.example/.well-known/openid-configuration"].clone(),
        ));
        world.answer_with(Answer::status(
            200,
            r#"{"access_token": "a", "token_type": "Bearer"}"#,
        ));
        // The answer in place of the introspection that would tell the expiry.
        world.answer_with(Answer::status(404, ""));
        assert_eq!(token(&connection), ok("a"));
        let sent = world.sent_to("/token");
        assert_eq!(sent[0].url, "https://mtls.as.example/token");
        assert_eq!(
            sent[0].form.keys().collect::<Vec<_>>(),
            ["client_id", "grant_type"]
        );
        assert!(!sent[0].headers.contains_key("authorization"));
    }
}

#[test]
fn a_refused_client_is_not_tried_in_another_way() {
    let (world, connection) = client(
        ClientAuthentication::ClientSecretPost,
        r#""client_secret": "secret", "token_endpoint_auth_method": "client_secret_basic""#,
    );
    assert!(matches!(
        token(&connection).unboxed(),
        Err(Error::Refused(_))
    ));
    assert_eq!(world.token_requests(), 1);
}

#[test]
fn another_process_dates_by_the_servers_clock_as_it_was_stored() {
    let world = World::new();
    let config = r#"{"client_id": "id", "grant_type": "client_credentials", "token_endpoint": "https://as.example/token", "signing_key": {"ref": "key:ec"}}"#;
    world.answer_with(Answer::Http(
        200,
        vec![("date", "Sun, 09 Sep 2001 02:46:40 GMT")],
        r#"{"access_token": "a", "token_type": "Bearer", "expires_in": 10}"#.to_owned(),
    ));
    assert_eq!(token(&world.open(config)), ok("a"));
    world.pass(10);
    token(&world.open(config)).expect("a token");
    let assertion = world.last_sent("client_assertion").expect("an assertion");
    let assertion = crate::jws::Received::parse(&assertion).expect("a JWT");
    assert_eq!(assertion.claims["iat"], 1_000_000_000 + 3600 + 10);
    assert_eq!(assertion.claims["exp"], 1_000_000_000 + 3600 + 70);
}

#[test]
fn what_is_not_signed_is_not_sent_again_for_a_wrong_clock() {
    let world = World::new();
    let connection = world.open(CLIENT_CREDENTIALS);
    world.answer_with(Answer::Http(
        401,
        vec![("date", "Sun, 09 Sep 2001 02:46:40 GMT")],
        r#"{"error": "invalid_client"}"#.to_owned(),
    ));
    assert!(token(&connection).is_err());
    assert_eq!(world.token_requests(), 1);
}

#[test]
fn an_assertion_of_the_grant_that_a_wrong_clock_dated_is_made_anew() {
    let world = World::new();
    let connection = world.open(
        r#"{"grant_type": "jwt_bearer", "signing_key": {"ref": "key:rsa"},
    "assertion_issuer": "robot@project.example", "token_endpoint": "https://as.example/token"}"#,
    );
    world.answer_with(Answer::Http(
        400,
        vec![("date", "Sun, 09 Sep 2001 02:46:40 GMT")],
        r#"{"error": "invalid_grant"}"#.to_owned(),
    ));
    let _ = token(&connection);
    assert!(world.token_requests() >= 2, "{}", world.token_requests());
}
