//! Who the user is: the id_token's signature, and the userinfo endpoint (OpenID
//! Connect Core sections 3.1.3.7 and 5.3).

use super::manage::no_credential;
use super::sending::{get, refusal};
use super::{Connection, TokenOptions, from_http_failure, from_secret_error};
use crate::challenge;
use crate::dpop;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result, ServerError, ViolationKind};
use crate::http;
use crate::id_token::{self, Expected, ID_TOKEN, KEYED_WITH_SECRET, USERINFO, violation, wrong};
use crate::json::{self, Object};
use crate::jws::{self, Received};
use crate::metadata::{self, Server};
use crate::platform::Platform;
use crate::secret::{SecretString, printable};
use crate::time::Timestamp;
use serde_json::Value;
use std::rc::Rc;

/// How long published keys are gone by before they are looked at again, in
/// milliseconds: a key that the server has withdrawn is not believed for longer.
const KEYS_LIFETIME_MILLIS: u64 = 10 * 60 * 1000;

/// The pause before the keys are asked for a second time, in milliseconds: for
/// want of them a whole authorization would have come to nothing.
const KEYS_PAUSE_MILLIS: u64 = 500;

/// How often a request for userinfo is made: with the token at hand, with the
/// nonce that the server asks for, with another token where it refuses the first.
const USERINFO_ATTEMPTS: usize = 3;

