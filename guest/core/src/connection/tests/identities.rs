//! Who the user is: the id_token's signature, userinfo, and what the server knows
//! of a token.

use super::super::fake_server::IdToken;
use super::*;
use serde_json::json;

pub(super) const OPENID: &str = r#"{"client_id": "id", "client_secret": "secret", "issuer": "https://as.example",
    "scope": "openid", "redirect_uri": "http://127.0.0.1:1/oauth2"}"#;

/// Authorizes with such an id_token.
pub(super) fn authorized_by(id_token: IdToken) -> (Rc<World>, Crm, Result<()>) {
    let world = World::with_metadata();
    world.server.borrow_mut().id_token = id_token;
    let connection = world.open(OPENID);
    let authorized = world.authorize(&connection);
    (world, connection, authorized)
}

fn good() -> (Rc<World>, Crm) {
    let (world, connection, authorized) = authorized_by(IdToken::default());
    authorized.expect("authorized");
    (world, connection)
}

pub(super) fn refused(authorized: Result<()>) -> String {
    match authorized.unboxed() {
        Err(Error::ProtocolViolation(violation)) => violation.message,
        other => panic!("{other:?}"),
    }
}

/// Shows: OpenID Connect Core section 3.1.3.7.
#[test]
fn the_signature_is_checked_with_the_key_that_the_server_publishes() {
    for (key, algorithm) in [
        ("server-rsa", "RS256"),
        ("server-rsa", "PS256"),
        ("server-ec", "ES256"),
    ] {
        let (world, _, authorized) = authorized_by(IdToken {
            key,
            algorithm,
            ..IdToken::default()
        });
        authorized.expect(algorithm);
        assert_eq!(world.sent_to("/jwks").len(), 1);
    }
}

#[test]
fn a_wrong_key_is_refused_with_the_reason_and_nothing_is_lost() {
    let (world, connection) = good();
    let before = token(&connection);
    for (id_token, why) in [
        (
            IdToken {
                key: "other-rsa",
                ..IdToken::default()
            },
            "does not publish",
        ),
        (
            IdToken {
                is_forged: true,
                ..IdToken::default()
            },
            "not signed by the server",
        ),
        (
            IdToken {
                key: "other-rsa",
                header: vec![("kid", json!("server-rsa"))],
                ..IdToken::default()
            },
            "not signed by the server",
        ),
        (
            IdToken {
                algorithm: "none",
                ..IdToken::default()
            },
            "is not signed",
        ),
    ] {
        world.server.borrow_mut().id_token = id_token;
        let told = refused(world.authorize(&connection));
        assert!(told.contains(why), "{told}");
        assert_eq!(token(&connection), before);
    }
}

#[test]
fn keys_at_hand_are_used_again_and_read_anew_where_they_do_not_fit() {
    let (world, connection) = good();
    world.authorize(&connection).expect("authorized");
    assert_eq!(world.sent_to("/jwks").len(), 1);
    // The server has changed its keys.
    let mut server = world.server.borrow_mut();
    server.published = vec!["other-rsa"];
    server.id_token.key = "other-rsa";
    drop(server);
    world.authorize(&connection).expect("authorized");
    assert_eq!(world.sent_to("/jwks").len(), 2);
    // A token that no key fits causes one more look, not many.
    world.server.borrow_mut().id_token.key = "server-rsa";
    refused(world.authorize(&connection));
    assert_eq!(world.sent_to("/jwks").len(), 3);
}

#[test]
fn a_key_that_the_server_has_withdrawn_is_not_believed_for_long() {
    let (world, connection) = good();
    world.server.borrow_mut().published = vec!["server-ec"];
    world.pass(601);
    refused(world.authorize(&connection));
}

#[test]
fn keys_that_cannot_be_read_are_said_to_be_so() {
    let world = World::with_metadata();
    let connection = world.open(OPENID);
    let begun =
        run(connection.begin_authorization(&AuthorizationOptions::default())).expect("begun");
    let query = world.consent(&begun.authorization_url);
    world
        .documents
        .borrow_mut()
        .insert("https://as.example/jwks".to_owned(), "[]".to_owned());
    let redirect = Redirect::from_form(&query).expect("a redirect");
    let told = refused(run(connection.complete_authorization(redirect)));
    assert!(told.contains("cannot be read"), "{told}");
}

#[test]
fn without_published_keys_tls_vouches_for_the_token() {
    // OpenID Connect Core section 3.1.3.7 number 6.
    let world = World::with_metadata();
    world.publish(&[("jwks_uri", serde_json::Value::Null)]);
    world.server.borrow_mut().id_token.is_forged = true;
    world.authorize(&world.open(OPENID)).expect("authorized");
    world.server.borrow_mut().id_token = IdToken {
        algorithm: "none",
        ..IdToken::default()
    };
    refused(world.authorize(&world.open(OPENID)));
}

