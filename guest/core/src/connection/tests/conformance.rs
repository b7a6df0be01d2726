//! The modules of the OpenID Foundation's conformance suite for clients, those
//! that concern a client like this one, each by its name. The suite's own server
//! is not here: the fake one does what the module's does.
//!
//! Not here: what needs the implicit or hybrid flow, which are never asked for
//! (`c_hash`, `s_hash`, `fapi1-advanced-final-client-test`), and the decryption of
//! id_tokens (`encrypted-idtoken`).

use super::super::fake_server::{IdToken, Nonces};
use super::identities::{OPENID, authorized_by, refused};
use super::*;
use serde_json::{Value, json};

const DPOP: &str = r#"{"client_id": "id", "issuer": "https://as.example", "scope": "openid",
    "redirect_uri": "http://127.0.0.1:1/oauth2", "dpop": true, "signing_key": {"ref": "key:ec"}}"#;

/// Authorizes with an id_token of which one claim is another; null: missing.
fn with_claim(name: &'static str, value: Value) -> Result<()> {
    let claims = vec![(name, value)];
    authorized_by(IdToken {
        claims,
        ..IdToken::default()
    })
    .2
}

/// Completes with what the server sends back, changed.
fn with_redirect(change: impl Fn(&str) -> String) -> Result<()> {
    let world = World::with_metadata();
    let connection = world.open(OPENID);
    let begun =
        run(connection.begin_authorization(&AuthorizationOptions::default())).expect("begun");
    let query = change(&world.consent(&begun.authorization_url));
    let completed = Redirect::from_form(&query)
        .and_then(|redirect| run(connection.complete_authorization(redirect)));
    assert!(
        completed.is_ok() || world.token_requests() == 0,
        "the code was spent"
    );
    completed
}

fn with_response(name: &'static str, value: Value) -> (Rc<World>, Crm, Result<()>) {
    let world = World::with_metadata();
    world.server.borrow_mut().adds = vec![(name, value)];
    let connection = world.open(OPENID);
    let authorized = world.authorize(&connection);
    (world, connection, authorized)
}

#[test]
fn oidcc_client_test() {
    let (_, connection, authorized) = authorized_by(IdToken::default());
    authorized.expect("authorized");
    assert_eq!(token(&connection), ok("access-2"));
}

/// Shows: RFC 9449.
#[test]
fn happy_path() {
    let world = World::with_metadata();
    let mut server = world.server.borrow_mut();
    (server.requires_proofs, server.nonces) = (true, Nonces::Wanted("nonce"));
    drop(server);
    let connection = world.open(DPOP);
    world.authorize(&connection).expect("authorized");
    run(connection.userinfo()).expect("claims");
}

/// Shows: RFC 9449.
#[test]
fn happy_path_no_dpop_nonce() {
    let world = World::with_metadata();
    world.server.borrow_mut().requires_proofs = true;
    let connection = world.open(DPOP);
    world.authorize(&connection).expect("authorized");
    run(connection.userinfo()).expect("claims");
}

#[test]
fn client_secret_basic() {
    let world = World::with_metadata();
    world.server.borrow_mut().authentication =
        Some(crate::config::ClientAuthentication::ClientSecretBasic);
    world.authorize(&world.open(OPENID)).expect("authorized");
}

/// Shows: OpenID Connect Discovery.
#[test]
fn discovery_issuer_mismatch() {
    let world = World::with_metadata();
    world.publish(&[("issuer", "https://other.example".into())]);
    let told = refused(world.authorize(&world.open(OPENID)));
    assert!(told.contains("https://other.example"), "{told}");
}

// ---- the redirect ----------------------------------------------------------

#[test]
fn ensure_authorization_response_with_invalid_missing_state_fails() {
    refused(with_redirect(|query| query.replace("state=", "stat=")));
}

/// Shows: RFC 6749 section 10.12.
#[test]
fn ensure_authorization_response_with_invalid_state_fails() {
    refused(with_redirect(|query| query.replace("state=", "state=x")));
}

/// Shows: RFC 9207.
#[test]
fn invalid_authorization_response_iss() {
    refused(with_redirect(|query| {
        query.replace("as.example", "evil.example")
    }));
}

