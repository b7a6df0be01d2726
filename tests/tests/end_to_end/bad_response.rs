//! What a token endpoint can answer instead of a token.

use serde_json::{Value, json};
use tokenwell_tests::{Answer, Cli, ScriptedServer, eventually, only};

use crate::support::{access_token, authorized_shop, begin, refresh_token, text, tokens, with};

/// Lets a renewal be answered like this, insists on the exit code and that the
/// stored credential has not suffered: the token is still given, and the same
/// refresh token renews it once the server has recovered.
#[track_caller]
fn renewal_answered(answer: Answer, code: i32) -> Value {
    let (cli, server) = authorized_shop(|config| with(config, json!({"timeout": 2})), 3600);
    server.answer("/token", answer);
    let outcome = cli.run(&["refresh", "shop", "--json"]).expect_code(code);
    let error = outcome.error();
    assert!(!text(&error, "message").is_empty());
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));
    assert_recovers(&cli, &server);
    error
}

#[track_caller]
fn assert_recovers(cli: &Cli, server: &ScriptedServer) {
    let before = server.requests_to("/token").len();
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    // A failed renewal may ask for a pause before the next.
    eventually("a renewal after the server has recovered", || {
        (cli.run(&["refresh", "shop"]).code == Some(0)).then_some(())
    });
    let requests = server.requests_to("/token");
    let renewal = requests.get(before).expect("a token request");
    assert_eq!(only(&renewal.form(), "refresh_token"), refresh_token(1));
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(2));
}

#[test]
fn a_page_is_no_token_response() {
    let error = renewal_answered(Answer::html(200), 5);
    assert_eq!(text(&error, "kind"), "protocol_violation");
}

#[test]
fn half_a_json_is_no_token_response() {
    let whole = tokens(2, 3600).to_string();
    let half = whole.as_bytes()[..whole.len() / 2].to_vec();
    let error = renewal_answered(Answer::new(200, "application/json", half), 5);
    assert_eq!(text(&error, "kind"), "protocol_violation");
}

/// Shows: RFC 6749 section 5.1.
#[test]
fn json_without_a_token_is_no_token_response() {
    let error = renewal_answered(Answer::json(200, &json!({"token_type": "Bearer"})), 5);
    assert_eq!(text(&error, "kind"), "protocol_violation");
}

#[test]
fn an_error_with_status_200_is_an_error() {
    let error = renewal_answered(Answer::refusal(200, "invalid_scope"), 5);
    assert_eq!(
        (text(&error, "kind"), text(&error, "code")),
        ("refused", "invalid_scope")
    );
    assert_eq!(error["http_status"], 200);
}

/// Shows: RFC 6749 section 5.2.
#[test]
fn a_client_that_the_server_does_not_accept_is_told_the_servers_words() {
    let body = json!({"error": "invalid_client", "error_description": "the secret has expired"});
    let error = renewal_answered(Answer::json(401, &body), 5);
    assert_eq!(
        (text(&error, "kind"), text(&error, "code")),
        ("refused", "invalid_client")
    );
    assert_eq!(text(&error, "description"), "the secret has expired");
}

#[test]
fn a_server_that_fails_is_unavailable() {
    for answer in [
        Answer::html(500),
        Answer::refusal(503, "server_error"),
        Answer::html(502),
    ] {
        let error = renewal_answered(answer, 6);
        assert_eq!(text(&error, "kind"), "unavailable");
    }
}

#[test]
fn a_refusal_without_an_oauth_error_is_unavailable() {
    let error = renewal_answered(Answer::html(403), 6);
    assert_eq!(text(&error, "kind"), "unavailable");
}

#[test]
fn a_server_that_closes_the_connection_is_unavailable() {
    let error = renewal_answered(Answer::close(), 6);
    assert_eq!(text(&error, "kind"), "unavailable");
}

#[test]
fn a_server_that_never_answers_is_unavailable() {
    let error = renewal_answered(Answer::hang(), 6);
    assert_eq!(text(&error, "kind"), "unavailable");
}

#[test]
fn a_response_that_breaks_off_is_unavailable() {
    let error = renewal_answered(Answer::half_then_reset(&tokens(2, 3600)), 6);
    assert_eq!(text(&error, "kind"), "unavailable");
}

