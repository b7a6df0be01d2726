//! The flows in the fake world. What belongs to one part of the protocol is in a
//! file of its own; obtaining, renewing and what may go wrong with it is here.

mod clients;
mod conformance;
mod devices;
mod discovering;
mod grants;
mod identities;
mod listening;
mod proofs;
mod renewals;
mod requests;
mod revoking;
mod security;

use super::fake::{Answer, CLIENT_CREDENTIALS, CODE, FakePlatform, World, run, run_all, run_steps};
use super::fake_server::Decision;
use super::*;
use crate::authorization::{AuthorizationOptions, Redirect};
use crate::device_authorization::DeviceAuthorization;
use crate::error::{StorageFailureKind, Unavailability, Unboxed as _, ViolationKind};
use crate::http::Failure;
use crate::platform::StoreError;
use crate::record::RenewalReason;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

type Crm = Connection<FakePlatform>;

fn token(connection: &Crm) -> Result<String> {
    run(connection.token(&TokenOptions::default()))
        .map(|token| token.access_token.reveal().to_owned())
}

fn token_unlike(connection: &Crm, rejected: &str) -> Result<String> {
    let options = TokenOptions {
        rejected: Some(SecretString::new(rejected)),
        ..TokenOptions::default()
    };
    run(connection.token(&options)).map(|token| token.access_token.reveal().to_owned())
}

/// A call for a token that has just sent its request.
fn begun<'a>(
    world: &World,
    connection: &'a Crm,
) -> Pin<Box<dyn Future<Output = Result<String>> + 'a>> {
    let mut flow: Pin<Box<dyn Future<Output = _>>> = Box::pin(async {
        let token = connection.token(&TokenOptions::default()).await;
        token.map(|token| token.access_token.reveal().to_owned())
    });
    let mut context = Context::from_waker(Waker::noop());
    while world.token_requests() == 0 {
        assert!(flow.as_mut().poll(&mut context).is_pending());
    }
    flow
}

fn begin_authorization(connection: &Crm) -> Begun {
    run(connection.begin_authorization(&AuthorizationOptions::default())).expect("begun")
}

/// What comes back when the user has consented.
fn answer_to(begun: &Begun) -> Redirect {
    let form = format!("code=good-code&state={}", begun.state.reveal());
    Redirect::from_form(&form).expect("a redirect")
}

fn ok(token: &str) -> Result<String> {
    Ok(token.to_owned())
}

fn unavailable<T>(result: &Result<T>) -> &Unavailability {
    match result.as_ref().err().map(|error| &**error) {
        Some(Error::Unavailable(failure)) => failure,
        Some(other) => panic!("{other:?}"),
        None => panic!("it was available"),
    }
}

fn reauthorization_reason(result: Result<String>) -> String {
    match result.unboxed() {
        Err(Error::ReauthorizationRequired(cause)) => cause.reason,
        other => panic!("{other:?}"),
    }
}

fn state(connection: &Crm) -> ConnectionState {
    run(connection.status()).expect("a status").state
}

fn kinds_in_history(connection: &Crm) -> Vec<&'static str> {
    let history = run(connection.history()).expect("a history");
    history.iter().map(|event| event.kind.as_str()).collect()
}

mod obtaining {
    use super::*;

    #[test]
    fn a_connection_that_was_never_authorized_has_no_token() {
        let world = World::new();
        let connection = world.open(CODE);
        assert!(matches!(
            token(&connection).unboxed(),
            Err(Error::NotAuthorized(_))
        ));
        assert_eq!(world.token_requests(), 0);
        assert_eq!(state(&connection), ConnectionState::NotAuthorized);
    }

    #[test]
    fn an_incomplete_config_tells_every_problem_and_sends_nothing() {
        let world = World::new();
        let connection = world.open("{}");
        let Err(Error::NotConfigured(problems)) = token(&connection).unboxed() else {
            panic!("it was configured");
        };
        assert_eq!(problems.len(), 3);
        assert!(matches!(
            state(&connection),
            ConnectionState::NotConfigured(_)
        ));
    }

    #[test]
    fn a_fresh_token_is_handed_out_without_a_request() {
        let world = World::new();
        let connection = world.authorized();
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(token(&world.open(CODE)), ok("access-1"));
        assert_eq!(world.token_requests(), 0);
    }

    /// Shows: RFC 6749 section 4.4.
    #[test]
    fn client_credentials_are_exchanged_once_and_again_after_expiry() {
        let world = World::new();
        let connection = world.open(CLIENT_CREDENTIALS);
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(token(&connection), ok("access-1"));
        world.pass(1000);
        assert_eq!(token(&connection), ok("access-2"));
        assert_eq!(world.token_requests(), 2);
        assert_eq!(world.last_sent("scope").as_deref(), Some("a b"));
    }

    #[test]
    fn a_secret_by_reference_is_resolved_when_it_is_needed() {
        let world = World::new();
        let config = CLIENT_CREDENTIALS.replace("\"secret\"", r#"{"ref": "env:SECRET"}"#);
        assert_eq!(token(&world.open(&config)), ok("access-1"));
        let header = world.received.borrow()[0].headers["authorization"].clone();
        // "id:from-env"
        assert_eq!(header, "Basic aWQ6ZnJvbS1lbnY=");
    }

    #[test]
    fn a_missing_secret_names_its_reference() {
        let world = World::new();
        let config = CLIENT_CREDENTIALS.replace("\"secret\"", r#"{"ref": "env:OTHER"}"#);
        let Err(Error::NotConfigured(problems)) = token(&world.open(&config)).unboxed() else {
            panic!("it was there");
        };
        assert_eq!(problems[0].message, "there is no env:OTHER");
        assert_eq!(world.token_requests(), 0);
    }

    #[test]
    fn the_password_grant_sends_user_and_password_and_renews_by_refresh_token() {
        let world = World::new();
        let config = r#"{"client_id": "id", "grant_type": "password", "username": "u", "password": "p",
            "token_endpoint": "https://as.example/token"}"#;
        let connection = world.open(config);
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(world.last_sent("username").as_deref(), Some("u"));
        assert_eq!(world.last_sent("password").as_deref(), Some("p"));
        world.pass(1000);
        assert_eq!(token(&connection), ok("access-2"));
        assert_eq!(
            world.last_sent("grant_type").as_deref(),
            Some("refresh_token")
        );
    }

    #[test]
    fn the_password_grant_is_run_again_where_its_refresh_token_is_refused() {
        let world = World::new();
        let config = r#"{"client_id": "id", "grant_type": "password", "username": "u", "password": "p",
            "token_endpoint": "https://as.example/token"}"#;
        let connection = world.open(config);
        assert_eq!(token(&connection), ok("access-1"));
        world.pass(1000);
        world.answer_with(Answer::oauth_error("invalid_grant"));
        assert_eq!(token(&connection), ok("access-2"));
        assert_eq!(world.last_sent("grant_type").as_deref(), Some("password"));
        assert_eq!(kinds_in_history(&connection), ["renewed", "renewed"]);
    }

