//! What is stored of a connection, in one record: the credential with its
//! journal and history, and the authorizations under way.
//!
//! As text it is a JSON object on a line of its own, and after it the history, a
//! line for each event: each renewal writes it twice, and as a string in the
//! object the history would be most of the work.

use crate::authorization::PendingAuthorization;
use crate::device_authorization::PendingDevice;
use crate::error::{Error, Reauthorization, ServerError, Unavailability, Violation};
use crate::event::History;
use crate::json::{self, Object, Stored, stored_cases, stored_fields};
use crate::metadata::Server;
use crate::secret::SecretString;
use crate::time::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

/// How many authorizations may be under way at once; the oldest makes room.
const PENDING_LIMIT: usize = 16;

/// Why a token was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalReason {
    /// The user authorized the connection.
    Authorization,
    /// There was no token yet.
    FirstToken,
    /// The token had expired.
    Expired,
    /// It was within the early window.
    Early,
    /// It had less validity left than was asked for.
    MinValidity,
    /// A resource server refused it.
    Rejected,
    /// A renewal was asked for.
    Requested,
    /// The config has changed since.
    ConfigChanged,
}

stored_cases!(RenewalReason {
    Authorization = "authorization",
    FirstToken = "first_token",
    Expired = "expired",
    Early = "early",
    MinValidity = "min_validity",
    Rejected = "rejected",
    Requested = "requested",
    ConfigChanged = "config_changed",
});

impl RenewalReason {
    /// The reason, as the middle of a sentence.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Authorization => "the user authorized the connection",
            Self::FirstToken => "there was no token yet",
            Self::Expired => "the token had expired",
            Self::Early => "the token was about to expire",
            Self::MinValidity => "the token had less validity left than was asked for",
            Self::Rejected => "a resource server refused the token",
            Self::Requested => "a renewal was asked for",
            Self::ConfigChanged => "the configuration had changed",
        }
    }
}

/// A token with everything that belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// The access token.
    pub access_token: SecretString,
    /// Its type.
    pub token_type: String,
    /// When the response that brought it had arrived.
    pub received_at: Timestamp,
    /// When it expires by the host's clock.
    pub expires_at: Option<Timestamp>,
    /// When it is due for renewal, the jitter drawn.
    pub fresh_until: Option<Timestamp>,
    /// The refresh token.
    pub refresh_token: Option<SecretString>,
    /// When that expires, where the server said so.
    pub refresh_expires_at: Option<Timestamp>,
    /// The scopes granted.
    pub scope: Vec<String>,
    /// The token response, whole.
    pub response: SecretString,
    /// The last id_token.
    pub id_token: Option<SecretString>,
    /// How far the server's clock is ahead, in milliseconds.
    pub skew_millis: i64,
    /// When the connection was authorized, or its first token obtained.
    pub authorized_at: Timestamp,
    /// Whether it is the access token that there was before: some servers give it
    /// again while it lasts.
    pub is_reissued: bool,
    /// Why this token was obtained.
    pub reason: RenewalReason,
    /// What the credential is bound to (see
    /// [`binding`](crate::connection::binding)).
    pub binding: String,
    /// The server that issued it, and alone is sent its refresh token.
    pub server: Server,
}

stored_fields!(Credential {
    access_token,
    token_type,
    received_at,
    expires_at,
    fresh_until,
    refresh_token,
    refresh_expires_at,
    scope,
    response,
    id_token,
    skew_millis,
    authorized_at,
    is_reissued,
    reason,
    binding,
    server,
});

/// A renewal that was begun. It is written before the request is sent, so that
/// whoever finds it knows that the server may have acted.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// When.
    pub at: Timestamp,
    /// The fingerprint of the refresh token that was sent.
    pub spends: Option<String>,
    /// Whether what an earlier renewal did at the server makes this refresh
    /// token doubtful, of which the history tells.
    pub in_doubt: bool,
}

stored_fields!(Intent {
    at,
    spends,
    in_doubt
});

