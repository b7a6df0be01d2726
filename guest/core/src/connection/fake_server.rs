//! The authorization server of the fake world, with a resource of its own. It
//! looks at everything that it is sent: what a strict server would refuse it
//! refuses.

use super::fake_keys;
use crate::base64::base64url;
use crate::config::ClientAuthentication;
use crate::http::Response;
use crate::jws;
use crate::secret::SecretString;
use crate::time::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

pub const ISSUER: &str = "https://as.example";
pub const TOKEN_ENDPOINT: &str = "https://as.example/token";

/// Its client, and the client's secret.
const CLIENT: &str = "id";
const SECRET: &str = "secret";

/// Its user.
pub const USER: &str = "user";

/// The parameters of a request.
pub type Parameters = BTreeMap<String, String>;

/// What a request carried.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: &'static str,
    pub url: String,
    pub form: Parameters,
    /// Every parameter, those too that are there more than once.
    pub pairs: Vec<(String, String)>,
    pub headers: Parameters,
    pub body: String,
}

impl Received {
    fn of(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    fn path(&self) -> &str {
        let without_query = self.url.split('?').next().unwrap_or_default();
        without_query.strip_prefix(ISSUER).unwrap_or_default()
    }
}

/// What the user of a device has decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    Undecided,
    Allowed,
    Denied,
}

/// A device authorization.
#[derive(Clone, Debug)]
pub struct Device {
    code: String,
    pub decision: Decision,
    interval: u64,
    polled_at: u64,
    expires_at: u64,
}

/// How the next id_token departs from a good one.
#[derive(Clone, Debug)]
pub struct IdToken {
    /// Whether there is one with every token, and not for the scope openid alone.
    pub always: bool,
    /// What its header says in place of what is true.
    pub header: Vec<(&'static str, Value)>,
    /// What it claims in place of what is true; null: it does not say.
    pub claims: Vec<(&'static str, Value)>,
    /// The key that signs it, and how.
    pub key: &'static str,
    pub algorithm: &'static str,
    /// Whether a bit of the signature is wrong.
    pub is_forged: bool,
    /// This in its place.
    pub replaced_by: Option<&'static str>,
}

impl Default for IdToken {
    fn default() -> Self {
        Self {
            always: false,
            header: Vec::new(),
            claims: Vec::new(),
            key: "server-rsa",
            algorithm: "RS256",
            is_forged: false,
            replaced_by: None,
        }
    }
}

/// How it goes about nonces of proofs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Nonces {
    #[default]
    None,
    /// This one is wanted.
    Wanted(&'static str),
    /// Another one each time: none is ever right.
    Changing,
}

/// The authorization server.
#[derive(Default)]
pub struct Server {
    pub issued: u64,
    pub good: BTreeSet<String>,
    pub spent: BTreeSet<String>,
    /// Whether a refresh token is replaced at each use.
    pub rotates: bool,
    /// The lifetime of its tokens, in seconds; `None`: it does not say.
    pub lifetime: Option<u64>,
    /// Whether it gives refresh tokens.
    pub gives_refresh_tokens: bool,
    /// The `nonce` for the next id_token.
    pub nonce: Option<String>,
    /// How often a spent refresh token came.
    pub reuses: u32,
    /// How its client authenticates; `None`: it does not look.
    pub authentication: Option<ClientAuthentication>,
    /// The `jti` of every assertion and proof that came.
    pub used: BTreeSet<String>,
    /// Whether it takes token requests with a proof alone.
    pub requires_proofs: bool,
    /// Whether it passes proofs over.
    pub ignores_proofs: bool,
    /// The nonces that it wants in proofs; so does its resource.
    pub nonces: Nonces,
    pub nonces_given: u64,
    /// The thumbprint that a token is bound to.
    pub bound: BTreeMap<String, String>,
    /// The authorization request that a code answers.
    pub codes: BTreeMap<String, Parameters>,
    /// The requests that were pushed.
    pub pushed: BTreeMap<String, Parameters>,
    /// The device authorization under way.
    pub device: Option<Device>,
    /// Its id_tokens.
    pub id_token: IdToken,
    /// The keys that it publishes.
    pub published: Vec<&'static str>,
    /// When an access token expires, in seconds.
    pub access: BTreeMap<String, u64>,
    /// The scopes that it grants in place of those asked for.
    pub grants: Option<&'static str>,
    /// Whether its userinfo is a JWT.
    pub signs_userinfo: bool,
    /// Whom its userinfo is about.
    pub userinfo_subject: Option<&'static str>,
    /// What it adds to its token responses, and with null takes away.
    pub adds: Vec<(&'static str, Value)>,
}

/// What the server publishes of itself.
pub fn metadata() -> Value {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://as.example/auth",
        "token_endpoint": TOKEN_ENDPOINT,
        "revocation_endpoint": "https://as.example/revoke",
        "introspection_endpoint": "https://as.example/introspect",
        "userinfo_endpoint": "https://as.example/userinfo",
        "device_authorization_endpoint": "https://as.example/device",
        "pushed_authorization_request_endpoint": "https://as.example/par",
        "registration_endpoint": "https://as.example/register",
        "jwks_uri": "https://as.example/jwks",
        "authorization_response_iss_parameter_supported": true,
    })
}

fn response(status: u16, body: &Value) -> Response {
    Response {
        status,
        headers: Vec::new(),
        body: body.to_string().into_bytes(),
        arrived_at: Timestamp(0),
    }
}

fn refused(status: u16, code: &str, why: &str) -> Response {
    response(status, &json!({"error": code, "error_description": why}))
}

fn challenged(challenge: &str) -> Response {
    let mut response = response(401, &json!({}));
    response
        .headers
        .push(("www-authenticate".to_owned(), challenge.to_owned()));
    response
}

fn hash(text: &str) -> String {
    base64url(&Sha256::digest(text.as_bytes()))
}

/// A JWT that came, once its signature is found to be of that key.
fn signed_by<'a>(text: &'a str, key: &Value) -> Result<jws::Received<'a>, &'static str> {
    let token = jws::Received::parse(text).ok_or("it is no JWT")?;
    let is_signed = fake_keys::verify(
        key,
        token.algorithm(),
        token.signed.as_bytes(),
        &token.signature,
    );
    match is_signed {
        Some(true) => Ok(token),
        _ => Err("the signature is wrong"),
    }
}

