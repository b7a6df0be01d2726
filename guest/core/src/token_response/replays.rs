//! Answers in the shapes that providers document, read by their dialects; and
//! what must hold for every dialect and any bytes.

use super::*;
use crate::config::{Config, parse};
use crate::http::Response;
use crate::provider;

/// The dialect of a provider, its parameters filled in.
fn dialect(id: &str) -> Dialect {
    let parameters = match id {
        "plentymarkets" | "fiserv" => r#"{"host": "x.example"}"#,
        "sentry-integration" => r#"{"installation": "01234567-89ab-cdef-0123-456789abcdef"}"#,
        "netsuite" => r#"{"account": "123"}"#,
        "keycloak" => r#"{"host": "x.example", "realm": "r"}"#,
        "ebay" => r#"{"ru_name": "Ru_Name"}"#,
        "amazon-selling-partner" => r#"{"application_id": "amzn1.sp.1"}"#,
        _ => "{}",
    };
    let text = format!(r#"{{"provider": "{id}", "client_id": "id", "parameters": {parameters}}}"#);
    let config: Config = parse(&text).expect("well-formed");
    provider::dialect(&config).expect(id)
}

fn response(status: u16, body: &[u8]) -> Response {
    Response {
        status,
        headers: Vec::new(),
        body: body.to_vec(),
        arrived_at: Timestamp::from_seconds(1_700_000_000),
    }
}

fn answer(id: &str, status: u16, body: &str) -> Result<TokenResponse, Failure> {
    read(&response(status, body.as_bytes()), &dialect(id), &[])
}

fn token(id: &str, body: &str) -> TokenResponse {
    answer(id, 200, body).unwrap_or_else(|failure| panic!("{id}: {failure:?}"))
}

fn refused(id: &str, status: u16, body: &str) -> (String, Option<String>) {
    match answer(id, status, body) {
        Err(Failure::Refused(error)) => (error.code, error.description),
        other => panic!("{id}: {other:?}"),
    }
}

fn refresh(token: &TokenResponse) -> Option<&str> {
    token.refresh_token.as_ref().map(SecretString::reveal)
}

fn scope(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|&word| word.to_owned()).collect())
}

#[test]
fn an_error_with_the_status_200_is_one_and_gets_its_registered_name() {
    // Known deviation 1.
    let body = r#"{"error":"bad_verification_code","error_description":"The code passed is incorrect or expired."}"#;
    let (code, description) = refused("github", 200, body);
    assert_eq!(code, "invalid_grant");
    assert_eq!(
        description.as_deref(),
        Some("The code passed is incorrect or expired.")
    );
}

