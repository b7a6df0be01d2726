//! What a client has to hold to (RFC 9700, RFC 8252, the draft of OAuth 2.1), rule
//! by rule, as far as it is this crate's to keep. The redirect listener, the files
//! and the origins that requests may reach are the hosts'.

use super::super::fake_server::IdToken;
use super::identities::OPENID;
use super::requests::CONFIG;
use super::*;
use crate::config::ClientAuthentication;
use serde_json::Value;
use std::collections::BTreeSet;

fn parameter(begun: &Begun, name: &str) -> Option<String> {
    let url = url::Url::parse(&begun.authorization_url).expect("a URL");
    let mut pairs = url.query_pairs();
    let found = pairs.find(|(other, _)| other == name);
    found.map(|(_, value)| value.into_owned())
}

fn complete(connection: &Crm, query: &str) -> Result<()> {
    Redirect::from_form(query).and_then(|redirect| run(connection.complete_authorization(redirect)))
}

/// Shows: RFC 9700.
#[test]
fn the_code_flow_is_used_and_never_the_implicit_one() {
    // RFC 9700 section 2.1.2.
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    let begun = begin_authorization(&connection);
    assert_eq!(parameter(&begun, "response_type").as_deref(), Some("code"));
    let state = begun.state.reveal();
    let query =
        format!("access_token=t&token_type=bearer&state={state}&iss=https%3A%2F%2Fas.example");
    assert!(complete(&connection, &query).is_err());
    assert!(crate::config::parse(r#"{"grant_type": "implicit"}"#).is_err());
}

/// Shows: RFC 9700.
#[test]
fn pkce_is_on_every_request_by_s256_with_a_fresh_verifier() {
    // RFC 9700 section 2.1.1; a secret makes no difference (RFC 8252 section 8.5).
    let world = World::with_metadata();
    let confidential = CONFIG.replacen('{', r#"{"client_secret": "s", "#, 1);
    let mut seen = BTreeSet::new();
    for config in [CONFIG, confidential.as_str(), CONFIG] {
        let begun = begin_authorization(&world.open(config));
        assert_eq!(
            parameter(&begun, "code_challenge_method").as_deref(),
            Some("S256")
        );
        assert!(seen.insert(parameter(&begun, "code_challenge")));
    }
}

#[test]
fn verifier_nonce_and_state_are_256_random_bits_each() {
    let world = World::with_metadata();
    let connection = world.open(&CONFIG.replace("\"a\"", "\"openid\""));
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let begun = begin_authorization(&connection);
        for name in ["state", "nonce", "code_challenge"] {
            let value = parameter(&begun, name).expect(name);
            // 43 characters of base64url are 256 bits.
            assert_eq!(value.len(), 43, "{name}");
            assert!(seen.insert(value), "{name} was there before");
        }
    }
}

#[test]
fn a_state_is_used_once_and_for_ten_minutes() {
    // RFC 6749 section 10.12.
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    let begun = begin_authorization(&connection);
    let query = world.consent(&begun.authorization_url);
    complete(&connection, &query).expect("authorized");
    assert!(complete(&connection, &query).is_err());
    let begun = begin_authorization(&connection);
    let query = world.consent(&begun.authorization_url);
    world.pass(600);
    assert!(complete(&connection, &query).is_err());
    assert_eq!(world.token_requests(), 1);
}

#[test]
fn the_issuer_is_compared_where_it_is_named_and_wanted_where_it_is_promised() {
    // RFC 9207 section 2.4.
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    for change in ["&iss=https%3A%2F%2Fevil.example", ""] {
        let begun = begin_authorization(&connection);
        let query = world.consent(&begun.authorization_url);
        let query = query.replace("&iss=https%3A%2F%2Fas.example", change);
        assert!(complete(&connection, &query).is_err());
    }
    assert_eq!(world.token_requests(), 0);
    world.publish(&[(
        "authorization_response_iss_parameter_supported",
        Value::Null,
    )]);
    let begun = begin_authorization(&connection);
    let query = world.consent(&begun.authorization_url);
    let query = query.replace("&iss=https%3A%2F%2Fas.example", "");
    complete(&connection, &query).expect("authorized");
}

/// Shows: RFC 9700.
#[test]
fn the_code_goes_to_the_endpoint_of_the_issuer_that_was_asked() {
    // RFC 9700 section 4.4: metadata that changes meanwhile changes nothing.
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    let begun = begin_authorization(&connection);
    world.publish(&[("token_endpoint", "https://evil.example/token".into())]);
    let query = world.consent(&begun.authorization_url);
    complete(&world.open(CONFIG), &query).expect("authorized");
    let sent = world.sent_to("/token");
    assert_eq!(sent[0].url, "https://as.example/token");
}

#[test]
fn the_metadata_is_that_of_exactly_the_issuer() {
    // RFC 8414 section 3.3.
    for issuer in [
        "https://as.example/",
        "https://AS.example",
        "https://evil.example",
    ] {
        let world = World::with_metadata();
        world.publish(&[("issuer", issuer.into())]);
        let begun = run(world
            .open(CONFIG)
            .begin_authorization(&AuthorizationOptions::default()));
        assert!(
            matches!(begun.unboxed(), Err(Error::ProtocolViolation(_))),
            "{issuer}"
        );
    }
}

#[test]
fn metadata_that_cannot_be_used_is_refused_with_the_reason_and_nothing_is_lost() {
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    world.authorize(&connection).expect("authorized");
    let before = token(&connection);
    for (name, value, why) in [
        ("token_endpoint", Value::Null, "token_endpoint is missing"),
        (
            "token_endpoint",
            "file:///etc/passwd".into(),
            "neither https",
        ),
        ("jwks_uri", "data:application/json,{}".into(), "not a URL"),
        (
            "authorization_endpoint",
            "javascript:alert(1)".into(),
            "not a URL",
        ),
    ] {
        world.publish(&[(name, value)]);
        let told = match world.authorize(&connection).unboxed() {
            Err(Error::ProtocolViolation(violation)) => violation.message,
            other => panic!("{other:?}"),
        };
        assert!(told.contains(why), "{told}");
        assert_eq!(token(&connection), before);
    }
    // One that never ends is cut off by the platform.
    world.answer_with(Answer::Fails(Failure::TooLarge));
    assert!(matches!(
        world.authorize(&connection).unboxed(),
        Err(Error::ProtocolViolation(_))
    ));
    world.answer_with(Answer::Fails(Failure::InDoubt(
        "no end in 30 seconds".to_owned(),
    )));
    unavailable(&world.authorize(&connection));
    assert_eq!(token(&connection), before);
}

#[test]
fn an_error_is_bound_to_its_state_like_a_code() {
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    let begun = begin_authorization(&connection);
    let iss = "iss=https%3A%2F%2Fas.example";
    let foreign = complete(
        &connection,
        &format!("error=access_denied&state=other&{iss}"),
    );
    assert!(matches!(
        foreign.unboxed(),
        Err(Error::ProtocolViolation(_))
    ));
    let state = begun.state.reveal();
    let ours = complete(
        &connection,
        &format!("error=access_denied&state={state}&{iss}"),
    );
    assert!(matches!(ours.unboxed(), Err(Error::Denied(_))));
}

#[test]
fn the_token_endpoint_is_posted_to_and_its_redirects_are_not_followed() {
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    let begun = begin_authorization(&connection);
    let query = world.consent(&begun.authorization_url);
    world.answer_with(Answer::Http(
        307,
        vec![("location", "https://evil.example/token")],
        String::new(),
    ));
    assert!(matches!(
        complete(&connection, &query).unboxed(),
        Err(Error::ProtocolViolation(_))
    ));
    let received = world.received.borrow();
    assert_eq!(received.last().map(|sent| sent.method), Some("POST"));
    assert!(received.iter().all(|sent| !sent.url.contains("evil")));
}

#[test]
fn the_client_authenticates_in_one_way_and_probes_for_no_other() {
    let world = World::with_metadata();
    world.server.borrow_mut().authentication = Some(ClientAuthentication::ClientSecretPost);
    let config = CONFIG.replacen('{', r#"{"client_secret": "secret", "#, 1);
    assert!(matches!(
        world.authorize(&world.open(&config)).unboxed(),
        Err(Error::Refused(_))
    ));
    assert_eq!(world.token_requests(), 1);
}

#[test]
fn an_assertion_lives_for_a_minute_and_has_a_name_of_its_own() {
    let world = World::with_metadata();
    let config = CONFIG.replacen(
        '{',
        r#"{"token_endpoint_auth_method": "private_key_jwt", "signing_key": {"ref": "key:ec"}, "#,
        1,
    );
    let connection = world.open(&config);
    let mut seen = BTreeSet::new();
    world.authorize(&connection).expect("authorized");
    for _ in 0..5 {
        let assertion = world.last_sent("client_assertion").expect("an assertion");
        let assertion = crate::jws::Received::parse(&assertion).expect("a JWT");
        let time = |name: &str| assertion.claims[name].as_u64().expect("a time");
        assert!(time("exp") - time("iat") <= 60);
        assert!(seen.insert(assertion.text("jti").map(str::to_owned)));
        world.pass(1000);
        token(&connection).expect("a token");
    }
}

#[test]
fn a_new_refresh_token_takes_the_place_of_the_old_one_in_one_write() {
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    world.authorize(&connection).expect("authorized");
    world.pass(1000);
    for round in 0..20 {
        // Wherever it breaks off, what is stored is one credential or the other.
        drop(run_steps(connection.token(&TokenOptions::default()), round));
        let record = run(world.open(CONFIG).load()).expect("it opens").record;
        let credential = record.credential.as_ref().expect("a credential");
        let number = |secret: &SecretString| secret.reveal().rsplit('-').next().map(str::to_owned);
        let refresh_token = credential.refresh_token.as_ref().expect("one");
        assert_eq!(number(refresh_token), number(&credential.access_token));
    }
}

#[test]
fn the_scopes_asked_for_are_those_configured_and_those_granted_are_recorded() {
    let world = World::with_metadata();
    world.server.borrow_mut().grants = Some("b");
    let connection = world.open(CONFIG);
    let begun = begin_authorization(&connection);
    assert_eq!(parameter(&begun, "scope").as_deref(), Some("a"));
    complete(&connection, &world.consent(&begun.authorization_url)).expect("authorized");
    assert_eq!(run(connection.status()).expect("a status").scope, ["b"]);
}

/// Does with a connection everything that sends something.
fn everything(world: &Rc<World>) -> Crm {
    let config = CONFIG.replace("\"a\"", "\"openid\"").replacen(
        '{',
        r#"{"client_secret": "very-secret", "par": true, "#,
        1,
    );
    let connection = world.open(&config);
    world.authorize(&connection).expect("authorized");
    world.pass(1000);
    token(&connection).expect("a token");
    run(connection.userinfo()).expect("claims");
    run(connection.introspect()).expect("an answer");
    run(connection.begin_device_authorization()).expect("begun");
    world.pass(5);
    run(connection.poll_device_authorization()).expect("polled");
    run(connection.revoke()).expect("revoked");
    connection
}

/// Shows: RFC 9700.
#[test]
fn no_token_or_secret_is_ever_in_a_url() {
    let world = World::with_metadata();
    everything(&world);
    for sent in world.received.borrow().iter() {
        for secret in ["access-", "refresh-", "code-", "device-", "very-secret"] {
            assert!(!sent.url.contains(secret), "{}", sent.url);
        }
    }
}

#[test]
fn nothing_is_sent_but_to_the_server_that_config_and_metadata_name() {
    let world = World::with_metadata();
    everything(&world);
    let received = world.received.borrow();
    assert!(received.len() > 8);
    for sent in received.iter() {
        assert!(sent.url.starts_with("https://as.example/"), "{}", sent.url);
    }
}

/// Shows: RFC 9700.
#[test]
fn an_endpoint_is_https_or_on_this_machine() {
    for endpoint in [
        "http://as.example/token",
        "ftp://as.example/",
        "file:///x",
        "data:,x",
    ] {
        let config = CLIENT_CREDENTIALS.replace("https://as.example/token", endpoint);
        let world = World::new();
        assert!(
            matches!(
                token(&world.open(&config)).unboxed(),
                Err(Error::NotConfigured(_))
            ),
            "{endpoint}"
        );
        let world = World::with_metadata();
        world.publish(&[("token_endpoint", endpoint.into())]);
        assert!(world.authorize(&world.open(CONFIG)).is_err(), "{endpoint}");
    }
}

#[test]
fn an_id_token_is_believed_in_all_of_it_or_not_at_all() {
    // OpenID Connect Core section 3.1.3.7; each claim is in `conformance`.
    for (name, value) in [
        ("iss", "https://evil.example".into()),
        ("aud", "other".into()),
        ("azp", "other".into()),
        ("exp", 999_990_000.into()),
        ("iat", 1_000_009_000.into()),
        ("nonce", "other".into()),
        ("at_hash", "other".into()),
    ] {
        let claims = vec![(name, value)];
        let id_token = IdToken {
            claims,
            ..IdToken::default()
        };
        let (_, connection, authorized) = super::identities::authorized_by(id_token);
        super::identities::refused(authorized);
        assert!(token(&connection).is_err(), "{name}");
    }
    let forged = IdToken {
        is_forged: true,
        ..IdToken::default()
    };
    super::identities::refused(super::identities::authorized_by(forged).2);
}

#[test]
fn no_secret_or_token_is_in_an_event_an_error_or_a_status() {
    let world = World::with_metadata();
    let connection = everything(&world);
    // Servers have been seen to repeat what they were sent.
    world.authorize(&connection).expect("authorized");
    world.pass(1000);
    world.answer_with(Answer::status(
        400,
        r#"{"error": "invalid_request", "error_description": "very-secret refresh-"}"#,
    ));
    let error = token(&connection).expect_err("refused");
    let events = world.events.borrow();
    let told = format!(
        "{error} {error:?} {:?} {:?} {events:?}",
        run(connection.status()),
        run(connection.history()),
    );
    for secret in ["access-", "very-secret", "code-", "device-"] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[test]
fn a_proof_is_made_for_each_request_by_a_key_that_the_host_keeps() {
    let world = World::with_metadata();
    world.server.borrow_mut().requires_proofs = true;
    let config = CONFIG.replacen(
        '{',
        r#"{"dpop": true, "signing_key": {"ref": "key:careless"}, "#,
        1,
    );
    let connection = world.open(&config);
    world.authorize(&connection).expect("authorized");
    world.pass(1000);
    token(&connection).expect("a token");
    let sent = world.sent_to("/token");
    assert_ne!(sent[0].headers["dpop"], sent[1].headers["dpop"]);
    let private = super::super::fake_keys::of_host("key:ec").expect("a key")["d"].clone();
    let private = private.as_str().expect("text");
    for sent in &sent {
        let proof = crate::jws::Received::parse(&sent.headers["dpop"]).expect("a JWT");
        assert!(!Value::Object(proof.header).to_string().contains(private));
    }
}

#[test]
fn whatever_comes_in_from_outside_does_no_harm() {
    // Good answers with a few bytes changed, dropped or doubled, to everything
    // that is asked: whatever happens, nobody panics and it ends.
    let platform = FakePlatform(World::new());
    let random = |bound: usize| {
        let mut bytes = [0; 8];
        crate::platform::Random::fill(&platform, &mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % bound as u64).expect("it is small")
    };
    let documents = [
        super::super::fake_server::metadata().to_string(),
        r#"{"access_token":"a","token_type":"Bearer","expires_in":9,"id_token":"e30.e30.e30","scope":"a b"}"#.to_owned(),
        r#"{"device_code":"d","user_code":"u","verification_uri":"https://as.example/","interval":5}"#.to_owned(),
        r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"k"}]}"#.to_owned(),
        r#"{"error":"authorization_pending","error_description":"\u0000","error_uri":"x"}"#.to_owned(),
        r#"{"resource":"https://as.example","authorization_servers":["https://as.example"]}"#.to_owned(),
    ];
    for round in 0..2000 {
        let world = World::with_metadata();
        let connection = world.open(CONFIG);
        for _ in 0..4 {
            let mut body = documents[random(documents.len())].clone().into_bytes();
            for _ in 0..random(4) {
                let at = random(body.len());
                match random(3) {
                    0 => body[at] = u8::try_from(random(128)).expect("ASCII"),
                    1 => drop(body.remove(at)),
                    _ => body.insert(at, body[at]),
                }
            }
            let body = String::from_utf8(body).unwrap_or_default();
            world.answer_with(Answer::status([200, 201, 400, 401, 500][random(5)], &body));
        }
        let outcome: Result<()> = match round % 5 {
            0 => run(connection.begin_device_authorization()).map(drop),
            1 => run(discover_resource(
                &FakePlatform(Rc::clone(&world)),
                "https://as.example/x",
            ))
            .map(drop),
            2 => run(connection.resolve()).map(drop),
            3 => token(&world.open(CLIENT_CREDENTIALS)).map(drop),
            _ => run(connection.begin_authorization(&AuthorizationOptions::default())).map(drop),
        };
        let _ = outcome;
    }
}

#[test]
fn no_two_records_are_sealed_with_one_nonce() {
    let world = World::new();
    world.authorized();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        run(world.open(CODE).reseal()).expect("resealed");
        let entries = world.entries.borrow();
        let value = &entries["crm.tokens"].value;
        // Magic, format, the length of the name and the name "key".
        assert!(seen.insert(value[8..20].to_vec()));
    }
}

