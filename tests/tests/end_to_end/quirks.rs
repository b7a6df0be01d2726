//! What servers do otherwise than the standard has it, one kind after the other: a
//! connection to a provider of the catalogue, whose endpoints the config has moved
//! to a server that answers in the shape the provider documents. What was sent is
//! held against what the server received, what came out against what a caller gets,
//! and the deviation is told in the history.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokenwell_tests::{Answer, Cli, Outcome, ReceivedRequest, ScriptedServer};

use crate::support::{Begun, CODE, REDIRECT_URI, begin, key_file, text, with};

const SECRET: &str = "s e&c:ret/4c1f";

/// A connection `app` to a provider at the scripted server.
struct App {
    cli: Cli,
    server: ScriptedServer,
}

impl App {
    fn new(provider: &str, fields: Value) -> Self {
        let client = json!({"client_secret": SECRET});
        Self::of_client(provider, client, fields, |_| json!({}))
    }

    /// One of a client that signs with the key made here.
    fn signing(provider: &str, fields: Value) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let with_key = |cli: &Cli| json!({"signing_key": key_file(cli, "client.key", &key)});
        Self::of_client(provider, json!({}), fields, with_key)
    }

    fn of_client(
        provider: &str,
        client: Value,
        fields: Value,
        more: impl FnOnce(&Cli) -> Value,
    ) -> Self {
        let (cli, server) = (Cli::new(), ScriptedServer::start());
        let mut config = json!({
            "provider": provider,
            "client_id": "client",
            "token_endpoint": server.url("/token"),
            "introspection_endpoint": server.url("/introspect"),
        });
        if fields.get("grant_type").is_none() {
            let user = json!({
                "authorization_endpoint": server.url("/authorize"),
                "redirect_uri": REDIRECT_URI,
            });
            config = with(config, user);
        }
        let config = with(with(with(config, client), more(&cli)), fields);
        cli.create("app", &config).expect_code(0);
        Self { cli, server }
    }

    /// Where the user is sent, and the parameters there.
    fn begin(&self) -> (Begun, BTreeMap<String, String>) {
        let begun = begin(&self.cli, "app");
        let url = url::Url::parse(&begun.authorization_url).expect("a URL");
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let sent: BTreeMap<_, _> = pairs.iter().cloned().collect();
        assert_eq!(sent.len(), pairs.len(), "a parameter is there twice: {url}");
        (begun, sent)
    }

    /// Completes an authorization; the token endpoint gives that answer.
    fn complete(&self, begun: &Begun, further: &[(&str, &str)], answer: &Value) -> Outcome {
        let mut parameters = vec![("code", CODE), ("state", &begun.state)];
        parameters.extend(further);
        self.complete_with(&begun.redirect(&parameters), answer)
    }

    fn complete_with(&self, redirect: &str, answer: &Value) -> Outcome {
        self.server.answer("/token", Answer::json(200, answer));
        self.cli.run(&["complete", "app", redirect, "--json"])
    }

    /// Authorizes; the token endpoint gives that answer.
    fn authorize(&self, answer: &Value) {
        let (begun, _) = self.begin();
        self.complete(&begun, &[], answer).expect_code(0);
    }

    /// Renews; the token endpoint gives that answer.
    fn refresh(&self, answer: &Value) -> Outcome {
        self.server.answer("/token", Answer::json(200, answer));
        self.cli.run(&["refresh", "app", "--json"])
    }

    /// Renews at another place, which gives that answer.
    fn refresh_at(&self, path: &str, answer: &Value) -> Outcome {
        self.server.answer(path, Answer::json(200, answer));
        self.cli.run(&["refresh", "app", "--json"])
    }

    /// What the token endpoint received last.
    fn received(&self) -> ReceivedRequest {
        let mut all = self.server.requests_to("/token");
        all.pop().expect("a token request")
    }

    /// The form that the token endpoint received last.
    fn form(&self) -> BTreeMap<String, String> {
        self.received().form().into_iter().collect()
    }

    fn token(&self) -> Value {
        self.cli.token("app")
    }

    /// The token endpoint's last response, as callers see it.
    fn response(&self) -> Value {
        let call = self.cli.run(&["token", "app", "--response"]);
        call.expect_code(0).json()
    }

    /// Insists that the history tells of a deviation, in a sentence with these words.
    #[track_caller]
    fn expect_told(&self, words: &str) {
        let history = self.cli.run(&["history", "app", "--json"]).expect_code(0);
        let history = history.json();
        let events = history.as_array().expect("a history");
        let told = events
            .iter()
            .any(|event| event["kind"] == "quirk-applied" && event.to_string().contains(words));
        assert!(told, "nothing tells of \"{words}\": {history:#}");
    }
}

