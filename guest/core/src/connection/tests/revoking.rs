//! Revoking and clearing a connection while other things happen.

use super::*;

#[test]
fn revoking_waits_for_a_renewal_that_is_under_way() {
    let world = World::new();
    let connection = world.authorized();
    let platform = FakePlatform(Rc::clone(&world));
    let lease = run(platform.acquire_lease("crm.tokens", 60_000, 0));
    assert_eq!(
        unavailable(&run(connection.revoke())).cause,
        "a renewal is under way; try again"
    );
    assert_eq!(world.received.borrow().len(), 0);
    drop(lease);
    run(connection.revoke()).expect("revoked");
}

#[test]
fn a_server_that_does_not_revoke_refresh_tokens_is_not_taken_to_have() {
    let world = World::new();
    let connection = world.authorized();
    world.answer_with(Answer::oauth_error("unsupported_token_type"));
    assert!(matches!(
        run(connection.revoke()).unboxed(),
        Err(Error::Refused(_))
    ));
    assert_eq!(token(&connection), ok("access-1"));
}

#[test]
fn status_tells_an_outage_of_an_expired_token_and_clearing_forgets_it() {
    let world = World::new();
    let connection = world.authorized();
    world.pass(1000);
    world.answer_with(Answer::status(503, ""));
    unavailable(&token(&connection));
    assert!(matches!(
        state(&connection),
        ConnectionState::Error(Error::Unavailable(_))
    ));
    run(connection.clear()).expect("cleared");
    assert_eq!(state(&connection), ConnectionState::NotAuthorized);
}

#[test]
fn an_outage_of_another_endpoint_is_no_refusal() {
    for status in [500, 503, 429] {
        let world = World::new();
        let connection = world.authorized();
        world.answer_with(Answer::status(status, r#"{"error": "server_error"}"#));
        unavailable(&run(connection.revoke()));
    }
}
