//! The authorization code grant, and what becomes of the token, against the
//! real server.

use serde_json::json;
use tokenwell_tests::{
    Browser, Cli, Decision, Lifetimes, OidcProvider, eventually, keepsake, query_parameter,
};

use crate::support::{Begun, authorized_web, begin, text, web_config, with};

/// A native application at the server, with a listener on a port of its own.
fn native(provider: &OidcProvider) -> Cli {
    let cli = Cli::new();
    let config = json!({
        "issuer": provider.issuer(),
        "client_id": "native",
        "scope": "openid api:read",
    });
    cli.create("app", &config).expect_code(0);
    cli
}

/// Shows: RFC 6749 section 4.1.
/// Shows: RFC 6749 section 6.
/// Shows: RFC 8252.
#[test]
fn a_user_authorizes_in_the_browser_and_the_token_stays_fresh_from_then_on() {
    let lifetimes = Lifetimes {
        access_token: Some(3),
        ..Lifetimes::default()
    };
    let Some(provider) = OidcProvider::start(lifetimes) else {
        return;
    };
    let Some(browser) = Browser::find() else {
        return;
    };
    let cli = native(&provider);

    let mut call = cli.start(&["authorize", "app", "--no-browser", "--json"]);
    let begun = Begun::from_line(&call.next_json());
    assert!(
        begun.redirect_uri.starts_with("http://127.0.0.1:"),
        "{}",
        begun.redirect_uri
    );
    assert_eq!(
        query_parameter(&begun.authorization_url, "code_challenge_method"),
        "S256"
    );
    let picture = keepsake("authorized.png");
    let page = browser.decide(&begun.authorization_url, Decision::Consent, Some(&picture));
    assert!(page.text.starts_with("Authorized"), "{}", page.text);
    assert!(page.text.to_lowercase().contains("close"), "{}", page.text);
    call.finish().expect_code(0);

    let first = cli.token("app");
    let renewed = eventually("a token other than the first", || {
        Some(cli.token("app")).filter(|token| token["access_token"] != first["access_token"])
    });
    assert_eq!(renewed["refreshable"], true);
    assert_eq!(cli.status("app")["state"], "authorized");
    cli.run(&["refresh", "app"]).expect_code(0);

    let requests = provider.requests_to("/token");
    let (code, renewals) = requests.split_first().expect("a token request");
    assert_eq!(code.parameter("grant_type"), "authorization_code");
    assert_eq!(code.parameter("redirect_uri"), begun.redirect_uri);
    assert_eq!(code.parameter("client_id"), "native");
    let issued: Vec<_> = requests
        .iter()
        .map(|request| request.issued("access_token"))
        .collect();
    assert!(
        issued.contains(&first["access_token"].as_str()),
        "not one of the server's"
    );
    assert!(
        issued.contains(&renewed["access_token"].as_str()),
        "not one of the server's"
    );
    assert!(renewals.len() >= 2);
    let mut current = code.issued("refresh_token");
    assert!(current.is_some(), "offline access was not asked for");
    for renewal in renewals {
        assert_eq!(renewal.parameter("grant_type"), "refresh_token");
        assert_eq!(Some(renewal.parameter("refresh_token")), current);
        assert_ne!(
            renewal.issued("refresh_token"),
            current,
            "the server does not rotate"
        );
        current = renewal.issued("refresh_token");
    }
}

#[test]
fn the_page_that_the_user_is_left_with_loads_nothing_and_leaks_nothing() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let Some(browser) = Browser::find() else {
        return;
    };
    let cli = native(&provider);
    let mut call = cli.start(&["authorize", "app", "--no-browser", "--json"]);
    let begun = Begun::from_line(&call.next_json());
    let page = browser.decide(&begun.authorization_url, Decision::Consent, None);
    call.finish().expect_code(0);
    assert!(!page.title.is_empty());
    assert_eq!(page.elsewhere, Vec::<String>::new());
    let header = |name: &str| {
        page.headers
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    };
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("cache-control"), "no-store");
    assert!(header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(header("set-cookie"), "");
}

