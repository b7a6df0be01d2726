//! The user's part: beginning an authorization and completing it, by any
//! instance on any node.

use super::credential::{NewCredential, id_token_ignored, unbound};
use super::sending::{Call, typed};
use super::{Connection, from_http_failure};
use crate::authorization::{self, AUTHORIZATION_LIFETIME_MILLIS, AuthorizationOptions, Redirect};
use crate::config::{Grant, Parameter};
use crate::dialect::{self, Field, Purpose};
use crate::error::{Error, Result, ViolationKind};
use crate::event::{Event, EventKind};
use crate::http;
use crate::id_token::{self, Expected};
use crate::metadata::Server;
use crate::platform::Platform;
use crate::provider;
use crate::record::{Failure, FailureCause, RenewalReason};
use crate::secret::SecretString;
use crate::time::Timestamp;
use crate::token_request::{self, Form, TokenGrant};
use crate::token_response::{self, TokenResponse};
use serde_json::Value;

/// An authorization under way, as far as the host needs to know it.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The URL for the user's browser.
    pub authorization_url: String,
    /// The `state` that the response must bear.
    pub state: SecretString,
    /// Where the user is sent back to.
    pub redirect_uri: String,
    /// When it is too late.
    pub expires_at: Timestamp,
    /// Until when the URL can be opened, where the server has said so (RFC 9126
    /// section 2.2).
    pub url_expires_at: Option<Timestamp>,
}

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// Begins an authorization: the URL is for the user's browser, the rest is
    /// stored.
    ///
    /// # Errors
    /// Not configured; unsupported, for another grant than the authorization
    /// code; unavailable or a violation, where the metadata cannot be had.
    pub async fn begin_authorization(&self, options: &AuthorizationOptions) -> Result<Begun> {
        self.ensure_configured()?;
        if self.config.grant != Grant::AuthorizationCode {
            return Err(Error::unsupported(format!(
                "a redirect for the grant {}",
                self.config.grant.grant_type()
            )));
        }
        let server = self.discover().await?;
        // What is missing is said before the user is troubled, not after.
        server.token_endpoint()?;
        let now = self.platform.now();
        let (form, pending) = authorization::begin(
            &self.config,
            server,
            options,
            &self.binding,
            now,
            &self.platform,
        )?;
        let server = &pending.server;
        let (authorization_url, url_expires_at) =
            self.authorization_url(server, form, options).await?;
        let begun = Begun {
            authorization_url,
            url_expires_at,
            state: pending.state.clone(),
            redirect_uri: pending.redirect_uri.clone(),
            expires_at: pending.expires_at,
        };
        self.change(&mut |record| {
            record.add_pending(pending.clone(), now);
            Ok(())
        })
        .await?;
        self.tell(&[Event::new(
            now,
            EventKind::AuthorizationBegun,
            "the user was sent to the authorization server",
        )]);
        Ok(begun)
    }

    /// The URL for the user's browser, and until when it can be opened: the request
    /// is in its query, or signed, or pushed to the server beforehand, or both.
    async fn authorization_url(
        &self,
        server: &Server,
        mut form: Form,
        options: &AuthorizationOptions,
    ) -> Result<(String, Option<Timestamp>)> {
        let endpoint = server.authorization_endpoint()?;
        if self.config.dpop {
            let thumbprint = self.key_thumbprint().await?;
            form.push(("dpop_jkt", SecretString::new(thumbprint)));
        }
        let dialect = &self.config.dialect;
        let mut further = authorization::further(&self.config, options);
        form.retain(|(name, _)| {
            token_request::is_new(dialect.authorization_parameter(name), &further)
        });
        let pushes = self.config.pushes(server);
        if self.config.signs_requests(server) {
            let request = self.request_object(server, &form, &further).await?;
            // OpenID Connect Core section 6.1 wants the last two outside as well;
            // in what is pushed they have no place (RFC 9126 section 3).
            let outside: &[&str] = match pushes {
                true => &["client_id"],
                false => &["client_id", "response_type", "scope"],
            };
            form.retain(|(name, _)| outside.contains(name));
            form.push(("request", request));
            further.clear();
        }
        let mut expires_at = None;
        if pushes {
            let request_uri;
            (request_uri, expires_at) = self.push(server, form, &further).await?;
            let client_id = self.config.client_id.as_deref().unwrap_or_default();
            form = vec![
                ("client_id", SecretString::new(client_id)),
                ("request_uri", request_uri),
            ];
            further.clear();
        }
        let url = authorization::url(&endpoint, dialect, &form, &further);
        Ok((url, expires_at))
    }

    /// The request signed (RFC 9101 section 4). The user may take a while to open
    /// the URL, so it lives as long as the authorization does.
    async fn request_object(
        &self,
        server: &Server,
        form: &Form,
        further: &[Parameter],
    ) -> Result<SecretString> {
        let client_id = self.config.client_id.as_deref().unwrap_or_default();
        let audience = server.issuer.as_ref();
        let audience = audience.or(server.endpoints.authorization.as_ref());
        let audience = audience.map_or("", String::as_str);
        // A request with a subject might pass for an assertion (section 10.8).
        let mut claims = self.assertion_claims(client_id, None, audience);
        let now = self.server_now();
        let expiry = now.plus_millis(AUTHORIZATION_LIFETIME_MILLIS);
        claims.insert("exp".to_owned(), Value::from(expiry.seconds()));
        claims.insert("nbf".to_owned(), Value::from(now.seconds()));
        authorization::claims(form, further, &mut claims);
        let header = typed("oauth-authz-req+jwt");
        let accepted = match server.request_algorithms.as_slice() {
            // The server does not say; what it takes of assertions is likely.
            [] => &server.signing_algorithms,
            _ => &server.request_algorithms,
        };
        self.sign(header, claims, accepted).await
    }

    /// Pushes the request to the server, which gives a reference to it and says how
    /// long that can be used (RFC 9126 section 2.2).
    async fn push(
        &self,
        server: &Server,
        form: Form,
        further: &[Parameter],
    ) -> Result<(SecretString, Option<Timestamp>)> {
        let name = "pushed_authorization_request_endpoint";
        let call = Call::to(server, name, form, further)?;
        let answer = self.ask(&call).await?;
        let request_uri = answer.get("request_uri").and_then(Value::as_str);
        let request_uri = request_uri.filter(|text| !text.is_empty());
        let Some(request_uri) = request_uri else {
            return Err(Error::violation(
                ViolationKind::Response,
                format!("{} answered without a request_uri", call.endpoint),
            ));
        };
        let lifetime = answer.get("expires_in").and_then(Value::as_u64);
        let now = self.platform.now();
        let expires_at = lifetime.map(|seconds| now.plus_millis(seconds.saturating_mul(1000)));
        Ok((SecretString::new(request_uri), expires_at))
    }

    /// Completes an authorization with what came back.
    ///
    /// # Errors
    /// A violation: the redirect is not the answer to one begun here, and what
    /// was begun stays. Denied, refused, unavailable: it was the answer, and the
    /// authorization has to be begun anew.
    pub async fn complete_authorization(&self, redirect: Redirect) -> Result<()> {
        self.ensure_configured()?;
        let now = self.platform.now();
        // Taken out before anything else is done with it: of two that bring the
        // same redirect one finds nothing. What is not the answer takes nothing.
        let mut answered = None;
        let redirect = redirect.under(&self.config.dialect);
        let redirect = redirect.map_err(|error| self.refuse(error, now))?;
        let taken = self
            .change(&mut |record| {
                let position = redirect.position_in(&record.pending);
                let position = position.ok_or_else(unknown_state)?;
                let mut pending = record.pending.remove(position);
                if now >= pending.expires_at {
                    return Err(state_violation(
                        "the authorization took longer than ten minutes; begin it again",
                    ));
                }
                if pending.binding != self.binding {
                    return Err(state_violation(
                        "the configuration was changed while the user was authorizing; begin again",
                    ));
                }
                redirect.check(&pending)?;
                redirect.choose_server(&self.config.dialect, &mut pending.server)?;
                answered = Some(pending);
                Ok(())
            })
            .await;
        taken.map_err(|error| self.refuse(error, now))?;
        let pending = answered.ok_or_else(unknown_state)?;
        let kept = redirect.kept(&self.config.dialect);
        let code = match redirect.into_code() {
            Ok(code) => code,
            Err(error) => return Err(self.note_failed_authorization(error).await),
        };
        let new = match self.exchange(&code, &pending, &kept).await {
            Ok(new) => new,
            Err(error) => return Err(self.note_failed_authorization(error).await),
        };
        let mut events = Vec::new();
        self.change_surely(&mut |record| {
            events = new.apply_to(record);
            Ok(())
        })
        .await?;
        self.tell(&events);
        self.settle(&new).await;
        Ok(())
    }

    async fn exchange(
        &self,
        code: &SecretString,
        pending: &authorization::PendingAuthorization,
        kept: &[Parameter],
    ) -> Result<NewCredential> {
        let server = &pending.server;
        let grant = TokenGrant::AuthorizationCode {
            code,
            redirect_uri: &pending.redirect_uri,
            code_verifier: pending.code_verifier.as_ref(),
        };
        let mut form = token_request::form(&self.config, grant);
        if self.config.dialect.has(Field::TOKEN_REQUEST_SENDS_STATE) {
            form.push(("state", pending.state.clone()));
        }
        let mut call = Call::for_token(server, Purpose::Token, form)?;
        if self
            .config
            .dialect
            .has(Field::TOKEN_REQUEST_SENDS_CALLBACK_PARAMETERS)
        {
            call.repeated = kept.to_vec();
        }
        let request = self.ready(&call).await?;
        let secrets = request.secrets.clone();
        let http = self.send(&call, request).await;
        let http = http.map_err(|failure| from_http_failure(&call.endpoint, failure))?;
        let response = self.token_in(&http, &secrets)?;
        let nonce = pending.nonce.as_ref();
        let new = self.authorized(response, &http, server, nonce, &pending.scope);
        let mut new = new.await?;
        token_response::keep(&mut new.credential.response, kept);
        Ok(new)
    }

    /// The token that an answer brings.
    fn token_in(&self, http: &http::Response, secrets: &[SecretString]) -> Result<TokenResponse> {
        let read = token_response::read(http, &self.config.dialect, secrets);
        read.map_err(|failure| match failure {
            token_response::Failure::Refused(error) => Error::refused(error),
            token_response::Failure::Transient { cause, .. } => Error::unavailable(cause),
            token_response::Failure::Violation(violation) => {
                Error::ProtocolViolation(violation).into()
            }
        })
    }

    /// Checks that there is a token where none is prolonged, and that it is bound
    /// as it should be.
    fn check_token(&self, response: &TokenResponse) -> Result<()> {
        let violation = if response.access_token.is_empty() {
            token_response::no_token()
        } else if self.is_unbound(response) {
            unbound()
        } else {
            return Ok(());
        };
        Err(Error::ProtocolViolation(violation).into())
    }

    /// Exchanges the first token for the long-lived one, where the server has such
    /// a step.
    async fn long_lived(
        &self,
        first: &SecretString,
        server: &Server,
    ) -> Result<Option<(TokenResponse, http::Response)>> {
        let dialect = &self.config.dialect;
        if !dialect.has(Field::EXCHANGE_ENDPOINT) {
            return Ok(None);
        }
        let client = self.client(server, None).await?;
        let exchange = dialect::exchange(&self.config, &client, &server.token_endpoint()?, first);
        let exchange = exchange.map_err(|what| Error::unsupported(what.to_owned()))?;
        let Some(request) = exchange else {
            return Ok(None);
        };
        let (url, secrets) = (request.url.clone(), request.secrets.clone());
        let http = self.platform.send(request).await;
        let http = http.map_err(|failure| from_http_failure(&url, failure))?;
        let response = self.token_in(&http, &secrets)?;
        self.check_token(&response)?;
        Ok(Some((response, http)))
    }

    /// The credential that the user has authorized, where all that came is to be
    /// believed.
    ///
    /// # Errors
    /// A violation: the id_token is not, or the token is not bound to the key that
    /// it was to be bound to. Unavailable, where the server's keys cannot be had.
    pub(super) async fn authorized(
        &self,
        mut response: TokenResponse,
        http: &http::Response,
        server: &Server,
        nonce: Option<&SecretString>,
        scope: &[String],
    ) -> Result<NewCredential> {
        self.check_token(&response)?;
        let skew = token_response::clock_skew_millis(http);
        let omitted = Field::ID_TOKEN_OMITS_NONCE;
        let omits_nonce = nonce.is_some()
            && self.config.dialect.has(omitted)
            && response
                .id_token
                .as_ref()
                .is_some_and(id_token::omits_nonce);
        let expected = Expected {
            issuer: self.issuer_of_id_tokens(server),
            client_id: self.config.client_id.as_deref().unwrap_or_default(),
            algorithms: &server.id_token_algorithms,
            nonce: nonce.filter(|_| !omits_nonce),
            // Asked for in the authorization request alone.
            max_age: self.config.max_age.filter(|_| nonce.is_some()),
            subject: None,
            access_token: &response.access_token,
            server_now: http.arrived_at.by_server(skew),
        };
        let mut ignored = None;
        match &response.id_token {
            Some(id_token) => {
                let checked = self.check_id_token(id_token, &expected, server).await;
                // One that was not asked for is passed over.
                match checked {
                    Err(error) if !scope.iter().any(|name| name == "openid") => {
                        ignored = Some(error);
                    }
                    checked => checked?,
                }
            }
            // OpenID Connect Core section 3.1.3.3: asked for openid, there is an
            // id_token. A plain OAuth server that ignores the scope has none.
            None if nonce.is_some() && server.issuer.is_some() => {
                return Err(id_token::violation(
                    "the scope openid was asked for and no id_token came",
                ));
            }
            None => {}
        }
        let long_lived = self.long_lived(&response.access_token, server).await?;
        let http = match &long_lived {
            Some((long_lived, later)) => {
                response.replace_token(long_lived.clone());
                later
            }
            None => http,
        };
        response
            .quirks
            .extend(self.config.dialect.request_quirks(&self.config));
        if omits_nonce {
            response.quirks.extend(provider::sentence(omitted, ""));
        }
        let reason = RenewalReason::Authorization;
        let mut new = self.credential(response, http, reason, server.clone(), scope);
        let id_token = new.id_token.take();
        match ignored {
            None => new.credential.id_token = id_token,
            Some(error) => new.quirks.push(id_token_ignored(&error)),
        }
        Ok(new)
    }

    /// Tells of a redirect that is not the answer to anything begun here. It is
    /// not kept: whoever can send redirects must not be able to fill the
    /// history.
    fn refuse(&self, error: Box<Error>, now: Timestamp) -> Box<Error> {
        if matches!(*error, Error::ProtocolViolation(_)) {
            self.tell(&[Event::new(
                now,
                EventKind::RedirectRefused,
                error.to_string(),
            )]);
        }
        error
    }

    /// Remembers how an authorization ended. A credential that is there goes on
    /// being used.
    pub(super) async fn note_failed_authorization(&self, error: Box<Error>) -> Box<Error> {
        let now = self.platform.now();
        let event = Event::new(now, EventKind::AuthorizationFailed, error.to_string());
        let cause = match &*error {
            Error::Denied(server_error) => Some(FailureCause::Denied(server_error.clone())),
            Error::Refused(server_error) => Some(FailureCause::Refused(server_error.clone())),
            Error::ProtocolViolation(violation) => Some(FailureCause::Violation(violation.clone())),
            Error::Unavailable(failure) => Some(FailureCause::Unavailable(failure.cause.clone())),
            _ => None,
        };
        let stored = self
            .change(&mut |record| {
                if let (None, Some(cause)) = (&record.credential, &cause) {
                    record.failure = Some(Failure {
                        at: now,
                        attempts: 1,
                        retry_at: None,
                        binding: self.binding.clone(),
                        cause: cause.clone(),
                    });
                }
                record.history.add(&event);
                Ok(())
            })
            .await;
        if stored.is_ok() {
            self.tell(&[event]);
        }
        error
    }
}

fn unknown_state() -> Box<Error> {
    state_violation(
        "the redirect answers no authorization that is under way here: its state is unknown, used or expired",
    )
}

fn state_violation(message: &str) -> Box<Error> {
    Error::violation(ViolationKind::State, message)
}
