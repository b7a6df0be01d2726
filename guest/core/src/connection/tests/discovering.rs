//! From a resource to its authorization server, and registering a client there.

use super::*;

fn platform(world: &Rc<World>) -> FakePlatform {
    FakePlatform(Rc::clone(world))
}

fn resource_metadata(resource: &str) -> String {
    format!(
        r#"{{"resource": "{resource}", "authorization_servers": ["https://as.example"], "scopes_supported": ["a"]}}"#
    )
}

fn publish(world: &World, place: &str, document: &str) {
    let mut documents = world.documents.borrow_mut();
    documents.insert(place.to_owned(), document.to_owned());
}

/// Shows: RFC 9728.
#[test]
fn the_challenge_of_a_resource_leads_to_its_server() {
    // RFC 9728 section 5.
    let world = World::new();
    publish(
        &world,
        "https://api.example/meta",
        &resource_metadata("https://api.example/notes"),
    );
    world.answer_with(Answer::Http(
        401,
        vec![(
            "www-authenticate",
            r#"Bearer error="x", resource_metadata="https://api.example/meta""#,
        )],
        String::new(),
    ));
    let found = run(discover_resource(
        &platform(&world),
        "https://api.example/notes",
    ));
    let found = found.expect("metadata");
    assert!(
        found.contains(r#""authorization_servers":["https://as.example"]"#),
        "{found}"
    );
    assert!(
        !world.received.borrow()[0]
            .headers
            .contains_key("authorization")
    );
}

#[test]
fn without_a_challenge_the_well_known_places_are_looked_at() {
    for place in [
        "https://api.example/.well-known/oauth-protected-resource/v1/notes",
        "https://api.example/.well-known/oauth-protected-resource",
    ] {
        let world = World::new();
        publish(&world, place, &resource_metadata("https://api.example"));
        let found = run(discover_resource(
            &platform(&world),
            "https://api.example/v1/notes",
        ));
        assert!(found.is_ok(), "{place}: {found:?}");
    }
}

/// Shows: RFC 9728.
#[test]
fn a_resource_that_speaks_for_another_is_not_believed() {
    let world = World::new();
    publish(
        &world,
        "https://api.example/.well-known/oauth-protected-resource",
        &resource_metadata("https://bank.example/"),
    );
    let found = run(discover_resource(&platform(&world), "https://api.example/")).unboxed();
    let Err(Error::ProtocolViolation(violation)) = found else {
        panic!("{found:?}");
    };
    assert_eq!(violation.kind, ViolationKind::Metadata);
}

#[test]
fn a_resource_that_tells_nothing_is_said_to() {
    let world = World::new();
    for url in [
        "https://api.example/",
        "file:///etc/passwd",
        "http://api.example/",
        "",
    ] {
        assert!(
            run(discover_resource(&platform(&world), url)).is_err(),
            "{url}"
        );
    }
    // A challenge that points anywhere but to the web is not followed.
    for place in ["file:///etc/passwd", "http://api.example/meta", "data:,x"] {
        let challenge = format!("Bearer resource_metadata=\"{place}\"");
        let challenge: &'static str = challenge.leak();
        world.answer_with(Answer::Http(
            401,
            vec![("www-authenticate", challenge)],
            String::new(),
        ));
        let before = world.received.borrow().len();
        let found = run(discover_resource(&platform(&world), "https://api.example/"));
        assert!(found.is_err(), "{place}");
        assert_eq!(world.received.borrow().len(), before + 1);
    }
}

const BY_HAND: &str = r#"{"client_id": "id", "client_secret": "secret", "grant_type": "client_credentials",
    "issuer": "https://as.example", "token_endpoint": "https://as.example/token"}"#;

const PAGE: &str = "<!doctype html><title>An application</title>";

