//! Answers of servers without a dialect.

use super::*;

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    Response {
        status,
        headers: headers
            .iter()
            .map(|&(n, v)| (n.to_owned(), v.to_owned()))
            .collect(),
        body: body.as_bytes().to_vec(),
        arrived_at: Timestamp::from_seconds(784_111_777),
    }
}

fn read(response: &Response) -> Result<TokenResponse, Failure> {
    super::read(response, &Dialect::default(), &[])
}

fn ok(body: &str) -> TokenResponse {
    read(&response(200, &[], body)).expect("a token")
}

/// Shows: RFC 6749 section 5.1.
#[test]
fn the_rfc_6749_example_is_read() {
    // RFC 6749 section 5.1.
    let token = ok(
        r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"example","expires_in":3600,
            "refresh_token":"tGzv3JOkF0XG5Qx2TlKWIA","example_parameter":"example_value"}"#,
    );
    assert_eq!(token.access_token.reveal(), "2YotnFZFEjr1zCsicMWpAA");
    assert_eq!(token.token_type, "example");
    assert_eq!(token.lifetime_millis, Some(3_600_000));
    assert_eq!(
        token.refresh_token.expect("one").reveal(),
        "tGzv3JOkF0XG5Qx2TlKWIA"
    );
    assert_eq!((token.scope, token.quirks.len()), (None, 0));
    assert!(token.raw.reveal().contains("example_value"));
}

