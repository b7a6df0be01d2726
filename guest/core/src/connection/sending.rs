//! How every request of a connection is made: with what authenticates the
//! client, with its proof, and signed anew each time that it is sent.

use super::{Connection, from_secret_error};
use crate::client_authentication::{self, ASSERTION_LIFETIME_SECONDS, Client};
use crate::config::{BasicEncoding, ClientAuthentication, Grant, Parameter, Secret};
use crate::dialect::Purpose;
use crate::dpop::{self, Subject};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result, ServerError, ViolationKind};
use crate::http;
use crate::json::{self, Object};
use crate::jws;
use crate::metadata::Server;
use crate::pkce;
use crate::platform::{Platform, SecretError};
use crate::secret::{SecretString, printable};
use crate::time::Timestamp;
use crate::token_request::{self, Form};
use crate::token_response;
use serde_json::Value;

/// By how much a time may be off that a server is to believe.
const TOLERATED_SKEW_MILLIS: u64 = 5000;

/// How a request to another endpoint than the token endpoint is authenticated,
/// where its provider has it otherwise there.
#[derive(Clone, Copy)]
pub(super) enum Authentication<'a> {
    /// As a client, by that method.
    Client(ClientAuthentication),
    /// By the access token, as a request to the provider's API is.
    AccessToken(&'a SecretString),
}

/// A request to an endpoint that the client authenticates at, without what is
/// made for each sending: the assertion and the proof, neither of which may be
/// used twice.
pub(super) struct Call<'a> {
    pub server: &'a Server,
    pub endpoint: Endpoint,
    /// What it is for.
    pub purpose: Purpose,
    /// How the client authenticates there, where that is declared.
    pub authentication: Option<Authentication<'a>>,
    pub form: Form,
    /// What is added to it, beside what every token request has more.
    pub further: &'a [Parameter],
    /// What the redirect brought and the server wants to be told again.
    pub repeated: Vec<Parameter>,
    /// Whether the grant is run, so that its assertion is made too where the
    /// config brings none.
    pub asserts: bool,
}

impl<'a> Call<'a> {
    /// A token request, for a new token or to refresh one.
    pub fn for_token(server: &'a Server, purpose: Purpose, form: Form) -> Result<Self> {
        Ok(Self {
            endpoint: server.token_endpoint()?,
            server,
            purpose,
            authentication: None,
            form,
            further: &[],
            repeated: Vec::new(),
            asserts: false,
        })
    }