#[test]
fn endpoints_by_hand_are_enough_where_the_issuer_has_no_metadata() {
    let world = World::new();
    assert_eq!(token(&world.open(BY_HAND)), ok("access-1"));
    // Nor is a page that is there for every address.
    let world = World::new();
    publish(
        &world,
        "https://as.example/.well-known/openid-configuration",
        PAGE,
    );
    assert_eq!(token(&world.open(BY_HAND)), ok("access-1"));
    // The user's grant takes another endpoint.
    let code = BY_HAND.replace("client_credentials", "authorization_code");
    let begun = run(world.open(&code).begin_authorization(&Default::default()));
    assert!(matches!(begun.unboxed(), Err(Error::ProtocolViolation(_))));
}

#[test]
fn endpoints_by_hand_are_not_enough_where_the_metadata_cannot_be_had_or_believed() {
    let world = World::new();
    world.answer_with(Answer::status(503, ""));
    unavailable(&token(&world.open(BY_HAND)));
    let world = World::with_metadata();
    world.publish(&[("issuer", "https://evil.example".into())]);
    assert!(matches!(
        token(&world.open(BY_HAND)).unboxed(),
        Err(Error::ProtocolViolation(_))
    ));
    assert_eq!(world.token_requests(), 0);
}

/// Shows: RFC 8414.
#[test]
fn metadata_is_found_behind_a_page_that_an_application_has_for_every_address() {
    let world = World::new();
    let config = r#"{"client_id": "id", "client_secret": "secret", "grant_type": "client_credentials",
        "issuer": "https://as.example/t"}"#;
    let place = "https://as.example/t/.well-known/openid-configuration";
    publish(&world, place, PAGE);
    let Err(Error::ProtocolViolation(violation)) = token(&world.open(config)).unboxed() else {
        panic!("there is no metadata");
    };
    assert!(
        violation.message.contains("cannot be read"),
        "{}",
        violation.message
    );
    publish(
        &world,
        "https://as.example/.well-known/oauth-authorization-server/t",
        r#"{"issuer": "https://as.example/t", "token_endpoint": "https://as.example/token"}"#,
    );
    world.pass(100);
    assert_eq!(token(&world.open(config)), ok("access-1"));
}

fn register(world: &Rc<World>, metadata: &str, token: Option<&str>) -> Result<String> {
    let token = token.map(SecretString::new);
    let platform = platform(world);
    let registered = register_client(&platform, "https://as.example", metadata, token.as_ref());
    run(registered).map(|answer| answer.reveal().to_owned())
}

/// Shows: RFC 7591.
#[test]
fn a_client_is_registered_with_its_metadata() {
    // RFC 7591 section 3.
    let world = World::with_metadata();
    let metadata = r#"{"redirect_uris": ["http://127.0.0.1/oauth2"], "client_name": "x"}"#;
    let answer = register(&world, metadata, None).expect("registered");
    assert!(answer.contains(r#""client_id":"registered""#), "{answer}");
    let answer = register(&world, metadata, Some("initial")).expect("registered");
    assert!(answer.contains("trusted"), "{answer}");
}

/// Shows: RFC 7591.
#[test]
fn a_registration_that_is_refused_says_why() {
    let world = World::with_metadata();
    let refused = register(&world, r#"{"redirect_uris": []}"#, None);
    assert!(
        matches!(refused.unboxed(), Err(Error::Refused(error)) if error.code == "invalid_redirect_uri")
    );
}

#[test]
fn what_is_no_metadata_is_not_sent() {
    let world = World::with_metadata();
    assert!(matches!(
        register(&world, "[]", None).unboxed(),
        Err(Error::NotConfigured(_))
    ));
    assert_eq!(world.received.borrow().len(), 0);
}

#[test]
fn a_server_that_registers_nobody_is_said_to() {
    let world = World::with_metadata();
    world.publish(&[("registration_endpoint", serde_json::Value::Null)]);
    let refused = register(&world, "{}", None);
    assert!(matches!(refused.unboxed(), Err(Error::Unsupported(_))));
}

#[test]
fn an_answer_without_an_identifier_registers_nothing() {
    let world = World::with_metadata();
    world.answer_with(Answer::status(
        200,
        &super::super::fake_server::metadata().to_string(),
    ));
    world.answer_with(Answer::status(201, "{}"));
    assert!(matches!(
        register(&world, "{}", None).unboxed(),
        Err(Error::ProtocolViolation(_))
    ));
}