#[test]
fn a_changed_config_neither_shows_nor_sends_what_another_obtained() {
    let world = World::with_metadata();
    let connection = world.open(OPENID);
    world.authorize(&connection).expect("authorized");
    world.received.borrow_mut().clear();
    let other = world.open(&OPENID.replacen('{', r#"{"token_endpoint": "https://evil.example/token", "revocation_endpoint": "https://evil.example/r",
        "introspection_endpoint": "https://evil.example/i", "userinfo_endpoint": "https://evil.example/u", "#, 1));
    assert!(run(other.response_json()).is_err());
    assert!(run(other.revoke()).is_err());
    assert!(run(other.introspect()).is_err());
    assert!(run(other.userinfo()).is_err());
    assert_eq!(run(other.status()).expect("a status").expires_at, None);
    assert_eq!(world.received.borrow().len(), 0);
    assert!(token(&connection).is_ok());
}

#[test]
fn whatever_makes_another_credential_is_bound() {
    let base = |text: &str| super::super::binding(&crate::config::parse(text).expect("a config"));
    let t = r#""client_id": "id", "token_endpoint": "https://as.example/token""#;
    for (one, other) in [
        (
            r#""grant_type": "authorization_code""#,
            r#""grant_type": "device_code""#,
        ),
        (r#""provider": "github""#, r#""provider": "discord""#),
        (
            r#""provider": "microsoft-entra", "parameters": {"tenant": "a"}"#,
            r#""provider": "microsoft-entra", "parameters": {"tenant": "b"}"#,
        ),
        (
            r#""grant_type": "refresh_token", "refresh_token": "a""#,
            r#""grant_type": "refresh_token", "refresh_token": "b""#,
        ),
        (
            r#""grant_type": "token_exchange", "subject_token": "a""#,
            r#""grant_type": "token_exchange", "subject_token": "b""#,
        ),
        (
            r#""grant_type": "token_exchange", "actor_token": "a""#,
            r#""grant_type": "token_exchange", "actor_token": "b""#,
        ),
        (
            r#""grant_type": "token_exchange", "requested_token_type": "a""#,
            r#""grant_type": "token_exchange", "requested_token_type": "b""#,
        ),
        (
            r#""grant_type": "jwt_bearer", "assertion": "a""#,
            r#""grant_type": "jwt_bearer", "assertion": "b""#,
        ),
        (
            r#""grant_type": "password", "username": "a""#,
            r#""grant_type": "password", "username": "b""#,
        ),
        (
            r#""grant_type": "client_credentials", "token_parameters": {"tenant": "a"}"#,
            r#""grant_type": "client_credentials", "token_parameters": {"tenant": "b"}"#,
        ),
        (
            r#""grant_type": "client_credentials", "resource": ["https://a/"]"#,
            r#""grant_type": "client_credentials", "audience": ["https://a/"]"#,
        ),
    ] {
        assert_ne!(
            base(&format!("{{{t}, {one}}}")),
            base(&format!("{{{t}, {other}}}")),
            "{one}"
        );
    }
}

#[test]
fn an_echo_at_the_other_endpoints_is_not_shown() {
    let world = World::with_metadata();
    let connection = world.open(OPENID);
    world.authorize(&connection).expect("authorized");
    let body = r#"{"error": "invalid_request", "error_description": "refresh-2 access-2 secret"}"#;
    world.answer_with(Answer::status(400, body));
    let e = run(connection.revoke()).expect_err("refused");
    assert!(!format!("{e:?}").contains("refresh-2"), "{e:?}");
    world.answer_with(Answer::status(400, body));
    let e = run(connection.introspect()).expect_err("refused");
    assert!(!format!("{e:?}").contains("access-2"), "{e:?}");
    world.answer_with(Answer::Http(
        403,
        vec![(
            "www-authenticate",
            r#"Bearer error="access-2", error_description="access-2""#,
        )],
        String::new(),
    ));
    let e = run(connection.userinfo()).expect_err("refused");
    assert!(!format!("{e:?}").contains("access-2"), "{e:?}");
    world.answer_with(Answer::status(
        200,
        &super::super::fake_server::metadata().to_string(),
    ));
    world.answer_with(Answer::status(
        400,
        r#"{"error": "x", "error_description": "initial-token"}"#,
    ));
    let platform = FakePlatform(Rc::clone(&world));
    let t = SecretString::new("initial-token");
    let e = run(register_client(
        &platform,
        "https://as.example",
        "{}",
        Some(&t),
    ))
    .expect_err("refused");
    assert!(!format!("{e:?}").contains("initial-token"), "{e:?}");
}

#[test]
fn an_error_code_that_repeats_a_token_does_not_show_it() {
    let world = World::new();
    let connection = world.authorized();
    world.pass(1000);
    world.answer_with(Answer::oauth_error("bad refresh-1"));
    let e = token(&connection).expect_err("refused");
    assert!(!format!("{e:?}").contains("refresh-1"));
}