/// Shows: RFC 9207.
#[test]
fn remove_authorization_response_iss() {
    refused(with_redirect(|query| query.replace("&iss=", "&is=")));
}

#[test]
fn ensure_jarm_fails_whatever_is_wrong_with_it() {
    // It is never asked for: all eight modules are one.
    refused(with_redirect(|query| {
        format!("response=e30.e30.e30&{query}")
    }));
    refused(with_redirect(|_| "response=e30.e30.e30".to_owned()));
}

// ---- the id_token's claims -------------------------------------------------

#[test]
fn invalid_iss() {
    refused(with_claim("iss", json!("https://as.example/")));
}

#[test]
fn invalid_missing_iss() {
    refused(with_claim("iss", Value::Null));
}

/// Shows: OpenID Connect Core section 3.1.3.7.
#[test]
fn invalid_aud() {
    refused(with_claim("aud", json!("id2")));
}

#[test]
fn invalid_missing_aud() {
    refused(with_claim("aud", Value::Null));
}

#[test]
fn missing_aud() {
    refused(with_claim("aud", Value::Null));
}

#[test]
fn invalid_secondary_aud() {
    refused(with_claim("aud", json!(["id", "other"])));
}

#[test]
fn valid_aud_as_array() {
    with_claim("aud", json!(["id"])).expect("authorized");
}

#[test]
fn invalid_expired_exp() {
    refused(with_claim("exp", json!(999_999_000)));
}

#[test]
fn invalid_missing_exp() {
    refused(with_claim("exp", Value::Null));
}

#[test]
fn missing_iat() {
    refused(with_claim("iat", Value::Null));
}

#[test]
fn iat_is_week_in_past() {
    refused(with_claim("iat", json!(1_000_000_000 - 7 * 86_400)));
}

#[test]
fn missing_sub() {
    refused(with_claim("sub", Value::Null));
}

/// Shows: OpenID Connect Core section 3.1.3.7.
#[test]
fn invalid_nonce() {
    refused(with_claim("nonce", json!("other")));
}

#[test]
fn nonce_invalid() {
    refused(with_claim("nonce", json!("other")));
}

#[test]
fn invalid_missing_nonce() {
    refused(with_claim("nonce", Value::Null));
}

#[test]
fn nonce_unless_code_flow() {
    // It is sent in the code flow too, and comes back.
    let (world, _, authorized) = authorized_by(IdToken::default());
    authorized.expect("authorized");
    assert_eq!(world.token_requests(), 1);
}

#[test]
fn missing_athash() {
    with_claim("at_hash", Value::Null).expect("authorized");
}

// ---- the id_token's signature ----------------------------------------------

#[test]
fn idtoken_sig_rs256() {
    with_claim("x", json!(1)).expect("authorized");
}

#[test]
fn idtoken_sig_none_is_refused_here_though_the_standard_leaves_it_open() {
    refused(
        authorized_by(IdToken {
            algorithm: "none",
            ..IdToken::default()
        })
        .2,
    );
}

#[test]
fn invalid_null_alg() {
    let header = vec![("alg", json!("none"))];
    refused(
        authorized_by(IdToken {
            header,
            ..IdToken::default()
        })
        .2,
    );
    let header = vec![("alg", Value::Null)];
    refused(
        authorized_by(IdToken {
            header,
            ..IdToken::default()
        })
        .2,
    );
}

#[test]
fn invalid_alternate_alg() {
    let world = World::with_metadata();
    world.publish(&[("id_token_signing_alg_values_supported", json!(["PS256"]))]);
    refused(world.authorize(&world.open(OPENID)));
    world.server.borrow_mut().id_token.algorithm = "PS256";
    world.authorize(&world.open(OPENID)).expect("authorized");
}

fn forged(algorithm: &'static str, key: &'static str) -> Result<()> {
    authorized_by(IdToken {
        algorithm,
        key,
        is_forged: true,
        ..IdToken::default()
    })
    .2
}

/// Shows: OpenID Connect Core section 3.1.3.7.
#[test]
fn invalid_signature() {
    refused(forged("PS256", "server-rsa"));
}

#[test]
fn invalid_sig_rs256() {
    refused(forged("RS256", "server-rsa"));
}

