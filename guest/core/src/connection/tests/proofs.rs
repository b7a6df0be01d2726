//! Tokens that are bound to a key (RFC 9449), at a server and a resource that
//! check every proof.

use super::super::fake_server::Nonces;
use super::*;

const CONFIG: &str = r#"{"client_id": "id", "issuer": "https://as.example", "scope": "openid",
    "redirect_uri": "http://127.0.0.1:1/oauth2", "dpop": true, "signing_key": {"ref": "key:ec"}}"#;

const ROBOT: &str = r#"{"client_id": "id", "client_secret": "secret", "grant_type": "client_credentials",
    "token_endpoint": "https://as.example/token", "dpop": true, "signing_key": {"ref": "key:ec"}}"#;

/// The answer of a server that asks for a nonce.
fn asking_for(nonce: &'static str) -> Answer {
    let body = r#"{"error": "use_dpop_nonce"}"#.to_owned();
    Answer::Http(400, vec![("dpop-nonce", nonce)], body)
}

fn world() -> Rc<World> {
    let world = World::with_metadata();
    world.server.borrow_mut().requires_proofs = true;
    world
}

fn authorized(world: &Rc<World>) -> Crm {
    let connection = world.open(CONFIG);
    world.authorize(&connection).expect("authorized");
    connection
}

fn headers(
    connection: &Crm,
    url: &str,
    nonce: Option<&str>,
) -> Result<Vec<(&'static str, SecretString)>> {
    run(connection.authorization_headers("PUT", url, &TokenOptions::default(), nonce))
}

#[test]
fn code_and_token_are_bound_to_the_key_and_so_is_every_renewal() {
    let world = world();
    let connection = authorized(&world);
    for round in 0..3 {
        world.pass(1000);
        assert!(token(&connection).is_ok(), "{round}");
    }
    // A public client's refresh tokens are bound as well: the server has looked.
    assert_eq!(world.server.borrow().reuses, 0);
}

#[test]
fn a_proof_of_another_time_is_made_anew_by_the_servers_clock() {
    for (code, requests) in [("invalid_dpop_proof", 2), ("invalid_grant", 1)] {
        let world = world();
        let connection = authorized(&world);
        world.pass(1000);
        world.received.borrow_mut().clear();
        world.answer_with(Answer::Http(
            400,
            vec![("date", "Sun, 09 Sep 2001 03:03:20 GMT")],
            format!(r#"{{"error": "{code}"}}"#),
        ));
        token(&connection).expect_err("the server's clock is right in fact");
        let sent = world.sent_to("/token");
        // A refused refresh token is not sent again.
        assert_eq!(sent.len(), requests, "{code}");
        let proof = &sent[requests - 1].headers["dpop"];
        let proof = crate::jws::Received::parse(proof).expect("a JWT");
        let issued = proof.claims["iat"].as_u64().expect("a time");
        let ahead = if requests == 2 { 3600 } else { 0 };
        assert_eq!(issued, 1_000_001_000 + ahead, "{code}");
    }
}

#[test]
fn every_kind_of_key_makes_proofs() {
    for key in ["key:rsa", "key:ec", "key:ed"] {
        let world = world();
        let connection = world.open(&ROBOT.replace("key:ec", key));
        assert_eq!(token(&connection), ok("access-1"), "{key}");
    }
}

#[test]
fn the_headers_of_a_request_are_the_token_and_a_proof_for_it() {
    let world = world();
    let connection = authorized(&world);
    let url = "https://api.example/notes?x=y#z";
    let found = headers(&connection, url, Some("n-1")).expect("headers");
    assert_eq!(found[0].0, "Authorization");
    let (scheme, value) = found[0].1.reveal().split_once(' ').expect("two words");
    assert_eq!(scheme, "DPoP");
    assert_eq!(found[1].0, "DPoP");
    let proof = crate::jws::Received::parse(found[1].1.reveal()).expect("a JWT");
    assert_eq!(proof.text("htm"), Some("PUT"));
    assert_eq!(proof.text("htu"), Some("https://api.example/notes"));
    assert_eq!(proof.text("nonce"), Some("n-1"));
    use sha2::Digest;
    let hash = crate::base64::base64url(&sha2::Sha256::digest(value));
    assert_eq!(proof.text("ath"), Some(hash.as_str()));
}

#[test]
fn the_token_of_rfc_9449_is_shown_with_its_hash() {
    // RFC 9449 sections 5 and 7.1.
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../../../tests/vectors/oauth.json"))
            .expect("JSON");
    let world = World::new();
    let connection = world.open(ROBOT);
    let body = vectors["dpop_token_response"]["body"]
        .as_str()
        .expect("text");
    world.answer_with(Answer::status(200, body));
    let found = headers(
        &connection,
        "https://resource.example.org/protectedresource",
        None,
    );
    let found = found.expect("headers");
    let vector = &vectors["dpop_proofs"][2];
    let access_token = vector["access_token"].as_str().expect("text");
    assert_eq!(found[0].1.reveal(), format!("DPoP {access_token}"));
    let proof = crate::jws::Received::parse(found[1].1.reveal()).expect("a JWT");
    assert_eq!(proof.text("ath"), vector["ath"].as_str());
}

#[test]
fn there_is_a_proof_for_each_request_and_none_is_made_twice() {
    let world = world();
    let connection = authorized(&world);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let found = headers(&connection, "https://api.example/", None).expect("headers");
        assert!(seen.insert(found[1].1.reveal().to_owned()));
    }
}