    #[test]
    fn a_given_refresh_token_starts_a_connection_and_its_successor_goes_on() {
        let world = World::new();
        world.server.borrow_mut().accept("given");
        let config = r#"{"client_id": "id", "grant_type": "refresh_token", "refresh_token": "given",
            "token_endpoint": "https://as.example/token"}"#;
        let connection = world.open(config);
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(world.last_sent("refresh_token").as_deref(), Some("given"));
        world.pass(1000);
        assert_eq!(token(&connection), ok("access-2"));
        assert_eq!(
            world.last_sent("refresh_token").as_deref(),
            Some("refresh-1")
        );
    }

    const GIVEN: &str = r#"{"client_id": "id", "grant_type": "refresh_token",
        "refresh_token": {"ref": "env:SECRET"}, "token_endpoint": "https://as.example/token"}"#;

    /// The refresh tokens that were sent.
    fn sent(world: &World) -> Vec<String> {
        let requests = world.sent_to("/token").into_iter();
        requests
            .map(|request| request.form["refresh_token"].clone())
            .collect()
    }

    #[test]
    fn a_given_refresh_token_that_has_been_changed_goes_on_where_the_stored_one_is_refused() {
        let world = World::new();
        world.server.borrow_mut().accept("from-env");
        let connection = world.open(GIVEN);
        assert_eq!(token(&connection), ok("access-1"));
        // What has begun the connection is spent, and not sent again.
        world.server.borrow_mut().good.clear();
        world.pass(1000);
        for _ in 0..2 {
            reauthorization_reason(token(&connection));
        }
        reauthorization_reason(run(connection.refresh()).map(|_| String::new()));
        assert_eq!(sent(&world), ["from-env", "refresh-1", "refresh-1"]);
        // The user puts another one in its place.
        world.secret.set("fresh");
        world.server.borrow_mut().accept("fresh");
        assert_eq!(token(&connection), ok("access-2"));
        assert_eq!(world.last_sent("refresh_token").as_deref(), Some("fresh"));
        world.pass(1000);
        assert_eq!(token(&connection), ok("access-3"));
        assert_eq!(
            world.last_sent("refresh_token").as_deref(),
            Some("refresh-2")
        );
        assert_eq!(world.server.borrow().reuses, 0);
    }

    #[test]
    fn a_given_refresh_token_is_changed_before_the_stored_one_is_refused() {
        let world = World::new();
        world.server.borrow_mut().accept("from-env");
        let connection = world.open(GIVEN);
        assert_eq!(token(&connection), ok("access-1"));
        world.server.borrow_mut().good.clear();
        world.secret.set("fresh");
        world.server.borrow_mut().accept("fresh");
        world.pass(1000);
        // It is not lost by an outage in between.
        world.answer_with(Answer::oauth_error("invalid_grant"));
        world.answer_with(Answer::status(503, ""));
        unavailable(&token(&connection));
        world.pass(10);
        assert_eq!(token(&connection), ok("access-2"));
        let authorized = run(connection.status()).expect("a status").authorized_at;
        assert_eq!(authorized.map(Timestamp::seconds), Some(1_000_001_010));
    }

    #[test]
    fn a_given_refresh_token_that_is_refused_is_tried_once_and_then_the_next_one() {
        let world = World::new();
        let connection = world.open(GIVEN);
        for _ in 0..3 {
            reauthorization_reason(token(&connection));
        }
        assert_eq!(sent(&world), ["from-env"]);
        world.secret.set("wrong");
        for _ in 0..3 {
            reauthorization_reason(token(&world.open(GIVEN)));
        }
        assert_eq!(sent(&world), ["from-env", "wrong"]);
        world.secret.set("fresh");
        world.server.borrow_mut().accept("fresh");
        assert_eq!(token(&connection), ok("access-1"));
    }

    #[test]
    fn the_response_is_kept_whole() {
        let world = World::new();
        let connection = world.authorized();
        let json = run(connection.response_json()).expect("a response");
        assert!(json.reveal().contains(r#""access_token":"access-1""#));
    }

    /// Shows: RFC 6750.
    #[test]
    fn a_bearer_token_makes_one_header() {
        let world = World::new();
        let connection = world.open(CLIENT_CREDENTIALS);
        let options = TokenOptions::default();
        let url = "https://api.example/";
        let headers = run(connection.authorization_headers("GET", url, &options, None));
        let bearer = SecretString::new("Bearer access-1");
        assert_eq!(headers, Ok(vec![("Authorization", bearer)]));
    }

    /// Shows: RFC 6750.
    #[test]
    fn a_bearer_token_is_for_no_request_that_anybody_on_the_way_can_read() {
        // RFC 6750 section 5.3.
        let world = World::new();
        let connection = world.open(CLIENT_CREDENTIALS);
        let options = TokenOptions::default();
        for (url, may) in [
            ("http://api.example/", false),
            ("api.example", false),
            ("https://api.example@evil.example/", false),
            ("http://127.0.0.1:8080/", true),
            ("https://api.example/?q={a|b}#c", true),
        ] {
            let headers = run(connection.authorization_headers("GET", url, &options, None));
            assert_eq!(headers.is_ok(), may, "{url}");
            let is_refused = matches!(headers.unboxed(), Err(Error::Forbidden(_)));
            assert_eq!(is_refused, !may, "{url}");
        }
    }

    #[test]
    fn a_token_of_unknown_type_makes_no_header() {
        let world = World::new();
        let connection = world.open(CLIENT_CREDENTIALS);
        world.answer_with(Answer::status(
            200,
            r#"{"access_token":"a","token_type":"mac"}"#,
        ));
        let options = TokenOptions::default();
        let url = "https://api.example/";
        let header = run(connection.authorization_headers("GET", url, &options, None));
        assert!(matches!(header.unboxed(), Err(Error::Unsupported(_))));
    }

    #[test]
    fn an_untold_lifetime_lasts_until_the_token_is_refused() {
        let world = World::new();
        world.server.borrow_mut().lifetime = None;
        let connection = world.open(CLIENT_CREDENTIALS);
        assert_eq!(token(&connection), ok("access-1"));
        world.pass(100_000_000);
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(token_unlike(&connection, "access-1"), ok("access-2"));
    }

    #[test]
    fn an_untold_lifetime_can_be_assumed() {
        let world = World::new();
        world.server.borrow_mut().lifetime = None;
        let config = CLIENT_CREDENTIALS.replace(
            "\"scope\"",
            r#""renewal": {"default_lifetime_seconds": 60}, "scope""#,
        );
        let connection = world.open(&config);
        assert_eq!(token(&connection), ok("access-1"));
        world.pass(60);
        assert_eq!(token(&connection), ok("access-2"));
    }
}

mod renewing {
    use super::*;

    /// Shows: RFC 6749 section 6.
    #[test]
    fn an_expired_token_is_renewed_and_the_rotated_refresh_token_goes_on() {
        let world = World::new();
        let connection = world.authorized();
        for round in 1..=3 {
            world.pass(1000);
            assert_eq!(token(&connection), ok(&format!("access-{}", round + 1)));
            assert_eq!(
                world.last_sent("refresh_token"),
                Some(format!("refresh-{round}"))
            );
        }
        assert_eq!(world.server.borrow().reuses, 0);
    }

    /// Shows: RFC 6749 section 6.
    #[test]
    fn a_response_without_a_refresh_token_keeps_the_old_one() {
        let world = World::new();
        world.server.borrow_mut().rotates = false;
        let connection = world.authorized();
        for _ in 0..2 {
            world.pass(1000);
            token(&connection).expect("a token");
            assert_eq!(
                world.last_sent("refresh_token").as_deref(),
                Some("refresh-1")
            );
        }
    }

    #[test]
    fn a_token_that_is_due_is_renewed_before_it_expires() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(950);
        assert_eq!(token(&connection), ok("access-2"));
        let last = run(connection.status()).expect("a status").last_renewal;
        assert_eq!(
            last.map(|renewal| renewal.reason),
            Some(RenewalReason::Early)
        );
    }

    #[test]
    fn while_another_renews_a_valid_token_is_handed_out_at_once() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(950);
        let platform = FakePlatform(Rc::clone(&world));
        let lease = run(platform.acquire_lease("crm.tokens", 60_000, 0));
        let now = platform.now();
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(platform.now(), now, "it did not wait");
        drop(lease);
        assert_eq!(token(&connection), ok("access-2"));
    }

    #[test]
    fn a_token_that_has_expired_is_never_handed_out() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        let platform = FakePlatform(Rc::clone(&world));
        let lease = run(platform.acquire_lease("crm.tokens", u64::MAX / 4, 0));
        let result = token(&connection);
        assert!(unavailable(&result).cause.contains("another renewal"));
        drop(lease);
    }

    #[test]
    fn many_callers_cause_one_request() {
        let world = World::new();
        world.authorized();
        world.pass(1000);
        let callers: Vec<_> = (0..1000).map(|_| world.open(CODE)).collect();
        let options = TokenOptions::default();
        for result in run_all(callers.iter().map(|caller| caller.token(&options))) {
            assert_eq!(
                result.map(|t| t.access_token.reveal().to_owned()),
                ok("access-2")
            );
        }
        assert_eq!(world.token_requests(), 1);
    }

    #[test]
    fn many_demands_for_a_renewal_cause_one_request() {
        let world = World::new();
        world.authorized();
        let callers: Vec<_> = (0..100).map(|_| world.open(CODE)).collect();
        for result in run_all(callers.iter().map(|caller| caller.refresh())) {
            assert!(result.is_ok());
        }
        assert_eq!(world.token_requests(), 1);
    }

    #[test]
    fn a_refused_token_is_renewed_once_for_all_who_saw_it_refused() {
        let world = World::new();
        let connection = world.authorized();
        assert_eq!(token_unlike(&connection, "access-1"), ok("access-2"));
        assert_eq!(token_unlike(&world.open(CODE), "access-1"), ok("access-2"));
        assert_eq!(world.token_requests(), 1);
    }

    #[test]
    fn a_refused_token_that_the_server_gives_again_is_handed_out_and_not_asked_for_each_time() {
        let world = World::new();
        world.server.borrow_mut().adds = vec![("access_token", "same".into())];
        let connection = world.open(CLIENT_CREDENTIALS);
        assert_eq!(token(&connection), ok("same"));
        let callers: Vec<_> = (0..100).map(|_| world.open(CLIENT_CREDENTIALS)).collect();
        let options = TokenOptions {
            rejected: Some(SecretString::new("same")),
            ..TokenOptions::default()
        };
        for result in run_all(callers.iter().map(|caller| caller.token(&options))) {
            let token = result.expect("the best there is");
            assert_eq!(token.access_token.reveal(), "same");
        }
        assert_eq!(world.token_requests(), 2);
        world.pass(10);
        assert_eq!(token_unlike(&connection, "same"), ok("same"));
        assert_eq!(world.token_requests(), 3);
        // Once the server gives another one, that is handed out.
        world.server.borrow_mut().adds.clear();
        world.pass(10);
        assert_eq!(token_unlike(&connection, "same"), ok("access-4"));
        assert_eq!(token_unlike(&connection, "access-4"), ok("access-5"));
    }

    #[test]
    fn a_token_whose_lifetime_is_over_when_it_is_stored_is_said_to_be() {
        let world = World::new();
        world.server.borrow_mut().lifetime = Some(1);
        let connection = world.open(CLIENT_CREDENTIALS);
        let flow = begun(&world, &connection);
        // The store takes longer than the token lives.
        world.failing_writes.set(6);
        let result = run(flow);
        assert_eq!(
            unavailable(&result).cause,
            "the token that the server gave had expired before it could be handed out"
        );
    }

    #[test]
    fn the_least_validity_is_had_by_renewing() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(500);
        let options = TokenOptions {
            min_validity_seconds: 600,
            ..TokenOptions::default()
        };
        let token = run(connection.token(&options)).expect("a token");
        assert_eq!(token.access_token.reveal(), "access-2");
    }

    #[test]
    fn an_outage_is_not_noticed_while_the_token_lasts() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(950);
        world.answer_with(Answer::status(503, ""));
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(world.token_requests(), 1, "the pause is kept");
        assert_eq!(state(&connection), ConnectionState::Authorized);
        world.pass(2);
        assert_eq!(token(&connection), ok("access-2"));
        assert_eq!(
            run(connection.status()).expect("a status").next_retry_at,
            None
        );
    }

    #[test]
    fn an_outage_is_unavailable_with_the_time_of_the_next_try_and_is_not_hammered() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.answer_with(Answer::Http(
            503,
            vec![("retry-after", "120")],
            String::new(),
        ));
        let first = token(&connection);
        let retry_at = unavailable(&first).retry_at.expect("a time");
        for _ in 0..100 {
            assert_eq!(
                unavailable(&token(&world.open(CODE))).retry_at,
                Some(retry_at)
            );
        }
        assert_eq!(world.token_requests(), 1);
        world.pass(120);
        assert_eq!(token(&connection), ok("access-2"));
    }

    #[test]
    fn pauses_grow_from_failure_to_failure() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            world.answer_with(Answer::status(500, ""));
            let now = FakePlatform(Rc::clone(&world)).now();
            let pause = unavailable(&token(&connection))
                .retry_at
                .expect("a time")
                .millis_since(now);
            pauses.push(pause);
            world.pass(pause / 1000 + 1);
        }
        assert!(pauses.is_sorted() && pauses[3] >= 6000, "{pauses:?}");
    }

    #[test]
    fn several_attempts_in_one_call_are_made_where_the_policy_says_so() {
        let world = World::new();
        let config =
            CLIENT_CREDENTIALS.replace("\"scope\"", r#""renewal": {"max_attempts": 3}, "scope""#);
        let connection = world.open(&config);
        world.answer_with(Answer::status(500, ""));
        world.answer_with(Answer::Fails(Failure::NotSent("no address".to_owned())));
        assert_eq!(token(&connection), ok("access-1"));
        assert_eq!(world.token_requests(), 3);
    }

    #[test]
    fn a_demand_for_renewal_does_not_wait_for_the_pause() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.answer_with(Answer::status(500, ""));
        unavailable(&token(&connection));
        let renewed = run(connection.refresh()).expect("renewed");
        assert_eq!(renewed.access_token.reveal(), "access-2");
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_no_pause() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.answer_with(Answer::status(500, ""));
        unavailable(&token(&connection));
        world.set_back(900);
        assert_eq!(token_unlike(&connection, "access-1"), ok("access-2"));
    }

    #[test]
    fn a_refused_refresh_token_needs_the_user_and_is_not_sent_again() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.answer_with(Answer::oauth_error("invalid_grant"));
        for _ in 0..3 {
            let reason = reauthorization_reason(token(&connection));
            assert_eq!(reason, "the server no longer accepts the refresh token");
        }
        assert_eq!(world.token_requests(), 1);
        assert!(matches!(state(&connection), ConnectionState::Error(_)));
    }

    #[test]
    fn a_refusal_does_not_delete_the_credential() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.answer_with(Answer::oauth_error("invalid_grant"));
        reauthorization_reason(token(&connection));
        // It was a hiccup of the server's: asked again it renews.
        let renewed = run(connection.refresh()).expect("renewed");
        assert_eq!(renewed.access_token.reveal(), "access-2");
        assert_eq!(token(&connection), ok("access-2"));
        assert_eq!(state(&connection), ConnectionState::Authorized);
    }

    #[test]
    fn a_refusal_before_expiry_leaves_the_token_in_use() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(950);
        world.answer_with(Answer::oauth_error("invalid_grant"));
        assert_eq!(token(&connection), ok("access-1"));
        assert!(matches!(state(&connection), ConnectionState::Error(_)));
        world.pass(50);
        reauthorization_reason(token(&connection));
    }

    #[test]
    fn a_refresh_token_that_changed_meanwhile_is_adopted() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        // While our request is refused, somebody imports a good credential.
        world.answer_with(Answer::oauth_error("invalid_grant"));
        let flow = begun(&world, &connection);
        world.authorized();
        world.pass(1000);
        world.received.borrow_mut().clear();
        assert_eq!(run(flow), ok("access-3"));
        assert_eq!(
            world.last_sent("refresh_token").as_deref(),
            Some("refresh-2")
        );
    }

    #[test]
    fn a_refused_client_is_said_and_not_hammered() {
        let world = World::new();
        let connection = world.open(CLIENT_CREDENTIALS);
        world.answer_with(Answer::status(401, r#"{"error":"invalid_client"}"#));
        for _ in 0..3 {
            let Err(Error::Refused(error)) = token(&connection).unboxed() else {
                panic!("it was accepted");
            };
            assert_eq!(
                (error.code.as_str(), error.http_status),
                ("invalid_client", Some(401))
            );
        }
        assert_eq!(world.token_requests(), 1);
        // Another config may fare better at once.
        let mended = CLIENT_CREDENTIALS.replace("\"a b\"", "\"a\"");
        assert_eq!(token(&world.open(&mended)), ok("access-1"));
    }

    #[test]
    fn what_is_no_answer_leaves_the_credential_untouched() {
        for body in ["<html></html>", "{\"access_token\":", "", "[]"] {
            let world = World::new();
            let connection = world.authorized();
            world.pass(1000);
            world.answer_with(Answer::status(200, body));
            let Err(Error::ProtocolViolation(violation)) = token(&connection).unboxed() else {
                panic!("{body} was accepted");
            };
            assert_eq!(violation.kind, ViolationKind::Response);
            world.pass(10);
            assert_eq!(token(&connection), ok("access-2"), "{body}");
        }
    }

    #[test]
    fn a_response_beyond_all_bounds_is_a_violation() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.answer_with(Answer::Fails(Failure::TooLarge));
        assert!(matches!(
            token(&connection).unboxed(),
            Err(Error::ProtocolViolation(_))
        ));
        world.pass(10);
        assert_eq!(token(&connection), ok("access-2"));
    }

    const ROBOT: &str = r#"{"client_id": "id", "client_secret": "secret",
        "grant_type": "client_credentials", "issuer": "https://as.example"}"#;

    #[test]
    fn a_token_endpoint_that_has_moved_is_found_by_the_metadata_of_the_same_issuer() {
        const USER: &str = r#"{"client_id": "id", "issuer": "https://as.example",
            "redirect_uri": "http://127.0.0.1:1/oauth2"}"#;
        for (config, status) in [(ROBOT, 404), (ROBOT, 410), (USER, 405)] {
            let world = World::with_metadata();
            let connection = world.open(config);
            if config == USER {
                world.authorize(&connection).expect("authorized");
            }
            let first = token(&connection).expect("a token");
            world.publish(&[("token_endpoint", "https://as.example/v2/token".into())]);
            world.answer_with(Answer::status(status, "<html></html>"));
            world.pass(1000);
            let second = token(&connection).expect("a token");
            assert_ne!(second, first);
            // From then on it is asked there.
            world.received.borrow_mut().clear();
            world.pass(1000);
            assert_ne!(token(&world.open(config)), Ok(second));
            let received = world.received.borrow();
            let urls: Vec<_> = received
                .iter()
                .map(|request| request.url.as_str())
                .collect();
            assert_eq!(urls, ["https://as.example/v2/token"]);
        }
    }

    #[test]
    fn a_token_endpoint_that_has_moved_to_where_the_host_lets_requests_go_is_found_too() {
        let world = World::with_metadata();
        let connection = world.open(ROBOT);
        assert_eq!(token(&connection), ok("access-1"));
        world.publish(&[("token_endpoint", "https://as.example/v2/token".into())]);
        world.answer_with(Answer::Fails(Failure::Forbidden("no".to_owned())));
        world.pass(1000);
        assert_eq!(token(&connection), ok("access-2"));
        let received = world.received.borrow();
        let last = received.last().map(|request| request.url.clone());
        assert_eq!(last.as_deref(), Some("https://as.example/v2/token"));
    }

    #[test]
    fn a_token_endpoint_that_has_not_moved_or_cannot_be_found_is_unavailable() {
        for (token_endpoint, metadata) in [
            ("https://as.example/token", 200),
            ("https://as.example/v2/token", 503),
        ] {
            let world = World::with_metadata();
            let connection = world.open(ROBOT);
            assert_eq!(token(&connection), ok("access-1"));
            world.publish(&[("token_endpoint", token_endpoint.into())]);
            world.answer_with(Answer::status(404, ""));
            for _ in 0..2 {
                if metadata != 200 {
                    world.answer_with(Answer::status(metadata, ""));
                }
            }
            world.pass(1000);
            assert_eq!(
                unavailable(&token(&connection)).cause,
                "the token endpoint answered with the status 404"
            );
            assert_eq!(world.token_requests(), 2);
        }
    }

    #[test]
    fn a_moved_token_endpoint_is_not_believed_of_another_issuer() {
        let world = World::with_metadata();
        let connection = world.open(ROBOT);
        assert_eq!(token(&connection), ok("access-1"));
        world.publish(&[
            ("issuer", "https://evil.example".into()),
            ("token_endpoint", "https://evil.example/token".into()),
        ]);
        world.answer_with(Answer::status(404, ""));
        world.pass(1000);
        unavailable(&token(&connection));
        assert_eq!(world.token_requests(), 2);
        assert_eq!(world.sent_to("evil.example/token").len(), 0);
    }

    #[test]
    fn no_refresh_token_means_the_expiry_and_then_the_user() {
        let world = World::new();
        world.server.borrow_mut().gives_refresh_tokens = false;
        let connection = world.authorized();
        assert!(!run(connection.status()).expect("a status").refreshable);
        world.pass(999);
        assert_eq!(token(&connection), ok("access-1"));
        world.pass(1);
        let reason = reauthorization_reason(token(&connection));
        assert_eq!(
            reason,
            "the token has expired, and the server gave no refresh token"
        );
        assert!(matches!(
            state(&connection),
            ConnectionState::Error(Error::ReauthorizationRequired(_))
        ));
    }

    #[test]
    fn the_history_says_why_each_token_was_obtained() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        token(&connection).expect("a token");
        assert_eq!(kinds_in_history(&connection), ["authorized", "renewed"]);
        let history = run(connection.history()).expect("a history");
        assert_eq!(
            history[1].message,
            "a token was obtained because the token had expired"
        );
        let told = format!("{history:?}");
        assert!(
            !told.contains("access-") && !told.contains("refresh-"),
            "{told}"
        );
    }
}

