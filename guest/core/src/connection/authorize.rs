//! The user's part: beginning an authorization and completing it, by any
//! instance on any node.

use super::{Connection, from_http_failure};
use crate::authorization::{self, AuthorizationOptions, Redirect};
use crate::client_authentication;
use crate::config::{ClientAuthentication, Grant, Parameter, PushedAuthorization};
use crate::dialect::{self, Field};
use crate::error::{Error, Result, ViolationKind};
use crate::event::{Event, EventKind};
use crate::http;
use crate::id_token::{self, Expected};
use crate::platform::Platform;
use crate::record::{Failure, FailureCause, RenewalReason};
use crate::secret::SecretString;
use crate::time::Timestamp;
use crate::token_request::{self, TokenGrant};
use crate::token_response::{self, TokenResponse};
use std::borrow::Cow;

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
}

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
            return Err(Error::Unsupported(format!(
                "a redirect for the grant {}",
                self.config.grant.grant_type()
            )));
        }
        let server = self.discover().await?;
        self.ensure_supported(&server)?;
        let now = self.platform.now();
        let (authorization_url, pending) = authorization::begin(
            &self.config,
            server,
            options,
            &self.binding,
            now,
            &self.platform,
        )?;
        let begun = Begun {
            authorization_url,
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

    /// What the config asks for and this version cannot do is said before the
    /// user is troubled, not after.
    fn ensure_supported(&self, server: &crate::metadata::Server) -> Result<()> {
        let unsupported = |what: &str| Err(Error::Unsupported(what.to_owned()));
        let pushes = match self.config.pushed_authorization {
            PushedAuthorization::Always => true,
            PushedAuthorization::Never => false,
            PushedAuthorization::Auto => server.requires_pushed_authorization,
        };
        if pushes {
            return unsupported("pushed authorization requests");
        }
        if self.config.request_object {
            return unsupported("signed authorization requests");
        }
        if self.config.dpop {
            return unsupported("DPoP");
        }
        match client_authentication::choose(&self.config, server) {
            ClientAuthentication::None
            | ClientAuthentication::ClientSecretBasic
            | ClientAuthentication::ClientSecretPost => Ok(()),
            method => unsupported(&format!("client authentication by {method}")),
        }
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
        Ok(())
    }

    async fn exchange(
        &self,
        code: &SecretString,
        pending: &authorization::PendingAuthorization,
        kept: &[Parameter],
    ) -> Result<super::renew::NewCredential> {
        let client = self.client(&pending.server).await?;
        let endpoint = pending.server.token_endpoint()?;
        let grant = TokenGrant::AuthorizationCode {
            code,
            redirect_uri: &pending.redirect_uri,
            code_verifier: pending.code_verifier.as_ref(),
        };
        let mut config = Cow::Borrowed(&self.config);
        if config.dialect.has(Field::TOKEN_REQUEST_SENDS_STATE) {
            let state = ("state".to_owned(), pending.state.reveal().to_owned());
            config.to_mut().token_parameters.push(state);
        }
        let request = token_request::build(&config, endpoint, &client, &grant)?;
        let (mut response, mut http) = self.receive(request).await?;
        let exchange = dialect::exchange(&self.config, &client, &response.access_token);
        let exchange = exchange.map_err(|what| Error::Unsupported(what.to_owned()))?;
        if let Some(request) = exchange {
            let (long_lived, later) = self.receive(request).await?;
            response.replace_token(long_lived);
            http = later;
        }
        response.keep(kept);
        response.quirks.extend(self.config.dialect.request_quirks());
        if let Some(nonce) = &pending.nonce {
            // OpenID Connect Core section 3.1.3.3: asked for openid, there is an
            // id_token. A plain OAuth server that ignores the scope has none.
            let skew = token_response::clock_skew_millis(&http);
            match &response.id_token {
                Some(id_token) => id_token::check(
                    id_token,
                    &Expected {
                        issuer: self.issuer_of_id_tokens(&pending.server),
                        client_id: self.config.client_id.as_deref().unwrap_or_default(),
                        nonce: Some(nonce),
                        access_token: &response.access_token,
                        server_now: Timestamp(http.arrived_at.0.saturating_add_signed(skew)),
                    },
                )?,
                None if pending.server.issuer.is_some() => {
                    return Err(Error::violation(
                        ViolationKind::IdToken,
                        "the scope openid was asked for and no id_token came",
                    ));
                }
                None => {}
            }
        }
        Ok(self.credential(
            response,
            &http,
            RenewalReason::Authorization,
            pending.server.clone(),
            &pending.scope,
        ))
    }

    /// Sends a token request, once, and reads what comes.
    async fn receive(&self, request: http::Request) -> Result<(TokenResponse, http::Response)> {
        let (url, secrets) = (request.url.clone(), request.secrets.clone());
        let http = self.platform.send(request).await;
        let http = http.map_err(|failure| from_http_failure(&url, failure))?;
        let read = token_response::read(&http, &self.config.dialect, &secrets);
        let response = read.map_err(|failure| match failure {
            token_response::Failure::Refused(error) => Error::Refused(error),
            token_response::Failure::Transient { cause, .. } => Error::unavailable(cause),
            token_response::Failure::Violation(violation) => Error::ProtocolViolation(violation),
        })?;
        if response.access_token.is_empty() {
            return Err(Error::ProtocolViolation(token_response::no_token()));
        }
        Ok((response, http))
    }

    /// Tells of a redirect that is not the answer to anything begun here. It is
    /// not kept: whoever can send redirects must not be able to fill the
    /// history.
    fn refuse(&self, error: Error, now: Timestamp) -> Error {
        if matches!(error, Error::ProtocolViolation(_)) {
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
    async fn note_failed_authorization(&self, error: Error) -> Error {
        let now = self.platform.now();
        let event = Event::new(now, EventKind::AuthorizationFailed, error.to_string());
        let cause = match &error {
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
                record.remember(event.clone());
                Ok(())
            })
            .await;
        if stored.is_ok() {
            self.tell(&[event]);
        }
        error
    }
}

fn unknown_state() -> Error {
    state_violation(
        "the redirect answers no authorization that is under way here: its state is unknown, used or expired",
    )
}

fn state_violation(message: &str) -> Error {
    Error::violation(ViolationKind::State, message)
}