#[test]
fn a_proof_is_not_made_for_what_is_no_url() {
    let world = world();
    let connection = authorized(&world);
    for url in ["", "api.example", "http://api.example/", "https://a b/"] {
        assert!(
            matches!(
                headers(&connection, url, None).unboxed(),
                Err(Error::Forbidden(_))
            ),
            "{url}"
        );
    }
}

#[test]
fn a_nonce_that_the_server_asks_for_is_used_and_remembered() {
    let world = world();
    world.server.borrow_mut().nonces = Nonces::Wanted("nonce");
    let connection = world.open(ROBOT);
    assert_eq!(token(&connection), ok("access-1"));
    assert_eq!(world.token_requests(), 2);
    world.pass(1000);
    assert_eq!(token(&connection), ok("access-2"));
    assert_eq!(world.token_requests(), 3);
}

#[test]
fn a_nonce_that_the_server_replaces_meanwhile_is_followed() {
    let world = world();
    world.server.borrow_mut().nonces = Nonces::Wanted("first");
    let connection = world.open(ROBOT);
    token(&connection).expect("a token");
    world.server.borrow_mut().nonces = Nonces::Wanted("second");
    world.pass(1000);
    assert_eq!(token(&connection), ok("access-2"));
    assert_eq!(world.token_requests(), 4);
}

#[test]
fn a_nonce_that_changes_for_ever_is_not_followed_for_ever() {
    let world = world();
    let connection = authorized(&world);
    world.pass(1000);
    world.received.borrow_mut().clear();
    world.server.borrow_mut().nonces = Nonces::Changing;
    let Err(Error::Refused(error)) = token(&connection).unboxed() else {
        panic!("it was given one");
    };
    assert_eq!(error.code, "use_dpop_nonce");
    assert_eq!(world.token_requests(), 3);
    // Nothing is lost: once the server has come to its senses it renews.
    world.server.borrow_mut().nonces = Nonces::None;
    world.pass(10);
    assert!(token(&connection).is_ok());
}

#[test]
fn the_code_survives_a_demand_for_a_nonce() {
    let world = world();
    world.server.borrow_mut().nonces = Nonces::Wanted("nonce");
    authorized(&world);
    assert_eq!(world.token_requests(), 2);
}