mod crashing {
    use super::*;

    /// Renews with a crash after so many effects, then once more without.
    fn renewed_after_crash(steps: usize) -> (Rc<World>, Crm, Result<String>) {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        let crashed = run_steps(connection.token(&TokenOptions::default()), steps);
        drop(crashed);
        // Another process, which has only what is stored.
        let connection = world.open(CODE);
        let result = token(&connection);
        (world, connection, result)
    }

    #[test]
    fn a_crash_at_any_effect_loses_no_refresh_token_that_had_arrived() {
        let mut needed_user = 0;
        for steps in 0..40 {
            let (world, connection, result) = renewed_after_crash(steps);
            match result.unboxed() {
                Ok(_) => {
                    world.pass(1000);
                    assert!(token(&connection).is_ok(), "after {steps} effects");
                    assert_eq!(world.server.borrow().reuses, 0, "after {steps} effects");
                }
                // The one window that no client can close: the server has
                // rotated and the answer never was stored.
                Err(Error::ReauthorizationRequired(cause)) => {
                    needed_user += 1;
                    assert!(cause.reason.contains("interrupted"), "{}", cause.reason);
                    assert!(kinds_in_history(&connection).contains(&"renewal-interrupted"));
                }
                Err(other) => panic!("after {steps} effects: {other:?}"),
            }
        }
        assert!(
            (1..=4).contains(&needed_user),
            "{needed_user} crashes needed the user"
        );
    }

