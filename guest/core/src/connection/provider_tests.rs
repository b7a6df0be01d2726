//! The flows with providers of the catalogue: what goes out, in the provider's
//! own words, and what is made of its answers.

use super::fake::{Answer, FakePlatform, World, run};
use super::fake_keys;
use super::*;
use crate::authorization::Redirect;
use crate::base64::base64url;
use crate::error::{Unboxed as _, ViolationKind};
use crate::event::EventKind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;
use url::Url;

/// A connection to a provider, with what the test needs to drive it.
struct Flow {
    world: Rc<World>,
    connection: Connection<FakePlatform>,
}

impl Flow {
    fn open(provider: &str, further: &str) -> Self {
        Self::of_client(provider, r#""client_secret": "s e&c""#, further)
    }

    /// One of a client that has a key and no secret.
    fn with_key(provider: &str, further: &str) -> Self {
        Self::of_client(provider, r#""signing_key": {"ref": "key:ec"}"#, further)
    }

    fn of_client(provider: &str, credential: &str, further: &str) -> Self {
        let world = World::new();
        let config = format!(
            r#"{{"provider": "{provider}", "client_id": "id", {credential},
                "redirect_uri": "https://app.example/cb"{further}}}"#
        );
        let connection = world.open(&config);
        assert_eq!(
            crate::config::errors_in(connection.problems()),
            [],
            "{provider}"
        );
        Self { world, connection }
    }

    /// The authorization URL, and its parameters.
    fn begin(&self) -> (String, BTreeMap<String, String>) {
        let begun = run(self.connection.begin_authorization(&Default::default())).expect("begun");
        let url = Url::parse(&begun.authorization_url).expect("a URL");
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let map: BTreeMap<_, _> = pairs.iter().cloned().collect();
        assert_eq!(map.len(), pairs.len(), "a parameter is there twice: {url}");
        (begun.authorization_url, map)
    }

    fn complete(&self, query: &str) -> Result<()> {
        let redirect = Redirect::from_url(&format!("https://app.example/cb?{query}"));
        run(self
            .connection
            .complete_authorization(redirect.expect("a redirect")))
    }

    /// Authorizes with the code `c`; the token endpoint answers those.
    fn authorize(&self, further: &str, answers: &[&str]) {
        let (_, sent) = self.begin();
        for answer in answers {
            self.world.answer_with(Answer::status(200, answer));
        }
        self.complete(&format!("code=c&state={}{further}", sent["state"]))
            .expect("authorized");
    }

    fn refresh(&self, answer: &str) {
        self.world.answer_with(Answer::status(200, answer));
        run(self.connection.refresh()).expect("refreshed");
    }

    /// The parameters of the request before the last `back` ones.
    fn sent(&self, back: usize) -> BTreeMap<String, String> {
        let received = self.world.received.borrow();
        received[received.len() - 1 - back].form.clone()
    }

    fn url(&self, back: usize) -> String {
        let received = self.world.received.borrow();
        received[received.len() - 1 - back].url.clone()
    }

    fn header(&self, name: &str) -> Option<String> {
        let received = self.world.received.borrow();
        received
            .last()
            .and_then(|received| received.headers.get(name).cloned())
    }

    fn response(&self) -> Value {
        let raw = run(self.connection.response_json()).expect("a response");
        serde_json::from_str(raw.reveal()).expect("JSON")
    }

    fn token(&self) -> Token {
        run(self.connection.token(&TokenOptions::default())).expect("a token")
    }

    fn quirks(&self) -> Vec<String> {
        let history = run(self.connection.history())
            .expect("a history")
            .into_iter();
        let quirks = history.filter(|event| event.kind == EventKind::QuirkApplied);
        quirks.map(|event| event.message).collect()
    }
}

const GOOD: &str =
    r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r"}"#;

fn names(map: &BTreeMap<String, String>) -> Vec<&str> {
    map.keys().map(String::as_str).collect()
}

