//! The device authorization grant (RFC 8628).

use super::super::fake_server::Decision;
use super::*;

pub(super) const DEVICE: &str = r#"{"client_id": "id", "grant_type": "device_code", "issuer": "https://as.example", "scope": "a"}"#;

fn begun_with(config: &str) -> (Rc<World>, Crm) {
    let world = World::with_metadata();
    let connection = world.open(config);
    let shown = run(connection.begin_device_authorization()).expect("begun");
    assert_eq!(shown.user_code, "WDJB-MJHT");
    assert_eq!(shown.verification_uri, "https://as.example/activate");
    (world, connection)
}

fn decide(world: &World, decision: Decision) {
    let mut server = world.server.borrow_mut();
    server.device.as_mut().expect("a device").decision = decision;
}

fn poll(connection: &Crm) -> Result<DevicePoll> {
    run(connection.poll_device_authorization())
}

/// Shows: RFC 8628.
#[test]
fn what_one_process_begins_another_polls_until_the_user_has_allowed_it() {
    let (world, _) = begun_with(DEVICE);
    let connection = world.open(DEVICE);
    world.pass(5);
    assert_eq!(poll(&connection), Ok(DevicePoll::Pending(5)));
    decide(&world, Decision::Allowed);
    world.pass(5);
    assert_eq!(poll(&world.open(DEVICE)), Ok(DevicePoll::Authorized));
    assert_eq!(token(&connection), ok("access-2"));
    assert_eq!(state(&connection), ConnectionState::Authorized);
    assert!(matches!(
        poll(&connection).unboxed(),
        Err(Error::NotAuthorized(_))
    ));
}