    #[test]
    fn a_lost_answer_is_told_as_the_cause() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.answer_with(Answer::Lost);
        unavailable(&token(&connection));
        world.pass(10);
        let reason = reauthorization_reason(token(&connection));
        assert!(reason.contains("interrupted"), "{reason}");
    }

    #[test]
    fn a_lost_answer_is_told_as_the_cause_whatever_failed_since() {
        for failure in [
            Answer::Fails(Failure::NotSent("connection refused".to_owned())),
            Answer::status(401, r#"{"error":"invalid_client"}"#),
            Answer::status(429, ""),
            Answer::Fails(Failure::Forbidden("the host does not allow it".to_owned())),
            Answer::oauth_error("invalid_grant"),
        ] {
            let world = World::new();
            let connection = world.authorized();
            world.pass(1000);
            world.answer_with(Answer::Lost);
            unavailable(&token(&connection));
            world.pass(10);
            world.answer_with(failure.clone());
            token(&connection).expect_err("it failed");
            let reason = reauthorization_reason(run(connection.refresh()).map(|_| String::new()));
            assert!(reason.contains("interrupted"), "{failure:?}: {reason}");
        }
    }

    #[test]
    fn an_answer_that_was_lost_in_the_same_call_is_told_as_the_cause() {
        for further in [
            None,
            Some(Failure::NotSent("connection refused".to_owned())),
        ] {
            let world = World::new();
            world.authorized();
            let config = CODE.replacen('{', r#"{"renewal": {"max_attempts": 3}, "#, 1);
            let connection = world.open(&config);
            world.pass(1000);
            world.answer_with(Answer::Lost);
            if let Some(further) = further {
                world.answer_with(Answer::Fails(further));
            }
            let reason = reauthorization_reason(token(&connection));
            assert!(reason.contains("interrupted"), "{reason}");
        }
    }

    #[test]
    fn a_lost_answer_of_one_attempt_stays_in_doubt_where_the_next_is_not_sent() {
        for further in [
            Failure::NotSent("connection refused".to_owned()),
            Failure::Forbidden("the host does not allow it".to_owned()),
        ] {
            let world = World::new();
            world.authorized();
            let config = CODE.replacen('{', r#"{"renewal": {"max_attempts": 2}, "#, 1);
            let connection = world.open(&config);
            world.pass(1000);
            world.answer_with(Answer::Lost);
            world.answer_with(Answer::Fails(further));
            token(&connection).expect_err("it failed");
            world.pass(10);
            let reason = reauthorization_reason(token(&connection));
            assert!(reason.contains("interrupted"), "{reason}");
        }
    }

    #[test]
    fn an_interruption_is_told_though_the_metadata_could_not_be_had_since() {
        let world = World::with_metadata();
        world.server.borrow_mut().accept("given");
        let config = r#"{"client_id": "id", "grant_type": "refresh_token", "refresh_token": "given",
            "issuer": "https://as.example"}"#;
        drop(begun(&world, &world.open(config)));
        let connection = world.open(config);
        world.answer_with(Answer::status(503, ""));
        world.answer_with(Answer::status(503, ""));
        unavailable(&token(&connection));
        world.pass(10);
        let reason = reauthorization_reason(token(&connection));
        assert!(reason.contains("interrupted"), "{reason}");
        assert!(kinds_in_history(&connection).contains(&"renewal-interrupted"));
    }

    #[test]
    fn a_request_that_the_host_forbids_was_no_interruption() {
        for (config, authorized) in [(CODE, true), (CLIENT_CREDENTIALS, false)] {
            let world = World::new();
            if authorized {
                world.authorized();
                world.pass(1000);
            }
            let connection = world.open(config);
            for _ in 0..3 {
                let forbidden = Failure::Forbidden("the host allows as.example alone".to_owned());
                world.answer_with(Answer::Fails(forbidden));
                let Err(Error::Forbidden(why)) = token(&connection).unboxed() else {
                    panic!("it was sent");
                };
                assert_eq!(why, "the host allows as.example alone");
            }
            let history = run(connection.history()).expect("a history");
            let last = history.last().expect("an event");
            assert_eq!(last.kind.as_str(), "renewal-failed");
            assert!(
                last.message.contains("as.example alone"),
                "{}",
                last.message
            );
            assert_eq!(history.len(), 1 + usize::from(authorized));
            // It is tried again as soon as the host allows it.
            assert!(token(&connection).is_ok());
        }
    }

    #[test]
    fn a_lost_request_is_simply_repeated() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.answer_with(Answer::Fails(Failure::InDoubt("reset".to_owned())));
        unavailable(&token(&connection));
        world.pass(10);
        assert_eq!(token(&connection), ok("access-2"));
    }

    #[test]
    fn a_store_that_fails_for_a_while_costs_no_refresh_token() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        let flow = begun(&world, &connection);
        world.failing_writes.set(5);
        assert_eq!(run(flow), ok("access-2"));
        world.pass(1000);
        assert_eq!(token(&world.open(CODE)), ok("access-3"));
    }

    #[test]
    fn a_store_that_is_back_by_the_last_pause_costs_no_refresh_token() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        let flow = begun(&world, &connection);
        world.failing_writes.set(8);
        assert_eq!(run(flow), ok("access-2"));
        world.pass(1000);
        assert_eq!(token(&world.open(CODE)), ok("access-3"));
    }

    #[test]
    fn a_store_that_is_read_only_for_a_while_costs_no_refresh_token() {
        // As a database is whose standby is about to take over.
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        let flow = begun(&world, &connection);
        world.failing_writes.set(5);
        let denied = StoreError::Denied("read-only transaction".to_owned());
        world.write_failure.replace(denied);
        assert_eq!(run(flow), ok("access-2"));
        world.pass(1000);
        assert_eq!(token(&world.open(CODE)), ok("access-3"));
    }

    #[test]
    fn a_write_that_is_done_and_said_to_have_failed_is_found_to_be_done() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        let flow = begun(&world, &connection);
        world.loses_the_answer.set(true);
        assert_eq!(run(flow), ok("access-2"));
        assert_eq!(world.token_requests(), 1);
        world.pass(1000);
        assert_eq!(token(&world.open(CODE)), ok("access-3"));
    }

    #[test]
    fn no_token_is_handed_out_that_could_not_be_stored() {
        let world = World::new();
        let connection = world.open(CLIENT_CREDENTIALS);
        let flow = begun(&world, &connection);
        world.failing_writes.set(u32::MAX);
        let result = run(flow).unboxed();
        assert!(matches!(result, Err(Error::Storage(_))), "{result:?}");
    }

    #[test]
    fn a_store_that_cannot_be_written_causes_no_request() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        world.failing_writes.set(u32::MAX);
        assert!(matches!(
            token(&connection).unboxed(),
            Err(Error::Storage(_))
        ));
        assert_eq!(world.token_requests(), 0);
    }

    #[test]
    fn a_connection_cleared_during_its_renewal_stays_cleared() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        let flow = begun(&world, &connection);
        run(world.open(CODE).clear()).expect("cleared");
        assert!(matches!(run(flow).unboxed(), Err(Error::NotAuthorized(_))));
        assert!(matches!(
            token(&world.open(CODE)).unboxed(),
            Err(Error::NotAuthorized(_))
        ));
    }

    #[test]
    fn a_connection_made_anew_during_a_renewal_keeps_its_credential_and_its_good_name() {
        for answer in [
            None,
            Some(Answer::oauth_error("invalid_grant")),
            Some(Answer::status(503, "")),
            Some(Answer::Fails(Failure::Forbidden("no".to_owned()))),
        ] {
            let world = World::new();
            let connection = world.authorized();
            world.pass(1000);
            world.answers.borrow_mut().extend(answer.clone());
            let flow = begun(&world, &connection);
            // Deleted, created and authorized: its credentials count from one again.
            world.entries.borrow_mut().clear();
            world.authorized();
            let stored = token(&world.open(CODE)).expect("a token");
            assert_eq!(run(flow).unwrap_or_else(|_| stored.clone()), stored);
            assert_eq!(token(&world.open(CODE)), Ok(stored), "{answer:?}");
            let connection = world.open(CODE);
            assert_eq!(state(&connection), ConnectionState::Authorized);
            assert!(!kinds_in_history(&connection).contains(&"renewal-failed"));
            world.pass(1000);
            assert!(token(&connection).is_ok(), "{answer:?}");
        }
    }

    #[test]
    fn a_connection_that_is_deleted_while_its_first_token_is_obtained_stays_deleted() {
        let world = World::new();
        let connection = world.open(CLIENT_CREDENTIALS);
        let flow = begun(&world, &connection);
        world.entries.borrow_mut().clear();
        assert!(matches!(run(flow).unboxed(), Err(Error::NotAuthorized(_))));
        assert!(world.entries.borrow().is_empty());
    }

    #[test]
    fn a_holder_that_stalled_past_its_lease_loses_nothing_and_overwrites_nothing() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        let flow = begun(&world, &connection);
        // The answer is on its way; the holder stalls, its lease runs out, and
        // another one spends the same refresh token in vain.
        world.pass(100_000);
        reauthorization_reason(token(&world.open(CODE)));
        // It wakes up with the new refresh token, which must not be lost.
        world.server.borrow_mut().accept("refresh-2");
        assert!(run(flow).is_ok());
        world.pass(1000);
        assert!(token(&world.open(CODE)).is_ok());
        assert_eq!(
            world.last_sent("refresh_token").as_deref(),
            Some("refresh-2")
        );
    }
}

