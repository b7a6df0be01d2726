//! A token that is always fresh: the renewal.
//!
//! Whoever holds the lease renews; a journal entry is stored before the request
//! is sent, and the new token before it is handed out. So a crash at any instant
//! loses nothing that had arrived, any number of callers cause one request, and
//! an outage is never taken for a logout.

use super::credential::{NewCredential, unbound};
use super::sending::Call;
use super::storage::{CHANGE_ATTEMPTS, COMMIT_PAUSES, Version, Written, may_pass};
use super::{Connection, Token, TokenOptions, from_http_failure, too_large};
use crate::config::{Grant, Secret};
use crate::dialect::{Field, Purpose};
use crate::error::{Error, Reauthorization, Result, ServerError, StorageFailureKind};
use crate::event::{Event, EventKind};
use crate::http;
use crate::metadata::Server;
use crate::platform::{Lease, Platform};
use crate::record::{Failure, FailureCause, Intent, Record, RenewalReason};
use crate::renewal::{self, Demand, Standing, assess};
use crate::secret::SecretString;
use crate::time::Timestamp;
use crate::token_request::{self, Form, TokenGrant};
use crate::token_response::{self, TokenResponse};
use std::rc::Rc;

/// How long one wait for the lease lasts before the record is looked at again,
/// in milliseconds: whoever waits is served as soon as the holder has stored,
/// without taking the lease in his turn.
const LEASE_WAIT_SLICE: u64 = 250;

/// How a token is obtained without the user.
enum Way {
    /// With the refresh token of the credential.
    Refresh(SecretString),
    /// With the refresh token that the config brings.
    FirstRefresh,
    /// By running the grant again.
    Grant,
}

/// A token request, made ready once, with the refresh token that it spends.
struct Prepared<'a> {
    call: Call<'a>,
    request: http::Request,
    spends: Option<SecretString>,
}

/// Why a renewal did not bring a token.
struct Setback {
    cause: FailureCause,
    retry_after_millis: Option<u64>,
    /// Whether there is nothing at the endpoint any more.
    is_gone: bool,
    /// Whether the server may have acted on the request all the same.
    in_doubt: bool,
    /// Whether there was a journal entry for it.
    was_begun: bool,
    /// The fingerprint of the config's refresh token, where that was refused.
    given: Option<String>,
}