#[test]
fn a_response_that_stalls_is_unavailable() {
    let error = renewal_answered(Answer::half_then_stall(&tokens(2, 3600)), 6);
    assert_eq!(text(&error, "kind"), "unavailable");
}

/// Shows: RFC 9700.
#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = ScriptedServer::start();
    elsewhere.answer("/token", Answer::json(200, &tokens(9, 3600)));
    let error = renewal_answered(Answer::redirect(&elsewhere.url("/token")), 5);
    assert_eq!(text(&error, "kind"), "protocol_violation");
    assert!(
        elsewhere.requests_to("/token").is_empty(),
        "the credential went elsewhere"
    );
}

#[test]
fn two_mebibytes_are_no_token_response() {
    let mut body = tokens(2, 3600);
    body["padding"] = "x".repeat(2 * 1024 * 1024).into();
    let error = renewal_answered(Answer::json(200, &body), 5);
    assert_eq!(text(&error, "kind"), "protocol_violation");
}

#[test]
fn a_response_without_end_is_no_token_response() {
    let error = renewal_answered(Answer::endless(), 5);
    assert_eq!(text(&error, "kind"), "protocol_violation");
}

#[test]
fn a_response_nested_without_end_is_no_token_response() {
    let error = renewal_answered(Answer::new(200, "application/json", "[".repeat(500_000)), 5);
    assert_eq!(text(&error, "kind"), "protocol_violation");
}

#[test]
fn a_server_that_asks_for_patience_gets_it() {
    let (cli, server) = authorized_shop(|config| config, 1);
    let busy = Answer::html(429).with_header("retry-after", "600");
    server.answer("/token", busy);
    let failed = eventually("a renewal that is refused", || {
        Some(cli.run(&["token", "shop", "--json"])).filter(|outcome| outcome.code != Some(0))
    });
    let error = failed.expect_code(6).error();
    assert!(error["retry_at"].is_u64(), "{error}");
    let asked = server.requests_to("/token").len();
    cli.run(&["token", "shop"]).expect_code(6);
    assert_eq!(
        server.requests_to("/token").len(),
        asked,
        "the server is hammered"
    );
}

#[test]
fn a_refused_refresh_token_calls_for_the_user_and_is_kept() {
    let (cli, server) = authorized_shop(|config| config, 3600);
    let sealed = std::fs::metadata(cli.directory().join("shop.tokens")).expect("the tokens");
    server.answer("/token", Answer::refusal(400, "invalid_grant"));
    let error = cli
        .run(&["refresh", "shop", "--json"])
        .expect_code(4)
        .error();
    assert_eq!(text(&error, "kind"), "reauthorization_required");
    assert_eq!(text(&error, "code"), "invalid_grant");
    assert_eq!(cli.status("shop")["state"], "error");
    let kept = std::fs::metadata(cli.directory().join("shop.tokens")).expect("the tokens");
    assert!(kept.len() >= sealed.len(), "the credential was thrown away");

    let begun = begin(&cli, "shop");
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    cli.run(&["complete", "shop", &begun.success()])
        .expect_code(0);
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(2));
}

/// Shows: RFC 6749 section 6.
#[test]
fn a_response_without_a_refresh_token_keeps_the_old_one() {
    let (cli, server) = authorized_shop(|config| config, 3600);
    for number in [2, 3] {
        let mut response = tokens(number, 3600);
        response
            .as_object_mut()
            .map(|members| members.remove("refresh_token"));
        server.answer("/token", Answer::json(200, &response));
        cli.run(&["refresh", "shop"]).expect_code(0);
    }
    for renewal in &server.requests_to("/token")[1..] {
        assert_eq!(only(&renewal.form(), "refresh_token"), refresh_token(1));
    }
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(3));
}

#[test]
fn an_outage_while_the_token_is_valid_goes_unnoticed() {
    let (cli, server) = authorized_shop(|config| config, 30);
    server.answer("/token", Answer::html(500));
    eventually("an attempt to renew", || {
        // At most half of the lifetime can be asked for.
        let arguments = ["token", "shop", "--json", "--min-validity", "15"];
        let token = cli.run(&arguments).expect_code(0).json();
        assert_eq!(text(&token, "access_token"), access_token(1));
        (server.requests_to("/token").len() > 1).then_some(())
    });
}