/// Shows: RFC 6749 section 4.1.2.1.
#[test]
fn a_user_who_denies_is_told_so_and_so_is_the_caller() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let Some(browser) = Browser::find() else {
        return;
    };
    let cli = native(&provider);
    let mut call = cli.start(&["authorize", "app", "--no-browser", "--json"]);
    let begun = Begun::from_line(&call.next_json());
    let picture = keepsake("denied.png");
    let page = browser.decide(&begun.authorization_url, Decision::Deny, Some(&picture));
    assert!(page.text.starts_with("Not authorized"), "{}", page.text);
    assert!(page.text.contains("access_denied"), "{}", page.text);
    let error = call.finish().expect_code(5).error();
    assert_eq!(
        (text(&error, "kind"), text(&error, "code")),
        ("denied", "access_denied")
    );
    assert!(provider.requests_to("/token").is_empty());
    cli.run(&["token", "app"]).expect_code(4);
}

/// Shows: RFC 6749 section 4.1.
#[test]
fn one_process_begins_another_completes_and_a_third_has_the_token() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let cli = Cli::new();
    cli.create("web", &web_config(&provider)).expect_code(0);
    assert_eq!(cli.status("web")["state"], "not_authorized");

    let begun = begin(&cli, "web");
    assert_eq!(begun.redirect_uri, "https://client.example/oauth2");
    let redirect = provider.decide(&begun.authorization_url, Decision::Consent);
    cli.run(&["complete", "web", &redirect]).expect_code(0);
    let token = cli.token("web");

    assert_eq!(text(&token, "token_type"), "Bearer");
    assert!(provider.is_active(text(&token, "access_token")));
    assert!(
        text(&token, "scope")
            .split(' ')
            .any(|scope| scope == "api:read"),
        "{token}"
    );
    assert!(token["expires_at"].is_u64(), "{token}");
    assert_eq!(cli.status("web")["state"], "authorized");
}

#[test]
fn a_confidential_client_can_authenticate_in_the_body() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let cli = Cli::new();
    let fields = json!({
        "client_id": "web-post",
        "client_secret": "web-post-secret-91ab",
        "token_endpoint_auth_method": "client_secret_post",
    });
    cli.create("web", &with(web_config(&provider), fields))
        .expect_code(0);
    let begun = begin(&cli, "web");
    let redirect = provider.decide(&begun.authorization_url, Decision::Consent);
    cli.run(&["complete", "web", &redirect]).expect_code(0);
    let requests = provider.requests_to("/token");
    assert_eq!(
        requests[0].parameter("client_secret"),
        "web-post-secret-91ab"
    );
    assert!(!requests[0].headers.contains_key("authorization"));
}

#[test]
fn a_denial_that_is_pasted_is_told() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let cli = Cli::new();
    cli.create("web", &web_config(&provider)).expect_code(0);
    let begun = begin(&cli, "web");
    let redirect = provider.decide(&begun.authorization_url, Decision::Deny);
    let error = cli
        .run(&["complete", "web", &redirect, "--json"])
        .expect_code(5)
        .error();
    assert_eq!(
        (text(&error, "kind"), text(&error, "code")),
        ("denied", "access_denied")
    );
}

#[test]
fn a_code_that_has_expired_is_refused_by_the_server_and_told() {
    let lifetimes = Lifetimes {
        authorization_code: Some(1),
        ..Lifetimes::default()
    };
    let Some(provider) = OidcProvider::start(lifetimes) else {
        return;
    };
    let cli = Cli::new();
    cli.create("web", &web_config(&provider)).expect_code(0);
    let begun = begin(&cli, "web");
    let redirect = provider.decide(&begun.authorization_url, Decision::Consent);
    // The code is opaque and cannot be asked for; only its lifetime tells.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let error = cli
        .run(&["complete", "web", &redirect, "--json"])
        .expect_code(5)
        .error();
    assert_eq!(
        (text(&error, "kind"), text(&error, "code")),
        ("refused", "invalid_grant")
    );
    assert_eq!(provider.requests_to("/token").len(), 1);
}

