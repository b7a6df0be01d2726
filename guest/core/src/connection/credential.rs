//! What becomes of a token response: a credential, what the server had said
//! before and does not say again included, and how it gets into the record.

use super::Connection;
use super::identity::subject_of;
use crate::config::Grant;
use crate::dialect::Field;
use crate::error::{Error, Result, Violation, ViolationKind};
use crate::event::{Event, EventKind};
use crate::http;
use crate::id_token::Expected;
use crate::metadata::Server;
use crate::platform::Platform;
use crate::provider;
use crate::record::{Credential, Record, RenewalReason};
use crate::renewal;
use crate::secret::{SecretString, printable};
use crate::time::Timestamp;
use crate::token_response::{self, TokenResponse};
use std::rc::Rc;

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// Whether a token is not bound to the key that it was to be bound to (RFC
    /// 9449 section 5).
    pub(super) fn is_unbound(&self, response: &TokenResponse) -> bool {
        self.config.dpop && !response.token_type.eq_ignore_ascii_case("dpop")
    }

    /// The credential that a renewal brought, on top of the one it renews.
    pub(super) fn renewed(
        &self,
        record: &Record,
        reason: RenewalReason,
        server: &Server,
        response: TokenResponse,
        spent: Option<SecretString>,
        http: &http::Response,
    ) -> NewCredential {
        // What another refresh token brings has nothing to do with it.
        let earlier = self
            .credential_in(record)
            .filter(|earlier| spent.is_none() || earlier.refresh_token == spent);
        let granted = earlier.map_or(&self.config.scope, |earlier| &earlier.scope);
        let dialect = &self.config.dialect;
        let mut response = response;
        let is_unbound = self.is_unbound(&response);
        if spent.is_none()
            && let Grant::TokenExchange {
                requested_token_type,
                ..
            } = &self.config.grant
        {
            response.check_issued_type(requested_token_type.as_deref());
        }
        if let Some(earlier) = earlier {
            if response.access_token.is_empty() {
                response.access_token = earlier.access_token.clone();
            }
            let kept = token_response::kept_in(&earlier.response, dialect);
            token_response::keep(&mut response.raw, &kept);
        } else {
            response.quirks.extend(dialect.request_quirks(&self.config));
        }
        let mut new = self.credential(response, http, reason, server.clone(), granted);
        if is_unbound {
            // Thrown away, it might take the only refresh token with it.
            new.quirks.push(unbound().message);
        }
        // RFC 6749 section 6: without a new refresh token the old one stays.
        let is_none = new.credential.refresh_token.is_none();
        let is_kept = is_none || spent.is_some() && dialect.has(Field::KEEPS_REFRESH_TOKEN);
        if is_kept {
            if !is_none && new.credential.refresh_token != spent {
                let quirk = provider::sentence(Field::KEEPS_REFRESH_TOKEN, "");
                new.quirks.extend(quirk);
            }
            new.credential.refresh_token = spent;
        }
        if let Some(earlier) = earlier {
            new.credential.is_reissued = new.credential.access_token == earlier.access_token;
            new.credential.authorized_at = earlier.authorized_at;
            if is_kept && new.credential.refresh_expires_at.is_none() {
                new.credential.refresh_expires_at = earlier.refresh_expires_at;
            }
            new.credential.id_token.clone_from(&earlier.id_token);
            self.limit(&mut new.credential);
        }
        new
    }

    /// A credential made of a token response. The id_token is not among it until
    /// it has been checked.
    pub(super) fn credential(
        &self,
        response: TokenResponse,
        http: &http::Response,
        reason: RenewalReason,
        server: Server,
        asked: &[String],
    ) -> NewCredential {
        let received_at = http.arrived_at;
        let policy = &self.config.renewal;
        let assumed = policy
            .default_lifetime_seconds
            .map(|seconds| u64::from(seconds) * 1000);
        let lifetime = response.lifetime_millis.or(assumed);
        let mut quirks = response.quirks;
        let field = Field::DEFAULT_LIFETIME_SECONDS;
        let dialect = &self.config.dialect;
        if response.lifetime_millis.is_none()
            && let Some(declared) = dialect.get(field)
            && dialect.number(field) == policy.default_lifetime_seconds
        {
            quirks.extend(provider::sentence(field, declared));
        }
        let scope = response.scope.unwrap_or_else(|| asked.to_vec());
        let not_granted = asked.iter().filter(|name| !scope.contains(name));
        let not_granted = not_granted.cloned().collect::<Vec<_>>().join(" ");
        let mut credential = Credential {
            access_token: response.access_token,
            token_type: printable(&response.token_type, &[]),
            received_at,
            expires_at: lifetime.map(|lifetime| received_at.plus_millis(lifetime)),
            fresh_until: lifetime.map(|lifetime| {
                renewal::fresh_until(received_at, lifetime, policy, &self.platform)
            }),
            refresh_token: response.refresh_token,
            refresh_expires_at: response
                .refresh_lifetime_millis
                .map(|lifetime| received_at.plus_millis(lifetime)),
            scope,
            response: response.raw,
            id_token: None,
            skew_millis: token_response::clock_skew_millis(http),
            authorized_at: received_at,
            is_reissued: false,
            reason,
            binding: self.binding.clone(),
            server,
        };
        self.limit(&mut credential);
        NewCredential {
            credential,
            not_granted,
            id_token: response.id_token,
            given: None,
            quirks,
        }
    }

    /// Puts an end to the refresh token where the provider declares one that its
    /// responses do not tell: so long after its last use, and so long after the
    /// user authorized.
    fn limit(&self, credential: &mut Credential) {
        let after = |from: Timestamp, field| {
            let seconds = self.config.dialect.number(field)?;
            Some(from.plus_millis(u64::from(seconds) * 1000))
        };
        let idle = after(
            credential.received_at,
            Field::REFRESH_TOKEN_LIFETIME_SECONDS,
        );
        let total = after(
            credential.authorized_at,
            Field::AUTHORIZATION_LIFETIME_SECONDS,
        );
        let told = credential.refresh_expires_at;
        credential.refresh_expires_at = [told.or(idle), total].into_iter().flatten().min();
    }

    /// Adds to the stored credential, which has just been obtained, what can be
    /// found out about it at leisure: whether its id_token is genuine, and when it
    /// expires, where the server did not say and introspects. The credential does
    /// not wait for it, and is good without it.
    pub(super) async fn settle(&self, new: &NewCredential) -> Option<Rc<Record>> {
        let introspects = self.introspects(&new.credential);
        if new.id_token.is_none() && !introspects {
            return None;
        }
        let record = self.load().await.ok()?.record;
        let credential = self
            .credential_in(&record)
            .filter(|stored| stored.access_token == new.credential.access_token)?;
        let mut quirk = None;
        let id_token = match &new.id_token {
            None => None,
            Some(id_token) => match self.check_renewed(id_token, credential).await {
                Ok(()) => Some(id_token),
                Err(error) => {
                    let at = self.platform.now();
                    let message = id_token_ignored(&error);
                    quirk = Some(Event::new(at, EventKind::QuirkApplied, message));
                    None
                }
            },
        };
        let expiry = match introspects {
            true => self.introspected_expiry(credential).await,
            false => None,
        };
        if id_token.is_none() && expiry.is_none() && quirk.is_none() {
            return None;
        }
        let mut put = |current: &mut Record| {
            if !current.has_credential_of(&record) {
                return Ok(());
            }
            if let Some(credential) = &mut current.credential {
                if id_token.is_some() {
                    credential.id_token = id_token.cloned();
                }
                self.put_expiry(credential, expiry);
            }
            if let Some(quirk) = &quirk {
                current.history.add(quirk);
            }
            Ok(())
        };
        self.change(&mut put).await.ok()?;
        self.tell(quirk.as_slice());
        Some(self.load().await.ok()?.record)
    }

    /// Checks an id_token that came with a renewal (OpenID Connect Core section
    /// 12.2).
    async fn check_renewed(&self, id_token: &SecretString, credential: &Credential) -> Result<()> {
        let subject = credential.id_token.as_ref().and_then(subject_of);
        let skew = credential.skew_millis;
        let expected = Expected {
            issuer: self.issuer_of_id_tokens(&credential.server),
            client_id: self.config.client_id.as_deref().unwrap_or_default(),
            algorithms: &credential.server.id_token_algorithms,
            nonce: None,
            max_age: None,
            subject: subject.as_deref(),
            access_token: &credential.access_token,
            server_now: credential.received_at.by_server(skew),
        };
        self.check_id_token(id_token, &expected, &credential.server)
            .await
    }
}