    /// A request to another endpoint, by its registered name.
    pub fn to(
        server: &'a Server,
        endpoint: &str,
        form: Form,
        further: &'a [Parameter],
    ) -> Result<Self> {
        Ok(Self {
            endpoint: server.optional_endpoint(endpoint)?,
            server,
            purpose: Purpose::Other,
            authentication: None,
            form,
            further,
            repeated: Vec::new(),
            asserts: false,
        })
    }
}

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// How far the server's clock is ahead, in milliseconds, as far as is known.
    fn skew_millis(&self) -> i64 {
        let stored = || {
            let known = self.known.borrow();
            let credential = known.as_ref()?.record.credential.as_ref();
            credential.map(|credential| credential.skew_millis)
        };
        self.skew_millis.get().or_else(stored).unwrap_or(0)
    }

    /// The time by the server's clock, as far as its skew is known.
    pub(super) fn server_now(&self) -> Timestamp {
        self.platform.now().by_server(self.skew_millis())
    }

    /// Claims that bear a `jti` of their own and the time.
    fn fresh_claims(&self) -> Object {
        let mut claims = Object::new();
        let jti = pkce::random_token(&self.platform);
        claims.insert("jti".to_owned(), Value::from(jti.reveal()));
        claims.insert("iat".to_owned(), Value::from(self.server_now().seconds()));
        claims
    }

    /// What an assertion claims (RFC 7523 section 3).
    pub(super) fn assertion_claims(
        &self,
        issuer: &str,
        subject: Option<&str>,
        audience: &str,
    ) -> Object {
        let mut claims = self.fresh_claims();
        let expiry = self.server_now().seconds() + ASSERTION_LIFETIME_SECONDS;
        claims.insert("exp".to_owned(), Value::from(expiry));
        for (name, value) in [
            ("iss", Some(issuer)),
            ("sub", subject),
            ("aud", Some(audience)),
        ] {
            if let Some(value) = value {
                claims.insert(name.to_owned(), Value::from(value));
            }
        }
        claims
    }

    /// The reference of the signing key, and its public half.
    async fn signing_key(&self) -> Result<(&str, Object)> {
        let Some(reference) = self.config.signing_key.as_deref() else {
            return Err(Error::not_configured(
                "signing_key",
                "is missing, and something is to be signed",
                "add a reference to the key",
            ));
        };
        let key = self.platform.public_key(reference).await;
        let key = json::parse_object(key.map_err(unusable_key)?.as_bytes());
        let key = key.map_err(|what| {
            Error::unsupported(format!("the host's key {reference} as a JWK: {what}"))
        })?;
        Ok((reference, key))
    }

    /// Signs claims with the config's key, by an algorithm that fits the key and
    /// if possible is among those accepted.
    pub(super) async fn sign(
        &self,
        mut header: Object,
        claims: Object,
        accepted: &[String],
    ) -> Result<SecretString> {
        let (reference, key) = self.signing_key().await?;
        let unusable = || {
            Error::unsupported(format!(
                "signing with the key {reference}: it is neither RSA, nor of a NIST curve, nor Ed25519"
            ))
        };
        let algorithm = jws::algorithm_for(&key, accepted).ok_or_else(unusable)?;
        header.insert("alg".to_owned(), Value::from(algorithm));
        // A proof brings the key itself: whoever makes it has the place for it.
        if header.contains_key("jwk") {
            let public = jws::public_members(&key).ok_or_else(unusable)?;
            header.insert("jwk".to_owned(), Value::Object(public));
        } else {
            // By which the server finds the key; the second is Entra's.
            for name in ["kid", "x5t#S256"] {
                if let Some(value @ Value::String(_)) = key.get(name) {
                    header.insert(name.to_owned(), value.clone());
                }
            }
        }
        let input = jws::signing_input(header, claims);
        let signature = self.platform.sign(reference, algorithm, input.as_bytes());
        let signature = signature.await.map_err(unusable_key)?;
        Ok(jws::compact(input, &signature))
    }

    /// The thumbprint of the key that tokens are bound to (RFC 9449 section 10).
    pub(super) async fn key_thumbprint(&self) -> Result<String> {
        let (reference, key) = self.signing_key().await?;
        let public = jws::public_members(&key);
        public
            .map(jws::thumbprint)
            .ok_or_else(|| Error::unsupported(format!("binding tokens to the key {reference}")))
    }

    /// A proof for one request (RFC 9449 section 4), signed by one of the
    /// algorithms that are accepted if possible.
    pub(super) async fn proof(
        &self,
        subject: Subject<'_>,
        accepted: &[String],
    ) -> Result<SecretString> {
        let mut claims = self.fresh_claims();
        dpop::bind(&mut claims, subject);
        let mut header = typed("dpop+jwt");
        header.insert("jwk".to_owned(), Value::Null);
        self.sign(header, claims, accepted).await
    }

    /// An assertion for the JWT bearer grant (RFC 7523 section 2.1), made of what
    /// the config says of it. It has a `scope` claim besides the parameter: there
    /// Google looks for it, others pass it over. A claim of the config's that is
    /// `null` is left out.
    async fn assertion(&self, server: &Server) -> Result<SecretString> {
        let Grant::JwtBearer {
            issuer,
            subject,
            audience,
            claims: further,
            ..
        } = &self.config.grant
        else {
            return Ok(SecretString::default());
        };
        let issuer = issuer.as_ref().or(self.config.client_id.as_ref());
        let issuer = issuer.map_or("", String::as_str);
        let audience = audience.as_ref().or(server.endpoints.token.as_ref());
        let mut claims = self.assertion_claims(
            issuer,
            Some(subject.as_deref().unwrap_or(issuer)),
            audience.map_or("", String::as_str),
        );
        let scope = self.config.scope.join(" ");
        if !scope.is_empty() {
            claims.insert("scope".to_owned(), Value::from(scope));
        }
        let further = further.as_deref().unwrap_or("{}");
        for (name, value) in json::parse_object(further.as_bytes()).unwrap_or_default() {
            claims.insert(name, value);
        }
        // Copied, since taking out of a map costs the component four kilobytes.
        let mut kept = Object::new();
        for (name, value) in claims {
            json::put(&mut kept, &name, value);
        }
        self.sign(typed("JWT"), kept, &[]).await
    }

    /// The client as it authenticates to that server in one request; `declared` is
    /// how, where the endpoint has a way of its own.
    pub(super) async fn client(
        &self,
        server: &Server,
        declared: Option<Authentication<'_>>,
    ) -> Result<Client<'_>> {
        let method = match declared {
            None => client_authentication::choose(&self.config, server),
            Some(Authentication::Client(method)) => method,
            Some(Authentication::AccessToken(_)) => ClientAuthentication::None,
        };
        let dialect = &self.config.dialect;
        let id = self.config.client_id.as_deref();
        let claims = || {
            let id = id.unwrap_or_default();
            let issuer = dialect.assertion_issuer(self.config.redirect_uri.as_deref());
            let audience = dialect.assertion_audience(server);
            let audience =
                audience.unwrap_or_else(|| client_authentication::assertion_audience(server));
            self.assertion_claims(issuer.as_deref().unwrap_or(id), Some(id), audience)
        };
        let secret = match &self.config.client_secret {
            Some(secret) if method.needs_secret() => {
                Some(self.reveal("client_secret", secret).await?)
            }
            None if method.needs_secret() && dialect.makes_secret(&self.config) => {
                Some(self.sign(typed("JWT"), claims(), &[]).await?)
            }
            _ => None,
        };
        let assertion = match (method, &secret) {
            (ClientAuthentication::ClientSecretJwt, Some(secret)) => {
                let mut header = typed("JWT");
                header.insert("alg".to_owned(), Value::from("HS256"));
                let input = jws::signing_input(header, claims());
                let mac = jws::hmac_sha256(secret.reveal().as_bytes(), input.as_bytes());
                Some(jws::compact(input, &mac))
            }
            (ClientAuthentication::PrivateKeyJwt, _) => {
                let signed = self.sign(typed("JWT"), claims(), &server.signing_algorithms);
                Some(signed.await?)
            }
            _ => None,
        };
        Ok(Client {
            id,
            secret,
            assertion,
            method,
            basic_encoding: self
                .config
                .basic_encoding
                .unwrap_or(BasicEncoding::FormUrlencoded),
            access_token: match declared {
                Some(Authentication::AccessToken(token)) => Some(token.clone()),
                _ => None,
            },
        })
    }

    /// The value of a secret, which the config has in that field.
    pub(super) async fn reveal(&self, field: &str, secret: &Secret) -> Result<SecretString> {
        match secret {
            Secret::Literal(value) => Ok(value.clone()),
            Secret::Reference(reference) => {
                let value = self.platform.resolve_secret(reference).await;
                value.map_err(|error| from_secret_error(field, error))
            }
        }
    }

    /// The request of a call, ready to be sent once.
    pub(super) async fn ready(&self, call: &Call<'_>) -> Result<http::Request> {
        let client = self.client(call.server, call.authentication).await?;
        let (endpoint, mut form) = (call.endpoint.clone(), call.form.clone());
        if call.asserts
            && let Grant::JwtBearer {
                assertion: None, ..
            } = self.config.grant
        {
            form.push(("assertion", self.assertion(call.server).await?));
        }
        if call.purpose.is_for_token() {
            let mut request = token_request::build_for_token(
                &self.config,
                endpoint,
                &client,
                form,
                &call.repeated,
                call.purpose,
            );
            if self.config.dpop {
                let nonce = self.dpop_nonce.borrow().clone();
                let subject = Subject {
                    method: request.method.name(),
                    url: &request.url,
                    access_token: None,
                    nonce: nonce.as_deref(),
                };
                let accepted = &call.server.proof_algorithms;
                let proof = self.proof(subject, accepted).await?;
                request.headers.push((dpop::HEADER.to_owned(), proof));
            }
            return Ok(request);
        }
        Ok(token_request::build(
            &self.config,
            endpoint,
            &client,
            form,
            call.further,
            call.purpose,
        ))
    }

    /// Sends what has been made ready, and anew with the server's nonce where it
    /// asks for one, or by the server's clock where ours was taken to be another:
    /// it has not acted on the request then.
    pub(super) async fn send(
        &self,
        call: &Call<'_>,
        mut request: http::Request,
    ) -> std::result::Result<http::Response, http::Failure> {
        for _ in 0..dpop::NONCE_RETRIES {
            let response = self.platform.send(request).await?;
            let is_dated_wrong = self.takes_time(call, &response);
            if !self.takes_nonce(call, &response) && !is_dated_wrong {
                return Ok(response);
            }
            match self.ready(call).await {
                Ok(anew) => request = anew,
                Err(_) => return Ok(response),
            }
        }
        let response = self.platform.send(request).await?;
        self.takes_time(call, &response);
        self.takes_nonce(call, &response);
        Ok(response)
    }

    /// Keeps how far the server's clock is ahead, and tells whether what was signed
    /// by another one may be why it refuses.
    fn takes_time(&self, call: &Call<'_>, response: &http::Response) -> bool {
        let Some(skew) = token_response::measured_skew_millis(response) else {
            return false;
        };
        let before = self.skew_millis();
        self.skew_millis.set(Some(skew));
        let is_signed = self.config.signing_key.is_some()
            || client_authentication::choose(&self.config, call.server)
                == ClientAuthentication::ClientSecretJwt;
        if !is_signed
            || skew.abs_diff(before) < TOLERATED_SKEW_MILLIS
            || !matches!(response.status, 400 | 401)
        {
            return false;
        }
        // A server looks at a refresh token once it believes the rest.
        let body = json::parse_object(&response.body).unwrap_or_default();
        call.asserts || body.get("error").and_then(Value::as_str) != Some("invalid_grant")
    }

    /// Keeps the nonce that the authorization server gives for the next proof
    /// (RFC 9449 section 8.2), and tells whether it asks for this one now.
    fn takes_nonce(&self, call: &Call<'_>, response: &http::Response) -> bool {
        let has_proof = self.config.dpop && call.purpose.is_for_token();
        let nonce = response.header(dpop::NONCE_HEADER);
        let Some(nonce) = nonce.filter(|_| has_proof) else {
            return false;
        };
        let before = self.dpop_nonce.replace(Some(nonce.to_owned()));
        before.as_deref() != Some(nonce) && dpop::asks_for_nonce(response)
    }

    /// Sends a call and reads its answer, a JSON object.
    ///
    /// # Errors
    /// As [`answer`]; unavailable, where there is none.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<Object> {
        let request = self.ready(call).await?;
        let secrets = request.secrets.clone();
        let response = self.send(call, request).await;
        let response =
            response.map_err(|failure| super::from_http_failure(&call.endpoint, failure))?;
        answer(&call.endpoint, &response, &secrets)
    }
}

