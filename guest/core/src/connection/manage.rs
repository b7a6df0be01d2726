//! Looking at a connection, clearing it, revoking it, and asking the server what it
//! knows of its token.

use super::sending::{Authentication, Call, refusal};
use super::{Connection, TokenOptions, from_http_failure};
use crate::config::{self, ClientAuthentication, Problem, Severity};
use crate::dialect::{Field, Purpose};
use crate::error::{Error, Reauthorization, Result};
use crate::event::{Event, EventKind};
use crate::json::{self, Object};
use crate::metadata::Server;
use crate::platform::Platform;
use crate::record::{Credential, FailureCause, Record, RenewalReason};
use crate::renewal;
use crate::secret::SecretString;
use crate::time::Timestamp;
use serde_json::Value;

/// The kinds of tokens (RFC 7009 section 2.1).
const ACCESS_TOKEN: &str = "access_token";
const REFRESH_TOKEN: &str = "refresh_token";

/// Where a connection stands.
#[derive(Clone, Debug, PartialEq)]
pub enum ConnectionState {
    /// The config lacks something.
    NotConfigured(Vec<Problem>),
    /// The config is complete, a token has yet to be obtained.
    NotAuthorized,
    /// A token is at hand or can be had without the user.
    Authorized,
    /// The last attempt failed, and this is how.
    Error(Error),
}

/// A renewal that succeeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastRenewal {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: RenewalReason,
}