impl Setback {
    fn new(cause: FailureCause, in_doubt: bool) -> Self {
        Self {
            cause,
            retry_after_millis: None,
            is_gone: false,
            in_doubt,
            was_begun: true,
            given: None,
        }
    }
}

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// A token that has not expired, renewed first where needed.
    ///
    /// # Errors
    /// Every case of [`Error`] but `Denied`.
    pub async fn token(&self, options: &TokenOptions) -> Result<Token> {
        self.obtain(&Demand::Valid {
            min_validity_millis: u64::from(options.min_validity_seconds) * 1000,
            rejected: options.rejected.clone(),
        })
        .await
    }

    /// Renews the token now, whether or not it is due, and even where the last
    /// failure asks for patience.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub async fn refresh(&self) -> Result<Token> {
        self.ensure_configured()?;
        let seen = self.load().await?.record.generation;
        self.obtain(&Demand::NewerThan(seen)).await
    }

    async fn obtain(&self, demand: &Demand) -> Result<Token> {
        self.ensure_configured()?;
        let seen = self.load().await?.record;
        if let Some(token) = self.fresh_token(&seen, demand) {
            return Ok(token);
        }
        let renewed = match self.hindrance(&seen, demand).await {
            Some(error) => Err(error),
            None => self.renew(&seen, demand).await,
        };
        let (record, error) = match renewed {
            Ok(record) => (record, None),
            Err(error) => (self.load().await?.record, Some(error)),
        };
        let is_renewed = error.is_none() && record.generation > seen.generation;
        let cause = match self.credential_in(&record) {
            // A token that is merely due does while it lasts: an outage of the
            // authorization server is none of the application.
            Some(credential) if !matches!(self.assess(&record, demand), Standing::Unmet(_)) => {
                return Ok(self.token_of(credential));
            }
            // The refused one again: there is no better one to be had.
            Some(credential)
                if is_renewed && renewal::is_valid(credential, self.platform.now()) =>
            {
                return Ok(self.token_of(credential));
            }
            Some(_) if is_renewed => {
                "the token that the server gave had expired before it could be handed out"
            }
            _ => "another renewal is under way and has not finished in time",
        };
        Err(error.unwrap_or_else(|| Error::unavailable(cause)))
    }

    fn assess(&self, record: &Record, demand: &Demand) -> Standing {
        assess(record, &self.binding, demand, self.platform.now())
    }

    fn fresh_token(&self, record: &Record, demand: &Demand) -> Option<Token> {
        let credential = record.credential.as_ref()?;
        (self.assess(record, demand) == Standing::Fresh).then(|| self.token_of(credential))
    }

    /// The last failure, where it is one of this config.
    pub(super) fn failure_in<'a>(&self, record: &'a Record) -> Option<&'a Failure> {
        let failure = record.failure.as_ref();
        failure.filter(|failure| failure.binding == self.binding)
    }

    /// What keeps a renewal from being tried: the last failure, or that there is
    /// no way without the user.
    async fn hindrance(&self, record: &Record, demand: &Demand) -> Option<Box<Error>> {
        let is_asked_for = matches!(demand, Demand::NewerThan(_));
        if let Some(failure) = self.failure_in(record).filter(|_| !is_asked_for) {
            let may_try = renewal::may_try(failure, self.platform.now());
            if !may_try || failure.is_final() && !self.is_given_another(record).await {
                return Some(failure.error());
            }
        }
        self.way(record, false).err()
    }

    /// Whether there is another refresh token behind the config's reference by now
    /// than the one that was spent: the user has replaced it.
    async fn is_given_another(&self, record: &Record) -> bool {
        let Grant::RefreshToken {
            refresh_token: Some(given @ Secret::Reference(_)),
        } = &self.config.grant
        else {
            return false;
        };
        let given = self.reveal("refresh_token", given).await;
        given.is_ok_and(|given| Some(given.fingerprint()) != record.given)
    }

    /// How a token is obtained without the user.
    ///
    /// # Errors
    /// There is no way: the connection has to be authorized, or again.
    fn way(&self, record: &Record, refresh_is_dead: bool) -> Result<Way> {
        let credential = record.credential.as_ref();
        let bound = credential.filter(|credential| credential.binding == self.binding);
        let refresh_token = bound.and_then(|credential| credential.refresh_token.clone());
        match &self.config.grant {
            // RFC 6749 section 4.4.3 has no refresh token here.
            Grant::ClientCredentials => return Ok(Way::Grant),
            Grant::RefreshToken { .. } if bound.is_none() || refresh_is_dead => {
                return Ok(Way::FirstRefresh);
            }
            _ => {}
        }
        if let Some(refresh_token) = refresh_token.filter(|_| !refresh_is_dead) {
            return Ok(Way::Refresh(refresh_token));
        }
        if self.config.grant.can_run_again() {
            return Ok(Way::Grant);
        }
        Err(match (credential, bound) {
            (None, _) => Error::not_authorized(match self.failure_in(record) {
                Some(failure) => failure.error().to_string(),
                None => "the connection has not been authorized".to_owned(),
            }),
            (Some(_), None) => Error::not_authorized(
                "the configuration names another client or server than the one that the connection was authorized for".to_owned(),
            ),
            (Some(credential), Some(_)) => Error::ReauthorizationRequired(Reauthorization {
                reason: if renewal::is_valid(credential, self.platform.now()) {
                    "the server gave no refresh token, so the token cannot be renewed".to_owned()
                } else {
                    "the token has expired, and the server gave no refresh token".to_owned()
                },
                error: None,
            })
            .into(),
        })
    }

    /// Renews under the lease. Gives the record as it is afterwards, which does
    /// not meet the demand only where another renewal is still under way.
    async fn renew(&self, seen: &Record, demand: &Demand) -> Result<Rc<Record>> {
        let attempts = u64::from(self.config.renewal.max_attempts.unwrap_or(1)).clamp(1, 10);
        let timeout = self.config.timeout_millis();
        // Long enough for the metadata, every attempt with the pause before it, and
        // a store that fails for a while. A holder that dies gives it back sooner.
        let ttl = timeout.saturating_mul(2 * attempts + 3) + 30_000;
        let may_return_old = self.assess(seen, demand) == Standing::Due(RenewalReason::Early);
        let mut patience = if may_return_old { 0 } else { timeout + 5000 };
        loop {
            let slice = patience.min(LEASE_WAIT_SLICE);
            let lease = self
                .platform
                .acquire_lease(&self.store_key, ttl, slice)
                .await;
            if let Some(lease) = lease.map_err(super::storage::from_store_error)? {
                return self.renew_under(&lease, demand, attempts).await;
            }
            let record = self.load().await?.record;
            if patience == 0 || self.assess(&record, demand) == Standing::Fresh {
                return Ok(record);
            }
            if let Some(error) = self.hindrance(&record, demand).await {
                return Err(error);
            }
            patience -= slice;
        }
    }

    async fn renew_under(
        &self,
        lease: &P::Lease,
        demand: &Demand,
        attempts: u64,
    ) -> Result<Rc<Record>> {
        let mut refresh_is_dead = false;
        // Whether the journal that is found open may be this renewal's own.
        let mut has_begun = false;
        loop {
            // Somebody may have renewed, or failed, since the record was read.
            let version = self.load().await?;
            let reason = match self.assess(&version.record, demand) {
                Standing::Fresh => return Ok(version.record),
                Standing::Due(reason) | Standing::Unmet(reason) => reason,
            };
            if let Some(error) = self.hindrance(&version.record, demand).await {
                return Err(error);
            }
            let is_final = self
                .failure_in(&version.record)
                .is_some_and(Failure::is_final);
            if is_final && self.is_given_another(&version.record).await {
                refresh_is_dead = true;
            }
            let way = self.way(&version.record, refresh_is_dead)?;
            let mut server = match self.server_of(&version.record).await {
                Ok(server) => server,
                Err(error) => return Err(self.note_undiscovered(&version, error).await),
            };
            let prepared = self.prepare(&way, &server, &version.record).await?;
            let spends = prepared.spends.clone();
            let given = spends.as_ref().map(SecretString::fingerprint);
            let given = given.filter(|_| matches!(way, Way::FirstRefresh));
            let begun = self.begin_journal(&version, spends.as_ref(), has_begun, lease);
            let Some((begun, interrupted)) = begun.await? else {
                continue;
            };
            has_begun = true;
            let mut sent = self.send_with_retries(prepared, attempts, None).await;
            let is_gone = match &sent {
                Ok(Ok(_)) => false,
                Ok(Err(setback)) => setback.is_gone,
                // The host lets requests go where the metadata leads now.
                Err(_) => true,
            };
            if is_gone && let Some(moved) = self.moved(&server).await {
                server = moved;
                if let Ok(prepared) = self.prepare(&way, &server, &begun.record).await {
                    let earlier = sent.ok().and_then(std::result::Result::err);
                    sent = self.send_with_retries(prepared, 1, earlier).await;
                }
            }
            let sent = match sent {
                Ok(sent) => sent,
                Err(forbidden) => return Err(self.note_forbidden(&begun, forbidden).await),
            };
            let setback = match sent {
                // There is no earlier token that it could have prolonged.
                Ok((response, _))
                    if response.access_token.is_empty() && !matches!(way, Way::Refresh(_)) =>
                {
                    Setback::new(FailureCause::Violation(token_response::no_token()), true)
                }
                Ok((response, http)) => {
                    let mut new =
                        self.renewed(&begun.record, reason, &server, response, spends, &http);
                    new.given = given;
                    let committed = self.commit(begun, interrupted, &new, lease).await?;
                    return Ok(self.settle(&new).await.unwrap_or(committed));
                }
                Err(setback) => setback,
            };
            match &setback.cause {
                FailureCause::Refused(error)
                    if error.code == "invalid_grant" && spends.is_some() =>
                {
                    let current = self.load().await?.record;
                    // A race or an import may have brought another one.
                    if !current.has_credential_of(&begun.record) {
                        self.note_overtaken().await?;
                        refresh_is_dead = false;
                        continue;
                    }
                    let has_another = given.is_none() && self.is_given_another(&current).await;
                    if self.config.grant.can_run_again() || has_another {
                        refresh_is_dead = true;
                        continue;
                    }
                    // Somebody else has begun since: it may have spent the token.
                    let in_doubt = setback.in_doubt || current.journal != begun.record.journal;
                    let error = error.clone();
                    let refused = self.note_refresh_refused(&begun, in_doubt, given, error);
                    return Err(refused.await);
                }
                _ => return Err(self.note_failure(&begun, setback).await),
            }
        }
    }

    /// The server that a renewal goes to: the one that issued the credential,
    /// else the one that the config names.
    async fn server_of(&self, record: &Record) -> Result<Server> {
        match self.credential_in(record) {
            Some(credential) => Ok(self.issuer_of(credential)),
            None => self.discover().await,
        }
    }

    /// The server as its metadata has it now, where its token endpoint has moved. A
    /// refresh token is for the same issuer alone.
    async fn moved(&self, server: &Server) -> Option<Server> {
        if self.config.issuer.is_none() && self.config.dialect.has(Field::TOKEN_ENDPOINT) {
            return None;
        }
        let found = self.discover().await.ok()?;
        let has_moved = found.endpoints.token != server.endpoints.token;
        Some(found).filter(|found| has_moved && found.issuer == server.issuer)
    }

    async fn prepare<'a>(
        &self,
        way: &Way,
        server: &'a Server,
        record: &Record,
    ) -> Result<Prepared<'a>> {
        let spends = match (way, &self.config.grant) {
            (Way::Refresh(refresh_token), _) => Some(refresh_token.clone()),
            (
                Way::FirstRefresh,
                Grant::RefreshToken {
                    refresh_token: Some(given),
                },
            ) => Some(self.reveal("refresh_token", given).await?),
            _ => None,
        };
        let grant = match &spends {
            Some(refresh_token) => TokenGrant::RefreshToken(refresh_token),
            None => TokenGrant::Other(
                self.config.grant.grant_type(),
                self.grant_parameters().await?,
            ),
        };
        let purpose = match &spends {
            Some(_) => Purpose::Refresh,
            None => Purpose::Token,
        };
        let form = token_request::form(&self.config, grant);
        let mut call = Call::for_token(server, purpose, form)?;
        call.asserts = spends.is_none();
        if let (Way::Refresh(_), Some(credential)) = (way, &record.credential) {
            let dialect = &self.config.dialect;
            if dialect.has(Field::TOKEN_REQUEST_SENDS_CALLBACK_PARAMETERS) {
                call.repeated = token_response::kept_in(&credential.response, dialect);
            }
        }
        Ok(Prepared {
            request: self.ready(&call).await?,
            call,
            spends,
        })
    }

    /// What the config's grant sends that is its own, secrets resolved.
    async fn grant_parameters(&self) -> Result<Form> {
        let mut form = Form::new();
        let mut put_text = |name, text: &Option<String>| {
            if let Some(text) = text {
                form.push((name, SecretString::new(text)));
            }
        };
        let secrets = match &self.config.grant {
            Grant::Password { username, password } => {
                put_text("username", username);
                [("password", password), ("", &None)]
            }
            Grant::JwtBearer { assertion, .. } => [("assertion", assertion), ("", &None)],
            Grant::TokenExchange {
                subject_token,
                subject_token_type,
                actor_token,
                actor_token_type,
                requested_token_type,
            } => {
                put_text("subject_token_type", subject_token_type);
                put_text("actor_token_type", actor_token_type);
                put_text("requested_token_type", requested_token_type);
                [
                    ("subject_token", subject_token),
                    ("actor_token", actor_token),
                ]
            }
            _ => return Ok(form),
        };
        for (name, secret) in secrets {
            if let Some(secret) = secret {
                form.push((name, self.reveal(name, secret).await?));
            }
        }
        Ok(form)
    }

    /// Stores that a request is about to be sent, and tells whether that is after
    /// an interrupted renewal which had the same refresh token. `None`: somebody
    /// else wrote meanwhile, and all has to be looked at again.
    async fn begin_journal(
        &self,
        version: &Version,
        spends: Option<&SecretString>,
        has_begun: bool,
        lease: &P::Lease,
    ) -> Result<Option<(Version, bool)>> {
        let now = self.platform.now();
        let spends = spends.map(SecretString::fingerprint);
        let mut record = Record::clone(&version.record);
        let mut told = None;
        let open = record.journal.take();
        let is_unknown = |intent: &&Intent| !intent.in_doubt && !has_begun;
        if let Some(intent) = open.as_ref().filter(is_unknown) {
            let event = Event::new(
                now,
                EventKind::RenewalInterrupted,
                "a renewal was interrupted after it was begun; whether the server acted on it is not known",
            );
            let event = event.with("begun_at", intent.at.seconds().to_string());
            record.history.add(&event);
            told = Some(event);
        }
        // While the same refresh token is tried, the doubt about it stays.
        let in_doubt = open.is_some_and(|intent| spends.is_some() && intent.spends == spends);
        let interrupted = in_doubt && told.is_some();
        record.journal = Some(Intent {
            at: now,
            spends,
            in_doubt,
        });
        match self.write(version, record, Some(lease.fence())).await? {
            Written::Stored(version) => {
                self.tell(told.as_slice());
                Ok(Some((version, interrupted)))
            }
            Written::Stale(_) => Ok(None),
            Written::Fenced => Err(lease_lost()),
        }
    }

    /// Sends a token request, again after a pause where it fails transiently and
    /// the policy allows it. `earlier`: what came of one at another endpoint.
    ///
    /// # Errors
    /// Forbidden, where the host lets nothing out.
    async fn send_with_retries(
        &self,
        prepared: Prepared<'_>,
        attempts: u64,
        mut earlier: Option<Setback>,
    ) -> Result<std::result::Result<(TokenResponse, http::Response), Setback>> {
        let call = &prepared.call;
        let may_discard = prepared.spends.is_none();
        let mut request = prepared.request;
        let mut attempt = 1;
        loop {
            let outcome = self.send_token_request(call, request, may_discard).await;
            let setback = match (outcome, earlier) {
                // One attempt in doubt leaves them all in doubt.
                (Ok(Err(setback)), Some(earlier)) => Setback {
                    in_doubt: setback.in_doubt || earlier.in_doubt,
                    ..setback
                },
                (Ok(Err(setback)), None) => setback,
                (Err(_), Some(earlier)) => return Ok(Err(earlier)),
                (outcome, _) => return outcome,
            };
            if attempt >= attempts || !matches!(setback.cause, FailureCause::Unavailable(_)) {
                return Ok(Err(setback));
            }
            let now = self.platform.now();
            let number = u32::try_from(attempt).unwrap_or(u32::MAX);
            let retry_at = renewal::retry_at(
                now,
                number,
                setback.retry_after_millis,
                &self.config.renewal,
                &self.platform,
            );
            // The lease does not wait for hours; the next caller tries then.
            if retry_at.millis_since(now) > self.config.timeout_millis() {
                return Ok(Err(setback));
            }
            self.platform.sleep(retry_at.millis_since(now)).await;
            // Assertion and proof are for one sending.
            request = match self.ready(call).await {
                Ok(request) => request,
                Err(_) => return Ok(Err(setback)),
            };
            earlier = Some(setback);
            attempt += 1;
        }
    }

    /// Sends a token request once. `may_discard`: nothing is lost by not taking
    /// what it brings.
    async fn send_token_request(
        &self,
        call: &Call<'_>,
        request: http::Request,
        may_discard: bool,
    ) -> Result<std::result::Result<(TokenResponse, http::Response), Setback>> {
        let endpoint = &call.endpoint;
        let secrets = request.secrets.clone();
        let response = match self.send(call, request).await {
            Ok(response) => response,
            Err(failure @ http::Failure::Forbidden(_)) => {
                return Err(from_http_failure(endpoint, failure));
            }
            Err(http::Failure::TooLarge) => {
                let cause = FailureCause::Violation(too_large(endpoint));
                return Ok(Err(Setback::new(cause, true)));
            }
            Err(failure) => {
                let in_doubt = !matches!(failure, http::Failure::NotSent(_));
                let host = endpoint.host();
                let cause = FailureCause::Unavailable(format!("{host}: {failure}"));
                return Ok(Err(Setback::new(cause, in_doubt)));
            }
        };
        let read = token_response::read(&response, &self.config.dialect, &secrets);
        Ok(match read {
            Ok(token) if may_discard && self.is_unbound(&token) => {
                Err(Setback::new(FailureCause::Violation(unbound()), false))
            }
            Ok(token) => Ok((token, response)),
            Err(token_response::Failure::Refused(error)) => {
                Err(Setback::new(FailureCause::Refused(error), false))
            }
            Err(token_response::Failure::Transient {
                cause,
                retry_after_millis,
            }) => Err(Setback {
                retry_after_millis,
                is_gone: matches!(response.status, 404 | 405 | 410),
                // A gateway's error says nothing of what is behind it.
                ..Setback::new(FailureCause::Unavailable(cause), response.status >= 500)
            }),
            // Half an answer may have been a whole renewal.
            Err(token_response::Failure::Violation(violation)) => Err(Setback::new(
                FailureCause::Violation(violation),
                response.status < 300,
            )),
        })
    }

    /// Stores what a renewal brought; no token is handed out before. What came
    /// must not be lost: a store that fails is asked again for a while, a lease
    /// that ran out is taken anew.
    async fn commit(
        &self,
        begun: Version,
        interrupted: bool,
        new: &NewCredential,
        lease: &P::Lease,
    ) -> Result<Rc<Record>> {
        let mut version = begun.clone();
        let mut second_lease: Option<P::Lease> = None;
        let mut failure = lease_lost();
        let mut pauses = COMMIT_PAUSES.iter();
        for _ in 0..CHANGE_ATTEMPTS {
            let mut record = Record::clone(&version.record);
            // Another one has tried since this one began: with the same refresh
            // token, or there would be another credential.
            let is_contested = record.journal != begun.record.journal;
            let mut events = new.apply_to(&mut record);
            let now = new.credential.received_at;
            if is_contested {
                events.extend(put_in_doubt(&mut record, now));
            } else if interrupted {
                // Whoever was interrupted may only have stalled, and may still
                // send what this one has spent.
                record.journal = doubt_of(&record, now);
            }
            let fence = second_lease.as_ref().unwrap_or(lease).fence();
            match self.write(&version, record, Some(fence)).await {
                Ok(Written::Stored(version)) => {
                    self.tell(&events);
                    return Ok(version.record);
                }
                // It is the same credential still, with a failure or a journal
                // entry of somebody else: ours goes on top. Otherwise it was
                // cleared, authorized or renewed meanwhile, and theirs counts.
                Ok(Written::Stale(current)) if current.has_credential_of(&begun) => {
                    version = current;
                    continue;
                }
                Ok(Written::Stale(current)) => return self.superseded(current.record),
                Ok(Written::Fenced) => {
                    failure = lease_lost();
                    let wait = self.config.timeout_millis();
                    let taken = self
                        .platform
                        .acquire_lease(&self.store_key, wait, wait)
                        .await;
                    if let Ok(Some(lease)) = taken {
                        second_lease = Some(lease);
                    }
                }
                Err(error) if may_pass(&error) => failure = error,
                Err(error) => return Err(error),
            }
            let Some(pause) = pauses.next() else {
                break;
            };
            self.platform.sleep(*pause).await;
            // A write that seemed to fail may have been done.
            if let Ok(current) = self.load().await {
                if !current.has_credential_of(&begun) {
                    return self.superseded(current.record);
                }
                version = current;
            }
        }
        Err(failure)
    }

    fn superseded(&self, current: Rc<Record>) -> Result<Rc<Record>> {
        if current.credential.is_some() {
            Ok(current)
        } else {
            Err(Error::not_authorized(
                "the connection was cleared while its token was being renewed".to_owned(),
            ))
        }
    }

    /// Remembers that this renewal had stalled beyond its lease and sent a refresh
    /// token which another had replaced meanwhile.
    async fn note_overtaken(&self) -> Result<()> {
        let now = self.platform.now();
        let mut told = None;
        self.change(&mut |record| {
            told = put_in_doubt(record, now);
            Ok(())
        })
        .await?;
        self.tell(told.as_slice());
        Ok(())
    }

    /// Remembers that the metadata could not be had, like a renewal that failed.
    async fn note_undiscovered(&self, version: &Version, error: Box<Error>) -> Box<Error> {
        let cause = match *error {
            Error::Unavailable(failure) => FailureCause::Unavailable(failure.cause),
            Error::ProtocolViolation(violation) => FailureCause::Violation(violation),
            other => return other.into(),
        };
        let setback = Setback {
            was_begun: false,
            ..Setback::new(cause, false)
        };
        self.note_failure(version, setback).await
    }

    /// Remembers that the host does not let the request out, which says nothing of
    /// the next one.
    async fn note_forbidden(&self, begun: &Version, forbidden: Box<Error>) -> Box<Error> {
        let (now, message) = (self.platform.now(), forbidden.to_string());
        let event = Event::new(now, EventKind::RenewalFailed, message).with("error", "forbidden");
        let stored = self
            .change(&mut |record| {
                if record.has_credential_of(&begun.record) {
                    record.conclude(false);
                    record.history.add(&event);
                }
                Ok(())
            })
            .await;
        if stored.is_ok() {
            self.tell(&[event]);
        }
        forbidden
    }

    /// Remembers that the user has to authorize again. `in_doubt`: another than the
    /// refused request may have spent the refresh token.
    async fn note_refresh_refused(
        &self,
        begun: &Version,
        in_doubt: bool,
        given: Option<String>,
        error: ServerError,
    ) -> Box<Error> {
        let journal = begun.record.journal.as_ref();
        let in_doubt = in_doubt || journal.is_some_and(|intent| intent.in_doubt);
        let reason = if in_doubt {
            "the server no longer accepts the refresh token; an earlier renewal was interrupted, so the server has probably replaced the token in an answer that never arrived, or taken its second use for theft"
        } else {
            "the server no longer accepts the refresh token"
        };
        let cause = FailureCause::Reauthorization(Reauthorization {
            reason: reason.to_owned(),
            error: Some(error),
        });
        let setback = Setback {
            given,
            ..Setback::new(cause, in_doubt)
        };
        self.note_failure(begun, setback).await
    }

    /// Remembers a failure, so that nobody asks again too soon, and makes the
    /// error of it. The credential stays as it is.
    async fn note_failure(&self, begun: &Version, setback: Setback) -> Box<Error> {
        let now = self.platform.now();
        let earlier = self.failure_in(&begun.record);
        let attempts = earlier.map_or(1, |earlier| earlier.attempts.saturating_add(1));
        let mut failure = Failure {
            at: now,
            attempts,
            retry_at: None,
            binding: self.binding.clone(),
            cause: setback.cause,
        };
        let is_final = failure.is_final();
        if !is_final {
            let wait = setback.retry_after_millis;
            let policy = &self.config.renewal;
            let retry_at = renewal::retry_at(now, attempts, wait, policy, &self.platform);
            failure.retry_at = Some(retry_at);
        }
        let error = failure.error();
        let kind = if is_final {
            EventKind::ReauthorizationRequired
        } else {
            EventKind::RenewalFailed
        };
        let mut event =
            Event::new(now, kind, error.to_string()).with("error", failure.cause.name());
        if let Some(retry_at) = failure.retry_at {
            event = event.with("retry_at", retry_at.seconds().to_string());
        }
        if setback.in_doubt {
            event = event.with("in_doubt", "the server may have acted on the request");
        }
        let mut told = None;
        let stored = self
            .change(&mut |record| {
                // A success of somebody else outweighs this failure; but that
                // the server saw the old refresh token again is no good sign.
                if !record.has_credential_of(&begun.record) {
                    told = if is_final {
                        put_in_doubt(record, now)
                    } else {
                        None
                    };
                    return Ok(());
                }
                if setback.was_begun {
                    record.conclude(setback.in_doubt);
                }
                if setback.given.is_some() {
                    record.given.clone_from(&setback.given);
                }
                record.failure = Some(failure.clone());
                record.history.add(&event);
                told = Some(event.clone());
                Ok(())
            })
            .await;
        // A store that cannot even take note leaves the journal open, which
        // says the same to the next one.
        if stored.is_ok() {
            self.tell(told.as_slice());
        }
        error
    }
}

/// Puts the stored refresh token in doubt, because the one before it was sent
/// twice: some servers take that for theft and revoke the successor too (RFC 9700
/// section 4.14.2).
fn put_in_doubt(record: &mut Record, now: Timestamp) -> Option<Event> {
    record.journal = Some(doubt_of(record, now)?);
    let event = Event::new(
        now,
        EventKind::RenewalInterrupted,
        "a renewal stalled beyond its lease, and another sent the same refresh token; the server may take that for theft",
    );
    record.history.add(&event);
    Some(event)
}

/// The entry that says that the stored refresh token is in doubt.
fn doubt_of(record: &Record, now: Timestamp) -> Option<Intent> {
    let refresh_token = record.credential.as_ref()?.refresh_token.as_ref()?;
    Some(Intent {
        at: now,
        spends: Some(refresh_token.fingerprint()),
        in_doubt: true,
    })
}

fn lease_lost() -> Box<Error> {
    Error::storage(
        StorageFailureKind::Unavailable,
        "the lease ran out before the record could be stored",
    )
}