fn unusable_key(error: SecretError) -> Box<Error> {
    from_secret_error("signing_key", error)
}

/// A JOSE header that says what is signed.
pub(super) fn typed(typ: &str) -> Object {
    let mut header = Object::new();
    header.insert("typ".to_owned(), Value::from(typ));
    header
}

/// A request that reads a document.
pub(super) fn get(url: Endpoint, timeout_millis: u64) -> http::Request {
    http::Request {
        method: http::Method::Get,
        url,
        headers: vec![("accept".to_owned(), SecretString::new("application/json"))],
        body: SecretString::default(),
        secrets: Vec::new(),
        timeout_millis,
    }
}

/// The JSON object that an endpoint answers with.
///
/// # Errors
/// Refused, with what the server says; unavailable; a violation, where it is
/// something else.
pub(super) fn answer(
    endpoint: &Endpoint,
    response: &http::Response,
    secrets: &[SecretString],
) -> Result<Object> {
    if let Some(error) = refusal(endpoint, response, secrets) {
        return Err(error);
    }
    json::parse_object(&response.body).map_err(|what| {
        Error::violation(
            ViolationKind::Response,
            format!("the answer of {endpoint} cannot be read: {what}"),
        )
    })
}

/// What an endpoint says where it says no (RFC 6749 section 5.2, which the
/// others follow).
pub(super) fn refusal(
    endpoint: &Endpoint,
    response: &http::Response,
    secrets: &[SecretString],
) -> Option<Box<Error>> {
    let status = response.status;
    let body = json::parse_object(&response.body).unwrap_or_default();
    let text = |name: &str| {
        body.get(name)
            .and_then(Value::as_str)
            .map(|text| printable(text, secrets))
    };
    match text("error") {
        // Some servers refuse with the status of a success.
        Some(code) if status < 500 && status != 429 => Some(Error::refused(ServerError::new(
            code,
            text("error_description"),
            text("error_uri"),
            Some(status),
        ))),
        _ if (200..300).contains(&status) => None,
        _ => Some(Error::unavailable(format!(
            "{endpoint} answered with the status {status}"
        ))),
    }
}