#[test]
fn the_resources_nonce_is_followed_and_never_for_ever() {
    let world = world();
    let connection = authorized(&world);
    world.server.borrow_mut().nonces = Nonces::Wanted("nonce");
    let claims = run(connection.userinfo()).expect("claims");
    assert!(claims.reveal().contains(r#""sub":"user""#));
    world.server.borrow_mut().nonces = Nonces::Changing;
    world.received.borrow_mut().clear();
    assert!(matches!(
        run(connection.userinfo()).unboxed(),
        Err(Error::Refused(_))
    ));
    assert_eq!(world.sent_to("/userinfo").len(), 3);
}

#[test]
fn proofs_and_requests_are_signed_as_the_server_accepts_it() {
    let world = world();
    world.publish(&[
        (
            "dpop_signing_alg_values_supported",
            vec!["ES256", "PS256"].into(),
        ),
        (
            "request_object_signing_alg_values_supported",
            vec!["none", "PS256"].into(),
        ),
        (
            "token_endpoint_auth_signing_alg_values_supported",
            vec!["RS256"].into(),
        ),
    ]);
    let config = CONFIG.replace("key:ec", "key:rsa").replacen(
        '{',
        r#"{"request_object": true, "par": true, "#,
        1,
    );
    let connection = world.open(&config);
    world.authorize(&connection).expect("authorized");
    let algorithm = |text: &str| {
        let token = crate::jws::Received::parse(text).expect("a JWT");
        token.algorithm().to_owned()
    };
    assert_eq!(
        algorithm(&world.sent_to("/par")[0].form["request"]),
        "PS256"
    );
    assert_eq!(
        algorithm(&world.sent_to("/token")[0].headers["dpop"]),
        "PS256"
    );
    run(connection.userinfo()).expect("claims");
    let received = world.sent_to("/userinfo");
    assert_eq!(algorithm(&received[0].headers["dpop"]), "PS256");
    // Another process has the list from the store.
    let found = headers(&world.open(&config), "https://api.example/", None);
    assert_eq!(algorithm(found.expect("headers")[1].1.reveal()), "PS256");
}

#[test]
fn a_demand_for_a_nonce_is_found_behind_another_challenge() {
    // RFC 9110 section 5.3: a header may be there more than once.
    let world = world();
    let connection = authorized(&world);
    world.received.borrow_mut().clear();
    world.answer_with(Answer::Http(
        401,
        vec![
            ("www-authenticate", r#"Bearer realm="x""#),
            ("www-authenticate", r#"DPoP error="use_dpop_nonce""#),
            ("dpop-nonce", "n-1"),
        ],
        String::new(),
    ));
    run(connection.userinfo()).expect("claims");
    assert_eq!(world.sent_to("/userinfo").len(), 2);
    assert_eq!(world.token_requests(), 0);
}

#[test]
fn a_token_that_is_not_bound_is_refused_where_nothing_is_lost_by_it() {
    let world = World::with_metadata();
    world.server.borrow_mut().ignores_proofs = true;
    for result in [
        world.authorize(&world.open(CONFIG)),
        token(&world.open(ROBOT)).map(drop),
    ] {
        let Err(Error::ProtocolViolation(violation)) = result.unboxed() else {
            panic!("it was taken");
        };
        assert!(
            violation.message.contains("did not bind"),
            "{}",
            violation.message
        );
    }
}

#[test]
fn a_renewal_that_is_no_longer_bound_is_kept_for_its_refresh_token_and_told() {
    let world = world();
    let connection = authorized(&world);
    world.pass(1000);
    world.server.borrow_mut().adds = vec![("token_type", "Bearer".into())];
    assert!(token(&connection).is_ok());
    let history = run(connection.history()).expect("a history");
    let told = history
        .iter()
        .any(|event| event.message.contains("did not bind"));
    assert!(told);
    world.server.borrow_mut().adds.clear();
    world.pass(1000);
    assert!(token(&connection).is_ok());
}

#[test]
fn another_key_is_another_credential() {
    let world = world();
    authorized(&world);
    let other = world.open(&CONFIG.replace("key:ec", "key:rsa"));
    assert!(matches!(
        token(&other).unboxed(),
        Err(Error::NotAuthorized(_))
    ));
}

#[test]
fn a_nonce_that_comes_with_a_token_is_for_the_next_proof_and_sends_nothing_again() {
    let world = World::with_metadata();
    let connection = world.open(ROBOT);
    world.answer_with(Answer::Http(
        200,
        vec![("dpop-nonce", "next")],
        r#"{"access_token": "a", "token_type": "DPoP", "expires_in": 10}"#.to_owned(),
    ));
    assert_eq!(token(&connection), ok("a"));
    assert_eq!(world.token_requests(), 1);
    world.server.borrow_mut().nonces = Nonces::Wanted("next");
    world.pass(10);
    token(&connection).expect("a token");
    assert_eq!(world.token_requests(), 2);
}

#[test]
fn the_nonce_of_the_last_answer_is_kept() {
    let world = World::with_metadata();
    let connection = world.open(ROBOT);
    for nonce in ["a", "b", "c"] {
        world.answer_with(asking_for(nonce));
    }
    token(&connection).expect_err("too many");
    world.server.borrow_mut().nonces = Nonces::Wanted("c");
    world.pass(10);
    token(&connection).expect("a token");
    assert_eq!(world.token_requests(), 4);
}

#[test]
fn the_nonce_demanded_twice_is_not_followed() {
    let world = World::with_metadata();
    let connection = world.open(ROBOT);
    for _ in 0..3 {
        world.answer_with(asking_for("same"));
    }
    token(&connection).expect_err("refused");
    assert_eq!(world.token_requests(), 2);
}
