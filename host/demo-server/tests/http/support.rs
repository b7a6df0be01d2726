//! A browser and a client, as plain as can be.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokenwell_demo_server::{DemoServer, Options};
use tokio::net::TcpStream;

/// 43 characters that are allowed in a code verifier.
pub const VERIFIER: &str = "correct-horse-battery-staple-0123456789-abc";
pub const REDIRECT_URI: &str = "http://127.0.0.1:49152/oauth2";

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name}"))
            .to_str()
            .expect("a header in ASCII")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// `error` of a JSON answer.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error").to_owned()
    }

    /// The parameters of the redirect.
    pub fn redirect(&self) -> BTreeMap<String, String> {
        parameters(self.header("location"))
    }
}

/// The query parameters of a URL.
pub fn parameters(url: &str) -> BTreeMap<String, String> {
    let (_, query) = url.split_once('?').expect("a query");
    form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

pub struct Peer(pub DemoServer);

impl Peer {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        Self(DemoServer::start(options).await.expect("a server"))
    }

    fn authority(&self) -> &str {
        self.0.issuer().trim_start_matches("http://")
    }

    pub async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(HeaderName, &str)],
        body: &str,
    ) -> Answer {
        let stream = TcpStream::connect(self.authority())
            .await
            .expect("a connection");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("a handshake");
        let mut request = Request::builder().method(method).uri(target);
        if headers.iter().all(|(name, _)| name != HOST) {
            request = request.header(HOST, self.authority());
        }
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("a request");
        let exchange = async {
            let (head, body) = sender
                .send_request(request)
                .await
                .expect("an answer")
                .into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            drop(sender);
            Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: String::from_utf8(body.to_vec()).expect("text"),
            }
        };
        tokio::join!(exchange, connection).0
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send(Method::GET, target, &[], "").await
    }

    pub async fn post(
        &self,
        target: &str,
        headers: &[(HeaderName, &str)],
        form: &[(&str, &str)],
    ) -> Answer {
        let mut headers = headers.to_vec();
        headers.push((CONTENT_TYPE, "application/x-www-form-urlencoded"));
        self.send(Method::POST, target, &headers, &encode(form))
            .await
    }

    /// A good authorization request, with some parameters put in or replaced;
    /// an empty value takes one out.
    pub fn authorization_target(&self, changes: &[(&str, &str)]) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let mut all = BTreeMap::from([
            ("response_type", "code"),
            ("client_id", self.0.client_id()),
            ("redirect_uri", REDIRECT_URI),
            ("scope", "notes:read offline_access"),
            ("state", "the state & more"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        all.extend(changes.iter().copied());
        all.retain(|_, value| !value.is_empty());
        let all: Vec<_> = all.into_iter().collect();
        format!("/authorize?{}", encode(&all))
    }

    pub async fn authorize(&self, changes: &[(&str, &str)]) -> Answer {
        self.get(&self.authorization_target(changes)).await
    }

    /// Opens the page: the cookie and the form token.
    pub async fn open_page(&self) -> (String, String) {
        let page = self.authorize(&[]).await;
        assert_eq!(page.status, 200);
        let cookie = page
            .header("set-cookie")
            .split(';')
            .next()
            .expect("a cookie")
            .to_owned();
        (cookie, form_token(&page.body))
    }

    pub async fn decide(&self, cookie: &str, form: &[(&str, &str)]) -> Answer {
        self.post("/sign-in", &[(COOKIE, cookie)], form).await
    }

    /// A code, by signing in and allowing.
    pub async fn code(&self) -> String {
        self.code_for(&[]).await
    }

    /// The same for a request that is changed.
    pub async fn code_for(&self, changes: &[(&str, &str)]) -> String {
        let url = format!("{}{}", self.0.issuer(), self.authorization_target(changes));
        let callback = self.0.consent(&url).await.expect("consent");
        parameters(&callback).remove("code").expect("a code")
    }

    pub async fn redeem(&self, code: &str, changes: &[(&str, &str)]) -> Answer {
        let mut form = BTreeMap::from([
            ("grant_type", "authorization_code"),
            ("client_id", self.0.client_id()),
            ("code", code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
        ]);
        form.extend(changes.iter().copied());
        form.retain(|_, value| !value.is_empty());
        let form: Vec<_> = form.into_iter().collect();
        self.post("/token", &[], &form).await
    }

    /// Access token and refresh token.
    pub async fn tokens(&self) -> (String, String) {
        let answer = self.redeem(&self.code().await, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        tokens_in(&answer)
    }

    pub async fn refresh(&self, refresh_token: &str) -> Answer {
        let client_id = self.0.client_id();
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", client_id),
            ("refresh_token", refresh_token),
        ];
        self.post("/token", &[], &form).await
    }

    pub async fn notes(&self, access_token: &str) -> Answer {
        let bearer = format!("Bearer {access_token}");
        self.send(Method::GET, "/api/notes", &[(AUTHORIZATION, &bearer)], "")
            .await
    }

    pub fn basic(&self) -> String {
        let secret = self.0.confidential_client_secret();
        let pair = format!("{}:{secret}", self.0.confidential_client_id());
        format!("Basic {}", STANDARD.encode(pair))
    }
}

pub fn tokens_in(answer: &Answer) -> (String, String) {
    let body = answer.json();
    let text = |name: &str| body[name].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}

pub fn form_token(page: &str) -> String {
    let (_, rest) = page
        .split_once("name=\"form_token\" value=\"")
        .expect("a form token");
    rest.split_once('"').expect("its end").0.to_owned()
}

pub fn encode(form: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish()
}
