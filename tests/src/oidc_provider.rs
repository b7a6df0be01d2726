//! The real authorization server: npm `oidc-provider` in a process of its own.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};
use url::Url;

use crate::part::Part;
use crate::process::Process;
use crate::{PATIENCE, workspace};

/// An authorization server with the clients of
/// `tests/servers/oidc-provider/server.mjs`; it ends when dropped.
#[derive(Debug)]
pub struct OidcProvider {
    issuer: String,
    agent: Agent,
    _process: Process,
}

/// How long what the server issues lives, in seconds; absent: long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lifetimes {
    /// Of access tokens.
    pub access_token: Option<u32>,
    /// Of refresh tokens.
    pub refresh_token: Option<u32>,
    /// Of authorization codes.
    pub authorization_code: Option<u32>,
}

/// What the user decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Signs in and consents.
    Consent,
    /// Cancels.
    Deny,
}

/// A request as the server saw it, and what became of it.
#[derive(Clone, Debug, Deserialize)]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The headers; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The form in the body, where the server read one.
    pub form: Option<BTreeMap<String, String>>,
    /// The status of the response.
    pub status: Option<u16>,
    /// The token endpoint's response.
    pub response: Option<BTreeMap<String, Value>>,
}

impl RecordedRequest {
    /// A parameter of the form; empty where there is none.
    pub fn parameter(&self, name: &str) -> &str {
        self.form
            .as_ref()
            .and_then(|form| form.get(name))
            .map_or("", String::as_str)
    }

    /// A member of the token endpoint's response, where it is a text.
    pub fn issued(&self, name: &str) -> Option<&str> {
        self.response.as_ref()?.get(name)?.as_str()
    }
}