/// A response by the standard.
fn good() -> Value {
    json!({
        "access_token": "access-1",
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": "refresh-1",
    })
}

fn seconds_since_1970() -> u64 {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// How long a token is said to live from now, in seconds, within a good minute.
#[track_caller]
fn expect_lifetime(token: &Value, seconds: u64) {
    let at = token["expires_at"].as_u64().expect("a time");
    let left = at.saturating_sub(seconds_since_1970());
    let most = tokenwell_tests::PATIENCE.as_secs();
    assert!(
        (seconds - most..=seconds + 2).contains(&left),
        "{left} s are left"
    );
}

/// That a time is the one told, but for fractions of a second and, since it is the
/// lifetime that counts, the time that the response was under way.
#[track_caller]
fn expect_time(time: &Value, told: u64) {
    let time = time.as_u64().expect("a time");
    let most = tokenwell_tests::PATIENCE.as_secs();
    assert!(
        (told - 2..=told + most).contains(&time),
        "{time}, told was {told}"
    );
}

/// A JSON body.
#[track_caller]
fn body(request: &ReceivedRequest) -> Value {
    assert_eq!(request.header("content-type"), Some("application/json"));
    serde_json::from_slice(&request.body).expect("a body in JSON")
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

/// The claims of an assertion that the client signed.
fn claims(assertion: &str) -> Value {
    let payload = assertion.split('.').nth(1).expect("a JWT");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("claims in JSON")
}

// ---- the authorization request --------------------------------------------------

/// Shows: guest/providers/README.md, requests.
#[test]
fn authorization_parameter_names() {
    let app = App::new("slack-user", json!({"scope": "search:read"}));
    let (begun, sent) = app.begin();
    assert_eq!(sent["user_scope"], "search:read");
    assert!(!sent.contains_key("scope"));
    let answer = json!({"ok": true, "authed_user": {"access_token": "xoxp", "token_type": "user"}});
    app.complete(&begun, &[], &answer).expect_code(0);
    assert_eq!(app.token()["access_token"], "xoxp");
    app.expect_told("The authorization request calls scope user_scope.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn scope_separator_comma() {
    let app = App::new("strava", json!({"scope": "read activity:write"}));
    let (begun, sent) = app.begin();
    assert_eq!(sent["scope"], "read,activity:write");
    app.complete(&begun, &[], &good()).expect_code(0);
    app.expect_told("Scopes are separated by");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn scope_separator_plus() {
    let app = App::new("attio", json!({"scope": "read write"}));
    let (begun, _) = app.begin();
    let url = &begun.authorization_url;
    assert!(url.contains("scope=read+write"), "{url}");
    app.complete(&begun, &[], &good()).expect_code(0);
    app.expect_told("Scopes are separated by");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn code_challenge_encoding() {
    let app = App::new("tiktok", json!({}));
    let (begun, sent) = app.begin();
    app.complete(&begun, &[], &good()).expect_code(0);
    let challenge = &sent["code_challenge"];
    assert!(challenge.len() == 64 && challenge.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(app.form()["code_verifier"].len() >= 43);
    app.expect_told("The PKCE challenge is written as hex");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn pkce_unsupported() {
    let app = App::new(
        "amazon-selling-partner",
        json!({"parameters": {"application_id": "amzn1.sp.1"}}),
    );
    let (_, sent) = app.begin();
    assert!(sent.keys().all(|name| !name.starts_with("code_challenge")));
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn response_type_and_token_request_sends_state() {
    let app = App::new("follow-up-boss", json!({}));
    let (begun, sent) = app.begin();
    assert_eq!(sent["response_type"], "auth_code");
    app.complete(&begun, &[("response", "approved")], &good())
        .expect_code(0);
    assert_eq!(app.form()["state"], sent["state"]);
    app.expect_told("The state is repeated in the token request.");
    app.refresh(&good()).expect_code(0);
    assert!(!app.form().contains_key("state"));
}

/// Shows: OAuth 2.0 Form Post Response Mode.
/// Shows: guest/providers/README.md, requests.
#[test]
fn response_mode_form_post() {
    let app = App::new("apple", json!({"scope": "name email"}));
    let (_, sent) = app.begin();
    assert_eq!(sent["response_mode"], "form_post");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn authorization_parameters() {
    let app = App::new("notion", json!({}));
    assert_eq!(app.begin().1["owner"], "user");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn redirect_uri_sent() {
    let app = App::new("ebay", json!({"parameters": {"ru_name": "Acme-App-PRD-1"}}));
    let (begun, sent) = app.begin();
    assert_eq!(sent["redirect_uri"], "Acme-App-PRD-1");
    app.complete(&begun, &[], &good()).expect_code(0);
    assert_eq!(app.form()["redirect_uri"], "Acme-App-PRD-1");
    app.expect_told("The redirect URI goes by the name Acme-App-PRD-1");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn offline_scope() {
    let app = App::new("whoop", json!({"scope": "read:profile"}));
    let (begun, sent) = app.begin();
    assert_eq!(sent["scope"], "read:profile offline");
    app.complete(&begun, &[], &good()).expect_code(0);
    app.expect_told("A refresh token takes the scope offline.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn offline_parameters_and_prompt() {
    let app = App::new("google", json!({"scope": "email"}));
    let (begun, sent) = app.begin();
    assert_eq!(sent["access_type"], "offline");
    assert_eq!(sent["prompt"], "consent");
    app.complete(&begun, &[], &good()).expect_code(0);
    app.expect_told("A refresh token takes the parameter access_type=offline.");
    app.expect_told("A refresh token takes prompt=consent.");
}

// ---- the redirect ----------------------------------------------------------------

/// Shows: guest/providers/README.md, requests.
#[test]
fn callback_code_parameter_and_callback_parameters() {
    let app = App::new(
        "amazon-selling-partner",
        json!({"parameters": {"application_id": "amzn1.sp.1"}}),
    );
    let (begun, _) = app.begin();
    let redirect = begun.redirect(&[
        ("spapi_oauth_code", CODE),
        ("state", &begun.state),
        ("selling_partner_id", "A1B2"),
    ]);
    app.complete_with(&redirect, &good()).expect_code(0);
    assert_eq!(app.form()["code"], CODE);
    assert_eq!(app.response()["selling_partner_id"], "A1B2");
    app.expect_told("The redirect calls the code spapi_oauth_code.");
    app.refresh(&good()).expect_code(0);
    assert_eq!(app.response()["selling_partner_id"], "A1B2");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn token_request_sends_callback_parameters() {
    let app = App::new("vk-id", json!({}));
    let (begun, _) = app.begin();
    app.complete(&begun, &[("device_id", "d 1")], &good())
        .expect_code(0);
    assert_eq!(app.form()["device_id"], "d 1");
    app.expect_told("Every token request repeats what is kept of the redirect.");
    app.refresh(&good()).expect_code(0);
    assert_eq!(app.form()["device_id"], "d 1");
    assert_eq!(app.form()["state"], begun.state);
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn callback_server_parameter() {
    let app = App::new("zoho", json!({}));
    let (begun, _) = app.begin();
    let strange = [("accounts-server", "https://accounts.zoho.example")];
    app.complete(&begun, &strange, &good()).expect_code(5);
    assert!(app.server.requests_to("/token").is_empty());
    // The endpoint by hand stays: it is none of the provider's regions.
    let known = [
        ("accounts-server", "https://accounts.zoho.eu"),
        ("location", "eu"),
    ];
    app.complete(&begun, &known, &good()).expect_code(0);
    assert_eq!(app.response()["location"], "eu");
    app.expect_told("The redirect names the server of the user's region in accounts-server.");
}

// ---- the token request ------------------------------------------------------------

/// Shows: guest/providers/README.md, requests.
#[test]
fn token_request_format_json() {
    let app = App::new("notion", json!({}));
    app.authorize(&json!({"access_token": "a", "token_type": "bearer", "bot_id": "b"}));
    let request = app.received();
    let sent = body(&request);
    assert_eq!(sent["grant_type"], "authorization_code");
    assert_eq!(
        (&sent["code"], &sent["redirect_uri"]),
        (&json!(CODE), &json!(REDIRECT_URI))
    );
    assert!(
        request
            .header("authorization")
            .is_some_and(|value| value.starts_with("Basic "))
    );
    assert_eq!(app.response()["bot_id"], "b");
    app.expect_told("The token request is written as json, not as a form.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn token_request_format_query_and_authorization_fragment() {
    let app = App::new("wechat", json!({"scope": "snsapi_login"}));
    let (begun, sent) = app.begin();
    assert!(begun.authorization_url.ends_with("#wechat_redirect"));
    assert_eq!(sent["appid"], "client");
    let answer =
        json!({"access_token": "a", "expires_in": 7200, "refresh_token": "r", "openid": "o"});
    app.complete(&begun, &[], &answer).expect_code(0);
    let request = app.received();
    assert_eq!((request.method.as_str(), request.body.len()), ("GET", 0));
    assert_eq!(request.header("content-type"), None);
    let query: BTreeMap<_, _> = tokenwell_tests::form(&request.query).into_iter().collect();
    assert_eq!(
        (query["appid"].as_str(), query["secret"].as_str()),
        ("client", SECRET)
    );
    assert_eq!(query["code"], CODE);
    assert_eq!(app.token()["token_type"], "Bearer");
    app.expect_told("The token request is written as query, not as a form.");
    app.expect_told("The authorization URL ends with #wechat_redirect.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn token_parameters_and_response_wrapper() {
    let app = App::new("withings", json!({"scope": "user.info"}));
    let inner = json!({"access_token": "a", "token_type": "Bearer", "expires_in": 10800, "refresh_token": "r"});
    app.authorize(&json!({"status": 0, "body": inner}));
    assert_eq!(app.form()["action"], "requesttoken");
    assert_eq!(app.token()["access_token"], "a");
    app.expect_told("The token response is wrapped in body.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn token_headers() {
    let agent = "web:example:1 (by /u/x)";
    let app = App::new("reddit", json!({"parameters": {"user_agent": agent}}));
    app.authorize(&good());
    assert_eq!(app.received().header("user-agent"), Some(agent));
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn token_parameter_names() {
    let app = App::new("tiktok", json!({}));
    app.authorize(&good());
    let sent = app.form();
    assert_eq!(
        (sent["client_key"].as_str(), sent["client_secret"].as_str()),
        ("client", SECRET)
    );
    assert!(!sent.contains_key("client_id"));
    app.expect_told("The token request calls client_id client_key.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn grant_types_by_other_names() {
    let fields = json!({"grant_type": "client_credentials", "parameters": {"account_id": "acc"}});
    let app = App::new("zoom-server", fields);
    app.server.answer("/token", Answer::json(200, &good()));
    app.token();
    let sent = app.form();
    assert_eq!(sent["grant_type"], "account_credentials");
    assert_eq!(sent["account_id"], "acc");
    app.expect_told("The grant_type client_credentials is called account_credentials.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn refresh_sends_scope() {
    let app = App::new("microsoft-entra", json!({"scope": "User.Read"}));
    app.authorize(&good());
    assert!(!app.form().contains_key("scope"));
    app.refresh(&good()).expect_code(0);
    assert_eq!(app.form()["scope"], "User.Read offline_access");
    app.expect_told("A refresh names the scopes again.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn refresh_sends_redirect_uri_in_a_draft_of_the_protocol() {
    let app = App::new("basecamp", json!({}));
    app.authorize(&good());
    assert_eq!(app.form()["type"], "web_server");
    app.refresh(&good()).expect_code(0);
    let sent = app.form();
    assert_eq!(
        (sent["type"].as_str(), sent["redirect_uri"].as_str()),
        ("refresh", REDIRECT_URI)
    );
    app.expect_told("A refresh names the redirect URI again.");
}

// ---- client authentication ---------------------------------------------------------

/// Shows: guest/providers/README.md, requests.
#[test]
fn token_endpoint_auth_method() {
    let app = App::new("slack", json!({}));
    app.authorize(&json!({"ok": true, "access_token": "xoxb", "token_type": "bot"}));
    assert_eq!(app.received().header("authorization"), None);
    let sent = app.form();
    assert_eq!(
        (sent["client_id"].as_str(), sent["client_secret"].as_str()),
        ("client", SECRET)
    );
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn secret_as_username() {
    let app = App::new("stripe", json!({}));
    app.authorize(&json!({"access_token": "sk", "token_type": "bearer", "stripe_user_id": "acct"}));
    let credentials = basic(&format!("{SECRET}:"));
    assert_eq!(
        app.received().header("authorization"),
        Some(credentials.as_str())
    );
    app.expect_told("The client secret is the user name of the Basic header");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn revocation_method_format_names_and_authentication() {
    let (cli, server) = (Cli::new(), ScriptedServer::start());
    let config = json!({
        "provider": "github",
        "client_id": "client",
        "client_secret": SECRET,
        "grant_type": "refresh_token",
        "refresh_token": "refresh-0",
        "token_endpoint": server.url("/token"),
        "revocation_endpoint": server.url("/applications/client/token"),
    });
    cli.create("app", &config).expect_code(0);
    server.answer("/token", Answer::json(200, &good()));
    cli.run(&["token", "app"]).expect_code(0);
    server.answer(
        "/applications/client/token",
        Answer::new(204, "text/plain", ""),
    );
    cli.run(&["revoke", "app"]).expect_code(0);
    let received = server.only_request_to("/applications/client/token");
    assert_eq!(received.method, "DELETE");
    assert_eq!(received.body, br#"{"access_token":"access-1"}"#);
    let basic = received.header("authorization").expect("credentials");
    assert!(basic.starts_with("Basic "), "{basic}");
    let history = cli.run(&["history", "app", "--json"]).expect_code(0).json();
    assert!(
        history
            .to_string()
            .contains("Tokens are revoked by DELETE."),
        "{history:#}"
    );
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn revocation_by_the_access_token_alone() {
    let (cli, server) = (Cli::new(), ScriptedServer::start());
    let config = json!({
        "provider": "slack-user",
        "client_id": "client",
        "client_secret": SECRET,
        "grant_type": "refresh_token",
        "refresh_token": "refresh-0",
        "token_endpoint": server.url("/token"),
        "revocation_endpoint": server.url("/api/auth.revoke"),
    });
    cli.create("app", &config).expect_code(0);
    let user = json!({"ok": true, "authed_user": good(), "access_token": "access-1",
        "token_type": "user", "expires_in": 3600});
    server.answer("/token", Answer::json(200, &user));
    cli.run(&["token", "app"]).expect_code(0);
    let refusal = json!({"ok": false, "error": "account_inactive"});
    server.answer("/api/auth.revoke", Answer::json(200, &refusal));
    let refused = cli.run(&["revoke", "app"]).expect_code(5);
    assert!(refused.stderr.contains("account_inactive"), "{refused:?}");
    server.answer(
        "/api/auth.revoke",
        Answer::json(200, &json!({"ok": true, "revoked": true})),
    );
    cli.run(&["revoke", "app"]).expect_code(0);
    for received in server.requests_to("/api/auth.revoke") {
        assert_eq!(received.header("authorization"), Some("Bearer access-1"));
        assert_eq!(
            (received.method.as_str(), received.body.as_slice()),
            ("POST", &b""[..])
        );
    }
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn client_secret_basic_encoding_raw() {
    let (cli, server) = (Cli::new(), ScriptedServer::start());
    // An issuer by hand is another server that speaks as the provider does.
    let issuer = server.url("");
    let metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
    });
    server.answer(
        "/.well-known/openid-configuration",
        Answer::json(200, &metadata),
    );
    let config = json!({
        "provider": "hcl-domino",
        "parameters": {"host": "domino.example"},
        "issuer": issuer,
        "client_id": "client",
        "client_secret": SECRET,
        "redirect_uri": REDIRECT_URI,
    });
    cli.create("app", &config).expect_code(0);
    let app = App { cli, server };
    app.authorize(&good());
    let credentials = basic(&format!("client:{SECRET}"));
    assert_eq!(
        app.received().header("authorization"),
        Some(credentials.as_str())
    );
    app.expect_told("It does not decode the credentials of a Basic header");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn client_secret_assertion() {
    let app = App::signing("apple", json!({"parameters": {"team_id": "A1B2C3D4E5"}}));
    app.authorize(&good());
    let first = app.form();
    let claims = claims(&first["client_secret"]);
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!("A1B2C3D4E5"), &json!("client"))
    );
    assert_eq!(claims["aud"], "https://appleid.apple.com");
    assert!(!first.contains_key("client_assertion"));
    app.expect_told("The client secret is a JWT signed with your key.");
    app.refresh(&good()).expect_code(0);
    assert_ne!(app.form()["client_secret"], first["client_secret"]);
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn assertion_issuer_and_audience() {
    let app = App::signing("revolut", json!({}));
    app.authorize(&good());
    let claims = claims(&app.form()["client_assertion"]);
    // The host of the redirect URI.
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!("client.example"), &json!("client"))
    );
    assert_eq!(claims["aud"], "https://revolut.com");
    app.expect_told("The client's assertion is for https://revolut.com.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn assertion_audience_that_is_the_token_endpoint() {
    let method = json!({"token_endpoint_auth_method": "private_key_jwt"});
    let app = App::signing("microsoft-entra", method);
    app.authorize(&good());
    let claims = claims(&app.form()["client_assertion"]);
    assert_eq!(claims["aud"], app.server.url("/token"));
}

// ---- the token response ------------------------------------------------------------

/// Shows: guest/providers/README.md, responses.
#[test]
fn response_fields_and_success_field() {
    let app = App::new("slack-user", json!({}));
    app.authorize(
        &json!({"ok": true, "access_token": "xoxb", "token_type": "bot",
        "authed_user": {"access_token": "xoxp", "refresh_token": "r", "expires_in": 43200,
            "scope": "search:read,users:read"}}),
    );
    let token = app.token();
    assert_eq!(token["access_token"], "xoxp");
    assert_eq!(token["scope"], "search:read users:read");
    expect_lifetime(&token, 43200);
    app.expect_told(
        "The token response has access_token at authed_user.access_token or access_token.",
    );
    let outcome = app.refresh(&json!({"ok": false, "error": "invalid_refresh_token"}));
    let error = outcome.expect_code(4).error();
    assert!(error.to_string().contains("invalid_grant"), "{error}");
}

/// An id_token for `client`, signed with that key by EdDSA (RFC 8037).
fn id_token(key: &rcgen::KeyPair, issuer: &str, tenant: &str, nonce: &str) -> String {
    use rcgen::SigningKey as _;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let now = seconds_since_1970();
    let claims = json!({"iss": issuer, "tid": tenant, "sub": "u", "aud": "client",
        "nonce": nonce, "iat": now, "exp": now + 3600});
    let signed = format!("{}.{}", part(json!({"alg": "EdDSA"})), part(claims));
    let signature = key.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Shows: guest/providers/README.md, responses.
/// Shows: OpenID Connect Core section 3.1.3.7.
#[test]
fn id_token_issuer() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(key.public_key_raw());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]});
    for (issuer, code) in [
        ("https://login.microsoftonline.com/t1/v2.0", 0),
        ("https://login.microsoftonline.com/t2/v2.0", 5),
        ("https://evil.example/t1/v2.0", 5),
    ] {
        let server = ScriptedServer::start();
        server.answer("/keys", Answer::json(200, &keys));
        let fields = json!({"scope": "openid", "jwks_uri": server.url("/keys")});
        let app = App::new("microsoft-entra", fields);
        let (begun, sent) = app.begin();
        let mut answer = good();
        answer["id_token"] = json!(id_token(&key, issuer, "t1", &sent["nonce"]));
        app.complete(&begun, &[], &answer).expect_code(code);
        // Claims that are wrong need no signature to be refused.
        assert_eq!(server.requests_to("/keys").len(), usize::from(code == 0));
        let state = app.cli.status("app")["state"].clone();
        assert_eq!(state == "authorized", code == 0, "{issuer}: {state}");
    }
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn error_codes_with_the_status_200() {
    let app = App::new("github", json!({}));
    let (begun, _) = app.begin();
    let description = "The code passed is incorrect or expired.";
    let answer = json!({"error": "bad_verification_code", "error_description": description});
    let error = app.complete(&begun, &[], &answer).expect_code(5).error();
    assert_eq!(error["code"], "invalid_grant");
    assert!(text(&error, "message").contains(description), "{error}");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn response_scope_separator() {
    let app = App::new("github", json!({"scope": "repo gist"}));
    let (begun, sent) = app.begin();
    assert_eq!(sent["scope"], "repo gist");
    let answer = json!({"access_token": "gho", "scope": "repo,gist", "token_type": "bearer"});
    app.complete(&begun, &[], &answer).expect_code(0);
    assert_eq!(app.token()["scope"], "repo gist");
    app.expect_told("The scopes granted are separated by commas.");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn expiry_unit_milliseconds() {
    let fields =
        json!({"grant_type": "client_credentials", "parameters": {"host": "fiserv.example"}});
    let app = App::new("fiserv", fields);
    let answer = json!({"access_token": "a", "token_type": "Bearer", "expires_in": 900_000});
    app.server.answer("/token", Answer::json(200, &answer));
    expect_lifetime(&app.token(), 900);
    app.expect_told("The expiry is told as milliseconds and not in seconds.");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn expiry_unit_date_with_the_status_201() {
    let fields = json!({
        "grant_type": "refresh_token",
        "refresh_token": "installed",
        "parameters": {"installation": "01234567-89ab-cdef-0123-456789abcdef"},
    });
    let app = App::new("sentry-integration", fields);
    let answer = json!({"id": "1", "token": "a", "refreshToken": "r",
        "dateCreated": "2096-02-29T04:00:00.000Z", "expiresAt": "2096-02-29T12:00:00.000000Z"});
    app.server.answer("/token", Answer::json(201, &answer));
    let token = app.token();
    assert_eq!(token["access_token"], "a");
    expect_time(&token["expires_at"], 3_981_355_200);
    assert_eq!(body(&app.received())["refresh_token"], "installed");
    app.expect_told("The expiry is told as date and not in seconds.");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn expiry_unit_unix() {
    let app = App::new("clover", json!({}));
    app.authorize(
        &json!({"access_token": "a", "access_token_expiration": 3_981_355_200_u64,
        "refresh_token": "r", "refresh_token_expiration": 4_012_891_200_u64}),
    );
    expect_time(&app.token()["expires_at"], 3_981_355_200);
    expect_time(&app.cli.status("app")["refresh_expires_at"], 4_012_891_200);
    app.expect_told("The expiry is told as unix and not in seconds.");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn token_type_of_the_providers_own() {
    let app = App::new("ebay", json!({"parameters": {"ru_name": "Acme-App-PRD-1"}}));
    app.authorize(
        &json!({"access_token": "v^1.1", "expires_in": 7200, "refresh_token": "r",
        "refresh_token_expires_in": 47_304_000, "token_type": "User Access Token"}),
    );
    let header = app.cli.run(&["token", "app", "--header"]).expect_code(0);
    assert_eq!(header.stdout.trim_end(), "Authorization: Bearer v^1.1");
    app.expect_told("The token is of the type Bearer, whatever the response calls it.");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn keeps_refresh_token() {
    let parameters = json!({"authorization_host": "workday.example", "host": "workday.example", "tenant": "acme"});
    let app = App::new("workday", json!({"parameters": parameters}));
    app.authorize(&json!({"access_token": "a", "token_type": "Bearer", "refresh_token": "first"}));
    app.refresh(&json!({"access_token": "b", "token_type": "Bearer", "refresh_token": "second"}))
        .expect_code(0);
    app.refresh(&json!({"access_token": "c", "token_type": "Bearer"}))
        .expect_code(0);
    assert_eq!(app.form()["refresh_token"], "first");
    app.expect_told("The refresh token stays the same");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn default_lifetime_seconds() {
    let app = App::new("jobber", json!({}));
    app.authorize(&json!({"access_token": "a", "refresh_token": "r"}));
    expect_lifetime(&app.token(), 3600);
    app.expect_told("No expiry is told; 60 minutes are assumed.");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn refresh_token_lifetime_seconds() {
    let app = App::new("atlassian", json!({"scope": "read:me"}));
    app.authorize(&good());
    let end = json!({"expires_at": app.cli.status("app")["refresh_expires_at"]});
    expect_lifetime(&end, 90 * 86_400);
}

// ---- at another place, or another way, when it is a refresh --------------------------

/// Shows: guest/providers/README.md, requests.
#[test]
fn refresh_endpoint() {
    let app = App::new("figma", json!({}));
    app.authorize(&good());
    let answer = json!({"access_token": "b", "token_type": "bearer", "expires_in": 3600});
    app.refresh_at("/v1/oauth/refresh", &answer).expect_code(0);
    let sent = app.server.only_request_to("/v1/oauth/refresh").form();
    assert_eq!(tokenwell_tests::only(&sent, "refresh_token"), "refresh-1");
    assert_eq!(app.server.requests_to("/token").len(), 1);
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn refresh_parameters_omitted() {
    let app = App::new("clover", json!({}));
    let answer = json!({"access_token": "a", "access_token_expiration": 3_981_355_200_u64,
        "refresh_token": "r", "refresh_token_expiration": 4_012_891_200_u64});
    app.authorize(&answer);
    app.refresh_at("/oauth/v2/refresh", &answer).expect_code(0);
    let sent = body(&app.server.only_request_to("/oauth/v2/refresh"));
    assert_eq!(sent, json!({"client_id": "client", "refresh_token": "r"}));
    app.expect_told("The refresh request goes without client_secret.");
}

/// Shows: guest/providers/README.md, requests.
#[test]
fn exchange_endpoint_and_refresh_with_access_token() {
    let app = App::new("threads", json!({"scope": "threads_basic"}));
    let (begun, _) = app.begin();
    let long = |number: u32| json!({"access_token": format!("long-{number}"), "token_type": "bearer", "expires_in": 5_184_000});
    app.server
        .answer("/access_token", Answer::json(200, &long(1)));
    let short = json!({"access_token": "short", "user_id": "7"});
    app.complete(&begun, &[], &short).expect_code(0);
    let query = |path: &str| {
        let request = app.server.only_request_to(path);
        assert_eq!((request.method.as_str(), request.body.len()), ("GET", 0));
        tokenwell_tests::form(&request.query)
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    assert_eq!(
        query("/access_token"),
        pairs(&[
            ("access_token", "short"),
            ("client_secret", SECRET),
            ("grant_type", "th_exchange_token"),
        ])
    );
    let token = app.token();
    assert_eq!(
        (&token["access_token"], &token["refreshable"]),
        (&json!("long-1"), &json!(true))
    );
    app.refresh_at("/refresh_access_token", &long(2))
        .expect_code(0);
    assert_eq!(
        query("/refresh_access_token"),
        pairs(&[
            ("grant_type", "th_refresh_token"),
            ("access_token", "long-1")
        ])
    );
    assert_eq!(app.token()["access_token"], "long-2");
    app.expect_told("There is no refresh token: the access token itself is refreshed");
    app.expect_told("The refresh request calls refresh_token access_token.");
    app.expect_told("The refresh request is written as query.");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn refresh_extends_token() {
    let app = App::new("coros", json!({}));
    app.authorize(&json!({"expires_in": 2_592_000, "refresh_token": "r", "access_token": "a"}));
    let acknowledged = json!({"result": "0000", "message": "OK"});
    app.refresh_at("/oauth2/refresh-token", &acknowledged)
        .expect_code(0);
    let token = app.token();
    assert_eq!(
        (&token["access_token"], &token["refreshable"]),
        (&json!("a"), &json!(true))
    );
    app.expect_told("A refresh prolongs the access token and brings no new one.");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn response_fields_in_camel_case() {
    let fields = json!({"grant_type": "password", "username": "u", "password": "p",
        "client_secret": null, "parameters": {"host": "plenty.example"}});
    let app = App::of_client("plentymarkets", json!({}), fields, |_| json!({}));
    let answer =
        json!({"accessToken": "a", "tokenType": "Bearer", "expiresIn": 86400, "refreshToken": "r"});
    app.server.answer("/token", Answer::json(200, &answer));
    let token = app.token();
    assert_eq!(
        (&token["access_token"], &token["refreshable"]),
        (&json!("a"), &json!(true))
    );
    expect_lifetime(&token, 86400);
    app.expect_told("The token response has access_token at accessToken.");
}

// ---- put up with from every server --------------------------------------------------

/// A connection to a server that no provider is named for.
fn plain(answer: Answer) -> App {
    let (cli, server) = (Cli::new(), ScriptedServer::start());
    let config = json!({
        "client_id": "client",
        "client_secret": SECRET,
        "grant_type": "client_credentials",
        "token_endpoint": server.url("/token"),
        "scope": "read write",
    });
    cli.create("app", &config).expect_code(0);
    server.answer("/token", answer);
    App { cli, server }
}

fn json_answer(answer: Value) -> Answer {
    Answer::json(200, &answer)
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn a_lifetime_in_a_string() {
    let answer = json!({"access_token": "a", "token_type": "Bearer", "expires_in": "3600"});
    let app = plain(json_answer(answer));
    expect_lifetime(&app.token(), 3600);
    app.expect_told("expires_in was");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn a_lifetime_of_nothing() {
    let answer = json!({"access_token": "a", "token_type": "Bearer", "expires_in": 0});
    let app = plain(json_answer(answer));
    assert_eq!(app.token()["expires_at"], Value::Null);
    app.expect_told("expires_in was");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn a_missing_token_type() {
    let app = plain(json_answer(
        json!({"access_token": "a", "expires_in": 3600}),
    ));
    assert_eq!(app.token()["token_type"], "Bearer");
    app.expect_told("token_type was missing and taken to be Bearer");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn a_form_in_place_of_json() {
    let form = "access_token=a%2Bb&token_type=bearer&expires_in=3600&scope=read+write";
    let app = plain(Answer::new(200, "text/plain", form));
    let token = app.token();
    assert_eq!(
        (&token["access_token"], &token["scope"]),
        (&json!("a+b"), &json!("read write"))
    );
    app.expect_told("the response was a form, not JSON");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn scopes_in_an_array() {
    let answer = json!({"access_token": "a", "token_type": "bearer", "scope": ["read", "write"]});
    let app = plain(json_answer(answer));
    assert_eq!(app.token()["scope"], "read write");
    app.expect_told("scope was an array, not a string");
}

/// Shows: guest/providers/README.md, responses.
#[test]
fn the_end_of_a_refresh_token_by_either_name() {
    for name in ["refresh_expires_in", "refresh_token_expires_in"] {
        let mut answer = good();
        answer[name] = json!(86_400);
        let app = plain(json_answer(answer));
        app.token();
        let end = json!({"expires_at": app.cli.status("app")["refresh_expires_at"]});
        expect_lifetime(&end, 86_400);
    }
}