/// What a failure was.
#[derive(Clone, Debug, PartialEq)]
pub enum FailureCause {
    /// It will pass.
    Unavailable(String),
    /// The token endpoint said no.
    Refused(ServerError),
    /// What came broke the protocol.
    Violation(Violation),
    /// The user has to authorize again.
    Reauthorization(Reauthorization),
    /// The authorization endpoint said no.
    Denied(ServerError),
}

impl FailureCause {
    /// The cause in one word, as it is stored and told.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Refused(_) => "refused",
            Self::Violation(_) => "violation",
            Self::Reauthorization(_) => "reauthorization",
            Self::Denied(_) => "denied",
        }
    }
}

impl Stored for FailureCause {
    fn store(&self) -> Value {
        let value = match self {
            Self::Unavailable(cause) => cause.store(),
            Self::Refused(error) => error.store(),
            Self::Violation(violation) => violation.store(),
            Self::Reauthorization(cause) => cause.store(),
            Self::Denied(error) => error.store(),
        };
        let mut object = Object::new();
        json::put(&mut object, self.name(), value);
        Value::Object(object)
    }

    fn restore(value: &Value) -> Option<Self> {
        let (name, value) = value.as_object()?.iter().next()?;
        Some(match name.as_str() {
            "unavailable" => Self::Unavailable(Stored::restore(value)?),
            "refused" => Self::Refused(Stored::restore(value)?),
            "violation" => Self::Violation(Stored::restore(value)?),
            "reauthorization" => Self::Reauthorization(Stored::restore(value)?),
            "denied" => Self::Denied(Stored::restore(value)?),
            _ => return None,
        })
    }
}

/// The last attempt, where it failed. A success removes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// How many attempts have failed in a row.
    pub attempts: u32,
    /// Before this nobody tries again by himself.
    pub retry_at: Option<Timestamp>,
    /// The binding of the config that failed: another may fare better.
    pub binding: String,
    /// What it was.
    pub cause: FailureCause,
}

impl Failure {
    /// Whether the user has to do something.
    pub fn is_final(&self) -> bool {
        matches!(self.cause, FailureCause::Reauthorization(_))
    }

    /// The error that it stands for.
    pub fn error(&self) -> Box<Error> {
        Box::new(match &self.cause {
            FailureCause::Unavailable(cause) => Error::Unavailable(Unavailability {
                cause: cause.clone(),
                retry_at: self.retry_at,
            }),
            FailureCause::Refused(error) => Error::Refused(error.clone()),
            FailureCause::Violation(violation) => Error::ProtocolViolation(violation.clone()),
            FailureCause::Reauthorization(cause) => Error::ReauthorizationRequired(cause.clone()),
            FailureCause::Denied(error) => Error::Denied(error.clone()),
        })
    }
}

stored_fields!(Failure {
    at,
    attempts,
    retry_at,
    binding,
    cause
});

/// Everything that is stored of a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Counts the credentials obtained and forgotten: another number, another
    /// credential.
    pub generation: u64,
    /// The credential, where there is one.
    pub credential: Option<Credential>,
    /// A renewal that was begun and has not been concluded.
    pub journal: Option<Intent>,
    /// The last failure.
    pub failure: Option<Failure>,
    /// The fingerprint of the config's refresh token that was last spent, or
    /// refused.
    pub given: Option<String>,
    /// The authorizations under way, the oldest first.
    pub pending: Vec<PendingAuthorization>,
    /// The device authorization under way; a new one takes its place.
    pub device: Option<PendingDevice>,
    /// What happened, the latest last.
    pub history: History,
}

stored_fields!(Record {
    generation,
    credential,
    journal,
    failure,
    given,
    pending,
    device,
    history
});

