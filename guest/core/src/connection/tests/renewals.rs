//! Renewal at its edges: what is sent again and what is not, what is kept, and what
//! a failure is taken for.

use super::super::fake::FakeLease;
use super::*;
use serde_json::json;
use std::cell::RefCell;

#[test]
fn a_holder_that_stalled_before_it_began_sends_nothing_once_another_has_the_lease() {
    let world = World::new();
    let connection = world.authorized();
    world.pass(1000);
    let other = Rc::clone(&world);
    let held: Rc<RefCell<Option<FakeLease>>> = Rc::default();
    let keep = Rc::clone(&held);
    world.before_write.replace(Some(Box::new(move || {
        other.pass(1_000_000);
        let platform = FakePlatform(Rc::clone(&other));
        *keep.borrow_mut() = run(platform.acquire_lease("crm.tokens", 60_000, 0)).expect("a store");
    })));
    let result = token(&connection);
    assert!(held.borrow().is_some());
    assert!(matches!(result.unboxed(), Err(Error::Storage(_))));
    assert_eq!(world.token_requests(), 0);
}

#[test]
fn only_what_fails_transiently_is_sent_again_in_one_call() {
    for answer in [
        Answer::oauth_error("invalid_grant"),
        Answer::status(401, r#"{"error":"invalid_client"}"#),
        Answer::status(200, r#"{"access_token":"#),
        Answer::Fails(Failure::TooLarge),
    ] {
        let world = World::new();
        world.authorized();
        let config = CODE.replacen('{', r#"{"renewal": {"max_attempts": 3}, "#, 1);
        let connection = world.open(&config);
        world.pass(1000);
        world.answer_with(answer.clone());
        token(&connection).expect_err("it failed");
        assert_eq!(world.token_requests(), 1, "{answer:?}");
    }
}

#[test]
fn a_second_attempt_waits_as_long_as_the_server_asks_and_not_longer_than_a_request_may_take() {
    for (wait, requests) in [("20", 2), ("31", 1)] {
        let world = World::new();
        let config =
            CLIENT_CREDENTIALS.replace("\"scope\"", r#""renewal": {"max_attempts": 2}, "scope""#);
        let connection = world.open(&config);
        world.answer_with(Answer::Http(
            503,
            vec![("retry-after", wait)],
            String::new(),
        ));
        let platform = FakePlatform(Rc::clone(&world));
        let before = platform.now();
        let _ = token(&connection);
        assert_eq!(world.token_requests(), requests, "{wait}");
        let took = platform.now().millis_since(before);
        assert_eq!(took, if requests == 2 { 20_000 } else { 0 });
    }
}

#[test]
fn a_renewal_that_tells_no_scope_has_the_scope_that_was_granted() {
    let world = World::with_metadata();
    world.server.borrow_mut().grants = Some("b");
    let connection = world.open(requests::CONFIG);
    world.authorize(&connection).expect("authorized");
    world.server.borrow_mut().grants = None;
    world.pass(1000);
    let renewed = run(connection.token(&TokenOptions::default())).expect("a token");
    assert_eq!(renewed.scope, ["b"]);
}

#[test]
fn the_end_of_a_refresh_token_goes_with_it() {
    for (rotates, told, expected) in [
        (false, serde_json::Value::Null, Some(5000)),
        (true, serde_json::Value::Null, None),
        (true, json!(7000), Some(8000)),
    ] {
        let world = World::new();
        world.server.borrow_mut().adds = vec![("refresh_expires_in", 5000.into())];
        world.server.borrow_mut().rotates = rotates;
        let connection = world.authorized();
        world.server.borrow_mut().adds = vec![("refresh_expires_in", told.clone())];
        world.pass(1000);
        token(&connection).expect("a token");
        let end = run(connection.status())
            .expect("a status")
            .refresh_expires_at;
        assert_eq!(
            end.map(|end| end.seconds() - 1_000_000_000),
            expected,
            "{rotates} {told}"
        );
    }
}

#[test]
fn an_assumed_lifetime_gives_way_to_the_one_told() {
    let world = World::new();
    let config = CLIENT_CREDENTIALS.replace(
        "\"scope\"",
        r#""renewal": {"default_lifetime_seconds": 5000}, "scope""#,
    );
    let connection = world.open(&config);
    assert_eq!(token(&connection), ok("access-1"));
    world.pass(1000);
    assert_eq!(token(&connection), ok("access-2"));
}

/// A renewal that fails so, and the next one, which the server refuses: what the
/// user is told.
fn refused_after(failure: &Answer) -> (Crm, String) {
    let world = World::new();
    let connection = world.authorized();
    world.pass(1000);
    world.answer_with(failure.clone());
    token(&connection).expect_err("it failed");
    world.pass(10);
    world.answer_with(Answer::oauth_error("invalid_grant"));
    let reason = reauthorization_reason(token(&connection));
    (connection, reason)
}

#[test]
fn a_renewal_that_failed_was_no_interruption() {
    for failure in [
        Answer::Fails(Failure::NotSent("connection refused".to_owned())),
        Answer::status(401, r#"{"error":"invalid_client"}"#),
        Answer::status(429, ""),
    ] {
        let (connection, reason) = refused_after(&failure);
        assert_eq!(
            reason, "the server no longer accepts the refresh token",
            "{failure:?}"
        );
        assert!(!kinds_in_history(&connection).contains(&"renewal-interrupted"));
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_told_as_the_cause() {
    for failure in [
        Answer::Fails(Failure::TooLarge),
        Answer::status(502, "<html>"),
        Answer::status(200, r#"{"access_token":"#),
    ] {
        let (_, reason) = refused_after(&failure);
        assert!(reason.contains("interrupted"), "{failure:?}: {reason}");
    }
}

#[test]
fn many_callers_in_an_outage_cause_one_request() {
    let world = World::new();
    world.authorized();
    world.pass(1000);
    let callers: Vec<_> = (0..50).map(|_| world.open(CODE)).collect();
    for _ in 0..50 {
        world.answer_with(Answer::status(503, ""));
    }
    let options = TokenOptions::default();
    for result in run_all(callers.iter().map(|caller| caller.token(&options))) {
        assert!(result.is_err());
    }
    assert_eq!(world.token_requests(), 1);
}

#[test]
fn a_refresh_token_that_is_written_into_the_config_anew_is_tried() {
    let world = World::new();
    let config = r#"{"client_id": "id", "grant_type": "refresh_token", "refresh_token": "old",
            "token_endpoint": "https://as.example/token"}"#;
    reauthorization_reason(token(&world.open(config)));
    world.server.borrow_mut().accept("new");
    assert_eq!(
        token(&world.open(&config.replace("old", "new"))),
        ok("access-1")
    );
}

#[test]
fn metadata_that_is_not_believed_is_not_asked_for_each_time() {
    let world = World::with_metadata();
    world.publish(&[("issuer", "https://evil.example".into())]);
    let config = r#"{"client_id": "id", "client_secret": "secret", "grant_type": "client_credentials", "issuer": "https://as.example"}"#;
    for _ in 0..3 {
        assert!(token(&world.open(config)).is_err());
    }
    assert_eq!(world.received.borrow().len(), 1);
}

#[test]
fn a_server_that_names_its_outage_is_unavailable() {
    for code in [
        "temporarily_unavailable",
        "server_error",
        "slow_down",
        "too_many_requests",
    ] {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.answer_with(Answer::oauth_error(code));
        unavailable(&token(&connection));
    }
}

#[test]
fn a_lease_lasts_for_every_attempt_that_the_policy_allows() {
    let world = World::new();
    world.authorized();
    let config = CODE.replacen(
        '{',
        r#"{"timeout": 10, "renewal": {"max_attempts": 3}, "#,
        1,
    );
    let connection = world.open(&config);
    world.pass(1000);
    let flow = begun(&world, &connection);
    // Three requests of ten seconds, and the pauses of one and two between them.
    world.pass(33);
    assert!(world.is_leased("crm.tokens"));
    drop(flow);
    assert!(!world.is_leased("crm.tokens"));
}