#[test]
fn invalid_sig_es256() {
    refused(forged("ES256", "server-ec"));
}

#[test]
fn invalid_sig_hs256() {
    refused(forged("HS256", "server-rsa"));
}

fn without_kid(published: Vec<&'static str>) -> Result<()> {
    let world = World::with_metadata();
    let mut server = world.server.borrow_mut();
    server.published = published;
    server.id_token.header = vec![("kid", Value::Null)];
    drop(server);
    world.authorize(&world.open(OPENID))
}

#[test]
fn kid_absent_single_jwks() {
    without_kid(vec!["server-rsa"]).expect("authorized");
    without_kid(vec!["server-rsa", "server-ec"]).expect("authorized");
}

#[test]
fn kid_absent_multiple_jwks() {
    refused(without_kid(vec!["server-rsa", "other-rsa"]));
}

#[test]
fn encrypted_idtoken_usingrsa15() {
    let replaced_by = Some("eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4R0NNIn0.e30.e30.e30.e30");
    refused(
        authorized_by(IdToken {
            replaced_by,
            ..IdToken::default()
        })
        .2,
    );
}

// ---- the token response ----------------------------------------------------

#[test]
fn no_scope_in_token_endpoint_response() {
    let (_, connection, authorized) = with_response("scope", Value::Null);
    authorized.expect("authorized");
    let scope = run(connection.status()).expect("a status").scope;
    assert!(scope.contains(&"openid".to_owned()));
}

#[test]
fn token_endpoint_response_without_expires_in() {
    let (_, connection, authorized) = with_response("expires_in", Value::Null);
    authorized.expect("authorized");
    assert_eq!(token(&connection), ok("access-2"));
}

#[test]
fn token_type_case_insensitivity() {
    for written in ["bearer", "BEARER", "bEaReR"] {
        let (_, connection, authorized) = with_response("token_type", json!(written));
        authorized.expect("authorized");
        run(connection.userinfo()).expect("claims");
    }
}

#[test]
fn rs_dpop_auth_scheme_case_insensitivity() {
    let world = World::with_metadata();
    let mut server = world.server.borrow_mut();
    server.requires_proofs = true;
    server.adds = vec![("token_type", json!("dpop"))];
    drop(server);
    let connection = world.open(DPOP);
    world.authorize(&connection).expect("authorized");
    world.answer_with(Answer::Http(
        401,
        vec![
            ("www-authenticate", r#"dpop Error="use_dpop_nonce""#),
            ("dpop-nonce", "n"),
        ],
        String::new(),
    ));
    run(connection.userinfo()).expect("claims");
    let proof = world.received.borrow().last().expect("one").headers["dpop"].clone();
    let proof = crate::jws::Received::parse(&proof).expect("a JWT");
    assert_eq!(proof.text("nonce"), Some("n"));
}

// ---- userinfo --------------------------------------------------------------

/// Shows: OpenID Connect Core section 5.3.
#[test]
fn userinfo_bearer_header() {
    let (world, connection, authorized) = authorized_by(IdToken::default());
    authorized.expect("authorized");
    run(connection.userinfo()).expect("claims");
    let sent = world.sent_to("/userinfo");
    assert_eq!(sent[0].headers["authorization"], "Bearer access-2");
    assert!(!sent[0].url.contains("access-2") && sent[0].body.is_empty());
}

#[test]
fn scope_userinfo_claims() {
    let (_, connection, authorized) = authorized_by(IdToken::default());
    authorized.expect("authorized");
    let claims = run(connection.userinfo()).expect("claims");
    assert!(claims.reveal().contains(r#""email":"user@as.example""#));
}

/// Shows: OpenID Connect Core section 5.3.
#[test]
fn userinfo_invalid_sub() {
    let (world, connection, authorized) = authorized_by(IdToken::default());
    authorized.expect("authorized");
    world.server.borrow_mut().userinfo_subject = Some("somebody else");
    refused(run(connection.userinfo()).map(drop));
}

#[test]
fn userinfo_signed() {
    let (world, connection, authorized) = authorized_by(IdToken::default());
    authorized.expect("authorized");
    world.server.borrow_mut().signs_userinfo = true;
    run(connection.userinfo()).expect("claims");
}
