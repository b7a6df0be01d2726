//! The grants beside the authorization code.

use super::*;
use crate::event::EventKind;

const ASSERTING: &str = r#"{"grant_type": "jwt_bearer", "signing_key": {"ref": "key:rsa"},
    "assertion_issuer": "robot@project.example", "scope": "a b",
    "token_endpoint": "https://as.example/token"}"#;

const EXCHANGING: &str = r#"{"client_id": "id", "grant_type": "token_exchange",
    "subject_token": "subject", "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "resource": "https://api.example/", "audience": "api", "scope": "a",
    "token_endpoint": "https://as.example/token"}"#;

/// What was put up with, from the history.
fn quirks(connection: &Crm) -> Vec<String> {
    let history = run(connection.history()).expect("a history").into_iter();
    let quirks = history.filter(|event| event.kind == EventKind::QuirkApplied);
    quirks.map(|event| event.message).collect()
}

/// The claims of the last assertion.
fn asserted(world: &World) -> serde_json::Value {
    let assertion = world.last_sent("assertion").expect("an assertion");
    let token = crate::jws::Received::parse(&assertion).expect("a JWT");
    serde_json::Value::Object(token.claims)
}

/// Shows: RFC 7521, RFC 7523 section 2.1.
#[test]
fn an_assertion_is_made_signed_and_exchanged() {
    let world = World::new();
    let connection = world.open(ASSERTING);
    assert_eq!(token(&connection), ok("access-1"));
    assert_eq!(world.last_sent("scope").as_deref(), Some("a b"));
    let claims = asserted(&world);
    assert_eq!(claims["sub"], "robot@project.example");
    assert_eq!(claims["aud"], "https://as.example/token");
    assert_eq!(claims["exp"], claims["iat"].as_u64().expect("a time") + 60);
}

#[test]
fn the_grant_is_run_again_with_an_assertion_of_its_own() {
    let world = World::new();
    let connection = world.open(ASSERTING);
    assert_eq!(token(&connection), ok("access-1"));
    let first = asserted(&world);
    world.pass(1000);
    // The server takes no `jti` twice.
    assert_eq!(token(&connection), ok("access-2"));
    assert_ne!(asserted(&world)["jti"], first["jti"]);
}

#[test]
fn many_callers_cause_one_assertion() {
    let world = World::new();
    let callers: Vec<_> = (0..50).map(|_| world.open(ASSERTING)).collect();
    let options = TokenOptions::default();
    for result in run_all(callers.iter().map(|caller| caller.token(&options))) {
        assert!(result.is_ok());
    }
    assert_eq!(world.token_requests(), 1);
}