/// Where a connection stands, in full.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The state.
    pub state: ConnectionState,
    /// When the access token expires.
    pub expires_at: Option<Timestamp>,
    /// Whether a token can be had without the user.
    pub refreshable: bool,
    /// When the refresh token expires.
    pub refresh_expires_at: Option<Timestamp>,
    /// The scopes granted.
    pub scope: Vec<String>,
    /// When the connection was authorized.
    pub authorized_at: Option<Timestamp>,
    /// The last renewal.
    pub last_renewal: Option<LastRenewal>,
    /// When a failed renewal is tried again.
    pub next_retry_at: Option<Timestamp>,
    /// What works but should be otherwise.
    pub warnings: Vec<Problem>,
}

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// Where the connection stands. Sends nothing.
    ///
    /// # Errors
    /// Storage; a config that is incomplete is a state, not an error.
    pub async fn status(&self) -> Result<Status> {
        let record = self.load().await?.record;
        let credential = self.credential_in(&record);
        let failure = self.failure_in(&record);
        let warnings = self
            .problems
            .iter()
            .filter(|p| p.severity == Severity::Warning);
        Ok(Status {
            state: self.state(&record),
            expires_at: credential.and_then(|c| c.expires_at),
            refreshable: credential.is_some_and(|c| self.is_refreshable(c)),
            refresh_expires_at: credential.and_then(|c| c.refresh_expires_at),
            scope: credential.map(|c| c.scope.clone()).unwrap_or_default(),
            authorized_at: credential.map(|c| c.authorized_at),
            last_renewal: credential.map(|c| LastRenewal {
                at: c.received_at,
                reason: c.reason,
            }),
            next_retry_at: failure.and_then(|f| f.retry_at),
            warnings: warnings.cloned().collect(),
        })
    }

    fn state(&self, record: &Record) -> ConnectionState {
        let errors = config::errors_in(&self.problems);
        if !errors.is_empty() {
            return ConnectionState::NotConfigured(errors);
        }
        let credential = self.credential_in(record);
        let is_valid = credential.is_some_and(|c| renewal::is_valid(c, self.platform.now()));
        let failure = self.failure_in(record);
        match (credential, failure) {
            // An outage is no error while there is a token.
            (Some(_), Some(failure)) if is_valid && is_passing(&failure.cause) => {
                ConnectionState::Authorized
            }
            (_, Some(failure)) => ConnectionState::Error(*failure.error()),
            (None, None) => ConnectionState::NotAuthorized,
            (Some(credential), None) if is_valid || self.is_refreshable(credential) => {
                ConnectionState::Authorized
            }
            (Some(credential), None) => {
                let reason = match credential.refresh_token {
                    Some(_) => "the token and the refresh token have expired",
                    None => "the token has expired, and the server gave no refresh token",
                };
                ConnectionState::Error(Error::ReauthorizationRequired(Reauthorization {
                    reason: reason.to_owned(),
                    error: None,
                }))
            }
        }
    }

    /// What has happened to the connection, the latest last.
    ///
    /// # Errors
    /// Storage.
    pub async fn history(&self) -> Result<Vec<Event>> {
        Ok(self.load().await?.record.history.events())
    }

    /// The token endpoint's last successful response, whole, as JSON.
    ///
    /// # Errors
    /// Not authorized, where there is none; storage.
    pub async fn response_json(&self) -> Result<SecretString> {
        let record = self.load().await?.record;
        let credential = self.credential_in(&record);
        let credential = credential.ok_or_else(no_credential)?;
        Ok(credential.response.clone())
    }

    /// Forgets the credential, and what the user was asked; the history stays.
    ///
    /// # Errors
    /// Storage.
    pub async fn clear(&self) -> Result<()> {
        let event = Event::new(
            self.platform.now(),
            EventKind::Cleared,
            "the credential was forgotten",
        );
        self.forget(&[event], None).await
    }

    /// Forgets the credential, or that of `revoked` alone.
    async fn forget(&self, events: &[Event], revoked: Option<&Record>) -> Result<()> {
        let mut is_news = false;
        self.change(&mut |record| {
            is_news = revoked.is_some() || record.credential.is_some();
            for event in events.iter().filter(|_| is_news) {
                record.history.add(event);
            }
            // The user may have brought another one while the server was asked.
            if revoked.is_some_and(|revoked| !record.has_credential_of(revoked)) {
                return Ok(());
            }
            record.credential = None;
            // A renewal that is under way sees that it is too late.
            record.generation += 1;
            record.journal = None;
            record.failure = None;
            record.device = None;
            record.pending.clear();
            Ok(())
        })
        .await?;
        if is_news {
            self.tell(events);
        }
        Ok(())
    }

    /// Revokes the credential at the server (RFC 7009), then forgets it. Where
    /// the server does not revoke, the credential stays; so does another that the
    /// user brings meanwhile.
    ///
    /// # Errors
    /// Not authorized, where there is none; unsupported, where the server has no
    /// revocation endpoint; refused; unavailable; storage.
    pub async fn revoke(&self) -> Result<()> {
        self.ensure_configured()?;
        let dialect = &self.config.dialect;
        if dialect.get(Field::REVOCATION_ENDPOINT_AUTH_METHOD) == Some(ACCESS_TOKEN) {
            // One that has expired would not be let in. Where none is to be had,
            // the server says what it makes of the old one.
            let _ = self.token(&TokenOptions::default()).await;
        }
        // Under the lease, or a renewal would bring a token that nobody revokes.
        let _lease = self.lease().await?;
        let record = self.load().await?.record;
        let credential = self.credential_in(&record);
        let credential = credential.ok_or_else(no_credential)?;
        let server = self.issuer_of(credential);
        let refresh_token = credential.refresh_token.as_ref();
        // RFC 7009 section 2.1: with the refresh token the server revokes the
        // access tokens too, if it can; so those go second.
        let tokens = refresh_token
            .map(|token| (token, REFRESH_TOKEN))
            .into_iter()
            .chain([(&credential.access_token, ACCESS_TOKEN)]);
        let taken = dialect.get(Field::REVOCATION_TOKEN);
        if taken == Some(REFRESH_TOKEN) && refresh_token.is_none() {
            return Err(Error::unsupported(
                "the server revokes refresh tokens alone, and the connection has none".to_owned(),
            ));
        }
        for (token, hint) in tokens {
            if taken.is_some_and(|taken| taken != hint) {
                continue;
            }
            // Who takes one kind alone knows no hint.
            let hint_sent = taken.is_none().then_some(hint);
            let call = self.revocation(&server, credential, token, hint_sent)?;
            let request = self.ready(&call).await?;
            let secrets = request.secrets.clone();
            let response = self.send(&call, request).await;
            let response =
                response.map_err(|failure| from_http_failure(&call.endpoint, failure))?;
            let Some(refused) = refusal(&call.endpoint, &response, &secrets) else {
                continue;
            };
            match &*refused {
                // RFC 7009 section 2.2.1: it revokes refresh tokens alone.
                Error::Refused(error)
                    if error.code == "unsupported_token_type"
                        && hint == ACCESS_TOKEN
                        && refresh_token.is_some() => {}
                _ => return Err(refused),
            }
        }
        let now = self.platform.now();
        let mut events = Vec::new();
        for quirk in dialect.sentences(Field::REVOCATION_METHOD, Field::REVOCATION_TOKEN) {
            events.push(Event::new(now, EventKind::QuirkApplied, quirk));
        }
        let message = "the credential was revoked at the server";
        events.push(Event::new(now, EventKind::Revoked, message));
        self.forget(&events, Some(&record)).await
    }

    /// What the server knows of the access token (RFC 7662 section 2.2), as JSON.
    ///
    /// # Errors
    /// Not authorized, where there is none; unsupported, where the server has no
    /// introspection endpoint; refused; unavailable; a violation; storage.
    pub async fn introspect(&self) -> Result<SecretString> {
        self.ensure_configured()?;
        let record = self.load().await?.record;
        let credential = self.credential_in(&record).ok_or_else(no_credential)?;
        let known = self.introspected(credential).await?;
        if credential.expires_at.is_none()
            && let Some(expiry) = expiry_in(&known, credential)
        {
            self.change(&mut |current| {
                if current.has_credential_of(&record)
                    && let Some(credential) = &mut current.credential
                {
                    self.put_expiry(credential, Some(expiry));
                }
                Ok(())
            })
            .await?;
        }
        Ok(SecretString::new(json::text(&Value::Object(known))))
    }

    async fn introspected(&self, credential: &Credential) -> Result<Object> {
        let server = self.issuer_of(credential);
        let token = &credential.access_token;
        let mut call = about_token(&server, "introspection_endpoint", token, Some(ACCESS_TOKEN))?;
        call.authentication =
            self.declared_authentication(Field::INTROSPECTION_ENDPOINT_AUTH_METHOD, credential);
        self.ask(&call).await
    }

    /// A revocation, in the server's own way where it has one.
    fn revocation<'a>(
        &'a self,
        server: &'a Server,
        credential: &'a Credential,
        token: &SecretString,
        hint: Option<&str>,
    ) -> Result<Call<'a>> {
        let mut call = about_token(server, "revocation_endpoint", token, hint)?;
        call.purpose = Purpose::Revocation;
        call.authentication =
            self.declared_authentication(Field::REVOCATION_ENDPOINT_AUTH_METHOD, credential);
        Ok(call)
    }

    /// How requests to an endpoint authenticate, as a field declares it. Without a
    /// secret no client authenticates by one.
    fn declared_authentication<'a>(
        &self,
        field: Field,
        credential: &'a Credential,
    ) -> Option<Authentication<'a>> {
        let name = self.config.dialect.get(field)?;
        if name == ACCESS_TOKEN {
            return Some(Authentication::AccessToken(&credential.access_token));
        }
        let method = config::named(ClientAuthentication::NAMES, name)?;
        let is_possible = !method.needs_secret() || self.config.client_secret.is_some();
        is_possible.then_some(Authentication::Client(method))
    }

    /// Whether the server is to be asked when the token expires, since it did not
    /// say.
    pub(super) fn introspects(&self, credential: &Credential) -> bool {
        let of_config = self.config.endpoints.introspection.as_ref();
        let endpoint = of_config.or(credential.server.endpoints.introspection.as_ref());
        credential.expires_at.is_none() && endpoint.is_some()
    }

    /// When the token expires, as the server has it where it is asked.
    pub(super) async fn introspected_expiry(&self, credential: &Credential) -> Option<Timestamp> {
        let known = self.introspected(credential).await.ok()?;
        expiry_in(&known, credential)
    }

    /// Puts an expiry that has been learnt, and with it when the token is due.
    pub(super) fn put_expiry(&self, credential: &mut Credential, expiry: Option<Timestamp>) {
        let Some(expiry) = expiry else {
            return;
        };
        let (policy, received_at) = (&self.config.renewal, credential.received_at);
        let lifetime = expiry.millis_since(received_at);
        let fresh_until = renewal::fresh_until(received_at, lifetime, policy, &self.platform);
        credential.expires_at = Some(expiry);
        credential.fresh_until = Some(fresh_until);
    }
}