/// A credential that has just arrived, with what was odd about it.
pub(super) struct NewCredential {
    pub(super) credential: Credential,
    pub(super) quirks: Vec<String>,
    /// The fingerprint of the config's refresh token, where that brought it.
    pub(super) given: Option<String>,
    /// The scopes asked for that were not granted.
    not_granted: String,
    /// The id_token that came along, unchecked.
    pub(super) id_token: Option<SecretString>,
}

impl NewCredential {
    /// Puts the credential into a record, and gives what there is to tell.
    pub(super) fn apply_to(&self, record: &mut Record) -> Vec<Event> {
        let credential = &self.credential;
        let earlier = record.credential.as_ref();
        let refresh_token = match (
            &credential.refresh_token,
            earlier.and_then(|c| c.refresh_token.as_ref()),
        ) {
            (None, _) => "none",
            (Some(now), Some(before)) if now == before => "kept",
            (Some(_), Some(_)) => "replaced",
            (Some(_), None) => "new",
        };
        let (kind, message) = match credential.reason {
            RenewalReason::Authorization => (
                EventKind::Authorized,
                "the user authorized the connection".to_owned(),
            ),
            reason => (
                EventKind::Renewed,
                format!("a token was obtained because {}", reason.describe()),
            ),
        };
        let mut event = Event::new(credential.received_at, kind, message)
            .with("reason", credential.reason.as_str())
            .with("access_token_sha256", credential.access_token.fingerprint())
            .with("refresh_token", refresh_token);
        if let Some(expires_at) = credential.expires_at {
            event = event.with("expires_at", expires_at.seconds().to_string());
        }
        if !self.not_granted.is_empty() {
            event = event.with("scope_not_granted", self.not_granted.as_str());
        }
        let quirks = self.quirks.iter().map(|quirk| {
            Event::new(
                credential.received_at,
                EventKind::QuirkApplied,
                quirk.as_str(),
            )
        });
        let events: Vec<_> = quirks.chain([event]).collect();
        for event in &events {
            record.history.add(event);
        }
        if self.given.is_some() {
            record.given.clone_from(&self.given);
        }
        record.generation += 1;
        record.credential = Some(credential.clone());
        record.journal = None;
        record.failure = None;
        events
    }
}

/// What is told of an id_token that is not to be believed, and was not needed.
pub(super) fn id_token_ignored(error: &Error) -> String {
    format!("an id_token was ignored: {error}")
}

/// What an answer is where the token is not bound as it should be.
pub(super) fn unbound() -> Violation {
    Violation {
        kind: ViolationKind::Response,
        message: "the server did not bind the token to the key of dpop".to_owned(),
    }
}