#[test]
fn a_second_attempt_in_one_call_has_an_assertion_of_its_own() {
    let world = World::new();
    let config = ASSERTING.replacen('{', r#"{"renewal": {"max_attempts": 2}, "#, 1);
    let connection = world.open(&config.replace(
        r#""grant_type": "jwt_bearer","#,
        r#""grant_type": "jwt_bearer", "client_id": "id", "token_endpoint_auth_method": "private_key_jwt","#,
    ));
    world.answer_with(Answer::status(503, ""));
    assert_eq!(token(&connection), ok("access-1"));
    let sent = world.sent_to("/token");
    assert_eq!(sent.len(), 2);
    for name in ["assertion", "client_assertion"] {
        assert_ne!(sent[0].form[name], sent[1].form[name], "{name}");
    }
}

#[test]
fn the_assertion_of_a_service_account_is_as_google_wants_it() {
    let world = World::new();
    let config = ASSERTING.replacen('{', r#"{"assertion_claims": {"sub": null, "x": 1}, "#, 1);
    token(&world.open(&config)).expect("a token");
    let claims = asserted(&world);
    assert_eq!((&claims["scope"], &claims["x"]), (&"a b".into(), &1.into()));
    assert!(claims.get("sub").is_none());
}

/// Shows: RFC 7521, RFC 7523 section 2.1.
#[test]
fn a_finished_assertion_is_sent_as_it_is() {
    let world = World::new();
    let config = r#"{"grant_type": "jwt_bearer", "assertion": "finished.assertion.",
        "token_endpoint": "https://as.example/token"}"#;
    assert_eq!(token(&world.open(config)), ok("access-1"));
    assert_eq!(world.last_sent("client_id"), None);
}

#[test]
fn another_assertion_is_another_credential() {
    let world = World::new();
    token(&world.open(ASSERTING)).expect("a token");
    let config = ASSERTING.replacen('{', r#"{"assertion_subject": "somebody", "#, 1);
    assert_eq!(token(&world.open(&config)), ok("access-2"));
}

/// Shows: RFC 8693.
#[test]
fn a_token_is_exchanged_by_rfc_8693() {
    let world = World::new();
    let connection = world.open(EXCHANGING);
    assert_eq!(token(&connection), ok("access-1"));
    for (name, value) in [
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("resource", "https://api.example/"),
        ("audience", "api"),
        ("scope", "a"),
    ] {
        assert_eq!(world.last_sent(name).as_deref(), Some(value));
    }
    assert_eq!(world.last_sent("actor_token"), None);
    world.pass(1000);
    assert_eq!(token(&connection), ok("access-2"));
}

/// Shows: RFC 8693.
#[test]
fn the_acting_party_is_told_with_its_type() {
    let world = World::new();
    let config = EXCHANGING.replacen(
        '{',
        r#"{"actor_token": {"ref": "env:SECRET"}, "actor_token_type": "urn:x", "#,
        1,
    );
    token(&world.open(&config)).expect("a token");
    assert_eq!(world.last_sent("actor_token").as_deref(), Some("from-env"));
    assert_eq!(
        world.last_sent("actor_token_type").as_deref(),
        Some("urn:x")
    );
}

#[test]
fn what_is_exchanged_for_no_access_token_makes_no_header() {
    // RFC 8693 section 2.2.1.
    let world = World::new();
    world.server.borrow_mut().adds = vec![("token_type", "N_A".into())];
    let connection = world.open(EXCHANGING);
    assert_eq!(token(&connection), ok("access-1"));
    let options = TokenOptions::default();
    let headers =
        run(connection.authorization_headers("GET", "https://api.example/", &options, None));
    assert!(matches!(headers.unboxed(), Err(Error::Unsupported(_))));
}

/// Shows: RFC 8693.
#[test]
fn what_is_odd_about_the_type_of_an_issued_token_is_told() {
    const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
    for (issued, told) in [
        (serde_json::Value::Null, "issued_token_type was missing"),
        (
            ID_TOKEN.into(),
            "the token issued is of the type urn:ietf:params:oauth:token-type:id_token, not of the one requested",
        ),
    ] {
        let world = World::new();
        world.server.borrow_mut().adds = vec![("issued_token_type", issued)];
        let connection = world.open(EXCHANGING);
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(quirks(&connection), [told]);
    }
    // As it should be, and where the type is the server's to choose, nothing is odd.
    let world = World::new();
    let connection = world.open(EXCHANGING);
    assert_eq!(token(&connection), ok("access-1"));
    assert_eq!(quirks(&connection), Vec::<String>::new());
    world.server.borrow_mut().adds = vec![("issued_token_type", ID_TOKEN.into())];
    let config = EXCHANGING.replace("requested_token_type", "subject_token_type");
    let connection = world.open(&config);
    token(&connection).expect("a token");
    assert_eq!(quirks(&connection), Vec::<String>::new());
}

/// Shows: RFC 8693.
#[test]
fn a_refresh_tells_no_type_of_what_it_issues() {
    let world = World::new();
    let connection = world.open(EXCHANGING);
    world.server.borrow_mut().good.insert("refresh".to_owned());
    world.server.borrow_mut().adds = vec![("refresh_token", "refresh".into())];
    assert_eq!(token(&connection), ok("access-1"));
    world.server.borrow_mut().adds.clear();
    world.pass(4000);
    assert_eq!(token(&connection), ok("access-2"));
    assert_eq!(
        world.last_sent("grant_type").as_deref(),
        Some("refresh_token")
    );
    assert_eq!(quirks(&connection), Vec::<String>::new());
}

/// Shows: RFC 6749 section 4.5.
#[test]
fn an_extension_grant_is_run_by_its_name() {
    let world = World::new();
    let config = r#"{"client_id": "id", "grant_type": "urn:example:grant", "token_parameters": {"x": "y"},
        "token_endpoint": "https://as.example/token"}"#;
    let connection = world.open(config);
    assert_eq!(token(&connection), ok("access-1"));
    world.pass(1000);
    assert_eq!(token(&connection), ok("access-2"));
}

#[test]
fn scopes_other_than_those_asked_for_are_recorded_and_told() {
    let world = World::new();
    world.server.borrow_mut().grants = Some("a c");
    let connection = world.open(CLIENT_CREDENTIALS);
    let granted = run(connection.token(&TokenOptions::default())).expect("a token");
    assert_eq!(granted.scope, ["a", "c"]);
    let history = run(connection.history()).expect("a history");
    let told = history[0].details.iter();
    let told = told.clone().find(|(name, _)| name == "scope_not_granted");
    assert_eq!(told.map(|(_, value)| value.as_str()), Some("b"));
}

#[test]
fn a_signing_key_that_the_host_lacks_sends_nothing_and_leaves_no_trace() {
    let world = World::new();
    let config = ASSERTING.replace("key:rsa", "key:lost");
    let connection = world.open(&config);
    assert!(matches!(
        token(&connection).unboxed(),
        Err(Error::NotConfigured(_))
    ));
    assert_eq!(world.token_requests(), 0);
    assert_eq!(kinds_in_history(&connection), Vec::<&str>::new());
}

#[test]
fn a_secret_that_the_host_lacks_is_told_by_the_field_that_refers_to_it() {
    let lost = |field: &str, grant: &str, further: &str| {
        format!(
            r#"{{"client_id": "id", "grant_type": "{grant}", "token_endpoint": "https://as.example/token",
                "{field}": {{"ref": "env:LOST"}}{further}}}"#
        )
    };
    for (field, grant, further) in [
        ("client_secret", "client_credentials", ""),
        ("password", "password", r#", "username": "u""#),
        ("refresh_token", "refresh_token", ""),
        ("assertion", "jwt_bearer", ""),
        (
            "subject_token",
            "token_exchange",
            r#", "subject_token_type": "urn:x""#,
        ),
        ("signing_key", "client_credentials", ""),
    ] {
        let connection = World::new().open(&lost(field, grant, further));
        let Err(Error::NotConfigured(problems)) = token(&connection).unboxed() else {
            panic!("{field} is there");
        };
        let fields: Vec<_> = problems.iter().map(|problem| &problem.field).collect();
        assert_eq!(fields, [field]);
    }
}