/// A JWT that came from the client, signed with the key that it names.
fn signed_by_client(text: &str) -> Result<jws::Received<'_>, &'static str> {
    let token = jws::Received::parse(text).ok_or("it is no JWT")?;
    let key = match token.header.get("kid").and_then(Value::as_str) {
        Some("client-rsa") => "key:rsa",
        Some("client-ec") => "key:ec",
        Some("client-ed") => "key:ed",
        _ => return Err("it names no key of the client"),
    };
    let key = fake_keys::of_host(key).expect("a key");
    signed_by(text, &fake_keys::public(&key))
}

impl Server {
    /// Takes a refresh token as issued before the test began.
    pub fn accept(&mut self, refresh_token: &str) {
        self.good.insert(refresh_token.to_owned());
    }

    /// Answers a request to one of its endpoints, at so many seconds since 1970.
    pub fn answer(&mut self, request: &Received, now: u64) -> Option<Response> {
        let answer = match (request.method, request.path()) {
            // The second is where it may move to.
            ("POST", "/token" | "/v2/token") => self.token(request, now),
            ("POST", "/revoke") => match self.authenticate(request, now) {
                Ok(()) => Ok(response(200, &json!({}))),
                Err(refused) => Err(refused),
            },
            ("POST", "/introspect") => self.introspect(request, now),
            ("POST", "/device") => self.begin_device(request, now),
            ("POST", "/par") => self.push(request, now),
            ("POST", "/register") => register(request),
            ("GET", "/jwks") => Ok(self.keys()),
            ("GET", "/userinfo") => self.userinfo(request, now),
            _ => return None,
        };
        Some(answer.unwrap_or_else(|refused| refused))
    }

    fn keys(&self) -> Response {
        let published: &[&str] = match self.published.as_slice() {
            [] => &["server-rsa", "server-ec"],
            published => published,
        };
        let keys = published.iter().map(|kid| {
            let mut key = fake_keys::public(&fake_keys::of_server(kid));
            if kid.starts_with("nameless") {
                key.as_object_mut().expect("a key").remove("kid");
            }
            key
        });
        response(200, &json!({"keys": keys.collect::<Vec<_>>()}))
    }

    // ---- the user's part ----------------------------------------------------