/// The keys that a server publishes (RFC 7517 section 5).
pub(super) struct Keys {
    url: String,
    keys: Rc<Vec<Value>>,
    read_at: Timestamp,
}

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// Checks all of an id_token.
    ///
    /// # Errors
    /// As [`id_token::check`] and [`verify`](Self::verify).
    pub(super) async fn check_id_token(
        &self,
        id_token: &SecretString,
        expected: &Expected<'_>,
        server: &Server,
    ) -> Result<()> {
        let token = id_token::check(id_token, expected)?;
        self.verify(ID_TOKEN, &token, server).await
    }

    /// Checks the signature of what the server signed. Keys that were read a
    /// while ago are read anew where they do not fit, once.
    ///
    /// # Errors
    /// A violation; unavailable, where the keys cannot be had; what the host says
    /// where it cannot verify.
    async fn verify(&self, what: &str, token: &Received<'_>, server: &Server) -> Result<()> {
        if token.algorithm() == KEYED_WITH_SECRET {
            let secret = match &self.config.client_secret {
                Some(secret) => Some(self.reveal("client_secret", secret).await?),
                None => None,
            };
            let is_signed = secret.is_some_and(|secret| token.is_keyed_with(&secret));
            return is_signed.then_some(()).ok_or_else(|| forged(what));
        }
        let Some(url) = &server.endpoints.jwks else {
            return Ok(());
        };
        if let Some(keys) = self.keys_at_hand(url)
            && self.is_signed_by_one_of(&keys, what, token).await.is_ok()
        {
            return Ok(());
        }
        let keys = self.read_keys(url).await?;
        self.is_signed_by_one_of(&keys, what, token).await
    }

    async fn is_signed_by_one_of(
        &self,
        keys: &[Value],
        what: &str,
        token: &Received<'_>,
    ) -> Result<()> {
        let key = jws::select(keys, &token.header).map_err(|how| wrong(what, how))?;
        let key = json::text(&Value::Object(key.clone()));
        let verified = self.platform.verify(
            &key,
            token.algorithm(),
            token.signed.as_bytes(),
            &token.signature,
        );
        let is_signed = verified
            .await
            .map_err(|error| from_secret_error("jwks_uri", error))?;
        is_signed.then_some(()).ok_or_else(|| forged(what))
    }

    fn keys_at_hand(&self, url: &str) -> Option<Rc<Vec<Value>>> {
        let keys = self.keys.borrow();
        let keys = keys.as_ref().filter(|keys| keys.url == url)?;
        let age = self.platform.now().millis_since(keys.read_at);
        (age < KEYS_LIFETIME_MILLIS).then(|| Rc::clone(&keys.keys))
    }

    async fn read_keys(&self, url: &str) -> Result<Rc<Vec<Value>>> {
        let place = metadata::endpoint("jwks_uri", &Some(url.to_owned()))?;
        let timeout = self.config.timeout_millis();
        let mut found = self.read_document(&place, timeout).await;
        if found
            .as_ref()
            .is_err_and(|error| matches!(**error, Error::Unavailable(_)))
        {
            self.platform.sleep(KEYS_PAUSE_MILLIS).await;
            found = self.read_document(&place, timeout).await;
        }
        let Some(Value::Array(keys)) = found?.get("keys").cloned() else {
            return Err(Error::violation(
                ViolationKind::Metadata,
                format!("{place} publishes no keys"),
            ));
        };
        let keys = Rc::new(keys);
        self.keys.replace(Some(Keys {
            url: url.to_owned(),
            keys: Rc::clone(&keys),
            read_at: self.platform.now(),
        }));
        Ok(keys)
    }

    async fn read_document(&self, place: &Endpoint, timeout_millis: u64) -> Result<Object> {
        let response = self.platform.send(get(place.clone(), timeout_millis)).await;
        let response = response.map_err(|failure| from_http_failure(place, failure))?;
        super::sending::answer(place, &response, &[])
    }

    /// The user's claims (OpenID Connect Core section 5.3), as JSON.
    ///
    /// # Errors
    /// As [`token`](Self::token); unsupported, where the server has no userinfo
    /// endpoint; a violation, where the answer is about another user than the
    /// id_token (section 5.3.2) or its signature is not the server's.
    pub async fn userinfo(&self) -> Result<SecretString> {
        let mut options = TokenOptions::default();
        let mut nonce = None;
        let mut attempt = 1;
        loop {
            let token = self.token(&options).await?;
            let record = self.load().await?.record;
            let credential = self.credential_in(&record).ok_or_else(no_credential)?;
            let server = self.issuer_of(credential);
            let url = server.optional_endpoint("userinfo_endpoint")?;
            let headers = self
                .headers_for(&token, "GET", &url.to_string(), nonce.as_deref())
                .await?;
            let mut request = get(url.clone(), self.config.timeout_millis());
            for (name, value) in headers {
                request.headers.push((name.to_ascii_lowercase(), value));
            }
            request.secrets.push(token.access_token.clone());
            let secrets = request.secrets.clone();
            let response = self.platform.send(request).await;
            let response = response.map_err(|failure| from_http_failure(&url, failure))?;
            if response.status == 401 && attempt < USERINFO_ATTEMPTS {
                attempt += 1;
                if dpop::asks_for_nonce(&response) {
                    nonce = response.header(dpop::NONCE_HEADER).map(str::to_owned);
                } else {
                    options.rejected = Some(token.access_token);
                }
                continue;
            }
            let claims = self.userinfo_in(&url, &response, &server, &secrets).await?;
            let user = credential.id_token.as_ref().and_then(subject_of);
            let found = claims.get("sub").and_then(Value::as_str);
            if user.is_some() && user.as_deref() != found {
                return Err(violation(
                    "the userinfo is about another user than the id_token",
                ));
            }
            return Ok(SecretString::new(json::text(&Value::Object(claims))));
        }
    }

    /// The claims in an answer of the userinfo endpoint: a JSON object, or a JWT
    /// where the client is registered for that.
    async fn userinfo_in(
        &self,
        url: &Endpoint,
        response: &http::Response,
        server: &Server,
        secrets: &[SecretString],
    ) -> Result<Object> {
        let told = challenge::of(response);
        if let Some(code) = challenge::parameter(&told, "error") {
            return Err(Error::refused(ServerError::new(
                printable(code, secrets),
                challenge::parameter(&told, "error_description")
                    .map(|text| printable(text, secrets)),
                None,
                Some(response.status),
            )));
        }
        let media_type = response.header("content-type").unwrap_or_default();
        if !media_type.starts_with("application/jwt") {
            return super::sending::answer(url, response, secrets);
        }
        if let Some(error) = refusal(url, response, secrets) {
            return Err(error);
        }
        let text = String::from_utf8_lossy(&response.body);
        let token = Received::parse(text.trim())
            .ok_or_else(|| violation("the userinfo is not a signed JWT"))?;
        let client_id = self.config.client_id.as_deref().unwrap_or_default();
        id_token::check_parties(
            USERINFO,
            &token,
            self.issuer_of_id_tokens(server),
            client_id,
        )?;
        if token.algorithm() != KEYED_WITH_SECRET && !jws::is_accepted(token.algorithm()) {
            return Err(forged(USERINFO));
        }
        self.verify(USERINFO, &token, server).await?;
        Ok(token.claims)
    }
}

/// The user that an id_token names, which was checked before it was stored.
pub(super) fn subject_of(id_token: &SecretString) -> Option<String> {
    let token = Received::parse(id_token.reveal())?;
    token.text("sub").map(str::to_owned)
}

fn forged(what: &str) -> Box<Error> {
    wrong(what, "is not signed by the server")
}
