//! The authorization request as a strict server takes it: in the query, pushed,
//! signed; and what comes back.

use super::super::fake_server::Received;
use super::*;

pub(super) const CONFIG: &str = r#"{"client_id": "id", "issuer": "https://as.example", "scope": "a",
    "redirect_uri": "http://127.0.0.1:1/oauth2"}"#;

fn with(further: &str) -> String {
    CONFIG.replacen('{', &format!("{{{further}, "), 1)
}

fn begin(connection: &Crm) -> Result<String> {
    let begun = run(connection.begin_authorization(&AuthorizationOptions::default()));
    begun.map(|begun| begun.authorization_url)
}

fn parameters(url: &str) -> Vec<(String, String)> {
    let url = url::Url::parse(url).expect("a URL");
    url.query_pairs().into_owned().collect()
}

fn names(url: &str) -> Vec<String> {
    parameters(url).into_iter().map(|(name, _)| name).collect()
}

fn pushed(world: &World) -> Received {
    let pushed = world.sent_to("/par");
    assert_eq!(pushed.len(), 1);
    pushed[0].clone()
}

#[test]
fn a_strict_server_takes_the_request_and_the_code_that_answers_it() {
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    world.authorize(&connection).expect("authorized");
    assert_eq!(token(&connection), ok("access-2"));
}

#[test]
fn what_the_user_is_asked_goes_along() {
    let world = World::with_metadata();
    let config = with(
        r#""prompt": "login consent", "max_age": 60, "resource": ["https://a.example/", "https://b.example/"],
        "audience": "api", "response_mode": "form_post", "authorization_parameters": {"x": "1 2"}"#,
    );
    let sent = parameters(&begin(&world.open(&config)).expect("begun"));
    for (name, value) in [
        ("prompt", "login consent"),
        ("max_age", "60"),
        ("resource", "https://a.example/"),
        ("resource", "https://b.example/"),
        ("audience", "api"),
        ("response_mode", "form_post"),
        ("x", "1 2"),
    ] {
        assert!(
            sent.contains(&(name.to_owned(), value.to_owned())),
            "{name}"
        );
    }
}