#[test]
fn offline_access_is_asked_for_by_parameters_and_a_prompt() {
    // Known deviations 6, 13 and 14.
    let (url, sent) = Flow::open("google", r#", "scope": "openid email""#).begin();
    assert!(
        url.starts_with("https://accounts.google.com/o/oauth2/v2/auth?"),
        "{url}"
    );
    assert_eq!(
        (sent["access_type"].as_str(), sent["prompt"].as_str()),
        ("offline", "consent")
    );
    assert_eq!(sent["scope"], "openid email");
    let (_, sent) = Flow::open("dropbox", "").begin();
    assert_eq!(sent["token_access_type"], "offline");
    let (_, sent) = Flow::open("reddit", "").begin();
    assert_eq!(sent["duration"], "permanent");
}

#[test]
fn offline_access_is_not_asked_for_where_it_is_not_wanted() {
    let (_, sent) = Flow::open("google", r#", "offline_access": false"#).begin();
    assert!(!sent.contains_key("access_type") && !sent.contains_key("prompt"));
    let (_, sent) = Flow::open("xero", r#", "offline_access": false, "scope": "openid""#).begin();
    assert_eq!(sent["scope"], "openid");
}

#[test]
fn a_parameter_set_by_hand_is_not_sent_a_second_time() {
    let further = r#", "authorization_parameters": {"access_type": "online"}"#;
    let (_, sent) = Flow::open("google", further).begin();
    assert_eq!(sent["access_type"], "online");
    let (_, sent) = Flow::open("atlassian", r#", "prompt": "login""#).begin();
    assert_eq!(sent["prompt"], "login");
}

#[test]
fn offline_access_is_asked_for_by_the_scope_that_the_provider_has_for_it() {
    // Known deviations 7, 8, 15 and 16.
    for (provider, scope) in [
        ("microsoft-entra", "x offline_access"),
        ("atlassian", "x offline_access"),
        ("whoop", "x offline"),
        ("typeform", "x offline"),
        ("stackexchange", "x,no_expiry"),
        ("salesforce", "x refresh_token"),
    ] {
        let (_, sent) = Flow::open(provider, r#", "scope": "x""#).begin();
        assert_eq!(sent["scope"], scope, "{provider}");
    }
}

#[test]
fn a_tenant_goes_into_every_url_and_a_refresh_names_the_scopes() {
    // Known deviation 7.
    let flow = Flow::open(
        "microsoft-entra",
        r#", "scope": "User.Read", "parameters": {"tenant": "contoso.com"}"#,
    );
    assert!(
        flow.begin()
            .0
            .starts_with("https://login.microsoftonline.com/contoso.com/oauth2/v2.0/authorize?")
    );
    flow.authorize("", &[GOOD]);
    assert_eq!(
        flow.url(0),
        "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"
    );
    assert!(!flow.sent(0).contains_key("scope"));
    flow.refresh(GOOD);
    assert_eq!(flow.sent(0)["scope"], "User.Read offline_access");
}

/// An id_token with those claims, signed with the key that [`publish_keys`] publishes.
fn id_token(claims: &Value) -> String {
    let part = |text: &str| base64url(text.as_bytes());
    let signed = format!(
        "{}.{}",
        part(r#"{"alg":"ES256"}"#),
        part(&claims.to_string())
    );
    let key = fake_keys::of_server("server-ec");
    let signature = fake_keys::sign(&key, "ES256", signed.as_bytes());
    format!("{signed}.{}", base64url(&signature.expect("a signature")))
}

fn publish_keys(flow: &Flow, place: &str) {
    let key = fake_keys::public(&fake_keys::of_server("server-ec"));
    let keys = json!({"keys": [key]}).to_string();
    let published = (place.to_owned(), keys);
    flow.world.documents.borrow_mut().extend([published]);
}

#[test]
fn the_issuer_of_an_id_token_may_differ_with_the_user() {
    // Known deviation 7.
    for (issuer, is_good) in [
        ("https://login.microsoftonline.com/t1/v2.0", true),
        ("https://login.microsoftonline.com/t2/v2.0", false),
        ("https://evil.example/t1/v2.0", false),
    ] {
        let flow = Flow::open("microsoft-entra", r#", "scope": "openid""#);
        let place = "https://login.microsoftonline.com/common/discovery/v2.0/keys";
        publish_keys(&flow, place);
        let (_, sent) = flow.begin();
        let id_token = id_token(&json!({
            "iss": issuer, "tid": "t1", "sub": "u", "aud": "id", "nonce": sent["nonce"],
            "iat": 1_000_000_000, "exp": 1_000_003_600
        }));
        let body =
            format!(r#"{{"access_token":"a","token_type":"Bearer","id_token":"{id_token}"}}"#);
        flow.world.answer_with(Answer::status(200, &body));
        let completed = flow.complete(&format!("code=c&state={}", sent["state"]));
        assert_eq!(completed.is_ok(), is_good, "{issuer}: {completed:?}");
    }
}

#[test]
fn an_id_token_may_go_without_the_nonce_where_that_is_declared_but_not_bear_another() {
    let told = "An id_token comes without the nonce that was sent.";
    for (provider, issuer, jwks_uri) in [
        (
            "linkedin",
            "https://www.linkedin.com/oauth",
            "https://www.linkedin.com/oauth/openid/jwks",
        ),
        (
            "quickbooks",
            "https://oauth.platform.intuit.com/op/v1",
            "https://oauth.platform.intuit.com/op/v1/jwks",
        ),
        (
            "google",
            "https://accounts.google.com",
            "https://www.googleapis.com/oauth2/v3/certs",
        ),
    ] {
        for (nonce, is_good, is_told) in [
            (None, provider != "google", provider != "google"),
            (Some(json!("another")), false, false),
            (Some(json!(null)), false, false),
            (Some(json!("sent")), true, false),
        ] {
            let flow = Flow::open(provider, r#", "scope": "openid""#);
            publish_keys(&flow, jwks_uri);
            let (_, sent) = flow.begin();
            let mut claims = json!({
                "iss": issuer, "sub": "u", "aud": "id", "iat": 1_000_000_000, "exp": 1_000_003_600
            });
            if let Some(nonce) = &nonce {
                claims["nonce"] = match nonce.as_str() {
                    Some("sent") => json!(sent["nonce"]),
                    _ => nonce.clone(),
                };
            }
            let body = json!({
                "access_token": "a", "token_type": "Bearer", "id_token": id_token(&claims)
            });
            flow.world
                .answer_with(Answer::status(200, &body.to_string()));
            let completed = flow.complete(&format!("code=c&state={}", sent["state"]));
            let case = format!("{provider}: {nonce:?}: {completed:?}");
            assert_eq!(completed.is_ok(), is_good, "{case}");
            assert_eq!(flow.quirks().contains(&told.to_owned()), is_told, "{case}");
        }
    }
}

#[test]
fn declared_endpoints_need_no_discovery() {
    let flow = Flow::open("google", "");
    flow.authorize("", &[GOOD]);
    assert_eq!(flow.world.received.borrow().len(), 1);
    assert_eq!(flow.url(0), "https://oauth2.googleapis.com/token");
}

#[test]
fn an_issuer_without_declared_endpoints_is_discovered() {
    let flow = Flow::open("vipps", "");
    let issuer = "https://api.vipps.no/access-management-1.0/access/";
    let document = format!(
        r#"{{"issuer": "{issuer}", "authorization_endpoint": "https://api.vipps.no/auth", "token_endpoint": "https://api.vipps.no/token"}}"#
    );
    let at = "https://api.vipps.no/access-management-1.0/access/.well-known/openid-configuration";
    flow.world
        .documents
        .borrow_mut()
        .insert(at.to_owned(), document);
    assert!(flow.begin().0.starts_with("https://api.vipps.no/auth?"));
}

/// What Workday needs to be told.
const WORKDAY: &str = r#", "parameters": {"authorization_host": "impl.example", "host": "wd2.example", "tenant": "acme"}"#;

#[test]
fn the_user_may_be_sent_to_another_host_than_the_requests() {
    // Known deviation 17.
    let flow = Flow::open("workday", WORKDAY);
    let (url, _) = flow.begin();
    assert!(
        url.starts_with("https://impl.example/acme/authorize?"),
        "{url}"
    );
}

#[test]
fn a_grant_without_the_user_does_without_what_only_the_user_needs() {
    let errors = |further: &str| {
        let config = format!(
            r#"{{"provider": "workday", "client_id": "id", "client_secret": "s", "parameters": {{"host": "wd2.example", "tenant": "acme"}}{further}}}"#
        );
        let config = config::parse(&config).expect("a config");
        let errors = config::errors_in(&config::check(&config)).into_iter();
        errors.map(|problem| problem.field).collect::<Vec<_>>()
    };
    let refresh = r#", "grant_type": "refresh_token", "refresh_token": "r""#;
    assert!(errors(refresh).is_empty());
    assert_eq!(errors(""), ["authorization_endpoint"]);
}

#[test]
fn a_draft_of_the_protocol_is_spoken_where_it_is_declared() {
    let flow = Flow::open("basecamp", "");
    let (_, sent) = flow.begin();
    assert_eq!(sent["type"], "web_server");
    for name in ["response_type", "code_challenge"] {
        assert!(!sent.contains_key(name), "{name}");
    }
    flow.authorize(
        "",
        &[r#"{"access_token":"a","expires_in":1209600,"refresh_token":"r"}"#],
    );
    assert_eq!(flow.sent(0)["type"], "web_server");
    assert!(!flow.sent(0).contains_key("grant_type"));
    flow.refresh(r#"{"access_token":"b","expires_in":1209600}"#);
    assert_eq!(flow.sent(0)["type"], "refresh");
}

#[test]
fn a_refresh_names_the_redirect_uri_of_the_config_where_that_is_declared() {
    let refreshed = |provider| {
        let flow = Flow::open(provider, r#", "redirect_uri": "https://app.example/cb""#);
        flow.authorize("", &[GOOD]);
        flow.refresh(GOOD);
        flow.sent(0).get("redirect_uri").cloned()
    };
    let sent = Some("https://app.example/cb".to_owned());
    assert_eq!(refreshed("basecamp"), sent);
    assert_eq!(refreshed("github"), None);
}

#[test]
fn scopes_are_joined_as_the_provider_wants_them() {
    // Known deviations 5, 20, 38 and 39.
    for (provider, joined) in [
        ("slack", "scope=a%2Cb%3Ac"),
        ("tiktok", "scope=a%2Cb%3Ac"),
        ("strava", "scope=a%2Cb%3Ac"),
        ("linear", "scope=a%2Cb%3Ac"),
        ("figma", "scope=a%2Cb%3Ac"),
        ("attio", "scope=a+b%3Ac"),
        ("pennylane", "scope=a+b%3Ac"),
        ("spotify", "scope=a%20b%3Ac"),
    ] {
        let (url, _) = Flow::open(provider, r#", "scope": "a b:c""#).begin();
        assert!(url.contains(joined), "{provider}: {url}");
    }
}

#[test]
fn the_scopes_of_a_user_have_a_parameter_of_their_own() {
    // Known deviation 5.
    let (_, sent) = Flow::open("slack-user", r#", "scope": "search:read""#).begin();
    assert_eq!(sent["user_scope"], "search:read");
    assert!(!sent.contains_key("scope"));
}

#[test]
fn a_token_of_a_type_of_the_providers_own_goes_as_a_bearer_token() {
    // Known deviations 5 and 24.
    let flow = Flow::open("slack", "");
    flow.authorize(
        "",
        &[r#"{"ok":true,"access_token":"xoxb","token_type":"bot"}"#],
    );
    let headers = run(flow.connection.authorization_headers(
        "GET",
        "https://api.example",
        &TokenOptions::default(),
        None,
    ));
    let headers = headers.expect("headers");
    assert_eq!(headers[0].0, "Authorization");
    assert_eq!(headers[0].1.reveal(), "Bearer xoxb");
}

#[test]
fn a_challenge_is_written_as_the_provider_wants_it() {
    let flow = Flow::open("tiktok", "");
    let (_, sent) = flow.begin();
    flow.world.answer_with(Answer::status(200, GOOD));
    flow.complete(&format!("code=c&state={}", sent["state"]))
        .expect("authorized");
    let verifier = SecretString::new(flow.sent(0)["code_verifier"].as_str());
    assert_eq!(
        sent["code_challenge"],
        crate::pkce::hex_challenge(&verifier)
    );
    assert_eq!(sent["code_challenge"].len(), 64);
}

#[test]
fn pkce_is_left_out_where_the_provider_does_not_have_it() {
    let flow = Flow::open("notion", "");
    let (_, sent) = flow.begin();
    assert!(!sent.contains_key("code_challenge"));
    let resolved = run(flow.connection.resolve()).expect("resolved");
    let pkce = resolved
        .iter()
        .find(|field| field.name == "pkce")
        .expect("pkce");
    assert_eq!(pkce.value, "false");
    assert_eq!(pkce.origin, config::ValueOrigin::Provider);
}

#[test]
fn the_client_has_the_name_that_the_provider_gives_it() {
    // Known deviation 20.
    let flow = Flow::open("tiktok", "");
    assert_eq!(flow.begin().1["client_key"], "id");
    flow.authorize("", &[GOOD]);
    let sent = flow.sent(0);
    assert_eq!(
        (sent["client_key"].as_str(), sent["client_secret"].as_str()),
        ("id", "s e&c")
    );
    assert!(!sent.contains_key("client_id"));
    assert!(
        flow.quirks()
            .contains(&"The token request calls client_id client_key.".to_owned())
    );
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn a_request_goes_by_get_and_ends_with_a_fragment_where_that_is_declared() {
    // Known deviation 22.
    let flow = Flow::open("wechat", r#", "scope": "snsapi_login""#);
    let (url, sent) = flow.begin();
    assert!(url.ends_with("#wechat_redirect"), "{url}");
    assert_eq!(sent["appid"], "id");
    let good = r#"{"access_token":"a","expires_in":7200,"refresh_token":"r","openid":"o","scope":"snsapi_login"}"#;
    flow.authorize("", &[good]);
    let url = Url::parse(&flow.url(0)).expect("a URL");
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(url.path(), "/sns/oauth2/access_token");
    assert_eq!(
        (query["appid"].as_str(), query["secret"].as_str()),
        ("id", "s e&c")
    );
    assert_eq!(flow.header("content-type"), None);
    flow.refresh(good);
    let url = Url::parse(&flow.url(0)).expect("a URL");
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(url.path(), "/sns/oauth2/refresh_token");
    assert_eq!(names(&query), ["appid", "grant_type", "refresh_token"]);
}

#[test]
fn the_region_that_the_redirect_names_is_asked_for_the_token_and_ever_after() {
    // Known deviation 11.
    let flow = Flow::open("zoho", "");
    flow.authorize(
        "&location=eu&accounts-server=https%3A%2F%2Faccounts.zoho.eu",
        &[GOOD],
    );
    assert_eq!(flow.url(0), "https://accounts.zoho.eu/oauth/v2/token");
    flow.refresh(GOOD);
    assert_eq!(flow.url(0), "https://accounts.zoho.eu/oauth/v2/token");
    assert_eq!(flow.response()["location"], "eu");
}

#[test]
fn a_server_in_the_redirect_that_is_none_of_the_providers_gets_nothing() {
    for server in [
        "https://evil.example",
        "https://accounts.zoho.eu.evil.example",
        "https://accounts.zoho.eu@evil.example",
        "http://accounts.zoho.eu",
        "https://accounts.zoho.eu/x",
        "",
    ] {
        let flow = Flow::open("zoho", "");
        let (_, sent) = flow.begin();
        let encoded: String = form_urlencoded::byte_serialize(server.as_bytes()).collect();
        let query = format!("code=c&state={}&accounts-server={encoded}", sent["state"]);
        let Err(Error::ProtocolViolation(violation)) = flow.complete(&query).unboxed() else {
            panic!("{server}");
        };
        assert_eq!(violation.kind, ViolationKind::Issuer);
        assert_eq!(flow.world.received.borrow().len(), 0, "{server}");
        // The real redirect may still come.
        flow.world.answer_with(Answer::status(200, GOOD));
        flow.complete(&format!("code=c&state={}", sent["state"]))
            .expect("authorized");
        assert_eq!(flow.url(0), "https://accounts.zoho.com/oauth/v2/token");
    }
}

#[test]
fn what_comes_in_the_redirect_stays_with_the_response_over_renewals() {
    // Known deviation 10.
    let flow = Flow::open("quickbooks", "");
    flow.authorize("&realmId=4620816365", &[GOOD]);
    assert_eq!(flow.response()["realmId"], "4620816365");
    flow.refresh(GOOD);
    assert_eq!(flow.response()["realmId"], "4620816365");
}

#[test]
fn the_code_is_found_by_the_name_that_the_provider_gives_it() {
    // Known deviation 32.
    let flow = Flow::open(
        "amazon-selling-partner",
        r#", "parameters": {"application_id": "amzn1.sp.solution.1"}"#,
    );
    let (_, sent) = flow.begin();
    assert_eq!(sent["application_id"], "amzn1.sp.solution.1");
    let state = &sent["state"];
    let twice = format!("spapi_oauth_code=c&spapi_oauth_code=d&state={state}");
    assert!(matches!(
        flow.complete(&twice).unboxed(),
        Err(Error::ProtocolViolation(_))
    ));
    flow.world.answer_with(Answer::status(200, GOOD));
    flow.complete(&format!(
        "spapi_oauth_code=c&state={state}&selling_partner_id=A1"
    ))
    .expect("authorized");
    assert_eq!(flow.sent(0)["code"], "c");
    assert_eq!(flow.response()["selling_partner_id"], "A1");
}

#[test]
fn pkce_is_not_for_a_client_with_a_secret_where_that_is_declared() {
    let (_, sent) = Flow::open("aweber", "").begin();
    assert!(!sent.contains_key("code_challenge"));
    let world = World::new();
    let public =
        r#"{"provider": "aweber", "client_id": "id", "redirect_uri": "https://app.example/cb"}"#;
    let connection = world.open(public);
    let (_, sent) = Flow { world, connection }.begin();
    assert_eq!(sent["code_challenge_method"], "S256");
}

#[test]
fn what_the_redirect_brought_is_repeated_in_token_requests_where_that_is_declared() {
    let flow = Flow::open("vk-id", "");
    let (_, begun) = flow.begin();
    flow.world.answer_with(Answer::status(200, GOOD));
    let state = &begun["state"];
    flow.complete(&format!("code=c&state={state}&device_id=d+1&type=code_v2"))
        .expect("authorized");
    flow.refresh(GOOD);
    flow.refresh(GOOD);
    for sent in (0..3).map(|back| flow.sent(back)) {
        assert_eq!((sent["device_id"].as_str(), &sent["state"]), ("d 1", state));
        assert!(!sent.contains_key("type"));
    }
    assert_eq!(flow.sent(2)["grant_type"], "authorization_code");
    assert_eq!(flow.sent(0)["grant_type"], "refresh_token");
    assert_eq!(flow.response()["device_id"], "d 1");
}

#[test]
fn the_state_is_repeated_in_the_token_request_where_that_is_declared() {
    // Known deviation 33.
    let flow = Flow::open("follow-up-boss", "");
    let (_, sent) = flow.begin();
    assert_eq!(sent["response_type"], "auth_code");
    flow.world.answer_with(Answer::status(200, GOOD));
    flow.complete(&format!("response=approved&code=c&state={}", sent["state"]))
        .expect("authorized");
    assert_eq!(flow.sent(0)["state"], sent["state"]);
    flow.refresh(GOOD);
    assert!(!flow.sent(0).contains_key("state"));
}

#[test]
fn a_grant_has_the_name_that_the_provider_gives_it() {
    // Known deviations 34 and 35.
    for (provider, parameters, grant_type) in [
        (
            "zoom-server",
            r#"{"account_id": "acc"}"#,
            "account_credentials",
        ),
        ("sap-ariba", "{}", "openapi_2lo"),
    ] {
        let further =
            format!(r#", "grant_type": "client_credentials", "parameters": {parameters}"#);
        let flow = Flow::open(provider, &further);
        flow.world.answer_with(Answer::status(200, GOOD));
        flow.token();
        assert_eq!(flow.sent(0)["grant_type"], grant_type);
    }
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn a_token_request_is_json_where_that_is_declared() {
    // Known deviation 36.
    let flow = Flow::open("notion", "");
    assert_eq!(flow.begin().1["owner"], "user");
    flow.authorize(
        "",
        &[r#"{"access_token":"a","token_type":"bearer","bot_id":"b"}"#],
    );
    assert_eq!(
        flow.header("content-type").as_deref(),
        Some("application/json")
    );
    assert!(
        flow.header("authorization")
            .is_some_and(|value| value.starts_with("Basic "))
    );
    // Since it was not told, the server was asked after it when the token expires.
    assert!(flow.url(0).ends_with("/introspect"), "{}", flow.url(0));
    let sent = flow.sent(1);
    let body: Value = serde_json::from_str(names(&sent)[0]).expect("JSON");
    assert_eq!(
        (body["grant_type"].as_str(), body["code"].as_str()),
        (Some("authorization_code"), Some("c"))
    );
}

#[test]
fn the_secret_is_the_user_name_where_that_is_declared() {
    // Known deviation 18.
    let flow = Flow::open("stripe", "");
    flow.authorize(
        "",
        &[r#"{"access_token":"sk","token_type":"bearer","stripe_user_id":"acct_1"}"#],
    );
    // base64 of "s e&c:".
    assert_eq!(
        flow.header("authorization").as_deref(),
        Some("Basic cyBlJmM6")
    );
    assert_eq!(flow.token().expires_at, None);
}

#[test]
fn basic_credentials_go_as_they_are_where_the_server_does_not_decode_them() {
    // Known deviation 40.
    let flow = Flow::open("hcl-domino", r#", "parameters": {"host": "x.example"}"#);
    let issuer = "https://x.example/auth/protocol/oidc";
    let document = format!(
        r#"{{"issuer": "{issuer}", "token_endpoint": "{issuer}/token", "authorization_endpoint": "{issuer}/auth"}}"#
    );
    let at = format!("{issuer}/.well-known/openid-configuration");
    flow.world.documents.borrow_mut().insert(at, document);
    let (_, sent) = flow.begin();
    flow.world.answer_with(Answer::status(200, GOOD));
    // The metadata is known from the beginning.
    flow.complete(&format!("code=c&state={}", sent["state"]))
        .expect("authorized");
    // base64 of "id:s e&c".
    assert_eq!(
        flow.header("authorization").as_deref(),
        Some("Basic aWQ6cyBlJmM=")
    );
}

#[test]
fn the_header_that_a_provider_requires_is_sent() {
    // Known deviation 14.
    let flow = Flow::open(
        "reddit",
        r#", "parameters": {"user_agent": "web:example:1 (by /u/x)"}"#,
    );
    flow.authorize("", &[GOOD]);
    assert_eq!(
        flow.header("user-agent").as_deref(),
        Some("web:example:1 (by /u/x)")
    );
}

#[test]
fn a_short_lived_token_is_exchanged_and_then_refreshed_itself() {
    // Known deviation 19.
    let flow = Flow::open("threads", r#", "scope": "threads_basic""#);
    flow.authorize(
        "",
        &[
            r#"{"access_token":"short","user_id":"7"}"#,
            r#"{"access_token":"long-1","token_type":"bearer","expires_in":5184000}"#,
        ],
    );
    assert_eq!(flow.url(1), "https://graph.threads.com/oauth/access_token");
    assert_eq!(
        flow.url(0),
        "https://graph.threads.net/access_token?access_token=short&client_secret=s+e%26c&grant_type=th_exchange_token"
    );
    let token = flow.token();
    assert_eq!(
        (token.access_token.reveal(), token.refreshable),
        ("long-1", true)
    );
    assert_eq!(token.scope, ["threads_basic"]);
    flow.refresh(r#"{"access_token":"long-2","token_type":"bearer","expires_in":5184000}"#);
    assert_eq!(
        flow.url(0),
        "https://graph.threads.net/refresh_access_token?grant_type=th_refresh_token&access_token=long-1"
    );
    flow.refresh(r#"{"access_token":"long-3","token_type":"bearer","expires_in":5184000}"#);
    assert!(flow.url(0).ends_with("access_token=long-2"));
}

#[test]
fn a_token_that_must_be_refreshed_while_it_is_valid_is_renewed_long_before() {
    let flow = Flow::open("instagram", "");
    flow.authorize(
        "",
        &[
            r#"{"data":[{"access_token":"short","user_id":"7","permissions":"x"}]}"#,
            r#"{"access_token":"long","token_type":"bearer","expires_in":5184000}"#,
        ],
    );
    let token = flow.token();
    let left = token
        .expires_at
        .expect("an expiry")
        .millis_since(token.fresh_until.expect("a time"));
    assert!(left >= 22 * 86_400_000, "{left}");
}

#[test]
fn an_exchange_that_fails_ends_the_authorization() {
    let flow = Flow::open("facebook", "");
    let (_, sent) = flow.begin();
    flow.world.answer_with(Answer::status(
        200,
        r#"{"access_token":"short","token_type":"bearer","expires_in":5000}"#,
    ));
    flow.world.answer_with(Answer::status(
        400,
        r#"{"error":{"message":"Invalid client_secret: s e&c","type":"OAuthException","code":1}}"#,
    ));
    let error = flow
        .complete(&format!("code=c&state={}", sent["state"]))
        .expect_err("refused");
    assert!(!error.to_string().contains("s e&c"), "{error}");
    assert!(matches!(
        run(flow.connection.token(&TokenOptions::default())).unboxed(),
        Err(Error::NotAuthorized(_))
    ));
}

#[test]
fn tokens_are_refreshed_at_the_url_that_is_for_it() {
    // Known deviation 38.
    let flow = Flow::open("figma", "");
    flow.authorize("", &[GOOD]);
    assert_eq!(flow.url(0), "https://api.figma.com/v1/oauth/token");
    flow.refresh(r#"{"access_token":"b","token_type":"bearer","expires_in":3600}"#);
    assert_eq!(flow.url(0), "https://api.figma.com/v1/oauth/refresh");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn what_another_server_issued_is_refreshed_and_exchanged_there() {
    let further = r#", "token_endpoint": "https://figma.example/v1/oauth/token""#;
    let flow = Flow::open("figma", further);
    flow.authorize("", &[GOOD]);
    assert_eq!(flow.url(0), "https://figma.example/v1/oauth/token");
    flow.refresh(GOOD);
    assert_eq!(flow.url(0), "https://figma.example/v1/oauth/refresh");

    let further = r#", "token_endpoint": "https://threads.example/oauth/access_token""#;
    let flow = Flow::open("threads", further);
    let long = r#"{"access_token":"long","token_type":"bearer","expires_in":5184000}"#;
    flow.authorize("", &[r#"{"access_token":"short"}"#, long]);
    let exchange = "https://threads.example/access_token?";
    assert!(flow.url(0).starts_with(exchange), "{}", flow.url(0));

    let flow = Flow::open("figma", r#", "issuer": "https://figma.example""#);
    let document = r#"{"issuer": "https://figma.example",
        "authorization_endpoint": "https://figma.example/a", "token_endpoint": "https://figma.example/t"}"#;
    let at = "https://figma.example/.well-known/openid-configuration";
    let published = (at.to_owned(), document.to_owned());
    flow.world.documents.borrow_mut().extend([published]);
    flow.authorize("", &[GOOD]);
    flow.refresh(GOOD);
    assert_eq!(flow.url(0), "https://figma.example/v1/oauth/refresh");
}

#[test]
fn what_another_server_issued_is_shown_to_no_endpoint_of_the_provider() {
    let server = "https://gitlab.corp.example";
    let further = format!(r#", "token_endpoint": "{server}/oauth/token""#);
    let flow = Flow::open("gitlab", &further);
    flow.authorize(
        "",
        &[r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r"}"#],
    );
    assert_eq!(flow.url(0), format!("{server}/oauth/introspect"));
    flow.world
        .answer_with(Answer::status(200, r#"{"sub":"u"}"#));
    run(flow.connection.userinfo()).expect("claims");
    assert_eq!(flow.url(0), format!("{server}/oauth/userinfo"));
    flow.world.answer_with(Answer::status(200, ""));
    flow.world.answer_with(Answer::status(200, ""));
    run(flow.connection.revoke()).expect("revoked");
    assert_eq!(flow.url(0), format!("{server}/oauth/revoke"));
    for sent in flow.world.received.borrow().iter() {
        assert!(sent.url.starts_with(server), "{}", sent.url);
    }
}

mod revocation {
    use super::*;

    const LONG: &str = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r"}"#;

    /// An authorized connection to a provider whose revocation endpoint answers so.
    fn answered(provider: &str, answers: &[(u16, &str)]) -> (Flow, Result<()>) {
        let flow = Flow::open(provider, "");
        flow.authorize("", &[LONG]);
        for (status, body) in answers {
            flow.world.answer_with(Answer::status(*status, body));
        }
        let outcome = run(flow.connection.revoke());
        (flow, outcome)
    }

    fn last(flow: &Flow) -> (&'static str, String, String) {
        let received = flow.world.received.borrow();
        let last = received.last().expect("a request");
        (last.method, last.url.clone(), last.body.clone())
    }

    /// Shows: guest/providers/README.md, requests.
    #[test]
    fn its_method_format_names_and_authentication_are_as_they_are_declared() {
        let (flow, outcome) = answered("github", &[(204, "")]);
        outcome.expect("revoked");
        let url = "https://api.github.com/applications/id/token";
        let body = r#"{"access_token":"a"}"#;
        assert_eq!(last(&flow), ("DELETE", url.to_owned(), body.to_owned()));
        assert_eq!(
            (flow.header("authorization"), flow.header("content-type")),
            (
                Some(format!("Basic {}", crate::base64::base64(b"id:s+e%26c"))),
                Some("application/json".to_owned())
            )
        );
        assert!(
            flow.quirks()
                .iter()
                .any(|quirk| quirk == "Tokens are revoked by DELETE.")
        );
    }

    #[test]
    fn an_identifier_that_is_more_than_a_segment_of_the_path_is_put_into_none() {
        let world = World::new();
        let config = |id| {
            format!(
                r#"{{"provider": "github", "client_id": "{id}", "client_secret": "s",
                    "redirect_uri": "https://app.example/cb"}}"#
            )
        };
        for (id, is_there) in [
            ("Iv1.a-b_c", true),
            ("a/../b", false),
            ("..", false),
            ("a b", false),
        ] {
            let fields = run(world.open(&config(id)).resolve()).expect("resolved");
            let has_one = fields
                .iter()
                .any(|field| field.name == "revocation_endpoint");
            assert_eq!(has_one, is_there, "{id}");
        }
    }

    #[test]
    fn the_access_token_stands_for_the_client_where_that_is_declared() {
        let (flow, outcome) = answered("slack", &[(200, r#"{"ok":true,"revoked":true}"#)]);
        outcome.expect("revoked");
        let (method, url, body) = last(&flow);
        assert_eq!(
            (method, url.as_str(), body.as_str()),
            ("POST", "https://slack.com/api/auth.revoke", "")
        );
        assert_eq!(
            (flow.header("authorization"), flow.header("content-type")),
            (Some("Bearer a".to_owned()), None)
        );
    }

    #[test]
    fn a_token_that_has_expired_is_renewed_before_it_stands_for_the_client() {
        let flow = Flow::open("whoop", "");
        flow.authorize("", &[GOOD]);
        flow.world.pass(3600);
        let renewed =
            r#"{"access_token":"b","token_type":"Bearer","expires_in":3600,"refresh_token":"q"}"#;
        flow.world.answer_with(Answer::status(200, renewed));
        flow.world.answer_with(Answer::status(204, ""));
        run(flow.connection.revoke()).expect("revoked");
        assert_eq!(last(&flow).0, "DELETE");
        assert_eq!(flow.header("authorization").as_deref(), Some("Bearer b"));
    }

    #[test]
    fn a_refusal_with_the_status_200_keeps_the_credential() {
        let (flow, outcome) = answered(
            "slack",
            &[(200, r#"{"ok":false,"error":"account_inactive"}"#)],
        );
        assert!(matches!(outcome.unboxed(), Err(Error::Refused(_))));
        assert_eq!(flow.token().access_token.reveal(), "a");
    }

    #[test]
    fn one_token_is_sent_where_the_server_takes_no_other_kind() {
        let (flow, outcome) = answered("zoho", &[(200, r#"{"status":"success"}"#)]);
        outcome.expect("revoked");
        let (method, url, body) = last(&flow);
        let wanted = "https://accounts.zoho.com/oauth/v2/token/revoke?token=r&client_id=id";
        assert_eq!((method, url.as_str(), body.as_str()), ("POST", wanted, ""));
        let flow = Flow::open("asana", "");
        flow.authorize("", &[r#"{"access_token":"a","token_type":"Bearer"}"#]);
        let outcome = run(flow.connection.revoke()).unboxed();
        assert!(matches!(outcome, Err(Error::Unsupported(_))), "{outcome:?}");
    }

    #[test]
    fn both_tokens_are_revoked_with_what_is_declared_of_the_endpoint_alone() {
        let (flow, outcome) = answered("mollie", &[(204, ""), (204, "")]);
        outcome.expect("revoked");
        for (back, token, hint) in [(1, "r", "refresh_token"), (0, "a", "access_token")] {
            let sent = flow.sent(back);
            assert_eq!(
                (sent["token"].as_str(), sent["token_type_hint"].as_str()),
                (token, hint)
            );
        }
        assert_eq!(last(&flow).0, "DELETE");
        let (flow, outcome) = answered("strava", &[(200, "")]);
        outcome.expect("revoked");
        // Token requests have the secret in the form.
        assert_eq!(flow.sent(0).get("client_secret"), None);
        assert!(
            flow.header("authorization")
                .is_some_and(|value| value.starts_with("Basic "))
        );
    }

    #[test]
    fn an_introspection_shows_the_token_where_that_is_declared() {
        let flow = Flow::open("attio", "");
        flow.authorize(
            "",
            &[
                r#"{"access_token":"a","token_type":"Bearer"}"#,
                r#"{"active":true}"#,
            ],
        );
        assert_eq!(flow.url(0), "https://app.attio.com/oauth/introspect");
        assert_eq!(flow.header("authorization").as_deref(), Some("Bearer a"));
        assert_eq!(flow.sent(0).get("client_secret"), None);
    }
}

#[test]
fn the_endpoints_of_a_provider_that_has_several_hosts_stay_where_they_are() {
    let revocation = |further| {
        let fields = run(Flow::open("quickbooks", further).connection.resolve());
        let fields = fields.expect("resolved").into_iter();
        let mut named = fields.filter(|field| field.name == "revocation_endpoint");
        named.next().map(|field| (field.value, field.origin))
    };
    use config::ValueOrigin::Provider;
    let declared = r#""https://developer.api.intuit.com/v2/oauth2/tokens/revoke""#;
    for further in [
        "",
        r#", "authorization_endpoint": "https://proxy.example/a""#,
        r#", "token_endpoint": "https://oauth.platform.intuit.com/v2/token""#,
    ] {
        assert_eq!(revocation(further), Some((declared.to_owned(), Provider)));
    }
    // A server that was discovered is no other.
    let flow = Flow::open(
        "vipps",
        r#", "token_endpoint": "https://proxy.example/token""#,
    );
    let issuer = "https://api.vipps.no/access-management-1.0/access/";
    let document = format!(
        r#"{{"issuer": "{issuer}", "authorization_endpoint": "https://api.vipps.no/auth",
            "token_endpoint": "https://api.vipps.no/token", "revocation_endpoint": "https://api.vipps.no/revoke"}}"#
    );
    let place = [issuer, ".well-known/openid-configuration"].concat();
    let published = (place, document);
    flow.world.documents.borrow_mut().extend([published]);
    assert!(flow.begin().0.starts_with("https://api.vipps.no/auth?"));
    let fields = run(flow.connection.resolve()).expect("resolved");
    let is_moved =
        |field: &config::ResolvedField| field.value == r#""https://proxy.example/revoke""#;
    assert!(fields.iter().any(is_moved));
    let moved = r#""https://proxy.example/v2/oauth2/tokens/revoke""#;
    let further = r#", "token_endpoint": "https://proxy.example/token""#;
    assert_eq!(revocation(further), Some((moved.to_owned(), Provider)));
}

#[test]
fn a_refresh_goes_without_the_secret_where_that_is_declared() {
    // Known deviation 29.
    let flow = Flow::open("clover", "");
    let answer = r#"{"access_token":"a","access_token_expiration":1000001800,"refresh_token":"r","refresh_token_expiration":1031536000}"#;
    flow.authorize("&merchant_id=M", &[answer]);
    flow.refresh(answer);
    assert_eq!(flow.url(0), "https://api.clover.com/oauth/v2/refresh");
    let sent = flow.sent(0);
    let body: Value = serde_json::from_str(names(&sent)[0]).expect("JSON");
    // Whether members keep their order depends on whom serde_json is built for.
    let mut members: Vec<_> = body
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    members.sort();
    assert_eq!(members, ["client_id", "refresh_token"]);
    assert_eq!(flow.response()["merchant_id"], "M");
    assert_eq!(
        flow.token().expires_at,
        Some(Timestamp::from_seconds(1_000_001_800))
    );
}

#[test]
fn a_refresh_may_prolong_the_token_and_bring_none() {
    // Known deviation 42.
    let flow = Flow::open("coros", "");
    flow.authorize(
        "",
        &[r#"{"expires_in":2592000,"refresh_token":"r","access_token":"a","openId":"o"}"#],
    );
    let before = flow.token().expires_at;
    flow.world.pass(86_400);
    flow.refresh(r#"{"result":"0000","message":"OK"}"#);
    let token = flow.token();
    assert_eq!(token.access_token.reveal(), "a");
    assert!(token.expires_at > before && token.refreshable);
}

#[test]
fn an_acknowledgement_without_a_token_authorizes_nothing() {
    let flow = Flow::open("coros", "");
    let (_, sent) = flow.begin();
    flow.world
        .answer_with(Answer::status(200, r#"{"result":"0000","message":"OK"}"#));
    let completed = flow.complete(&format!("code=c&state={}", sent["state"]));
    let completed = completed.unboxed();
    assert!(
        matches!(completed, Err(Error::ProtocolViolation(_))),
        "{completed:?}"
    );
}

#[test]
fn a_refresh_token_that_stays_the_same_is_kept_whatever_comes() {
    // Known deviation 31.
    let flow = Flow::open("workday", WORKDAY);
    flow.authorize(
        "",
        &[r#"{"access_token":"a","token_type":"Bearer","refresh_token":"first"}"#],
    );
    flow.refresh(r#"{"access_token":"b","token_type":"Bearer","refresh_token":"second"}"#);
    flow.refresh(r#"{"access_token":"c","token_type":"Bearer"}"#);
    assert_eq!(flow.sent(0)["refresh_token"], "first");
}

#[test]
fn a_lifetime_that_is_never_told_is_declared() {
    // Known deviation 31.
    let flow = Flow::open("jobber", "");
    flow.authorize("", &[r#"{"access_token":"a","refresh_token":"r"}"#]);
    assert_eq!(
        flow.token().expires_at,
        Some(Timestamp::from_seconds(1_000_003_600))
    );
}

#[test]
fn a_token_is_renewed_only_in_the_window_that_the_provider_leaves() {
    // Known deviation 12.
    let flow = Flow::open("exact-online", "");
    flow.authorize(
        "",
        &[r#"{"access_token":"a","token_type":"bearer","expires_in":"600","refresh_token":"r"}"#],
    );
    let token = flow.token();
    let left = token
        .expires_at
        .expect("an expiry")
        .millis_since(token.fresh_until.expect("a time"));
    assert!((20_000..=30_000).contains(&left), "{left}");
}

#[test]
fn the_end_of_a_refresh_token_is_that_which_the_provider_declares() {
    // Known deviations 8 and 9.
    let day = 86_400;
    let flow = Flow::open("atlassian", "");
    flow.authorize("", &[GOOD]);
    let end = || {
        run(flow.connection.status())
            .expect("a status")
            .refresh_expires_at
    };
    assert_eq!(
        end(),
        Some(Timestamp::from_seconds(1_000_000_000 + 90 * day))
    );
    for _ in 0..5 {
        flow.world.pass(60 * day);
        flow.refresh(GOOD);
    }
    // 90 days after the last use would be more than a year after the first.
    assert_eq!(
        end(),
        Some(Timestamp::from_seconds(1_000_000_000 + 365 * day))
    );
}

#[test]
fn the_redirect_uri_goes_by_another_name_where_that_is_declared() {
    let flow = Flow::open("ebay", r#", "parameters": {"ru_name": "Acme-App-PRD-1"}"#);
    assert_eq!(flow.begin().1["redirect_uri"], "Acme-App-PRD-1");
    flow.authorize("", &[GOOD]);
    assert_eq!(flow.sent(0)["redirect_uri"], "Acme-App-PRD-1");
}

#[test]
fn a_form_post_is_asked_for_where_that_is_declared() {
    // Known deviation 37.
    let (_, sent) = Flow::open("apple", "").begin();
    assert_eq!(sent["response_mode"], "form_post");
}

/// The parties of an assertion that the client signed: `iss`, `sub`, `aud`.
fn parties(assertion: &str) -> [Option<String>; 3] {
    let token = crate::jws::Received::parse(assertion).expect("a JWT");
    assert_eq!(token.algorithm(), "ES256");
    assert_eq!(token.header["kid"], "client-ec");
    let key = fake_keys::public(&fake_keys::of_host("key:ec").expect("a key"));
    let signed = token.signed.as_bytes();
    let is_signed = fake_keys::verify(&key, "ES256", signed, &token.signature);
    assert_eq!(is_signed, Some(true));
    ["iss", "sub", "aud"].map(|name| token.text(name).map(str::to_owned))
}

fn texts<const N: usize>(texts: [&str; N]) -> [Option<String>; N] {
    texts.map(|text| Some(text.to_owned()))
}

#[test]
fn a_client_secret_is_made_with_the_key_where_that_is_declared() {
    // Known deviation 37.
    let flow = Flow::with_key("apple", r#", "parameters": {"team_id": "A1B2C3D4E5"}"#);
    flow.authorize("", &[GOOD]);
    let first = flow.sent(0);
    let secret = first["client_secret"].as_str();
    let expected = texts(["A1B2C3D4E5", "id", "https://appleid.apple.com"]);
    assert_eq!(parties(secret), expected);
    assert_eq!(first["client_id"], "id");
    assert!(!first.contains_key("client_assertion"));
    assert!(
        flow.quirks()
            .contains(&"The client secret is a JWT signed with your key.".to_owned())
    );
    flow.refresh(GOOD);
    let second = flow.sent(0);
    assert_eq!(parties(&second["client_secret"]), expected);
    assert_ne!(second["client_secret"], secret);
}

#[test]
fn a_finished_client_secret_goes_before_the_one_that_could_be_made() {
    let further = r#", "signing_key": {"ref": "key:ec"}"#;
    let flow = Flow::open("apple", further);
    flow.authorize("", &[GOOD]);
    assert_eq!(flow.sent(0)["client_secret"], "s e&c");
}

#[test]
fn a_client_secret_that_is_to_be_made_needs_its_issuer() {
    let config = r#"{"provider": "apple", "client_id": "id", "signing_key": {"ref": "key:ec"},
        "redirect_uri": "https://app.example/cb"}"#;
    let problems = config::check(&config::parse(config).expect("it parses"));
    let fields: Vec<_> = config::errors_in(&problems)
        .into_iter()
        .map(|problem| problem.field)
        .collect();
    assert_eq!(fields, ["parameters"]);
}

#[test]
fn an_assertion_is_by_and_for_whom_the_provider_declares() {
    // Known deviation 43.
    let flow = Flow::with_key("revolut", "");
    flow.authorize("", &[GOOD]);
    let assertion = flow.sent(0)["client_assertion"].clone();
    assert_eq!(
        parties(&assertion),
        texts(["app.example", "id", "https://revolut.com"])
    );
    assert!(!flow.sent(0).contains_key("client_secret"));
}

#[test]
fn an_assertion_is_for_the_token_endpoint_where_that_is_declared() {
    let method = r#", "token_endpoint_auth_method": "private_key_jwt""#;
    let flow = Flow::with_key("microsoft-entra", method);
    flow.authorize("", &[GOOD]);
    let assertion = flow.sent(0)["client_assertion"].clone();
    let endpoint = "https://login.microsoftonline.com/common/oauth2/v2.0/token";
    assert_eq!(parties(&assertion), texts(["id", "id", endpoint]));
    // There the issuer is known, and is not the audience all the same.
    let flow = Flow::with_key("login-gov-sandbox", "");
    flow.authorize("", &[GOOD]);
    let assertion = flow.sent(0)["client_assertion"].clone();
    let endpoint = "https://idp.int.identitysandbox.gov/api/openid_connect/token";
    assert_eq!(parties(&assertion), texts(["id", "id", endpoint]));
}

#[test]
fn what_is_told_of_an_assertion_is_in_words() {
    for (provider, told) in [
        (
            "revolut",
            "The client's assertion is issued by the host of the redirect URI.",
        ),
        (
            "login-gov-sandbox",
            "The client's assertion is for the token endpoint.",
        ),
    ] {
        let flow = Flow::with_key(provider, "");
        flow.authorize("", &[GOOD]);
        let quirks = flow.quirks();
        assert!(quirks.contains(&told.to_owned()), "{quirks:?}");
        let shown = provider::find(provider).expect("it is there");
        assert!(shown.peculiarities().contains(&told.to_owned()));
        assert!(
            quirks.iter().all(|quirk| !quirk.contains('{')),
            "{quirks:?}"
        );
    }
}

#[test]
fn nothing_is_said_of_an_assertion_where_none_is_made() {
    let flow = Flow::open("microsoft-entra", "");
    flow.authorize("", &[GOOD]);
    let quirks = flow.quirks();
    assert!(
        quirks.iter().all(|quirk| !quirk.contains("assertion")),
        "{quirks:?}"
    );
}

#[test]
fn a_proof_is_for_the_endpoint_at_which_tokens_are_refreshed() {
    // RFC 9449 section 4.2: `htu` is the URL of the very request.
    let flow = Flow::open(
        "figma",
        r#", "dpop": true, "signing_key": {"ref": "key:ec"}"#,
    );
    let bound = GOOD.replace("Bearer", "DPoP");
    flow.authorize("", &[&bound]);
    flow.refresh(&bound);
    let proof = flow.header("dpop").expect("a proof");
    let proof = crate::jws::Received::parse(&proof).expect("a JWT");
    assert_eq!(proof.text("htu"), Some(flow.url(0).as_str()));
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn what_is_made_of_a_response_is_told() {
    for (provider, further, first, then, sentence) in [
        (
            "ebay",
            r#", "parameters": {"ru_name": "Acme-App-PRD-1"}"#,
            r#"{"access_token":"a","expires_in":7200,"token_type":"User Access Token"}"#,
            None,
            "The token is of the type Bearer, whatever the response calls it.",
        ),
        (
            "github",
            "",
            r#"{"access_token":"a","scope":"repo,gist","token_type":"bearer"}"#,
            None,
            "The scopes granted are separated by commas.",
        ),
        (
            "jobber",
            "",
            r#"{"access_token":"a","token_type":"bearer"}"#,
            None,
            "No expiry is told; 60 minutes are assumed.",
        ),
        (
            "workday",
            WORKDAY,
            GOOD,
            Some(r#"{"access_token":"b","token_type":"Bearer","refresh_token":"other"}"#),
            "The refresh token stays the same for as long as the authorization lasts.",
        ),
        (
            "coros",
            "",
            GOOD,
            Some(r#"{"result":"0000","message":"OK"}"#),
            "A refresh prolongs the access token and brings no new one.",
        ),
    ] {
        let flow = Flow::open(provider, further);
        flow.authorize("", &[first]);
        if let Some(then) = then {
            let told = flow.quirks();
            assert!(
                !told.iter().any(|quirk| quirk == sentence),
                "{provider}: {told:?}"
            );
            flow.refresh(then);
        }
        let told = flow.quirks();
        assert!(
            told.iter().any(|quirk| quirk == sentence),
            "{provider}: {told:?}"
        );
    }
    let flow = Flow::open("threads", "");
    let long = r#"{"access_token":"l","token_type":"bearer","expires_in":5184000}"#;
    flow.authorize("", &[r#"{"access_token":"s"}"#, long]);
    let sentence =
        "There is no refresh token: the access token itself is refreshed, while it is valid.";
    assert!(
        flow.quirks().contains(&sentence.to_owned()),
        "{:?}",
        flow.quirks()
    );
}

#[test]
fn nothing_is_told_of_a_response_that_is_by_the_standard() {
    let flow = Flow::open("github", "");
    flow.authorize(
        "",
        &[r#"{"access_token":"a","scope":"repo gist","token_type":"bearer"}"#],
    );
    let flow_of_ebay = Flow::open("ebay", r#", "parameters": {"ru_name": "Acme-App-PRD-1"}"#);
    flow_of_ebay.authorize("", &[GOOD]);
    for told in [flow.quirks(), flow_of_ebay.quirks()] {
        let of_responses = ["separated by commas", "whatever the response"];
        let is_told = |words: &&str| told.iter().any(|quirk| quirk.contains(words));
        assert!(!of_responses.iter().any(is_told), "{told:?}");
    }
}

#[test]
fn the_quirks_that_were_applied_are_told_each_time_and_kept_once() {
    let flow = Flow::open("slack-user", "");
    let answer = r#"{"ok":true,"authed_user":{"access_token":"u","token_type":"user","expires_in":43200,"refresh_token":"r"}}"#;
    flow.authorize("", &[answer]);
    let after_first = flow.quirks();
    assert!(after_first.contains(&"The authorization request calls scope user_scope.".to_owned()));
    let told = flow.world.events.borrow().len();
    flow.refresh(answer);
    // What the answer has again is the latest now.
    let mut expected = after_first;
    expected.rotate_left(4);
    assert_eq!(flow.quirks(), expected);
    let kinds = flow.world.kinds().split_off(told);
    assert!(kinds.contains(&"quirk-applied"));
}

#[test]
fn a_resolved_config_tells_what_the_provider_declares() {
    let flow = Flow::open("google", "");
    let fields = run(flow.connection.resolve()).expect("resolved");
    let found = |wanted: &str| {
        let mut found = fields.iter().filter(|field| field.name == wanted);
        found
            .next()
            .map(|field| (field.value.as_str(), field.origin))
    };
    use config::ValueOrigin::{Config, Default, Provider};
    assert_eq!(found("client_id"), Some(("\"id\"", Config)));
    assert_eq!(
        found("token_endpoint"),
        Some(("\"https://oauth2.googleapis.com/token\"", Provider))
    );
    assert_eq!(
        found("issuer"),
        Some(("\"https://accounts.google.com\"", Provider))
    );
    assert_eq!(
        found("token_endpoint_auth_method"),
        Some(("\"client_secret_post\"", Provider))
    );
    assert_eq!(found("prompt"), Some(("\"consent\"", Provider)));
    assert_eq!(found("client_secret"), Some(("\"***\"", Config)));
    assert_eq!(found("timeout"), Some(("30", Default)));
}