#[test]
fn the_name_that_the_server_gave_an_error_is_kept_as_its_description() {
    let (code, description) = refused("github", 200, r#"{"error":"bad_refresh_token"}"#);
    assert_eq!(
        (code.as_str(), description.as_deref()),
        ("invalid_grant", Some("bad_refresh_token"))
    );
}

#[test]
fn a_form_is_read_whatever_type_it_claims() {
    // Known deviations 2 and 16.
    let token = token("stackexchange", "access_token=a&expires=86400");
    assert_eq!(token.lifetime_millis, Some(86_400_000));
}

#[test]
fn a_lifetime_as_a_string_is_read() {
    // Known deviation 3.
    let body =
        r#"{"access_token":"a","token_type":"bearer","expires_in":"3600","refresh_token":"r"}"#;
    assert_eq!(token("netsuite", body).lifetime_millis, Some(3_600_000));
}

#[test]
fn a_response_without_a_lifetime_has_none_and_keeps_what_callers_need() {
    // Known deviation 4.
    let body = r#"{"access_token":"a","token_type":"Bearer","instance_url":"https://x.my.salesforce.com"}"#;
    let token = token("salesforce", body);
    assert_eq!(token.lifetime_millis, None);
    assert!(token.raw.reveal().contains("instance_url"));
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn success_is_where_the_marker_says_so() {
    // Known deviation 5.
    let body = r#"{"ok":true,"access_token":"xoxb-1","token_type":"bot","scope":"chat:write,channels:read","authed_user":{"id":"U","access_token":"xoxp-1"}}"#;
    let token = token("slack", body);
    assert_eq!(token.access_token.reveal(), "xoxb-1");
    assert_eq!(token.scope, scope(&["chat:write", "channels:read"]));
    assert_eq!(
        refused("slack", 200, r#"{"ok":false,"error":"invalid_code"}"#).0,
        "invalid_grant"
    );
    assert_eq!(refused("slack", 200, r#"{"ok":false}"#).0, "false");
}

#[test]
fn a_token_is_found_inside_the_response() {
    // Known deviation 5, the user's token.
    let body = r#"{"ok":true,"access_token":"xoxe.xoxb-1","token_type":"bot","refresh_token":"bot-r","authed_user":{"id":"U","scope":"search:read","access_token":"xoxe.xoxp-1","refresh_token":"user-r","expires_in":43200,"token_type":"user"}}"#;
    let token = token("slack-user", body);
    assert_eq!(token.access_token.reveal(), "xoxe.xoxp-1");
    assert_eq!(refresh(&token), Some("user-r"));
    assert_eq!(token.lifetime_millis, Some(43_200_000));
    assert_eq!(token.scope, scope(&["search:read"]));
    assert!(
        token
            .quirks
            .iter()
            .any(|quirk| quirk.contains("access_token at authed_user.access_token"))
    );
    // A refresh brings it where the bot's would be.
    let refreshed = r#"{"ok":true,"access_token":"xoxe.xoxp-2","token_type":"user","refresh_token":"user-r2","expires_in":43200,"scope":"search:read"}"#;
    let token = self::token("slack-user", refreshed);
    assert_eq!(token.access_token.reveal(), "xoxe.xoxp-2");
    assert_eq!(refresh(&token), Some("user-r2"));
    assert_eq!(token.lifetime_millis, Some(43_200_000));
}

#[test]
fn a_refused_refresh_is_told_by_its_description_or_number() {
    for (provider, body) in [
        (
            "deviantart",
            r#"{"error":"invalid_request","error_description":"The refresh_token is invalid.","status":"error"}"#,
        ),
        (
            "douban",
            r#"{"code":119,"msg":"refresh_token_has_expired"}"#,
        ),
    ] {
        assert_eq!(
            refused(provider, 400, body).0,
            "invalid_grant",
            "{provider}"
        );
    }
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn a_response_in_a_wrapper_is_taken_out_of_it() {
    // Known deviation 20.
    let body = r#"{"code":0,"message":"OK","request_id":"1","data":{"access_token":"a","scope":[4],"advertiser_ids":["7"]}}"#;
    let token = token("tiktok-ads", body);
    assert_eq!(token.access_token.reveal(), "a");
    assert!(
        token
            .quirks
            .contains(&"The token response is wrapped in data.".to_owned())
    );
    let (code, description) = refused(
        "tiktok-ads",
        200,
        r#"{"code":40105,"message":"Access token is incorrect or has been revoked.","data":{}}"#,
    );
    assert_eq!(code, "40105");
    assert!(description.expect("a description").contains("revoked"));
}

#[test]
fn scopes_with_commas_are_taken_apart() {
    let body = r#"{"access_token":"a","token_type":"Bearer","scope":"user.info.basic,video.list","expires_in":86400,"refresh_token":"r","refresh_expires_in":31536000,"open_id":"o"}"#;
    let tiktok = token("tiktok", body);
    assert_eq!(tiktok.scope, scope(&["user.info.basic", "video.list"]));
    assert_eq!(tiktok.refresh_lifetime_millis, Some(31_536_000_000));
    let github = r#"{"access_token":"a","scope":"repo,gist","token_type":"bearer"}"#;
    assert_eq!(token("github", github).scope, scope(&["repo", "gist"]));
}

#[test]
fn scopes_in_an_array_and_errors_without_a_name_are_read() {
    // Known deviation 21.
    let body = r#"{"access_token":"a","expires_in":14124,"refresh_token":"r","scope":["channel:moderate","chat:edit"],"token_type":"bearer"}"#;
    assert_eq!(
        token("twitch", body).scope,
        scope(&["channel:moderate", "chat:edit"])
    );
    let error = r#"{"error":"Bad Request","status":400,"message":"Invalid refresh token"}"#;
    assert_eq!(refused("twitch", 400, error).0, "invalid_grant");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn numbered_errors_get_their_registered_names() {
    // Known deviation 22.
    let body = r#"{"errcode":40029,"errmsg":"invalid code"}"#;
    let (code, description) = refused("wechat", 200, body);
    assert_eq!(
        (code.as_str(), description.as_deref()),
        ("invalid_grant", Some("invalid code"))
    );
    let busy = answer("wechat", 200, r#"{"errcode":-1,"errmsg":"system error"}"#);
    assert!(matches!(busy, Err(Failure::Transient { .. })), "{busy:?}");
    let good = r#"{"access_token":"a","expires_in":7200,"refresh_token":"r","openid":"o","scope":"snsapi_login"}"#;
    assert_eq!(token("wechat", good).token_type, "Bearer");
}

#[test]
fn a_missing_token_type_is_bearer_for_all() {
    // Known deviation 23.
    for id in ["weibo", "douban", "vk"] {
        let token = token(id, r#"{"access_token":"a","expires_in":3600}"#);
        assert_eq!(token.token_type, "Bearer", "{id}");
    }
}

#[test]
fn a_token_type_with_another_name_is_bearer() {
    // Known deviation 24.
    let body = r#"{"access_token":"v^1.1 #i","expires_in":7200,"refresh_token":"r","refresh_token_expires_in":47304000,"token_type":"User Access Token"}"#;
    let token = token("ebay", body);
    assert_eq!(
        (token.token_type.as_str(), token.access_token.reveal()),
        ("Bearer", "v^1.1 #i")
    );
    assert_eq!(token.refresh_lifetime_millis, Some(47_304_000_000));
}

#[test]
fn an_error_in_an_array_is_found() {
    // Known deviation 25.
    let body = r#"{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid: x."}],"success":false}"#;
    let (code, description) = refused("fitbit", 400, body);
    assert_eq!(
        (code.as_str(), description.as_deref()),
        ("invalid_grant", Some("Refresh token invalid: x."))
    );
}

#[test]
fn a_refresh_token_that_is_no_longer_good_is_told_in_every_way_that_servers_have() {
    for (id, status, body) in [
        (
            "threads",
            400,
            r#"{"error":{"message":"Error validating access token: Session has expired","type":"OAuthException","code":190}}"#,
        ),
        (
            "instagram",
            400,
            r#"{"error":{"message":"Session key invalid","type":"OAuthException","code":190}}"#,
        ),
        (
            "strava",
            400,
            r#"{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}"#,
        ),
        (
            "hubspot",
            400,
            r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token","correlationId":"1"}"#,
        ),
        (
            "atlassian",
            403,
            r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#,
        ),
        (
            "x",
            400,
            r#"{"error":"invalid_request","error_description":"Value passed for the token was invalid."}"#,
        ),
    ] {
        assert_eq!(refused(id, status, body).0, "invalid_grant", "{id}");
    }
    let other = r#"{"error":"invalid_request","error_description":"Missing required parameter."}"#;
    assert_eq!(refused("x", 400, other).0, "invalid_request");
    let busy = r#"{"error":{"message":"Service temporarily unavailable","type":"OAuthException","code":2}}"#;
    let busy = answer("threads", 400, busy);
    assert!(matches!(busy, Err(Failure::Transient { .. })), "{busy:?}");
    let code = r#"{"error_type":"OAuthException","code":400,"error_message":"Invalid authorization code"}"#;
    assert_eq!(
        refused("instagram", 400, code),
        (
            "OAuthException".to_owned(),
            Some("Invalid authorization code".to_owned())
        )
    );
}

#[test]
fn a_lifetime_of_0_is_none() {
    // Known deviation 26.
    let token = token(
        "mailchimp",
        r#"{"access_token":"a","expires_in":0,"scope":null}"#,
    );
    assert_eq!((token.lifetime_millis, token.scope), (None, None));
}

#[test]
fn names_in_camel_case_are_read() {
    // Known deviation 27.
    let token = token(
        "plentymarkets",
        r#"{"accessToken":"a","tokenType":"Bearer","expiresIn":86400,"refreshToken":"r"}"#,
    );
    assert_eq!(
        (token.access_token.reveal(), refresh(&token)),
        ("a", Some("r"))
    );
    assert_eq!(token.lifetime_millis, Some(86_400_000));
    assert!(!token.quirks.iter().any(|quirk| quirk.contains("missing")));
}

#[test]
fn an_expiry_as_a_date_with_the_status_201_is_read() {
    // Known deviation 28.
    let body = r#"{"id":"1","token":"a","refreshToken":"r","dateCreated":"2023-11-14T22:13:20.000Z","expiresAt":"2023-11-15T06:13:20.000000Z","state":null}"#;
    let token = answer("sentry-integration", 201, body).expect("a token");
    assert_eq!(
        (token.access_token.reveal(), refresh(&token)),
        ("a", Some("r"))
    );
    assert_eq!(token.lifetime_millis, Some(8 * 3_600_000));
}

#[test]
fn an_expiry_as_a_unix_time_is_read() {
    // Known deviation 29.
    let body = r#"{"access_token":"a","access_token_expiration":1700001800,"refresh_token":"r","refresh_token_expiration":1731536000}"#;
    let token = token("clover", body);
    assert_eq!(token.lifetime_millis, Some(1_800_000));
    assert_eq!(token.refresh_lifetime_millis, Some(31_536_000_000));
    assert!(
        token
            .quirks
            .contains(&"The expiry is told as unix and not in seconds.".to_owned())
    );
}

#[test]
fn an_expiry_as_a_unix_time_is_held_against_the_servers_clock() {
    let mut response = response(
        200,
        br#"{"access_token":"a","access_token_expiration":1700001800}"#,
    );
    // The host's clock is an hour ahead.
    response.arrived_at = Timestamp::from_seconds(1_700_003_600);
    response.headers = vec![(
        "date".to_owned(),
        "Tue, 14 Nov 2023 22:13:20 GMT".to_owned(),
    )];
    let token = read(&response, &dialect("clover"), &[]).expect("a token");
    assert_eq!(token.lifetime_millis, Some(1_800_000));
}

#[test]
fn a_lifetime_in_milliseconds_is_read() {
    // Known deviation 30.
    let body = r#"{"access_token":"a","token_type":"Bearer","expires_in":900000}"#;
    assert_eq!(token("fiserv", body).lifetime_millis, Some(900_000));
}

#[test]
fn a_result_that_says_success_needs_no_token_where_a_refresh_prolongs_it() {
    // Known deviation 42.
    let good = token(
        "coros",
        r#"{"expires_in":2592000,"refresh_token":"r","access_token":"a","openId":"o"}"#,
    );
    assert_eq!(good.access_token.reveal(), "a");
    assert!(
        token("coros", r#"{"result":"0000","message":"OK"}"#)
            .access_token
            .is_empty()
    );
    let (code, description) = refused("coros", 200, r#"{"result":"5005","message":"invalid"}"#);
    assert_eq!(
        (code.as_str(), description.as_deref()),
        ("5005", Some("invalid"))
    );
}

#[test]
fn the_refresh_tokens_end_is_read_by_each_name() {
    // Known deviations 41 and 44.
    let body = r#"{"access_token":"a","token_type":"bearer","expires_in":7200,"refresh_token":"r","refresh_expires_in":28800}"#;
    for id in ["epic-games", "keycloak"] {
        assert_eq!(
            token(id, body).refresh_lifetime_millis,
            Some(28_800_000),
            "{id}"
        );
    }
    let intuit = r#"{"access_token":"a","token_type":"bearer","expires_in":3600,"refresh_token":"r","x_refresh_token_expires_in":8726400}"#;
    assert_eq!(
        token("quickbooks", intuit).refresh_lifetime_millis,
        Some(8_726_400_000)
    );
}

#[test]
fn where_the_access_token_is_refreshed_it_is_its_own_refresh_token() {
    // Known deviation 19.
    let token = token(
        "threads",
        r#"{"access_token":"long","token_type":"bearer","expires_in":5183944}"#,
    );
    assert_eq!(refresh(&token), Some("long"));
}

#[test]
fn an_error_that_is_declared_elsewhere_does_not_hide_a_token() {
    let body = r#"{"access_token":"a","token_type":"bearer","message":"welcome"}"#;
    assert_eq!(token("twitch", body).access_token.reveal(), "a");
}

/// A number drawn anew each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0)
    }

    fn choose<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.next() % from.len()]
    }
}

fn dialects() -> Vec<Dialect> {
    // As they are, placeholders and all: more than any config would bring.
    provider::all()
        .map(|provider| provider.entry)
        .chain([Dialect::default()])
        .collect()
}

/// A body of names and values that some dialect gives a meaning to.
fn body(noise: &mut Noise) -> String {
    let names = [
        "access_token",
        "token",
        "accessToken",
        "token_type",
        "expires_in",
        "expiresAt",
        "expires",
        "access_token_expiration",
        "refresh_token",
        "refresh_expires_in",
        "refreshToken",
        "scope",
        "error",
        "errors",
        "errcode",
        "errmsg",
        "message",
        "code",
        "ok",
        "result",
        "status",
        "data",
        "body",
        "authed_user",
        "error_description",
        "id_token",
        "expires_at",
    ];
    let values = [
        "\"a\"",
        "\"\"",
        "\"Bearer\"",
        "3600",
        "0",
        "-1",
        "1e300",
        "1700001800",
        "\"3600\"",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        "[\"x\",\"y\"]",
        "\"x,y z\"",
        "\"0000\"",
        "\"invalid_grant\"",
        "\"2023-11-15T06:13:20Z\"",
        "[{\"errorType\":\"x\",\"message\":7}]",
        "40029",
        "{\"access_token\":\"in\",\"expires_in\":60,\"scope\":\"p,q\"}",
    ];
    let count = noise.next() % 9;
    let members: Vec<_> = (0..count)
        .map(|_| format!("\"{}\":{}", noise.choose(&names), noise.choose(&values)))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn what_is_accepted_is_given_back_the_same() {
    let mut noise = Noise(7);
    let dialects = dialects();
    let mut accepted = 0;
    for round in 0..20_000 {
        let dialect = &dialects[round % dialects.len()];
        let Ok(first) = read(&response(200, body(&mut noise).as_bytes()), dialect, &[]) else {
            continue;
        };
        if first.access_token.is_empty() {
            continue;
        }
        accepted += 1;
        let mut standard = Object::new();
        let mut put = |name: &str, value: Option<Value>| {
            standard.extend(value.map(|value| (name.to_owned(), value)));
        };
        put(
            "access_token",
            Some(Value::from(first.access_token.reveal())),
        );
        put("token_type", Some(Value::from(first.token_type.as_str())));
        put("refresh_token", refresh(&first).map(Value::from));
        put(
            "scope",
            first
                .scope
                .as_ref()
                .map(|scope| Value::from(scope.join(" "))),
        );
        put(
            "id_token",
            first
                .id_token
                .as_ref()
                .map(|token| Value::from(token.reveal())),
        );
        let seconds = |millis: u64| Value::from(millis as f64 / 1000.0);
        put("expires_in", first.lifetime_millis.map(seconds));
        put(
            "refresh_expires_in",
            first.refresh_lifetime_millis.map(seconds),
        );
        let written = json::text(&Value::Object(standard));
        let second = read(&response(200, written.as_bytes()), &Dialect::default(), &[]);
        let second = second.unwrap_or_else(|failure| panic!("{written}: {failure:?}"));
        assert_eq!(second.quirks, Vec::<String>::new(), "{written}");
        let first_scope = first.scope.clone();
        assert_eq!(second.scope, first_scope, "{written}");
        let near = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(other) <= 1,
            (one, other) => one == other,
        };
        assert!(
            near(first.lifetime_millis, second.lifetime_millis),
            "{written}"
        );
        assert!(
            near(
                first.refresh_lifetime_millis,
                second.refresh_lifetime_millis
            ),
            "{written}"
        );
        assert_eq!(
            (
                first.access_token,
                first.token_type,
                first.refresh_token,
                first.id_token
            ),
            (
                second.access_token,
                second.token_type,
                second.refresh_token,
                second.id_token
            ),
        );
    }
    assert!(accepted > 500, "{accepted}");
}

#[test]
fn nothing_panics_on_any_bytes_in_any_dialect() {
    let mut noise = Noise(11);
    let dialects = dialects();
    for round in 0..20_000 {
        let dialect = &dialects[round % dialects.len()];
        let mut bytes = body(&mut noise).into_bytes();
        for _ in 0..noise.next() % 4 {
            if bytes.is_empty() {
                break;
            }
            let at = noise.next() % bytes.len();
            match noise.next() % 3 {
                0 => bytes[at] = noise.next() as u8,
                1 => bytes.truncate(at),
                _ => bytes.insert(at, noise.next() as u8),
            }
        }
        let status = [200, 201, 302, 400, 401, 429, 500][noise.next() % 7];
        drop(read(&response(status, &bytes), dialect, &[]));
    }
}