impl Record {
    /// The record as text.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let mut text = json::text(&self.store());
        text.push('\n');
        text.push_str(self.history.lines());
        Zeroizing::new(text)
    }

    /// The record of a text; `None` where it is not one of this version.
    pub(crate) fn from_text(text: &[u8]) -> Option<Self> {
        let mut parts = text.splitn(2, |byte| *byte == b'\n');
        let mut record = Self::restore(&json::parse(parts.next()?).ok()?)?;
        // An earlier version has the history in the object.
        if let Some(lines) = parts.next().filter(|lines| !lines.is_empty()) {
            record.history = History::of_lines(std::str::from_utf8(lines).ok()?);
        }
        Some(record)
    }

    /// Whether the credential, or its absence, is still that of another record: a
    /// connection that is deleted and made anew, or imported, counts from the
    /// beginning again.
    pub fn has_credential_of(&self, other: &Self) -> bool {
        let is_same = match (&self.credential, &other.credential) {
            (Some(one), Some(other)) => {
                one.access_token == other.access_token && one.refresh_token == other.refresh_token
            }
            (one, other) => one.is_none() && other.is_none(),
        };
        self.generation == other.generation && is_same
    }

    /// Concludes a renewal that brought no token. A doubt about the refresh token
    /// stays until there is another one, whatever fails meanwhile.
    pub fn conclude(&mut self, in_doubt: bool) {
        match &mut self.journal {
            Some(intent) if in_doubt || intent.in_doubt => intent.in_doubt = true,
            journal => *journal = None,
        }
    }

    /// Adds an authorization, and forgets those that are too late.
    pub fn add_pending(&mut self, authorization: PendingAuthorization, now: Timestamp) {
        self.pending.retain(|pending| now < pending.expires_at);
        if self.pending.len() >= PENDING_LIMIT {
            let excess = self.pending.len() + 1 - PENDING_LIMIT;
            self.pending.drain(..excess);
        }
        self.pending.push(authorization);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventKind};

    fn record() -> Record {
        let mut record = Record {
            generation: 3,
            ..Record::default()
        };
        for at in [7, 8] {
            let event = Event::new(Timestamp(at), EventKind::Renewed, "It was due.");
            record.history.add(&event);
        }
        record
    }

    #[test]
    fn a_record_is_read_back_as_it_was() {
        for record in [record(), Record::default()] {
            let text = record.to_text();
            assert_eq!(Record::from_text(text.as_bytes()), Some(record));
        }
    }

    #[test]
    fn the_object_has_the_first_line_and_each_event_one_more() {
        let text = record().to_text();
        let mut lines = text.lines();
        let object = lines.next().expect("an object");
        assert!(json::parse(object.as_bytes()).is_ok(), "{object}");
        assert_eq!(lines.next(), Some("7\trenewed\tIt was due."));
        assert_eq!(lines.count(), 1);
    }

    #[test]
    fn a_record_of_an_earlier_version_has_its_history_in_the_object() {
        let earlier =
            r#"{"generation":3,"history":"7\trenewed\tIt was due.\n8\trenewed\tIt was due."}"#;
        assert_eq!(Record::from_text(earlier.as_bytes()), Some(record()));
    }

    #[test]
    fn what_is_no_record_is_not_read_as_one() {
        let whole = record().to_text();
        let cut = &whole.as_bytes()[1..];
        for text in [cut, b"", b"\n7\trenewed\ta", b"{\"generation\":3}\n\xff"] {
            assert_eq!(Record::from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn pending_authorizations_are_bounded_and_expire() {
        let authorization = |expires_at| PendingAuthorization {
            state: SecretString::default(),
            nonce: None,
            code_verifier: None,
            redirect_uri: String::new(),
            scope: Vec::new(),
            server: Server::default(),
            binding: String::new(),
            expires_at: Timestamp(expires_at),
        };
        let mut record = Record::default();
        record.add_pending(authorization(10), Timestamp(0));
        record.add_pending(authorization(1000), Timestamp(10));
        assert_eq!(record.pending.len(), 1);
        for _ in 0..PENDING_LIMIT * 2 {
            record.add_pending(authorization(1000), Timestamp(10));
        }
        assert_eq!(record.pending.len(), PENDING_LIMIT);
    }
}