#[test]
fn the_server_is_told_the_client_the_scopes_and_what_they_are_for() {
    let config = DEVICE.replacen(
        '{',
        r#"{"audience": "api", "authorization_parameters": {"x": "y"}, "#,
        1,
    );
    let (world, _) = begun_with(&config);
    for (name, value) in [
        ("client_id", "id"),
        ("scope", "a"),
        ("audience", "api"),
        ("x", "y"),
    ] {
        assert_eq!(world.last_sent(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn a_poll_that_comes_too_soon_sends_nothing_whoever_polls() {
    let (world, connection) = begun_with(DEVICE);
    for _ in 0..3 {
        assert_eq!(poll(&connection), Ok(DevicePoll::Pending(5)));
    }
    world.pass(3);
    assert_eq!(poll(&world.open(DEVICE)), Ok(DevicePoll::Pending(2)));
    assert_eq!(world.token_requests(), 0);
}

#[test]
fn of_many_that_poll_together_one_does() {
    let (world, _) = begun_with(DEVICE);
    world.pass(5);
    let callers: Vec<_> = (0..20).map(|_| world.open(DEVICE)).collect();
    for polled in run_all(
        callers
            .iter()
            .map(|caller| caller.poll_device_authorization()),
    ) {
        assert!(matches!(polled, Ok(DevicePoll::Pending(_))));
    }
    assert_eq!(world.token_requests(), 1);
}

/// Shows: RFC 8628 section 3.5.
#[test]
fn slow_down_adds_five_seconds_for_everybody() {
    let (world, connection) = begun_with(DEVICE);
    world.pass(5);
    world.answer_with(Answer::oauth_error("slow_down"));
    assert_eq!(poll(&connection), Ok(DevicePoll::Pending(10)));
    world.pass(9);
    assert_eq!(poll(&world.open(DEVICE)), Ok(DevicePoll::Pending(1)));
    world.pass(1);
    assert_eq!(poll(&connection), Ok(DevicePoll::Pending(10)));
    assert_eq!(world.token_requests(), 2);
}

#[test]
fn a_server_that_cannot_be_reached_is_asked_half_as_often() {
    let (world, connection) = begun_with(DEVICE);
    for (wait, longer) in [(5, 10), (10, 20)] {
        world.pass(wait);
        world.answer_with(Answer::Fails(Failure::InDoubt("no answer".to_owned())));
        assert_eq!(poll(&connection), Ok(DevicePoll::Pending(longer)));
    }
    world.pass(20);
    world.answer_with(Answer::status(503, ""));
    assert_eq!(poll(&connection), Ok(DevicePoll::Pending(40)));
}

#[test]
fn a_denial_ends_it_and_is_told() {
    let (world, connection) = begun_with(DEVICE);
    decide(&world, Decision::Denied);
    world.pass(5);
    assert!(matches!(poll(&connection).unboxed(), Err(Error::Denied(_))));
    assert!(matches!(
        poll(&connection).unboxed(),
        Err(Error::NotAuthorized(_))
    ));
    assert!(matches!(
        state(&connection),
        ConnectionState::Error(Error::Denied(_))
    ));
}

#[test]
fn a_device_code_that_expires_is_refused_with_the_reason() {
    // By the clock, and by the server's word.
    for by_clock in [true, false] {
        let (world, connection) = begun_with(DEVICE);
        if by_clock {
            world.pass(1800);
        } else {
            world.pass(5);
            world.answer_with(Answer::oauth_error("expired_token"));
        }
        let Err(Error::NotAuthorized(why)) = poll(&connection).unboxed() else {
            panic!("it was taken");
        };
        assert!(why.contains("expired"), "{why}");
        assert_eq!(world.token_requests(), usize::from(!by_clock));
        assert!(
            matches!(poll(&connection).unboxed(), Err(Error::NotAuthorized(why)) if why.contains("begin one"))
        );
    }
}

#[test]
fn what_comes_to_nothing_leaves_an_earlier_credential_in_use() {
    let world = World::with_metadata();
    let code = r#"{"client_id": "id", "issuer": "https://as.example",
        "redirect_uri": "http://127.0.0.1:1/oauth2"}"#;
    let connection = world.open(code);
    world.authorize(&connection).expect("authorized");
    let before = token(&connection);
    run(connection.begin_device_authorization()).expect("begun");
    decide(&world, Decision::Denied);
    world.pass(5);
    assert!(matches!(poll(&connection).unboxed(), Err(Error::Denied(_))));
    assert_eq!(token(&connection), before);
}

#[test]
fn a_connection_that_is_authorized_by_redirect_may_be_so_by_device_too() {
    let world = World::with_metadata();
    let code = r#"{"client_id": "id", "issuer": "https://as.example"}"#;
    let connection = world.open(code);
    run(connection.begin_device_authorization()).expect("begun");
    decide(&world, Decision::Allowed);
    world.pass(5);
    assert_eq!(poll(&connection), Ok(DevicePoll::Authorized));
    assert_eq!(token(&connection), ok("access-2"));
    world.pass(1000);
    assert_eq!(token(&connection), ok("access-3"));
}

#[test]
fn a_code_that_is_spent_by_an_answer_that_was_lost_is_refused_with_the_reason() {
    let (world, connection) = begun_with(DEVICE);
    decide(&world, Decision::Allowed);
    world.pass(5);
    world.answer_with(Answer::Lost);
    assert_eq!(poll(&connection), Ok(DevicePoll::Pending(10)));
    world.pass(10);
    assert!(
        matches!(poll(&connection).unboxed(), Err(Error::Refused(error)) if error.code == "invalid_grant")
    );
}

/// A poll whose request has been sent and answered with `invalid_grant`, and that
/// goes on after something else.
fn stalled_poll(something: impl FnOnce(&Rc<World>)) -> Result<DevicePoll> {
    let (world, connection) = begun_with(DEVICE);
    world.pass(5);
    world.answer_with(Answer::oauth_error("invalid_grant"));
    let mut flow = Box::pin(connection.poll_device_authorization());
    let mut context = Context::from_waker(Waker::noop());
    while world.token_requests() == 0 {
        assert!(flow.as_mut().poll(&mut context).is_pending());
    }
    world.pass(5);
    something(&world);
    run(flow)
}

#[test]
fn a_poll_that_is_overtaken_finds_the_connection_as_the_other_left_it() {
    let overtaken = stalled_poll(|world| {
        decide(world, Decision::Allowed);
        assert_eq!(poll(&world.open(DEVICE)), Ok(DevicePoll::Authorized));
    });
    assert_eq!(overtaken, Ok(DevicePoll::Authorized));
    let cleared = stalled_poll(|world| run(world.open(DEVICE).clear()).expect("cleared"));
    assert!(matches!(cleared.unboxed(), Err(Error::NotAuthorized(_))));
    let replaced = stalled_poll(|world| {
        run(world.open(DEVICE).begin_device_authorization()).expect("begun");
    });
    assert!(matches!(replaced.unboxed(), Err(Error::NotAuthorized(_))));
}

#[test]
fn a_changed_client_does_not_go_on_with_what_another_began() {
    let (world, _) = begun_with(DEVICE);
    world.pass(5);
    let other = world.open(&DEVICE.replace("\"id\"", "\"other\""));
    assert!(matches!(
        poll(&other).unboxed(),
        Err(Error::NotAuthorized(_))
    ));
    assert_eq!(world.token_requests(), 0);
}

#[test]
fn without_an_endpoint_for_it_it_is_not_begun() {
    let world = World::with_metadata();
    world.publish(&[("device_authorization_endpoint", serde_json::Value::Null)]);
    let begun = run(world.open(DEVICE).begin_device_authorization());
    assert!(matches!(begun.unboxed(), Err(Error::Unsupported(_))));
    let begun = run(world.open(CLIENT_CREDENTIALS).begin_device_authorization());
    assert!(matches!(begun.unboxed(), Err(Error::Unsupported(_))));
}

#[test]
fn clearing_gives_up_what_is_under_way() {
    let (world, connection) = begun_with(DEVICE);
    run(connection.clear()).expect("cleared");
    world.pass(5);
    assert!(matches!(
        poll(&connection).unboxed(),
        Err(Error::NotAuthorized(_))
    ));
}

#[test]
fn an_openid_user_of_a_device_is_identified_without_a_nonce() {
    let (world, connection) = begun_with(&DEVICE.replace("\"a\"", "\"openid a\""));
    world.server.borrow_mut().id_token.always = true;
    decide(&world, Decision::Allowed);
    world.pass(5);
    assert_eq!(poll(&connection), Ok(DevicePoll::Authorized));
    assert!(run(connection.userinfo()).is_ok());
}

#[test]
fn a_store_that_fails_for_a_while_costs_no_device_authorization() {
    let world = World::with_metadata();
    let connection = world.open(DEVICE);
    run(connection.begin_device_authorization()).expect("begun");
    world
        .server
        .borrow_mut()
        .device
        .as_mut()
        .expect("one")
        .decision = Decision::Allowed;
    world.pass(5);
    let mut flow = Box::pin(connection.poll_device_authorization());
    let mut context = Context::from_waker(Waker::noop());
    while world.token_requests() == 0 {
        assert!(flow.as_mut().poll(&mut context).is_pending());
    }
    world.failing_writes.set(5);
    assert_eq!(run(flow), Ok(DevicePoll::Authorized));
    assert_eq!(token(&world.open(DEVICE)), ok("access-2"));
}

#[test]
fn slow_down_adds_five_seconds_and_does_not_double() {
    let world = World::with_metadata();
    let connection = world.open(DEVICE);
    run(connection.begin_device_authorization()).expect("begun");
    for (wait, longer) in [(5, 10), (10, 15)] {
        world.pass(wait);
        world.answer_with(Answer::oauth_error("slow_down"));
        assert_eq!(
            run(connection.poll_device_authorization()),
            Ok(DevicePoll::Pending(longer))
        );
    }
}

#[test]
fn a_clock_that_was_set_back_prolongs_no_wait_of_a_device() {
    let world = World::with_metadata();
    let connection = world.open(DEVICE);
    run(connection.begin_device_authorization()).expect("begun");
    world.set_back(600);
    world.answer_with(Answer::oauth_error("authorization_pending"));
    assert_eq!(
        run(connection.poll_device_authorization()),
        Ok(DevicePoll::Pending(5))
    );
    assert_eq!(world.token_requests(), 1);
}

#[test]
fn device_and_code_grants_are_kept_apart() {
    let world = World::with_metadata();
    assert!(matches!(
        run(world
            .open(DEVICE)
            .begin_authorization(&AuthorizationOptions {
                redirect_uri: Some("http://127.0.0.1:1/cb".to_owned()),
                ..AuthorizationOptions::default()
            }))
        .unboxed(),
        Err(Error::Unsupported(_))
    ));
    let robot = DEVICE
        .replace("device_code", "client_credentials")
        .replacen('{', r#"{"client_secret": "s", "#, 1);
    assert!(matches!(
        run(world.open(&robot).begin_device_authorization()).unboxed(),
        Err(Error::Unsupported(_))
    ));
}