/// A call that is about a token: its revocation (RFC 7009 section 2.1) or its
/// introspection (RFC 7662 section 2.1).
fn about_token<'a>(
    server: &'a Server,
    endpoint: &str,
    token: &SecretString,
    hint: Option<&str>,
) -> Result<Call<'a>> {
    let mut form = vec![("token", token.clone())];
    form.extend(hint.map(|hint| ("token_type_hint", SecretString::new(hint))));
    Call::to(server, endpoint, form, &[])
}

/// The expiry of an active token by the host's clock (RFC 7662 section 2.2).
fn expiry_in(known: &Object, credential: &Credential) -> Option<Timestamp> {
    let is_active = known.get("active") == Some(&Value::Bool(true));
    let expiry = known.get("exp").filter(|_| is_active)?.as_u64()?;
    let expiry = Timestamp::from_seconds(expiry).by_host(credential.skew_millis);
    Some(expiry).filter(|expiry| *expiry > credential.received_at)
}

pub(super) fn no_credential() -> Box<Error> {
    Error::not_authorized("the connection has no credential".to_owned())
}

/// Whether a failure says nothing about the credential.
fn is_passing(cause: &FailureCause) -> bool {
    matches!(
        cause,
        FailureCause::Unavailable(_) | FailureCause::Denied(_)
    )
}