#[test]
fn a_token_keyed_with_the_clients_secret_is_checked_with_it() {
    let keyed = IdToken {
        algorithm: "HS256",
        ..IdToken::default()
    };
    let (_, _, authorized) = authorized_by(keyed.clone());
    authorized.expect("authorized");
    let (_, _, authorized) = authorized_by(IdToken {
        is_forged: true,
        ..keyed.clone()
    });
    refused(authorized);
    // A public client shares no secret with the server.
    let world = World::with_metadata();
    world.server.borrow_mut().id_token = keyed;
    let public = OPENID.replace(r#""client_secret": "secret","#, "");
    refused(world.authorize(&world.open(&public)));
}

#[test]
fn a_sign_in_that_is_too_old_is_refused() {
    for (auth_time, accepted) in [
        (json!(999_999_990), true),
        (json!(999_990_000), false),
        (json!(null), false),
    ] {
        let world = World::with_metadata();
        world.server.borrow_mut().id_token.claims = vec![("auth_time", auth_time)];
        let connection = world.open(&OPENID.replacen('{', r#"{"max_age": 60, "#, 1));
        assert_eq!(world.authorize(&connection).is_ok(), accepted);
    }
}

#[test]
fn an_id_token_of_a_renewal_is_checked_after_the_credential_is_safe() {
    for (id_token, is_kept) in [
        (
            IdToken {
                always: true,
                claims: vec![("email", json!("new"))],
                ..IdToken::default()
            },
            false,
        ),
        (
            IdToken {
                always: true,
                is_forged: true,
                ..IdToken::default()
            },
            true,
        ),
        (
            IdToken {
                always: true,
                claims: vec![("sub", json!("somebody else"))],
                ..IdToken::default()
            },
            true,
        ),
    ] {
        let (world, connection) = good();
        let stored = || {
            let record = run(world.open(OPENID).load()).expect("it opens").record;
            record
                .credential
                .as_ref()
                .expect("a credential")
                .id_token
                .clone()
        };
        let before = stored();
        world.server.borrow_mut().id_token = id_token;
        world.pass(1000);
        // The token is good in any case, and so is its refresh token.
        assert_eq!(token(&connection), ok("access-3"));
        assert_eq!(stored() == before, is_kept);
        assert_eq!(
            kinds_in_history(&connection).contains(&"quirk-applied"),
            is_kept
        );
        world.server.borrow_mut().id_token = IdToken::default();
        world.pass(1000);
        assert_eq!(token(&connection), ok("access-4"));
    }
}

#[test]
fn keys_that_cannot_be_had_do_not_hold_up_a_renewal() {
    let (world, connection) = good();
    world.server.borrow_mut().id_token.always = true;
    world
        .documents
        .borrow_mut()
        .insert("https://as.example/jwks".to_owned(), "nonsense".to_owned());
    world.pass(1000);
    assert_eq!(token(&connection), ok("access-3"));
}

#[test]
fn an_id_token_that_nobody_asked_for_is_passed_over_where_it_is_wrong() {
    let world = World::with_metadata();
    world.server.borrow_mut().id_token = IdToken {
        always: true,
        is_forged: true,
        ..IdToken::default()
    };
    let connection = world.open(&OPENID.replace("openid", "a"));
    world.authorize(&connection).expect("authorized");
    assert_eq!(
        kinds_in_history(&connection),
        ["quirk-applied", "authorized"]
    );
}

mod userinfo {
    use super::*;

    #[test]
    fn claims_are_given_as_json_where_they_are_the_users() {
        let (_, connection) = good();
        let claims = run(connection.userinfo()).expect("claims");
        assert!(claims.reveal().contains(r#""email":"user@as.example""#));
    }

    #[test]
    fn a_token_that_is_refused_there_is_renewed_once() {
        let (world, connection) = good();
        world.server.borrow_mut().access.clear();
        assert!(run(connection.userinfo()).is_ok());
        assert_eq!(world.sent_to("/userinfo").len(), 2);
    }

    #[test]
    fn a_token_that_is_refused_for_ever_is_not_renewed_for_ever() {
        let (world, connection) = good();
        // Every token that it gives has expired already.
        world.server.borrow_mut().access.clear();
        world.server.borrow_mut().lifetime = Some(0);
        let refused = run(connection.userinfo());
        assert!(
            matches!(refused.unboxed(), Err(Error::Refused(error)) if error.code == "invalid_token")
        );
        assert_eq!(world.sent_to("/userinfo").len(), 3);
    }

    #[test]
    fn too_narrow_a_scope_is_told() {
        let (world, connection) = good();
        world.answer_with(Answer::Http(
            403,
            vec![("www-authenticate", r#"Bearer error="insufficient_scope""#)],
            String::new(),
        ));
        let refused = run(connection.userinfo());
        assert!(
            matches!(refused.unboxed(), Err(Error::Refused(error)) if error.code == "insufficient_scope")
        );
    }

    #[test]
    fn a_signed_answer_is_checked() {
        let (world, connection) = good();
        world.server.borrow_mut().signs_userinfo = true;
        assert!(run(connection.userinfo()).is_ok());
        world.server.borrow_mut().id_token.is_forged = true;
        assert!(matches!(
            run(connection.userinfo()).unboxed(),
            Err(Error::ProtocolViolation(_))
        ));
    }

    #[test]
    fn a_server_without_it_is_said_to_be() {
        let world = World::new();
        assert!(matches!(
            run(world.authorized().userinfo()).unboxed(),
            Err(Error::Unsupported(_))
        ));
    }
}

mod introspection {
    use super::*;

    /// Shows: RFC 7662.
    #[test]
    fn what_the_server_knows_is_given_as_json() {
        let (world, connection) = good();
        let known = run(connection.introspect()).expect("an answer");
        assert!(known.reveal().contains(r#""active":true"#));
        assert_eq!(world.last_sent("token").as_deref(), Some("access-2"));
        assert_eq!(
            world.last_sent("token_type_hint").as_deref(),
            Some("access_token")
        );
        world.pass(1000);
        let known = run(connection.introspect()).expect("an answer");
        assert!(known.reveal().contains(r#""active":false"#));
    }

    #[test]
    fn an_expiry_that_the_response_does_not_give_is_learnt() {
        let world = World::with_metadata();
        world.server.borrow_mut().lifetime = None;
        let connection = world.open(OPENID);
        world.authorize(&connection).expect("authorized");
        let expiry = run(connection.status()).expect("a status").expires_at;
        assert_eq!(expiry.map(Timestamp::seconds), Some(1_000_001_000));
        world.pass(1000);
        assert_eq!(token(&connection), ok("access-3"));
        let expiry = run(connection.status()).expect("a status").expires_at;
        assert_eq!(expiry.map(Timestamp::seconds), Some(1_000_002_000));
    }

    #[test]
    fn a_server_that_does_not_introspect_after_all_does_no_harm() {
        let world = World::with_metadata();
        world.server.borrow_mut().lifetime = None;
        world.documents.borrow_mut().insert(
            "https://as.example/introspect".to_owned(),
            "<html>".to_owned(),
        );
        let connection = world.open(OPENID);
        world.authorize(&connection).expect("authorized");
        assert_eq!(token(&connection), ok("access-2"));
        assert!(matches!(
            run(connection.introspect()).unboxed(),
            Err(Error::ProtocolViolation(_))
        ));
    }

    #[test]
    fn a_server_without_it_is_said_to_be() {
        let world = World::new();
        assert!(matches!(
            run(world.authorized().introspect()).unboxed(),
            Err(Error::Unsupported(_))
        ));
    }
}

#[test]
fn an_id_token_that_was_asked_for_has_to_come() {
    let world = World::with_metadata();
    world.server.borrow_mut().adds = vec![("id_token", serde_json::Value::Null)];
    let told = refused(world.authorize(&world.open(OPENID)));
    assert!(told.contains("no id_token came"), "{told}");
}

#[test]
fn an_id_token_that_is_passed_over_is_not_stored() {
    let world = World::with_metadata();
    world.server.borrow_mut().id_token = IdToken {
        always: true,
        is_forged: true,
        ..IdToken::default()
    };
    let config = OPENID.replace("openid", "a");
    let connection = world.open(&config);
    world.authorize(&connection).expect("authorized");
    let record = run(connection.load()).expect("it opens").record;
    assert_eq!(record.credential.as_ref().expect("one").id_token, None);
}

#[test]
fn signed_userinfo_for_another_client_is_refused() {
    for (name, value) in [
        ("aud", json!("other")),
        ("iss", json!("https://evil.example")),
    ] {
        let (world, connection, authorized) = authorized_by(IdToken::default());
        authorized.expect("authorized");
        // as the server would sign it
        let header = json!({"alg": "RS256", "kid": "server-rsa"});
        let mut claims = json!({"sub": "user", "iss": "https://as.example", "aud": "id"});
        claims[name] = value;
        let body = world.server.borrow().signed(header, claims);
        world.answer_with(Answer::Http(
            200,
            vec![("content-type", "application/jwt")],
            body,
        ));
        refused(run(connection.userinfo()).map(drop));
    }
}

#[test]
fn an_id_token_of_a_renewal_is_held_against_what_the_server_announces() {
    let world = World::with_metadata();
    world.publish(&[("id_token_signing_alg_values_supported", json!(["RS256"]))]);
    let connection = world.open(OPENID);
    world.authorize(&connection).expect("authorized");
    world.server.borrow_mut().id_token = IdToken {
        always: true,
        algorithm: "HS256",
        ..IdToken::default()
    };
    world.pass(1000);
    token(&connection).expect("a token");
    assert!(kinds_in_history(&connection).contains(&"quirk-applied"));
}

#[test]
fn an_id_token_is_dated_by_the_servers_clock() {
    for iat in [3600i64, -3600] {
        let world = World::with_metadata();
        let config = OPENID.to_owned();
        let connection = world.open(&config);
        let begun = begin_authorization(&connection);
        let query = world.consent(&begun.authorization_url);
        let url = url::Url::parse(&begun.authorization_url).expect("a URL");
        let nonce = url
            .query_pairs()
            .find(|(n, _)| n == "nonce")
            .expect("one")
            .1
            .into_owned();
        let now = 1_000_000_000 + iat;
        let header = json!({"alg": "HS256"});
        let claims = json!({"sub": "user", "iss": "https://as.example", "aud": "id", "iat": now, "exp": now + 60, "nonce": nonce});
        world.server.borrow_mut().id_token.algorithm = "HS256";
        let id_token = world.server.borrow().signed(header, claims);
        let date = if iat > 0 {
            "Sun, 09 Sep 2001 02:46:40 GMT"
        } else {
            "Sun, 09 Sep 2001 00:46:40 GMT"
        };
        world.answer_with(Answer::Http(200, vec![("date", date)],
            json!({"access_token": "a", "token_type": "Bearer", "expires_in": 100, "id_token": id_token}).to_string()));
        run(connection.complete_authorization(Redirect::from_form(&query).expect("one")))
            .expect("authorized");
    }
}

#[test]
fn what_introspection_tells_of_the_expiry_is_read_by_the_servers_clock() {
    for (body, date, expected) in [
        (r#"{"active": false, "exp": 1000001000}"#, None, None),
        (r#"{"active": true, "exp": 999999000}"#, None, None),
        (
            r#"{"active": true, "exp": 1000004600}"#,
            Some("Sun, 09 Sep 2001 02:46:40 GMT"),
            Some(1_000_001_000),
        ),
    ] {
        let world = World::with_metadata();
        let connection = world.open(&CLIENT_CREDENTIALS.replace(
            "\"token_endpoint\"",
            r#""introspection_endpoint": "https://as.example/introspect", "token_endpoint""#,
        ));
        world.answer_with(Answer::Http(
            200,
            date.map(|d| ("date", d)).into_iter().collect(),
            r#"{"access_token": "a", "token_type": "Bearer"}"#.to_owned(),
        ));
        world.answer_with(Answer::status(200, body));
        assert_eq!(token(&connection), ok("a"));
        let expiry = run(connection.status()).expect("a status").expires_at;
        assert_eq!(expiry.map(Timestamp::seconds), expected, "{body}");
    }
}

#[test]
fn keys_that_are_away_for_a_moment_are_asked_for_again() {
    let world = World::with_metadata();
    let connection = world.open(OPENID);
    let begun = begin_authorization(&connection);
    let query = world.consent(&begun.authorization_url);
    let redirect = Redirect::from_form(&query).expect("a redirect");
    let mut flow = Box::pin(connection.complete_authorization(redirect));
    let mut context = Context::from_waker(Waker::noop());
    while world.token_requests() == 0 {
        assert!(flow.as_mut().poll(&mut context).is_pending());
    }
    world.answer_with(Answer::status(503, ""));
    run(flow).expect("authorized");
    assert_eq!(world.sent_to("/jwks").len(), 2);
}

#[test]
fn an_id_token_is_not_put_with_another_credential() {
    let world = World::with_metadata();
    let connection = world.open(OPENID);
    world.authorize(&connection).expect("authorized");
    world.server.borrow_mut().id_token = IdToken {
        always: true,
        claims: vec![("email", json!("new"))],
        ..IdToken::default()
    };
    world.server.borrow_mut().published = vec!["server-rsa"];
    world.pass(1000);
    let jwks = world.sent_to("/jwks").len();
    let options = TokenOptions::default();
    let mut flow = Box::pin(connection.token(&options));
    let mut context = Context::from_waker(Waker::noop());
    // The keys are old by now, and are read anew while the id_token is checked.
    while world.sent_to("/jwks").len() == jwks {
        assert!(flow.as_mut().poll(&mut context).is_pending());
    }
    world.server.borrow_mut().id_token = IdToken::default();
    world.authorize(&world.open(OPENID)).expect("authorized");
    let id = |world: &Rc<World>| {
        run(world.open(OPENID).load())
            .expect("it opens")
            .record
            .credential
            .as_ref()
            .expect("one")
            .id_token
            .clone()
    };
    let before = id(&world);
    run(flow).expect("a token");
    assert_eq!(id(&world), before);
}