#[test]
fn an_extra_parameter_takes_the_place_of_the_computed_one_and_an_option_that_of_both() {
    // RFC 6749 section 3.1: each is there once.
    let further = r#""scope": "openid", "max_age": 60, "response_mode": "form_post", "signing_key": {"ref": "key:ec"},
        "authorization_parameters": {"prompt": "select_account", "max_age": "5", "response_mode": "query", "ui": "de", "login_hint": "a"}"#;
    let config = with(further).replacen(r#""scope": "a","#, "", 1);
    let option = |prompt: &[crate::config::Prompt], login_hint: Option<&str>, further: &[&str]| {
        AuthorizationOptions {
            prompt: prompt.to_vec(),
            login_hint: login_hint.map(str::to_owned),
            parameters: further
                .iter()
                .map(|value| ("ui".to_owned(), (*value).to_owned()))
                .collect(),
            ..AuthorizationOptions::default()
        }
    };
    for (options, expected) in [
        (option(&[], None, &[]), ["select_account", "a", "de"]),
        (
            option(&[crate::config::Prompt::Login], Some("b"), &["en"]),
            ["login", "b", "en"],
        ),
    ] {
        for way in ["", r#""par": true, "#, r#""request_object": true, "#] {
            let world = World::with_metadata();
            let config = config.replacen('{', &format!("{{{way}"), 1);
            let connection = world.open(&config);
            let begun = run(connection.begin_authorization(&options)).expect("begun");
            let request = match way {
                "" => parameters(&begun.authorization_url),
                r#""par": true, "# => pushed(&world).pairs,
                _ => signed(&begun.authorization_url),
            };
            for (name, value) in [
                ("prompt", expected[0]),
                ("login_hint", expected[1]),
                ("ui", expected[2]),
                ("max_age", "5"),
                ("response_mode", "query"),
            ] {
                let values = request.iter().filter(|(other, _)| other == name);
                let values: Vec<_> = values.map(|(_, value)| value.as_str()).collect();
                assert_eq!(values, [value], "{way}{name}");
            }
            // The server takes it.
            world.consent(&begun.authorization_url);
        }
    }
}

/// The claims of a signed request, each as text.
fn signed(url: &str) -> Vec<(String, String)> {
    let parameters = parameters(url);
    let request = parameters.iter().find(|(name, _)| name == "request");
    let request = crate::jws::Received::parse(&request.expect("one").1).expect("a JWT");
    let claims = request.claims.into_iter();
    let text = |value: serde_json::Value| value.to_string().trim_matches('"').to_owned();
    claims.map(|(name, value)| (name, text(value))).collect()
}

#[test]
fn the_resource_is_named_at_both_endpoints() {
    // RFC 8707 section 2.
    let world = World::with_metadata();
    let connection = world.open(&with(r#""resource": "https://api.example/""#));
    world.authorize(&connection).expect("authorized");
    let sent = world.sent_to("/token");
    assert_eq!(sent[0].form["resource"], "https://api.example/");
    world.pass(1000);
    token(&connection).expect("a token");
    assert_eq!(
        world.last_sent("resource").as_deref(),
        Some("https://api.example/")
    );
}

/// Shows: OAuth 2.0 Form Post Response Mode.
#[test]
fn what_came_in_a_form_post_completes_it() {
    let world = World::with_metadata();
    let connection = world.open(&with(r#""response_mode": "form_post""#));
    let url = begin(&connection).expect("begun");
    let redirect = Arrived::FormPost(world.consent(&url))
        .redirect()
        .expect("one");
    run(connection.complete_authorization(redirect)).expect("authorized");
    assert_eq!(token(&connection), ok("access-2"));
}

mod pushing {
    use super::*;

    /// Shows: RFC 9126.
    #[test]
    fn a_request_is_pushed_where_the_metadata_requires_it() {
        let world = World::with_metadata();
        world.publish(&[("require_pushed_authorization_requests", true.into())]);
        let connection = world.open(CONFIG);
        let url = begin(&connection).expect("begun");
        assert_eq!(names(&url), ["client_id", "request_uri"]);
        assert_eq!(pushed(&world).form["scope"], "a");
        let redirect = Redirect::from_form(&world.consent(&url)).expect("one");
        run(connection.complete_authorization(redirect)).expect("authorized");
    }

    /// Shows: RFC 9126.
    #[test]
    fn until_when_the_url_can_be_opened_is_told_where_the_server_says_so() {
        let config = r#"{"client_id": "id", "par": true, "redirect_uri": "http://127.0.0.1:1/cb",
            "authorization_endpoint": "https://as.example/authorize",
            "token_endpoint": "https://as.example/token",
            "pushed_authorization_request_endpoint": "https://as.example/par"}"#;
        for (answer, lifetime_millis) in [
            (
                r#"{"request_uri": "urn:x", "expires_in": 60}"#,
                Some(60_000),
            ),
            (r#"{"request_uri": "urn:x"}"#, None),
        ] {
            let world = World::new();
            world.answer_with(Answer::status(201, answer));
            let connection = world.open(config);
            let begun = run(connection.begin_authorization(&AuthorizationOptions::default()));
            let begun = begun.expect("begun");
            // The authorization has ten minutes.
            let until = begun.url_expires_at;
            let told = until.map(|until| 600_000 - begun.expires_at.millis_since(until));
            assert_eq!(told, lifetime_millis);
        }
    }

    /// Shows: RFC 9126.
    #[test]
    fn the_url_is_that_of_rfc_9126() {
        // RFC 9126 section 2.2.
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../../../tests/vectors/oauth.json"))
                .expect("JSON");
        let world = World::new();
        let config = r#"{"client_id": "s6BhdRkqt3", "par": true, "redirect_uri": "http://127.0.0.1:1/cb",
            "authorization_endpoint": "https://as.example.com/authorize",
            "token_endpoint": "https://as.example.com/token",
            "pushed_authorization_request_endpoint": "https://as.example.com/par"}"#;
        let body = vectors["par"]["body"].as_str().expect("text");
        world.answer_with(Answer::status(201, body));
        let url = begin(&world.open(config)).expect("begun");
        assert_eq!(url, vectors["par"]["authorization_request"]);
    }

    #[test]
    fn the_client_authenticates_where_it_pushes_and_is_named_once() {
        use crate::config::ClientAuthentication;
        for method in [
            ClientAuthentication::ClientSecretBasic,
            ClientAuthentication::ClientSecretPost,
            ClientAuthentication::ClientSecretJwt,
        ] {
            let world = World::with_metadata();
            world.server.borrow_mut().authentication = Some(method);
            let config = with(&format!(
                r#""par": true, "client_secret": "secret", "token_endpoint_auth_method": "{method}""#
            ));
            let connection = world.open(&config);
            world.authorize(&connection).expect("authorized");
            let sent = pushed(&world);
            let ids = sent.pairs.iter().filter(|(name, _)| name == "client_id");
            assert_eq!(ids.count(), 1, "{method}");
        }
    }

    #[test]
    fn what_the_server_says_against_it_is_told_before_the_user_is_troubled() {
        let world = World::with_metadata();
        let connection = world.open(&with(r#""par": true"#));
        world.answer_with(Answer::status(
            200,
            &super::super::super::fake_server::metadata().to_string(),
        ));
        world.answer_with(Answer::oauth_error("invalid_request"));
        let Err(Error::Refused(error)) = begin(&connection).unboxed() else {
            panic!("it was taken");
        };
        assert_eq!(
            (error.code.as_str(), error.http_status),
            ("invalid_request", Some(400))
        );
        assert_eq!(kinds_in_history(&connection), Vec::<&str>::new());
    }

    #[test]
    fn an_answer_without_a_reference_is_a_violation() {
        for body in ["{}", "[]", "<html>", r#"{"request_uri": ""}"#] {
            let world = World::with_metadata();
            let connection = world.open(&with(r#""par": true"#));
            world.answer_with(Answer::status(
                200,
                &super::super::super::fake_server::metadata().to_string(),
            ));
            world.answer_with(Answer::status(201, body));
            assert!(
                matches!(
                    begin(&connection).unboxed(),
                    Err(Error::ProtocolViolation(_))
                ),
                "{body}"
            );
        }
    }

    #[test]
    fn without_an_endpoint_for_it_it_is_said() {
        let world = World::with_metadata();
        world.publish(&[(
            "pushed_authorization_request_endpoint",
            serde_json::Value::Null,
        )]);
        let begun = begin(&world.open(&with(r#""par": true"#)));
        assert!(matches!(begun.unboxed(), Err(Error::Unsupported(_))));
    }
}

mod signing {
    use super::*;

    /// Shows: RFC 9101.
    #[test]
    fn a_signed_request_is_taken_by_a_server_that_looks_into_it() {
        let world = World::with_metadata();
        let config = with(
            r#""request_object": true, "signing_key": {"ref": "key:ec"}, "max_age": 60, "resource": "https://api.example/""#,
        );
        let connection = world.open(&config);
        let url = begin(&connection).expect("begun");
        assert_eq!(
            names(&url),
            ["client_id", "response_type", "scope", "request"]
        );
        let redirect = Redirect::from_form(&world.consent(&url)).expect("one");
        run(connection.complete_authorization(redirect)).expect("authorized");
    }

    /// Shows: RFC 9101.
    #[test]
    fn a_signed_request_may_be_pushed_and_is_alone_then() {
        let world = World::with_metadata();
        let config =
            with(r#""request_object": true, "par": true, "signing_key": {"ref": "key:rsa"}"#);
        let connection = world.open(&config);
        world.authorize(&connection).expect("authorized");
        let sent = pushed(&world);
        assert_eq!(
            sent.form.keys().collect::<Vec<_>>(),
            ["client_id", "request"]
        );
    }

    #[test]
    fn a_server_that_takes_signed_requests_alone_is_given_one_or_the_key_is_asked_for() {
        let world = World::with_metadata();
        world.publish(&[("require_signed_request_object", true.into())]);
        let Err(Error::NotConfigured(problems)) = begin(&world.open(CONFIG)).unboxed() else {
            panic!("it was begun");
        };
        assert_eq!(problems[0].field, "signing_key");
        let connection = world.open(&with(r#""signing_key": {"ref": "key:ec"}"#));
        world.authorize(&connection).expect("authorized");
    }
}

#[test]
fn a_store_that_fails_for_a_while_costs_no_authorization() {
    let world = World::new();
    let connection = world.open(CODE);
    let begun = begin_authorization(&connection);
    let redirect = answer_to(&begun);
    let mut flow = Box::pin(connection.complete_authorization(redirect));
    let mut context = Context::from_waker(Waker::noop());
    while world.token_requests() == 0 {
        assert!(flow.as_mut().poll(&mut context).is_pending());
    }
    world.failing_writes.set(5);
    run(flow).expect("authorized");
    assert_eq!(token(&world.open(CODE)), ok("access-1"));
}

#[test]
fn the_oldest_authorization_makes_room() {
    let world = World::new();
    let connection = world.open(CODE);
    let begun: Vec<_> = (0..17).map(|_| begin_authorization(&connection)).collect();
    let complete = |begun: &Begun| {
        let redirect = answer_to(begun);
        run(connection.complete_authorization(redirect))
    };
    assert!(complete(&begun[0]).is_err());
    assert!(complete(&begun[16]).is_ok());
    assert!(complete(&begun[1]).is_ok());
}

#[test]
fn a_signed_request_lives_as_long_as_the_authorization() {
    let world = World::with_metadata();
    let config = CONFIG.replacen('{', r#"{"request_object": true, "signing_key": {"ref": "key:ec"}, "authorization_parameters": {"x": "y"}, "#, 1);
    let begun = begin_authorization(&world.open(&config));
    let url = url::Url::parse(&begun.authorization_url).expect("a URL");
    let request = url
        .query_pairs()
        .find(|(n, _)| n == "request")
        .expect("one")
        .1
        .into_owned();
    let request = crate::jws::Received::parse(&request).expect("a JWT");
    assert_eq!(request.claims["exp"], 1_000_000_600);
    assert_eq!(request.claims["nbf"], 1_000_000_000);
    assert_eq!(request.claims["x"], "y");
    assert!(url.query_pairs().all(|(n, _)| n != "x"));
}

#[test]
fn no_option_takes_the_place_of_any_computed_parameter() {
    let world = World::new();
    for name in [
        "client_id",
        "redirect_uri",
        "response_type",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "dpop_jkt",
        "request",
        "request_uri",
    ] {
        let options = AuthorizationOptions {
            parameters: vec![(name.to_owned(), "x".to_owned())],
            ..AuthorizationOptions::default()
        };
        assert!(
            matches!(
                run(world.open(CODE).begin_authorization(&options)).unboxed(),
                Err(Error::NotConfigured(_))
            ),
            "{name}"
        );
    }
}

#[test]
fn the_issuer_of_a_redirect_is_compared_as_it_is() {
    let world = World::with_metadata();
    let connection = world.open(CONFIG);
    let begun = begin_authorization(&connection);
    let query = world.consent(&begun.authorization_url);
    for other in [
        "https%3A%2F%2Fas.example%2F",
        "https%3A%2F%2FAS.example",
        "http%3A%2F%2Fas.example",
    ] {
        let query = query.replace("https%3A%2F%2Fas.example", other);
        assert!(
            run(connection.complete_authorization(Redirect::from_form(&query).expect("one")))
                .is_err(),
            "{other}"
        );
    }
}

#[test]
fn a_refused_redirect_is_told_and_not_kept() {
    let world = World::new();
    let connection = world.open(CODE);
    begin_authorization(&connection);
    let redirect = Redirect::from_form("code=x&state=other").expect("one");
    assert!(run(connection.complete_authorization(redirect)).is_err());
    assert_eq!(world.kinds(), ["authorization-begun", "redirect-refused"]);
    assert_eq!(kinds_in_history(&connection), Vec::<&str>::new());
}

#[test]
fn a_refused_code_leaves_an_earlier_credential_in_good_standing() {
    let world = World::new();
    let connection = world.authorized();
    let begun = begin_authorization(&connection);
    world.answer_with(Answer::oauth_error("invalid_grant"));
    let redirect = answer_to(&begun);
    assert!(run(connection.complete_authorization(redirect)).is_err());
    assert_eq!(state(&connection), ConnectionState::Authorized);
}