mod authorizing {
    use super::*;

    const OPENID: &str = r#"{"client_id": "id", "issuer": "https://as.example", "scope": "openid",
        "redirect_uri": "http://127.0.0.1:1/oauth2"}"#;

    fn openid_world() -> Rc<World> {
        let world = World::new();
        world.documents.borrow_mut().insert(
            "https://as.example/.well-known/openid-configuration".to_owned(),
            r#"{"issuer": "https://as.example", "authorization_endpoint": "https://as.example/auth",
                "token_endpoint": "https://as.example/token",
                "authorization_response_iss_parameter_supported": true}"#
                .to_owned(),
        );
        world
    }

    fn begin(connection: &Crm) -> Begun {
        run(connection.begin_authorization(&AuthorizationOptions::default())).expect("begun")
    }

    fn complete(connection: &Crm, query: &str) -> Result<()> {
        let redirect = Redirect::from_url(&format!("http://127.0.0.1:1/oauth2?{query}"))?;
        run(connection.complete_authorization(redirect))
    }

    fn kind(result: Result<()>) -> ViolationKind {
        match result.unboxed() {
            Err(Error::ProtocolViolation(violation)) => violation.kind,
            other => panic!("{other:?}"),
        }
    }

    fn good(begun: &Begun) -> String {
        format!("code=good-code&state={}", begun.state.reveal())
    }

    #[test]
    fn what_one_process_begins_another_completes_and_a_third_uses() {
        let world = World::new();
        let begun = begin(&world.open(CODE));
        complete(&world.open(CODE), &good(&begun)).expect("authorized");
        assert_eq!(token(&world.open(CODE)), ok("access-1"));
    }

    /// Shows: RFC 6749 section 4.1.
    /// Shows: RFC 7636.
    #[test]
    fn the_code_is_sent_with_the_verifier_of_its_challenge() {
        let world = World::new();
        let begun = begin(&world.open(CODE));
        complete(&world.open(CODE), &good(&begun)).expect("authorized");
        let verifier = SecretString::new(world.last_sent("code_verifier").expect("a verifier"));
        let challenge = crate::pkce::s256_challenge(&verifier);
        assert!(
            begun
                .authorization_url
                .contains(&format!("code_challenge={challenge}"))
        );
        assert_eq!(
            world.last_sent("redirect_uri").as_deref(),
            Some("http://127.0.0.1:1/oauth2")
        );
    }

    /// Shows: RFC 6749 section 10.12.
    #[test]
    fn a_state_that_is_unknown_used_or_expired_is_refused() {
        let world = World::new();
        let connection = world.open(CODE);
        let begun = begin(&connection);
        assert_eq!(
            kind(complete(&connection, "code=good-code&state=other")),
            ViolationKind::State
        );
        complete(&connection, &good(&begun)).expect("authorized");
        assert_eq!(
            kind(complete(&connection, &good(&begun))),
            ViolationKind::State
        );
        let late = begin(&connection);
        world.pass(601);
        assert_eq!(
            kind(complete(&connection, &good(&late))),
            ViolationKind::State
        );
        assert_eq!(world.token_requests(), 1);
    }

    #[test]
    fn what_is_not_the_answer_leaves_the_real_one_to_come() {
        let world = openid_world();
        let connection = world.open(OPENID);
        let begun = begin(&connection);
        let state = begun.state.reveal().to_owned();
        for query in [
            "code=x&state=other".to_owned(),
            "code=x".to_owned(),
            "error=access_denied&state=other".to_owned(),
            format!("state={state}&iss=https%3A%2F%2Fas.example"),
            format!("code=x&state={state}&iss=https%3A%2F%2Fevil.example"),
            format!("error=access_denied&state={state}&iss=https%3A%2F%2Fevil.example"),
            format!("code=x&state={state}"),
            format!("code=x&code=y&state={state}&iss=https%3A%2F%2Fas.example"),
            format!("code={}&state={state}", "x".repeat(3 << 20)),
        ] {
            assert!(complete(&connection, &query).is_err(), "{query:.100}");
        }
        assert_eq!(world.token_requests(), 0);
        let url = url::Url::parse(&begun.authorization_url).expect("a URL");
        let nonce = url
            .query_pairs()
            .find(|(name, _)| name == "nonce")
            .expect("a nonce")
            .1
            .into_owned();
        world.server.borrow_mut().nonce = Some(nonce);
        let query = format!("{}&iss=https%3A%2F%2Fas.example", good(&begun));
        complete(&connection, &query).expect("authorized");
    }

    #[test]
    fn another_nonce_brings_no_token() {
        let world = openid_world();
        let connection = world.open(OPENID);
        let begun = begin(&connection);
        world.server.borrow_mut().nonce = Some("other".to_owned());
        let query = format!("{}&iss=https%3A%2F%2Fas.example", good(&begun));
        assert_eq!(kind(complete(&connection, &query)), ViolationKind::Nonce);
        assert!(token(&connection).is_err());
    }

    #[test]
    fn a_denial_is_told_and_leaves_an_earlier_credential_in_use() {
        let world = World::new();
        let connection = world.open(CODE);
        let begun = begin(&connection);
        let denied = complete(
            &connection,
            &format!("error=access_denied&state={}", begun.state.reveal()),
        );
        assert!(
            matches!(denied.unboxed(), Err(Error::Denied(error)) if error.code == "access_denied")
        );
        assert!(matches!(
            state(&connection),
            ConnectionState::Error(Error::Denied(_))
        ));

        let connection = world.authorized();
        let begun = begin(&connection);
        complete(
            &connection,
            &format!("error=access_denied&state={}", begun.state.reveal()),
        )
        .expect_err("denied");
        assert_eq!(state(&connection), ConnectionState::Authorized);
        assert_eq!(token(&connection), ok("access-1"));
    }

    #[test]
    fn clearing_gives_up_what_the_user_was_asked() {
        let world = World::new();
        let connection = world.open(CODE);
        let begun = begin(&connection);
        run(connection.clear()).expect("cleared");
        assert_eq!(
            kind(complete(&connection, &good(&begun))),
            ViolationKind::State
        );
        assert_eq!(world.token_requests(), 0);
        assert_eq!(state(&connection), ConnectionState::NotAuthorized);
    }

    #[test]
    fn the_code_goes_to_the_server_that_was_asked() {
        let world = World::new();
        let begun = begin(&world.open(CODE));
        let elsewhere = CODE.replace("https://as.example/token", "https://evil.example/token");
        let result = complete(&world.open(&elsewhere), &good(&begun));
        assert_eq!(kind(result), ViolationKind::State);
        assert_eq!(world.received.borrow().len(), 0);
    }

    #[test]
    fn a_refresh_token_is_not_sent_to_another_server_than_its_own() {
        let world = World::new();
        world.authorized();
        world.pass(1000);
        let elsewhere = CODE.replace("https://as.example/token", "https://evil.example/token");
        assert!(matches!(
            token(&world.open(&elsewhere)).unboxed(),
            Err(Error::NotAuthorized(_))
        ));
        assert_eq!(world.received.borrow().len(), 0);
        // The first config finds its credential as it was.
        assert_eq!(token(&world.open(CODE)), ok("access-2"));
    }

    #[test]
    fn a_refresh_token_is_not_sent_to_another_token_endpoint_of_the_same_issuer() {
        let world = World::with_metadata();
        let with = |further: &str| requests::CONFIG.replacen('{', further, 1);
        world
            .authorize(&world.open(requests::CONFIG))
            .expect("authorized");
        world.received.borrow_mut().clear();
        world.pass(1000);
        let elsewhere = with(r#"{"token_endpoint": "https://evil.example/token", "#);
        assert!(matches!(
            token(&world.open(&elsewhere)).unboxed(),
            Err(Error::NotAuthorized(_))
        ));
        assert_eq!(world.received.borrow().len(), 0);
        assert_eq!(token(&world.open(requests::CONFIG)), ok("access-3"));
    }

    /// Shows: RFC 8414.
    #[test]
    fn metadata_is_looked_for_where_oauth_servers_keep_it_too() {
        let world = World::new();
        world.documents.borrow_mut().insert(
            "https://as.example/.well-known/oauth-authorization-server".to_owned(),
            r#"{"issuer": "https://as.example", "token_endpoint": "https://as.example/token"}"#
                .to_owned(),
        );
        let config = r#"{"client_id": "id", "client_secret": "s", "grant_type": "client_credentials",
            "issuer": "https://as.example"}"#;
        assert_eq!(token(&world.open(config)), ok("access-1"));
    }

    /// Shows: RFC 8414.
    #[test]
    fn metadata_of_another_issuer_stops_everything() {
        let world = openid_world();
        let config = r#"{"client_id": "id", "client_secret": "s", "grant_type": "client_credentials",
            "issuer": "https://as.example/"}"#;
        let Err(Error::ProtocolViolation(violation)) = token(&world.open(config)).unboxed() else {
            panic!("it was accepted");
        };
        assert_eq!(violation.kind, ViolationKind::Metadata);
        assert_eq!(world.token_requests(), 0);
    }
}

