//! The real authorization server: npm `oidc-provider` in a process of its own.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};
use url::Url;

use crate::certificates::Certificates;
use crate::part::Part;
use crate::process::Process;
use crate::{PATIENCE, workspace};

/// An authorization server with the clients of
/// `tests/servers/oidc-provider/server.mjs`; it ends when dropped.
#[derive(Debug)]
pub struct OidcProvider {
    issuer: String,
    control: String,
    keys: BTreeMap<String, ClientKey>,
    agent: Agent,
    _process: Process,
}

/// The private key of the clients that sign by one algorithm.
#[derive(Clone, Debug, Deserialize)]
pub struct ClientKey {
    /// In PEM (PKCS #8).
    pub pem: String,
    /// As a JWK (RFC 7517).
    pub jwk: Value,
}

/// How the server is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// How long what it issues lives.
    pub lifetimes: Lifetimes,
    /// Whether it demands its nonces in DPoP proofs (RFC 9449 section 8).
    pub demands_nonces: bool,
    /// Where its certificate is, and those of its clients; absent: it speaks
    /// plain http.
    pub certificates: Option<&'a Certificates>,
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
    /// Of device codes.
    pub device_code: Option<u32>,
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
        Self::start_with(Settings {
            lifetimes,
            ..Settings::default()
        })
    }

    /// Starts a server that is to be like that; absent likewise.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start_with(settings: Settings<'_>) -> Option<Self> {
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
        let lifetimes = settings.lifetimes;
        for (variable, seconds) in [
            ("ACCESS_TOKEN_TTL", lifetimes.access_token),
            ("REFRESH_TOKEN_TTL", lifetimes.refresh_token),
            ("AUTHORIZATION_CODE_TTL", lifetimes.authorization_code),
            ("DEVICE_CODE_TTL", lifetimes.device_code),
            ("DPOP_NONCE", settings.demands_nonces.then_some(1)),
        ] {
            match seconds {
                Some(seconds) => command.env(variable, seconds.to_string()),
                None => command.env_remove(variable),
            };
        }
        match settings.certificates {
            Some(certificates) => command.env("TLS_DIRECTORY", certificates.directory()),
            None => command.env_remove("TLS_DIRECTORY"),
        };
        let mut process = Process::start(&mut command);
        let line = process.next_line();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the server's first line is not JSON: {line}"));
        let issuer = ready["issuer"]
            .as_str()
            .expect("the issuer in the first line")
            .to_owned();
        let control = ready["control"]
            .as_str()
            .expect("the control in the first line")
            .to_owned();
        let keys = serde_json::from_value(ready["keys"].clone())
            .expect("the clients' keys in the first line");
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        Some(Self {
            issuer,
            control,
            keys,
            agent,
            _process: process,
        })
    }

    /// The issuer, which is also where everything is.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The private key of the clients that sign by an algorithm (RFC 7518 section
    /// 3.1).
    ///
    /// # Panics
    /// Where there are none.
    pub fn client_key(&self, algorithm: &str) -> &ClientKey {
        self.keys
            .get(algorithm)
            .unwrap_or_else(|| panic!("no client signs by {algorithm}"))
    }

    /// A URL of the server.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    fn control(&self, path: &str) -> String {
        format!("{}{path}", self.control)
    }

    /// What clients sent since the start or the last [`Self::forget_requests`].
    pub fn requests(&self) -> Vec<RecordedRequest> {
        let mut response = self
            .agent
            .get(self.control("/_test/requests"))
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
            .delete(self.control("/_test/requests"))
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
        let url = self.control(&format!("/_test/access-token?{access_token}"));
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

    /// Takes a user, with the URL that a device showed him, through the pages over
    /// plain HTTP.
    ///
    /// # Panics
    /// Where the pages lead nowhere.
    pub fn decide_for_device(&self, verification_uri_complete: &str, decision: Decision) {
        let mut visitor = Visitor {
            agent: &self.agent,
            cookies: BTreeMap::new(),
        };
        let at = Url::parse(verification_uri_complete).expect("a URL");
        let code = crate::query_parameter(verification_uri_complete, "user_code");
        let place = format!("{}{}", at.origin().ascii_serialization(), at.path());
        let form = hidden(&visitor.page(verification_uri_complete), "xsrf");
        let confirm = visitor.submit(&place, &[("xsrf", &form), ("user_code", &code)]);
        let form = hidden(&confirm, "xsrf");
        let mut answer = vec![("xsrf", form.as_str()), ("user_code", &code)];
        if decision == Decision::Deny {
            answer.push(("abort", "yes"));
            visitor.submit(&place, &answer);
            return;
        }
        answer.push(("confirm", "yes"));
        let mut next = visitor.post(&place, &answer);
        for _ in 0..10 {
            if next.contains("/interaction/") {
                next = visitor.answer_interaction(&next);
            } else if let Some(further) = visitor.follow(&next) {
                next = further;
            } else {
                return;
            }
        }
        panic!("the pages go in a circle at {next}");
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
            } else {
                visitor.answer_interaction(&next)
            };
        }
        panic!("the pages go in a circle at {next}");
    }
}

/// The value of an `Authorization: Basic` header (RFC 6749 section 2.3.1).
pub(crate) fn basic(client: &str, secret: &str) -> String {
    use base64::Engine as _;
    let encode =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(client), encode(secret));
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

/// The value of a hidden field of a page.
fn hidden(page: &str, name: &str) -> String {
    let field = format!("name=\"{name}\" value=\"");
    let (_, rest) = page
        .split_once(&field)
        .unwrap_or_else(|| panic!("no field {name} on the page:\n{page}"));
    let value = rest.trim_start_matches('"').split('"').next();
    value.unwrap_or_default().to_owned()
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

    /// Signs in, or consents, and returns where that leads.
    fn answer_interaction(&mut self, url: &str) -> String {
        if !self.page(url).contains(r#"name="prompt" value="login""#) {
            return self.post(url, &[("prompt", "consent")]);
        }
        self.post(
            url,
            &[
                ("prompt", "login"),
                ("login", "alice"),
                ("password", "wonderland"),
            ],
        )
    }

    /// Sends a form and returns the page that comes of it.
    fn submit(&mut self, url: &str, form: &[(&str, &str)]) -> String {
        let mut response = self
            .agent
            .post(url)
            .header("cookie", self.cookie_header())
            .send_form(form.iter().copied())
            .expect("a page");
        self.keep_cookies(&response);
        response.body_mut().read_to_string().expect("a page")
    }

    /// Visits a page and returns where it leads; absent where it is the end.
    fn follow(&mut self, url: &str) -> Option<String> {
        let response = self
            .agent
            .get(url)
            .header("cookie", self.cookie_header())
            .call()
            .expect("a page");
        self.keep_cookies(&response);
        let is_redirect = response.headers().contains_key("location");
        is_redirect.then(|| self.redirect(url, response))
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