    /// What the user's browser is sent back with, once the user has consented to
    /// the authorization request of that URL.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn consent(&mut self, url: &str, now: u64) -> Result<String, String> {
        let url = url::Url::parse(url).map_err(|error| error.to_string())?;
        if url.path() != "/auth" {
            return Err("this is no authorization endpoint".to_owned());
        }
        let outside: Parameters = url.query_pairs().into_owned().collect();
        if outside.len() != url.query_pairs().count() && !url.as_str().contains("resource=") {
            return Err("a parameter is there twice".to_owned());
        }
        let of = |name: &str| outside.get(name).map_or("", String::as_str);
        if of("client_id") != CLIENT {
            return Err("the client is unknown".to_owned());
        }
        let request = if let Some(reference) = outside.get("request_uri") {
            if outside.len() != 2 {
                return Err("there is more than the reference".to_owned());
            }
            let pushed = self.pushed.remove(reference);
            pushed.ok_or("the reference is unknown or used")?
        } else {
            outside.clone()
        };
        let request = match request.get("request") {
            Some(object) => self.unsigned(object, now)?,
            None => request,
        };
        self.check_request(&request)?;
        self.issued += 1;
        let code = format!("code-{}", self.issued);
        let state = request["state"].clone();
        self.codes.insert(code.clone(), request);
        Ok(format!(
            "code={code}&state={state}&iss=https%3A%2F%2Fas.example"
        ))
    }

    fn check_request(&self, request: &Parameters) -> Result<(), String> {
        let of = |name: &str| request.get(name).map_or("", String::as_str);
        for (name, wanted) in [("response_type", "code"), ("code_challenge_method", "S256")] {
            if of(name) != wanted {
                return Err(format!("{name} is {}", of(name)));
            }
        }
        for (name, least) in [("state", 43), ("code_challenge", 43), ("redirect_uri", 10)] {
            if of(name).len() < least {
                return Err(format!("{name} is {}", of(name)));
            }
        }
        if of("scope").split(' ').any(|scope| scope == "openid") && of("nonce").len() < 43 {
            return Err("there is no nonce".to_owned());
        }
        if self.requires_proofs && of("dpop_jkt").is_empty() {
            return Err("there is no dpop_jkt".to_owned());
        }
        Ok(())
    }

    /// The parameters of a request object (RFC 9101 section 6).
    fn unsigned(&mut self, object: &str, now: u64) -> Result<Parameters, String> {
        let token = signed_by_client(object)?;
        if token.header["typ"] != "oauth-authz-req+jwt" || token.claims.contains_key("sub") {
            return Err("it might be taken for something else".to_owned());
        }
        if token.text("iss") != Some(CLIENT) || token.text("aud") != Some(ISSUER) {
            return Err("it is from another client or for another server".to_owned());
        }
        self.check_times(&token, now, 600)?;
        let mut parameters = Parameters::new();
        for (name, value) in &token.claims {
            let text = value.as_str().map(str::to_owned);
            parameters.insert(name.clone(), text.unwrap_or_else(|| value.to_string()));
        }
        Ok(parameters)
    }

    fn push(&mut self, request: &Received, now: u64) -> Result<Response, Response> {
        self.authenticate(request, now)?;
        let mut parameters = request.form.clone();
        for name in ["client_secret", "client_assertion", "client_assertion_type"] {
            parameters.remove(name);
        }
        if parameters.get("client_id").map(String::as_str) != Some(CLIENT) {
            return Err(refused(400, "invalid_request", "there is no client_id"));
        }
        if parameters.contains_key("request") && parameters.len() != 2 {
            return Err(refused(
                400,
                "invalid_request",
                "there is more than the request",
            ));
        }
        if !parameters.contains_key("request") {
            self.check_request(&parameters)
                .map_err(|why| refused(400, "invalid_request", &why))?;
        }
        self.issued += 1;
        let reference = format!("urn:ietf:params:oauth:request_uri:{}", self.issued);
        self.pushed.insert(reference.clone(), parameters);
        Ok(response(
            201,
            &json!({"request_uri": reference, "expires_in": 60}),
        ))
    }

    // ---- who asks -----------------------------------------------------------

    /// Whether an assertion or proof is of now, and the only one of its `jti`.
    fn check_times(
        &mut self,
        token: &jws::Received<'_>,
        now: u64,
        longest: u64,
    ) -> Result<(), &'static str> {
        let time = |name: &str| token.claims.get(name).and_then(Value::as_u64);
        let issued = time("iat").ok_or("there is no iat")?;
        if issued.abs_diff(now) > 30 {
            return Err("it is of another time");
        }
        if longest > 0 {
            let expiry = time("exp").ok_or("there is no exp")?;
            if expiry <= now || expiry > issued + longest {
                return Err("it has expired, or lives for too long");
            }
        }
        let jti = token.text("jti").unwrap_or_default();
        if jti.len() < 16 || !self.used.insert(jti.to_owned()) {
            return Err("its jti is used or guessable");
        }
        Ok(())
    }

    fn authenticate(&mut self, request: &Received, now: u64) -> Result<(), Response> {
        use ClientAuthentication::*;
        let Some(method) = self.authentication else {
            return Ok(());
        };
        let invalid = |why: &str| Err(refused(401, "invalid_client", why));
        let ways = [
            request.headers.contains_key("authorization"),
            request.form.contains_key("client_secret"),
            request.form.contains_key("client_assertion"),
        ];
        let wanted = [
            method == ClientSecretBasic,
            method == ClientSecretPost,
            matches!(method, ClientSecretJwt | PrivateKeyJwt),
        ];
        if ways != wanted {
            return invalid("the client authenticates in another way");
        }
        if method != ClientSecretBasic && request.of("client_id") != CLIENT {
            return invalid("there is no client_id");
        }
        let is_good = match method {
            // "id:secret"
            ClientSecretBasic => request.headers["authorization"] == "Basic aWQ6c2VjcmV0",
            ClientSecretPost => request.of("client_secret") == SECRET,
            None | TlsClientAuth | SelfSignedTlsClientAuth => true,
            ClientSecretJwt | PrivateKeyJwt => {
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                if request.of("client_assertion_type") != kind {
                    return invalid("the type of the assertion is wrong");
                }
                let assertion = request.of("client_assertion");
                match self.check_assertion(assertion, method, now) {
                    Ok(()) => true,
                    Err(why) => return invalid(why),
                }
            }
        };
        if is_good {
            return Ok(());
        }
        invalid("the secret is wrong")
    }

    fn check_assertion(
        &mut self,
        assertion: &str,
        method: ClientAuthentication,
        now: u64,
    ) -> Result<(), &'static str> {
        let token = if method == ClientAuthentication::ClientSecretJwt {
            let token = jws::Received::parse(assertion).ok_or("it is no JWT")?;
            if token.algorithm() != "HS256" || !token.is_keyed_with(&SecretString::new(SECRET)) {
                return Err("the signature is wrong");
            }
            token
        } else {
            signed_by_client(assertion)?
        };
        if token.text("iss") != Some(CLIENT) || token.text("sub") != Some(CLIENT) {
            return Err("it is about another client");
        }
        if token.text("aud") != Some(ISSUER) {
            return Err("it is for another server");
        }
        self.check_times(&token, now, 60)
    }

    /// The thumbprint of the key that a request proves to have.
    fn check_proof(
        &mut self,
        request: &Received,
        access_token: Option<&str>,
        now: u64,
    ) -> Result<Option<String>, &'static str> {
        let Some(proof) = request.headers.get("dpop").filter(|_| !self.ignores_proofs) else {
            return Ok(None);
        };
        let unchecked = jws::Received::parse(proof).ok_or("it is no JWT")?;
        let key = unchecked.header.get("jwk").ok_or("there is no key")?;
        if key.get("d").is_some() || key.get("k").is_some() {
            return Err("the key is not public");
        }
        let token = signed_by(proof, key)?;
        if token.header["typ"] != "dpop+jwt" {
            return Err("it is something else");
        }
        let url = request.url.split('?').next();
        if token.text("htm") != Some(request.method) || token.text("htu") != url {
            return Err("it is for another request");
        }
        if token.text("ath") != access_token.map(hash).as_deref() {
            return Err("it is for another token");
        }
        self.check_times(&token, now, 0)?;
        let is_wanted = match self.nonces {
            Nonces::None => true,
            Nonces::Wanted(nonce) => token.text("nonce") == Some(nonce),
            Nonces::Changing => false,
        };
        if !is_wanted {
            return Err("use_dpop_nonce");
        }
        let key = key.as_object().ok_or("there is no key")?;
        let public = jws::public_members(key).ok_or("there is no key")?;
        Ok(Some(jws::thumbprint(public)))
    }

    fn give_nonce(&mut self, response: &mut Response) {
        self.nonces_given += 1;
        let nonce = match self.nonces {
            Nonces::None => return,
            Nonces::Wanted(nonce) => nonce.to_owned(),
            Nonces::Changing => format!("nonce-{}", self.nonces_given),
        };
        response.headers.push(("dpop-nonce".to_owned(), nonce));
    }

    // ---- tokens -------------------------------------------------------------

    fn token(&mut self, request: &Received, now: u64) -> Result<Response, Response> {
        self.authenticate(request, now)?;
        let key = match self.check_proof(request, None, now) {
            Ok(None) if self.requires_proofs && !self.ignores_proofs => {
                return Err(refused(400, "invalid_dpop_proof", "there is none"));
            }
            Ok(key) => key,
            Err("use_dpop_nonce") => {
                let mut response = refused(400, "use_dpop_nonce", "");
                self.give_nonce(&mut response);
                return Err(response);
            }
            Err(why) => return Err(refused(400, "invalid_dpop_proof", why)),
        };
        let mut response = self.grant(request, key, now)?;
        self.give_nonce(&mut response);
        Ok(response)
    }

    fn grant(
        &mut self,
        request: &Received,
        key: Option<String>,
        now: u64,
    ) -> Result<Response, Response> {
        let invalid = |why: &str| Err(refused(400, "invalid_grant", why));
        let of = |name: &str| request.of(name);
        let with_refresh_token = self.gives_refresh_tokens;
        match of("grant_type") {
            "authorization_code" if of("code") == "good-code" => {
                Ok(self.issue(with_refresh_token, key, request, None, now))
            }
            "authorization_code" => {
                let Some(asked) = self.codes.remove(of("code")) else {
                    return invalid("the code is unknown or used");
                };
                if asked["code_challenge"] != hash(of("code_verifier")) {
                    return invalid("the verifier is wrong");
                }
                if asked["redirect_uri"] != of("redirect_uri") {
                    return invalid("the redirect URI is another");
                }
                if asked.contains_key("dpop_jkt")
                    && !self.ignores_proofs
                    && asked.get("dpop_jkt") != key.as_ref()
                {
                    return invalid("the key is another");
                }
                Ok(self.issue(with_refresh_token, key, request, Some(&asked), now))
            }
            "refresh_token" => {
                let token = of("refresh_token").to_owned();
                if self.spent.contains(&token) {
                    // RFC 9700 section 4.14.2: the whole family goes.
                    self.reuses += 1;
                    self.good.clear();
                    return invalid("the token is used");
                }
                if !self.good.contains(&token) {
                    return invalid("the token is unknown");
                }
                if self.bound.get(&token) != key.as_ref() {
                    return invalid("the token is bound to another key");
                }
                if self.rotates {
                    self.good.remove(&token);
                    self.spent.insert(token);
                }
                Ok(self.issue(self.rotates, key, request, None, now))
            }
            "client_credentials" => Ok(self.issue(false, key, request, None, now)),
            "password" => Ok(self.issue(with_refresh_token, key, request, None, now)),
            "urn:ietf:params:oauth:grant-type:device_code" => self.poll(request, key, now),
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                if let Err(why) = self.check_grant_assertion(of("assertion"), now) {
                    return invalid(why);
                }
                Ok(self.issue(false, key, request, None, now))
            }
            "urn:ietf:params:oauth:grant-type:token-exchange" => {
                // RFC 8693 section 2.1.
                if of("subject_token") != "subject"
                    || of("subject_token_type") != "urn:ietf:params:oauth:token-type:access_token"
                {
                    return Err(refused(400, "invalid_request", "the subject is unknown"));
                }
                if request.form.contains_key("actor_token")
                    != request.form.contains_key("actor_token_type")
                {
                    return Err(refused(400, "invalid_request", "the actor is half told"));
                }
                Ok(self.issue(false, key, request, None, now))
            }
            "urn:example:grant" if of("x") == "y" => Ok(self.issue(false, key, request, None, now)),
            _ => invalid("the grant is unknown"),
        }
    }

    fn check_grant_assertion(&mut self, assertion: &str, now: u64) -> Result<(), &'static str> {
        if assertion == "finished.assertion." {
            return Ok(());
        }
        let token = signed_by_client(assertion)?;
        if token.text("aud") != Some(TOKEN_ENDPOINT) {
            return Err("it is for another server");
        }
        if token.text("iss") != Some("robot@project.example") {
            return Err("it is from somebody else");
        }
        self.check_times(&token, now, 60)
    }

    fn issue(
        &mut self,
        with_refresh_token: bool,
        key: Option<String>,
        request: &Received,
        asked: Option<&Parameters>,
        now: u64,
    ) -> Response {
        self.issued += 1;
        let access_token = format!("access-{}", self.issued);
        let mut body = json!({
            "access_token": access_token,
            "token_type": if key.is_some() { "DPoP" } else { "Bearer" },
        });
        if let Some(lifetime) = self.lifetime {
            body["expires_in"] = lifetime.into();
        }
        let lifetime = self.lifetime.unwrap_or(1000);
        self.access.insert(access_token.clone(), now + lifetime);
        let mut issued = vec![access_token.clone()];
        if with_refresh_token {
            let refresh_token = format!("refresh-{}", self.issued);
            self.good.insert(refresh_token.clone());
            issued.push(refresh_token.clone());
            body["refresh_token"] = refresh_token.into();
        }
        if let Some(key) = key {
            for token in issued {
                self.bound.insert(token, key.clone());
            }
        }
        if let Some(scope) = self.grants {
            body["scope"] = scope.into();
        }
        if request.of("grant_type").ends_with("token-exchange") {
            body["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token".into();
        }
        let is_openid = asked.is_some_and(|asked| {
            let scope = asked.get("scope").map_or("", String::as_str);
            scope.split(' ').any(|scope| scope == "openid")
        });
        let nonce = asked.and_then(|asked| asked.get("nonce").cloned());
        let nonce = nonce.or(self.nonce.take());
        if is_openid || nonce.is_some() || self.id_token.always {
            body["id_token"] = self.identify(&access_token, nonce, now).into();
        }
        for (name, value) in &self.adds {
            body[*name] = value.clone();
        }
        response(200, &body)
    }

    fn identify(&self, access_token: &str, nonce: Option<String>, now: u64) -> String {
        let recipe = &self.id_token;
        if let Some(text) = recipe.replaced_by {
            return text.to_owned();
        }
        let half = base64url(&Sha256::digest(access_token.as_bytes())[..16]);
        let mut header = json!({"alg": recipe.algorithm, "kid": recipe.key});
        let mut claims = json!({"iss": ISSUER, "aud": CLIENT, "sub": USER, "iat": now,
            "exp": now + 3600, "auth_time": now, "at_hash": half});
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        for (part, changes) in [(&mut header, &recipe.header), (&mut claims, &recipe.claims)] {
            let part = part.as_object_mut().expect("an object");
            for (name, value) in changes {
                match value {
                    Value::Null => part.remove(*name),
                    value => part.insert((*name).to_owned(), value.clone()),
                };
            }
        }
        self.signed(header, claims)
    }

    /// A JWT, signed as the recipe for id_tokens has it.
    pub fn signed(&self, header: Value, claims: Value) -> String {
        let recipe = &self.id_token;
        let object = |value: Value| value.as_object().expect("an object").clone();
        let input = jws::signing_input(object(header), object(claims));
        let mut signature = match recipe.algorithm {
            "none" => Vec::new(),
            "HS256" => jws::hmac_sha256(SECRET.as_bytes(), input.as_bytes()).to_vec(),
            algorithm => {
                let key = fake_keys::of_server(recipe.key);
                fake_keys::sign(&key, algorithm, input.as_bytes()).expect("a key that fits")
            }
        };
        if recipe.is_forged {
            signature[5] ^= 1;
        }
        jws::compact(input, &signature).reveal().to_owned()
    }

    // ---- devices ------------------------------------------------------------

    fn begin_device(&mut self, request: &Received, now: u64) -> Result<Response, Response> {
        self.authenticate(request, now)?;
        if request.of("client_id") != CLIENT {
            return Err(refused(400, "invalid_request", "there is no client_id"));
        }
        self.issued += 1;
        let code = format!("device-{}", self.issued);
        self.device = Some(Device {
            code: code.clone(),
            decision: Decision::Undecided,
            interval: 5,
            polled_at: now,
            expires_at: now + 1800,
        });
        let body = json!({"device_code": code, "user_code": "WDJB-MJHT",
            "verification_uri": "https://as.example/activate", "expires_in": 1800, "interval": 5});
        Ok(response(200, &body))
    }

    fn poll(
        &mut self,
        request: &Received,
        key: Option<String>,
        now: u64,
    ) -> Result<Response, Response> {
        let Some(device) = &mut self.device else {
            return Err(refused(400, "invalid_grant", "there is no such code"));
        };
        if device.code != request.of("device_code") {
            return Err(refused(400, "invalid_grant", "the code is another"));
        }
        if now >= device.expires_at {
            return Err(refused(400, "expired_token", ""));
        }
        let is_hasty = now - device.polled_at < device.interval;
        device.polled_at = now;
        if is_hasty {
            // RFC 8628 section 3.5.
            device.interval += 5;
            return Err(refused(400, "slow_down", ""));
        }
        match device.decision {
            Decision::Undecided => Err(refused(400, "authorization_pending", "")),
            Decision::Denied => Err(refused(400, "access_denied", "")),
            Decision::Allowed => {
                self.device = None;
                Ok(self.issue(self.gives_refresh_tokens, key, request, None, now))
            }
        }
    }

    // ---- what is known of a token -------------------------------------------

    fn introspect(&mut self, request: &Received, now: u64) -> Result<Response, Response> {
        self.authenticate(request, now)?;
        let expiry = self.access.get(request.of("token"));
        let expiry = expiry.filter(|expiry| now < **expiry);
        let body = match expiry {
            Some(expiry) => json!({"active": true, "exp": expiry, "sub": USER}),
            None => json!({"active": false}),
        };
        Ok(response(200, &body))
    }

    fn userinfo(&mut self, request: &Received, now: u64) -> Result<Response, Response> {
        let header = request.headers.get("authorization");
        let header = header.map_or("", String::as_str);
        let (scheme, token) = header.split_once(' ').unwrap_or_default();
        if self.access.get(token).is_none_or(|expiry| now >= *expiry) {
            return Err(challenged(r#"Bearer error="invalid_token""#));
        }
        let key = match scheme {
            "DPoP" => match self.check_proof(request, Some(token), now) {
                Ok(key) => key,
                Err("use_dpop_nonce") => {
                    let mut response = challenged(r#"DPoP error="use_dpop_nonce""#);
                    self.give_nonce(&mut response);
                    return Err(response);
                }
                Err(_) => return Err(challenged(r#"DPoP error="invalid_dpop_proof""#)),
            },
            _ => None,
        };
        if self.bound.get(token) != key.as_ref() {
            return Err(challenged(r#"DPoP error="invalid_token""#));
        }
        let user = self.userinfo_subject.unwrap_or(USER);
        let claims = json!({"sub": user, "email": "user@as.example", "iss": ISSUER, "aud": CLIENT});
        if !self.signs_userinfo {
            return Ok(response(200, &claims));
        }
        let header = json!({"alg": self.id_token.algorithm, "kid": self.id_token.key});
        let mut answer = response(200, &json!({}));
        answer.body = self.signed(header, claims).into_bytes();
        let media_type = "application/jwt".to_owned();
        answer.headers.push(("content-type".to_owned(), media_type));
        Ok(answer)
    }
}

fn register(request: &Received) -> Result<Response, Response> {
    let invalid = |code: &str| refused(400, code, "");
    let metadata: Value =
        serde_json::from_str(&request.body).map_err(|_| invalid("invalid_client_metadata"))?;
    if request.headers.get("content-type").map(String::as_str) != Some("application/json") {
        return Err(invalid("invalid_client_metadata"));
    }
    if metadata["redirect_uris"]
        .as_array()
        .is_none_or(Vec::is_empty)
    {
        return Err(invalid("invalid_redirect_uri"));
    }
    let mut registered = metadata.clone();
    registered["client_id"] = "registered".into();
    registered["client_secret"] = "given".into();
    if request.headers.get("authorization").map(String::as_str) == Some("Bearer initial") {
        registered["software_id"] = "trusted".into();
    }
    Ok(response(201, &registered))
}