#[test]
fn what_is_said_to_be_no_access_token_is_not_taken_for_a_bearer_token() {
    // RFC 8693 section 2.2.1.
    for (issued, taken) in [
        ("urn:ietf:params:oauth:token-type:access_token", "Bearer"),
        ("urn:ietf:params:oauth:token-type:jwt", "Bearer"),
        ("urn:ietf:params:oauth:token-type:refresh_token", "N_A"),
        ("urn:ietf:params:oauth:token-type:saml2", "N_A"),
    ] {
        let body = format!(r#"{{"access_token":"a","issued_token_type":"{issued}"}}"#);
        assert_eq!(ok(&body).token_type, taken, "{issued}");
        let body = body.replacen('{', r#"{"token_type":"Bearer","#, 1);
        assert_eq!(ok(&body).token_type, "Bearer", "{issued}");
    }
}

#[test]
fn the_lifetime_is_read_in_every_way_that_servers_write_it() {
    for (written, read, odd) in [
        ("3600", Some(3_600_000), false),
        ("3600.5", Some(3_600_500), false),
        ("\"3600\"", Some(3_600_000), true),
        ("\" 3600 \"", Some(3_600_000), true),
        ("\"3600.9\"", Some(3_600_000), true),
        ("null", None, false),
        ("0", None, true),
        ("-1", None, true),
        ("\"soon\"", None, true),
        ("false", None, true),
        ("{}", None, true),
        ("1e300", Some(3_153_600_000_000), false),
    ] {
        let token = ok(&format!(
            r#"{{"access_token":"a","token_type":"Bearer","expires_in":{written}}}"#
        ));
        assert_eq!(token.lifetime_millis, read, "{written}");
        assert_eq!(
            !token.quirks.is_empty(),
            odd,
            "{written}: {:?}",
            token.quirks
        );
    }
}

#[test]
fn a_form_is_read_like_json() {
    let token = ok("access_token=a&token_type=bearer&expires_in=60&scope=x+y");
    assert_eq!(token.lifetime_millis, Some(60_000));
    assert_eq!(token.scope, Some(vec!["x".to_owned(), "y".to_owned()]));
    assert_eq!(token.quirks, ["the response was a form, not JSON"]);
}

#[test]
fn a_missing_token_type_is_bearer() {
    let token = ok(r#"{"access_token":"a"}"#);
    assert_eq!(
        (token.token_type.as_str(), token.quirks.len()),
        ("Bearer", 1)
    );
}

#[test]
fn an_array_of_scopes_is_read() {
    let token = ok(r#"{"access_token":"a","token_type":"Bearer","scope":["x","y"]}"#);
    assert_eq!(token.scope, Some(vec!["x".to_owned(), "y".to_owned()]));
}

#[test]
fn an_empty_refresh_token_is_none() {
    for written in ["\"\"", "null", "false"] {
        let token = ok(&format!(
            r#"{{"access_token":"a","token_type":"Bearer","refresh_token":{written}}}"#
        ));
        assert_eq!(token.refresh_token, None, "{written}");
    }
}

/// Shows: RFC 6749 section 5.2.
#[test]
fn an_error_is_a_refusal_whatever_its_status_below_500() {
    for status in [200, 400, 401, 403] {
        let body = r#"{"error":"invalid_grant","error_description":"gone"}"#;
        let Err(Failure::Refused(error)) = read(&response(status, &[], body)) else {
            panic!("{status}");
        };
        assert_eq!(
            (error.code.as_str(), error.http_status),
            ("invalid_grant", Some(status))
        );
    }
}

#[test]
fn a_server_that_repeats_a_secret_is_not_repeated() {
    let body = r#"{"error":"invalid_grant","error_description":"Invalid refresh token: r-123"}"#;
    let secrets = [SecretString::new("r-123")];
    let Err(Failure::Refused(error)) =
        super::read(&response(400, &[], body), &Dialect::default(), &secrets)
    else {
        panic!("accepted");
    };
    assert_eq!(
        error.description.as_deref(),
        Some("Invalid refresh token: ***")
    );
}

#[test]
fn an_outage_is_never_a_refusal() {
    for (status, body) in [
        (500, ""),
        (500, r#"{"error":"invalid_grant"}"#),
        (502, "<html>Bad gateway</html>"),
        (503, r#"{"error":"temporarily_unavailable"}"#),
        (429, r#"{"error":"invalid_request"}"#),
        (400, r#"{"error":"temporarily_unavailable"}"#),
        (400, r#"{"error":{"message":"oops"}}"#),
        (400, ""),
        (403, "<html>blocked</html>"),
        (404, "not found"),
    ] {
        let read = read(&response(status, &[], body));
        assert!(
            matches!(read, Err(Failure::Transient { .. })),
            "{status} {body}: {read:?}"
        );
    }
}

#[test]
fn what_is_no_answer_of_a_token_endpoint_is_a_violation() {
    for (status, body, says) in [
        (200, "<html>welcome</html>", "HTML"),
        (200, r#"{"access_token":"a","#, "broken off"),
        (200, "", "nothing"),
        (200, "[]", "neither JSON nor a form"),
        (200, "{}", "no access_token"),
        (200, r#"{"access_token":7}"#, "no access_token"),
        (302, "", "redirect"),
    ] {
        let read = read(&response(
            status,
            &[("location", "https://x.example/?a=b")],
            body,
        ));
        let Err(Failure::Violation(violation)) = read else {
            panic!("{body}: {read:?}");
        };
        assert!(violation.message.contains(says), "{}", violation.message);
        assert!(
            !violation.message.contains("a=b"),
            "the query may hold anything"
        );
    }
}

#[test]
fn retry_after_is_obeyed_in_seconds_and_as_a_date_up_to_an_hour() {
    for (value, wait) in [
        ("120", Some(120_000)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60_000)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("999999999", Some(3_600_000)),
        ("soon", None),
    ] {
        let read = read(&response(503, &[("retry-after", value)], ""));
        let Err(Failure::Transient {
            retry_after_millis, ..
        }) = read
        else {
            panic!("{value}");
        };
        assert_eq!(retry_after_millis, wait, "{value}");
    }
}

#[test]
fn skew_is_measured_by_the_date_header() {
    let skew = |date| clock_skew_millis(&response(200, &[("date", date)], ""));
    assert_eq!(skew("Sun, 06 Nov 1994 08:49:38 GMT"), 0);
    assert_eq!(skew("Sun, 06 Nov 1994 08:50:37 GMT"), 60_000);
    assert_eq!(skew("Sun, 06 Nov 1994 08:48:37 GMT"), -60_000);
    assert_eq!(skew("nonsense"), 0);
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let body = format!("{{\"access_token\":{}", "[".repeat(100_000));
    assert!(matches!(
        read(&response(200, &[], &body)),
        Err(Failure::Violation(_))
    ));
}