/// Shows: RFC 6749 section 4.5.
#[test]
fn an_extension_grant_sends_its_parameters_and_an_echo_of_them_is_not_shown() {
    // RFC 7522 section 2.1.
    let world = World::new();
    let connection = world.open(
        r#"{"client_id": "id", "grant_type": "urn:ietf:params:oauth:grant-type:saml2-bearer",
        "token_endpoint": "https://as.example/token", "token_parameters": {"assertion": "PHNhbWw"}}"#,
    );
    world.answer_with(Answer::status(
        400,
        r#"{"error": "invalid_grant", "error_description": "PHNhbWw has expired"}"#,
    ));
    let refused = token(&connection).expect_err("refused");
    assert!(refused.to_string().contains("*** has expired"), "{refused}");
    assert_eq!(world.last_sent("assertion").as_deref(), Some("PHNhbWw"));
}

#[test]
fn an_echo_of_the_credentials_in_a_header_is_not_shown() {
    let world = World::new();
    let connection = world.open(
        r#"{"client_id": "id", "client_secret": "hunter2", "grant_type": "client_credentials",
            "token_headers": {"X-Key": "hunter3"}, "token_endpoint": "https://as.example/token"}"#,
    );
    world.answer_with(Answer::status(
        400,
        r#"{"error": "invalid_request", "error_description": "Basic aWQ6aHVudGVyMg==, hunter3"}"#,
    ));
    let Err(Error::Refused(refused)) = token(&connection).unboxed() else {
        panic!("it was refused");
    };
    assert_eq!(refused.description.as_deref(), Some("Basic ***, ***"));
}