mod interacting {
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;

    /// A browser whose user does what a script says.
    struct Script {
        world: Rc<World>,
        queries: RefCell<VecDeque<&'static str>>,
        state: RefCell<String>,
        told: RefCell<Vec<Outcome>>,
    }

    struct ScriptedArrival<'a>(&'a Script, String);

    impl Arrival for ScriptedArrival<'_> {
        fn arrived(&self) -> Arrived {
            Arrived::Url(self.1.clone())
        }

        async fn respond(&self, outcome: Outcome) {
            self.0.told.borrow_mut().push(outcome);
        }
    }

    impl<'a> Listener for &'a Script {
        type Arrival = ScriptedArrival<'a>;

        fn redirect_uri(&self) -> String {
            "http://127.0.0.1:7/oauth2".to_owned()
        }

        async fn next(
            &self,
            wait: u64,
        ) -> std::result::Result<Option<ScriptedArrival<'a>>, UserAgentError> {
            let Some(query) = self.queries.borrow_mut().pop_front() else {
                self.world.pass(wait / 1000);
                return Ok(None);
            };
            let query = query.replace("STATE", &self.state.borrow());
            Ok(Some(ScriptedArrival(
                self,
                format!("http://127.0.0.1:7/oauth2?{query}"),
            )))
        }
    }

    impl<'a> UserAgent for &'a Script {
        type Listener = &'a Script;

        async fn listen(
            &self,
            _: &str,
            _: Option<&str>,
        ) -> std::result::Result<&'a Script, UserAgentError> {
            Ok(self)
        }

        async fn open_url(&self, _: &str, url: &str) -> std::result::Result<(), UserAgentError> {
            let url = url::Url::parse(url).expect("a URL");
            let state = url
                .query_pairs()
                .find(|(name, _)| name == "state")
                .expect("a state")
                .1;
            self.state.replace(state.into_owned());
            Ok(())
        }

        async fn show_device_code(
            &self,
            _: &str,
            shown: &DeviceAuthorization,
        ) -> std::result::Result<(), UserAgentError> {
            self.state.replace(shown.user_code.clone());
            let mut server = self.world.server.borrow_mut();
            let device = server.device.as_mut().expect("a device");
            device.decision = match self.queries.borrow_mut().pop_front() {
                Some("allow") => Decision::Allowed,
                Some("deny") => Decision::Denied,
                _ => Decision::Undecided,
            };
            Ok(())
        }
    }

    fn script(world: &Rc<World>, queries: &[&'static str]) -> Script {
        Script {
            world: Rc::clone(world),
            queries: RefCell::new(queries.iter().copied().collect()),
            state: RefCell::default(),
            told: RefCell::default(),
        }
    }

    fn authorize(world: &Rc<World>, queries: &[&'static str]) -> (Result<()>, Vec<Outcome>) {
        let script = script(world, queries);
        let connection = world.open(CODE);
        let result = run(connection.authorize(&&script, &AuthorizationOptions::default(), 60));
        (result, script.told.into_inner())
    }

    #[test]
    fn the_user_is_told_that_it_went_well() {
        let world = World::new();
        let (authorized, told) = authorize(&world, &["code=good-code&state=STATE"]);
        authorized.expect("authorized");
        assert_eq!(state(&world.open(CODE)), ConnectionState::Authorized);
        assert_eq!(told, [Outcome::Authorized]);
        assert_eq!(
            world.last_sent("redirect_uri").as_deref(),
            Some("http://127.0.0.1:7/oauth2")
        );
    }

    #[test]
    fn a_foreign_redirect_is_refused_and_the_wait_goes_on() {
        let queries = [
            "code=x&state=other",
            "nonsense",
            "state=STATE",
            "code=good-code&state=STATE",
        ];
        let (status, told) = authorize(&World::new(), &queries);
        assert!(status.is_ok());
        assert!(matches!(
            told.as_slice(),
            [
                Outcome::Refused(_),
                Outcome::Refused(_),
                Outcome::Refused(_),
                Outcome::Authorized
            ]
        ));
    }

    #[test]
    fn a_denial_ends_the_wait_and_the_user_is_told() {
        let (status, told) = authorize(&World::new(), &["error=access_denied&state=STATE"]);
        assert!(matches!(status.unboxed(), Err(Error::Denied(_))));
        assert!(matches!(told.as_slice(), [Outcome::Failed(_)]));
    }

    /// What becomes of it where the user decides so on another device, and how
    /// many seconds it took.
    fn authorize_device(config: &str, decision: &'static str) -> (Result<()>, u64) {
        let world = World::with_metadata();
        let script = script(&world, &[decision]);
        let connection = world.open(config);
        let platform = FakePlatform(Rc::clone(&world));
        let begun = platform.now();
        let result = run(connection.authorize_device(&&script, 60));
        assert_eq!(*script.state.borrow(), "WDJB-MJHT", "it was shown");
        (result, platform.now().millis_since(begun) / 1000)
    }

    #[test]
    fn a_device_is_polled_until_the_user_has_decided() {
        let config = devices::DEVICE;
        assert_eq!(authorize_device(config, "allow"), (Ok(()), 5));
        let (denied, _) = authorize_device(config, "deny");
        assert!(matches!(denied.unboxed(), Err(Error::Denied(_))));
        // By redirect or by device is the user's choice, not the config's.
        let code = config.replace(r#""grant_type": "device_code", "#, "");
        assert_eq!(authorize_device(&code, "allow"), (Ok(()), 5));
    }

    #[test]
    fn a_user_of_a_device_who_does_not_decide_is_not_awaited_for_ever() {
        let (result, seconds) = authorize_device(devices::DEVICE, "");
        assert!(matches!(result.unboxed(), Err(Error::NotAuthorized(_))));
        assert_eq!(seconds, 60);
    }

    #[test]
    fn the_device_grant_shows_a_code_and_opens_no_browser() {
        let world = World::with_metadata();
        let script = script(&world, &["allow"]);
        let connection = world.open(devices::DEVICE);
        run(connection.authorize(&&script, &AuthorizationOptions::default(), 60))
            .expect("authorized");
        assert_eq!(*script.state.borrow(), "WDJB-MJHT");
    }

    #[test]
    fn a_user_who_does_not_come_back_is_not_awaited_for_ever() {
        let (status, told) = authorize(&World::new(), &[]);
        assert!(matches!(status.unboxed(), Err(Error::NotAuthorized(_))));
        assert_eq!(told, []);
    }
}

mod managing {
    use super::*;

    #[test]
    fn clearing_forgets_the_credential_and_keeps_the_history() {
        let world = World::new();
        let connection = world.authorized();
        run(connection.clear()).expect("cleared");
        assert!(matches!(
            token(&connection).unboxed(),
            Err(Error::NotAuthorized(_))
        ));
        assert_eq!(state(&connection), ConnectionState::NotAuthorized);
        assert_eq!(kinds_in_history(&connection), ["authorized", "cleared"]);
    }

    /// Shows: RFC 7009.
    #[test]
    fn revoking_tells_the_server_of_both_tokens_and_clears() {
        let world = World::new();
        let connection = world.authorized();
        run(connection.revoke()).expect("revoked");
        let received = world.received.borrow();
        let told: Vec<_> = received
            .iter()
            .map(|r| (r.form["token"].as_str(), r.form["token_type_hint"].as_str()))
            .collect();
        assert_eq!(
            told,
            [("refresh-1", "refresh_token"), ("access-1", "access_token")]
        );
        assert_eq!(state(&connection), ConnectionState::NotAuthorized);
    }

    #[test]
    fn a_credential_that_the_user_brings_during_a_revocation_is_not_forgotten() {
        let world = World::new();
        let connection = world.authorized();
        let mut flow = Box::pin(connection.revoke());
        let mut context = Context::from_waker(Waker::noop());
        while world.received.borrow().len() < 2 {
            assert!(flow.as_mut().poll(&mut context).is_pending());
        }
        world.authorized();
        run(flow).expect("revoked");
        assert_eq!(token(&world.open(CODE)), ok("access-2"));
        assert_eq!(
            kinds_in_history(&connection),
            ["authorized", "authorized", "revoked"]
        );
    }

    #[test]
    fn a_revocation_that_fails_keeps_the_credential() {
        let world = World::new();
        let connection = world.authorized();
        world.answer_with(Answer::status(503, ""));
        unavailable(&run(connection.revoke()));
        assert_eq!(token(&connection), ok("access-1"));
    }

    /// Shows: RFC 7009.
    #[test]
    fn a_server_that_revokes_refresh_tokens_alone_is_content() {
        let world = World::new();
        let connection = world.authorized();
        world.answer_with(Answer::status(200, ""));
        world.answer_with(Answer::oauth_error("unsupported_token_type"));
        run(connection.revoke()).expect("revoked");
    }

    #[test]
    fn a_connection_whose_refresh_token_has_expired_too_needs_the_user() {
        let world = World::new();
        world.server.borrow_mut().adds = vec![("refresh_expires_in", 1800.into())];
        let connection = world.authorized();
        let status = |seconds| {
            world.pass(seconds);
            let status = run(connection.status()).expect("a status");
            (status.state, status.refreshable)
        };
        assert_eq!(status(1799), (ConnectionState::Authorized, true));
        let (state, refreshable) = status(1);
        assert!(!refreshable);
        let ConnectionState::Error(Error::ReauthorizationRequired(cause)) = state else {
            panic!("{state:?}");
        };
        assert_eq!(cause.reason, "the token and the refresh token have expired");
        // A server that takes it all the same renews.
        assert_eq!(token(&connection), ok("access-2"));
        assert_eq!(status(0), (ConnectionState::Authorized, true));
    }

    #[test]
    fn a_wrong_key_is_said_and_changes_nothing() {
        let world = World::new();
        let connection = world.authorized();
        let before = world.entries.borrow().clone();
        world.keys.replace(vec![("other".to_owned(), 8)]);
        for result in [
            token(&world.open(CODE)).map(drop),
            run(world.open(CODE).clear()),
        ] {
            let Err(Error::Storage(failure)) = result.unboxed() else {
                panic!("it opened");
            };
            assert_eq!(failure.kind, StorageFailureKind::WrongKey);
        }
        assert_eq!(*world.entries.borrow(), before);
        drop(connection);
    }

    #[test]
    fn a_damaged_record_is_said_and_changes_nothing() {
        let world = World::new();
        world.authorized();
        world
            .entries
            .borrow_mut()
            .get_mut("crm.tokens")
            .expect("an entry")
            .value[30] ^= 1;
        let before = world.entries.borrow().clone();
        let Err(Error::Storage(failure)) = token(&world.open(CODE)).unboxed() else {
            panic!("it opened");
        };
        assert_eq!(failure.kind, StorageFailureKind::Corrupt);
        assert_eq!(*world.entries.borrow(), before);
    }

    #[test]
    fn the_host_is_told_which_key_a_stored_record_needs() {
        let world = World::new();
        world.authorized();
        assert_eq!(*world.keys_needed.borrow(), None);
        token(&world.open(CODE)).expect("a token");
        assert_eq!(world.keys_needed.borrow().as_deref(), Some("key"));
    }

    #[test]
    fn resealing_moves_to_the_current_key() {
        let world = World::new();
        let connection = world.authorized();
        world
            .keys
            .replace(vec![("new".to_owned(), 9), ("key".to_owned(), 7)]);
        run(connection.reseal()).expect("resealed");
        world.keys.replace(vec![("new".to_owned(), 9)]);
        assert_eq!(token(&world.open(CODE)), ok("access-1"));
    }

    #[test]
    fn resealing_waits_for_a_renewal_whose_host_may_lack_the_new_key() {
        let world = World::new();
        let connection = world.authorized();
        world
            .keys
            .replace(vec![("new".to_owned(), 9), ("key".to_owned(), 7)]);
        let before = world.entries.borrow().clone();
        let platform = FakePlatform(Rc::clone(&world));
        let lease = run(platform.acquire_lease("crm.tokens", 60_000, 0));
        let result = run(connection.reseal());
        assert_eq!(
            unavailable(&result).cause,
            "a renewal is under way; try again"
        );
        assert_eq!(*world.entries.borrow(), before);
        drop(lease);
        run(connection.reseal()).expect("resealed");
        assert_ne!(*world.entries.borrow(), before);
    }

    #[test]
    fn resealing_what_is_not_stored_waits_for_nobody() {
        let world = World::new();
        let platform = FakePlatform(Rc::clone(&world));
        let _lease = run(platform.acquire_lease("crm.tokens", 60_000, 0));
        run(world.open(CODE).reseal()).expect("there is nothing");
    }

    #[test]
    fn nothing_stored_shows_a_token() {
        let world = World::new();
        world.authorized();
        for entry in world.entries.borrow().values() {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            assert!(!text.contains("access-1") && !text.contains("refresh-1"));
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for name in ["", ".crm", "-crm", "a/b", "a b", "ä", &"x".repeat(65)] {
            let platform = FakePlatform(World::new());
            assert!(
                Connection::open(name, Config::default(), platform).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn events_are_told_once_each() {
        let world = World::new();
        let connection = world.authorized();
        world.pass(1000);
        token(&connection).expect("a token");
        assert_eq!(
            world.kinds(),
            ["authorization-begun", "authorized", "renewed"]
        );
    }
}