impl OidcProvider {
    /// Starts a server; absent where the machine is known to lack Node.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start(lifetimes: Lifetimes) -> Option<Self> {
        if Part::Node.is_lacking() {
            return None;
        }
        let folder = workspace().join("tests/servers/oidc-provider");
        assert!(
            folder.join("node_modules/oidc-provider").is_dir(),
            "npm's oidc-provider is not installed: run `cargo xtask test`, or `npm ci` in {}",
            folder.display()
        );
        let mut command = Command::new("node");
        command.arg("server.mjs").current_dir(folder);
        for (variable, seconds) in [
            ("ACCESS_TOKEN_TTL", lifetimes.access_token),
            ("REFRESH_TOKEN_TTL", lifetimes.refresh_token),
            ("AUTHORIZATION_CODE_TTL", lifetimes.authorization_code),
        ] {
            match seconds {
                Some(seconds) => command.env(variable, seconds.to_string()),
                None => command.env_remove(variable),
            };
        }
        let mut process = Process::start(&mut command);
        let line = process.next_line();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the server's first line is not JSON: {line}"));
        let issuer = ready["issuer"]
            .as_str()
            .expect("the issuer in the first line")
            .to_owned();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        Some(Self {
            issuer,
            agent,
            _process: process,
        })
    }

    /// The issuer, which is also where everything is.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A URL of the server.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    /// What clients sent since the start or the last [`Self::forget_requests`].
    pub fn requests(&self) -> Vec<RecordedRequest> {
        let mut response = self
            .agent
            .get(self.url("/_test/requests"))
            .call()
            .expect("the log");
        let body = response.body_mut().read_to_string().expect("the log");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// The requests to one path.
    pub fn requests_to(&self, path: &str) -> Vec<RecordedRequest> {
        self.requests()
            .into_iter()
            .filter(|request| request.path == path)
            .collect()
    }

    /// Empties the log.
    pub fn forget_requests(&self) {
        self.agent
            .delete(self.url("/_test/requests"))
            .call()
            .expect("the log");
    }

    /// Whether a token is good, by the server's own account (RFC 7662).
    pub fn is_active(&self, token: &str) -> bool {
        let mut response = self
            .agent
            .post(self.url("/token/introspection"))
            .header(
                "authorization",
                basic("resource-server", "resource-server-secret-08be"),
            )
            .send_form([("token", token)])
            .expect("the introspection endpoint");
        let body = response
            .body_mut()
            .read_to_string()
            .expect("the introspection response");
        let claims: Value = serde_json::from_str(&body).expect("introspection answers with JSON");
        claims["active"]
            .as_bool()
            .unwrap_or_else(|| panic!("no introspection response: {body}"))
    }

    /// Makes an access token invalid behind the client's back. Its grant and
    /// its refresh token stay good.
    pub fn invalidate(&self, access_token: &str) {
        let url = self.url(&format!("/_test/access-token?{access_token}"));
        let response = self
            .agent
            .delete(url)
            .call()
            .expect("the server's controls");
        assert!(
            response.status().is_success(),
            "not done: {}",
            response.status()
        );
        assert!(!self.is_active(access_token), "the token is still good");
    }

    /// Takes a user through the pages over plain HTTP, without a browser, and
    /// returns the redirect to the client.
    ///
    /// # Panics
    /// Where the pages lead nowhere.
    pub fn decide(&self, authorization_url: &str, decision: Decision) -> String {
        let server = Url::parse(&self.issuer).expect("the issuer is a URL");
        let mut visitor = Visitor {
            agent: &self.agent,
            cookies: BTreeMap::new(),
        };
        let mut next = visitor.get(authorization_url);
        for _ in 0..10 {
            let at = Url::parse(&next).unwrap_or_else(|_| panic!("no URL: {next}"));
            next = if at.origin() != server.origin() {
                return next;
            } else if !at.path().starts_with("/interaction/") {
                visitor.get(&next)
            } else if decision == Decision::Deny {
                visitor.get(&format!("{next}/abort"))
            } else if visitor
                .page(&next)
                .contains(r#"name="prompt" value="login""#)
            {
                visitor.post(
                    &next,
                    &[
                        ("prompt", "login"),
                        ("login", "alice"),
                        ("password", "wonderland"),
                    ],
                )
            } else {
                visitor.post(&next, &[("prompt", "consent")])
            };
        }
        panic!("the pages go in a circle at {next}");
    }
}

/// The value of an `Authorization: Basic` header (RFC 6749 section 2.3.1).
fn basic(client: &str, secret: &str) -> String {
    use base64::Engine as _;
    let encode =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(client), encode(secret));
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

/// A user who follows redirects one at a time and keeps cookies.
struct Visitor<'a> {
    agent: &'a Agent,
    cookies: BTreeMap<String, String>,
}

impl Visitor<'_> {
    fn cookie_header(&self) -> String {
        let pairs: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    fn keep_cookies(&mut self, response: &Response<Body>) {
        for cookie in response.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().expect("a cookie in ASCII");
            let pair = cookie.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn page(&mut self, url: &str) -> String {
        let mut response = self
            .agent
            .get(url)
            .header("cookie", self.cookie_header())
            .call()
            .expect("a page");
        self.keep_cookies(&response);
        response.body_mut().read_to_string().expect("a page")
    }

    fn get(&mut self, url: &str) -> String {
        let response = self
            .agent
            .get(url)
            .header("cookie", self.cookie_header())
            .call()
            .expect("a page");
        self.redirect(url, response)
    }

    fn post(&mut self, url: &str, form: &[(&str, &str)]) -> String {
        let response = self
            .agent
            .post(url)
            .header("cookie", self.cookie_header())
            .send_form(form.iter().copied())
            .expect("a page");
        self.redirect(url, response)
    }

    fn redirect(&mut self, url: &str, mut response: Response<Body>) -> String {
        self.keep_cookies(&response);
        let Some(location) = response.headers().get("location") else {
            let body = response.body_mut().read_to_string().unwrap_or_default();
            panic!(
                "{url} answered {} and no redirect:\n{body}",
                response.status()
            );
        };
        let location = location.to_str().expect("a location in ASCII");
        let base = Url::parse(url).expect("the URL just visited");
        base.join(location)
            .expect("a location that is a URL")
            .into()
    }
}