/// Shows: RFC 7009.
#[test]
fn revoking_tells_the_server_and_forgets_the_token() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let cli = authorized_web(&provider);
    let token = cli.token("web");
    let issued = provider.requests_to("/token").remove(0);
    cli.run(&["revoke", "web"]).expect_code(0);

    let revoked: Vec<_> = provider
        .requests_to("/token/revocation")
        .iter()
        .map(|request| request.parameter("token").to_owned())
        .collect();
    let refresh_token = issued.issued("refresh_token").expect("a refresh token");
    assert!(
        revoked.iter().any(|token| token == refresh_token),
        "the refresh token is not revoked"
    );
    assert!(!provider.is_active(text(&token, "access_token")));
    assert!(!provider.is_active(refresh_token));
    assert_eq!(cli.status("web")["state"], "not_authorized");
    cli.run(&["token", "web"]).expect_code(4);
}

#[test]
fn clearing_forgets_the_token_and_tells_nobody() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let cli = authorized_web(&provider);
    let token = cli.token("web");
    provider.forget_requests();
    cli.run(&["clear", "web"]).expect_code(0);
    assert_eq!(cli.status("web")["state"], "not_authorized");
    cli.run(&["token", "web"]).expect_code(4);
    assert!(provider.requests().is_empty());
    assert!(provider.is_active(text(&token, "access_token")));
    cli.run(&["show", "web"]).expect_code(0);
}

#[test]
fn history_tells_what_happened_and_why() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let cli = authorized_web(&provider);
    cli.run(&["refresh", "web"]).expect_code(0);
    let history = cli.run(&["history", "web", "--json"]).expect_code(0).json();
    let events = history.as_array().expect("history is a list");
    let kinds: Vec<_> = events.iter().map(|event| text(event, "kind")).collect();
    assert!(kinds.contains(&"authorized"), "{kinds:?}");
    let renewed = events.iter().find(|event| text(event, "kind") == "renewed");
    let renewed = renewed.unwrap_or_else(|| panic!("no renewal in {history}"));
    assert!(
        text(renewed, "message").contains("a renewal was asked for"),
        "{renewed}"
    );
    let status = cli.status("web");
    assert_eq!(status["last_renewal"]["reason"], "requested", "{status}");
}

/// Shows: RFC 6750.
#[test]
fn a_request_carries_the_token() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let cli = authorized_web(&provider);
    let token = cli.token("web");
    let answer = cli
        .run(&["request", "web", &provider.url("/me")])
        .expect_code(0)
        .json();
    assert_eq!(text(&answer, "sub"), "alice");
    let seen = provider.requests_to("/me");
    assert_eq!(seen.len(), 1);
    let expected = format!("Bearer {}", text(&token, "access_token"));
    assert_eq!(seen[0].headers["authorization"], expected);
}

/// Shows: RFC 6750.
#[test]
fn a_request_that_is_refused_as_invalid_token_is_sent_once_more_with_a_new_one() {
    let Some(provider) = OidcProvider::start(Lifetimes::default()) else {
        return;
    };
    let cli = authorized_web(&provider);
    let first = cli.token("web");
    provider.invalidate(text(&first, "access_token"));
    provider.forget_requests();

    let answer = cli
        .run(&["request", "web", &provider.url("/me")])
        .expect_code(0)
        .json();
    assert_eq!(text(&answer, "sub"), "alice");
    let seen: Vec<_> = provider
        .requests_to("/me")
        .iter()
        .map(|request| request.status)
        .collect();
    assert_eq!(seen, [Some(401), Some(200)]);
    assert_eq!(provider.requests_to("/token").len(), 1);
    assert_eq!(cli.status("web")["last_renewal"]["reason"], "rejected");
}
