//! What happens to a connection, told as it happens and kept in its history.

use crate::json::{stored_cases, stored_fields};
use crate::time::Timestamp;

/// What happened. The list grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The user was sent to the authorization server.
    AuthorizationBegun,
    /// The connection was authorized.
    Authorized,
    /// An authorization came to nothing.
    AuthorizationFailed,
    /// A token was obtained without the user.
    Renewed,
    /// A renewal failed; it is tried again.
    RenewalFailed,
    /// A renewal was begun, and whether the server acted on it is not known.
    RenewalInterrupted,
    /// The server does not renew any more.
    ReauthorizationRequired,
    /// The credential was forgotten.
    Cleared,
    /// The credential was revoked at the server.
    Revoked,
    /// A response departed from the standard and was read all the same.
    QuirkApplied,
    /// Something is allowed that the security profile forbids.
    Insecure,
    /// A redirect was not the answer to an authorization begun here.
    RedirectRefused,
}

stored_cases!(EventKind {
    AuthorizationBegun = "authorization-begun",
    Authorized = "authorized",
    AuthorizationFailed = "authorization-failed",
    Renewed = "renewed",
    RenewalFailed = "renewal-failed",
    RenewalInterrupted = "renewal-interrupted",
    ReauthorizationRequired = "reauthorization-required",
    Cleared = "cleared",
    Revoked = "revoked",
    QuirkApplied = "quirk-applied",
    Insecure = "insecure",
    RedirectRefused = "redirect-refused",
});

/// One thing that happened. Never a secret in one; a token is told by its
/// [fingerprint](crate::secret::SecretString::fingerprint).
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// What, in one sentence.
    pub message: String,
    /// The particulars, by name.
    pub details: Vec<(String, String)>,
}

stored_fields!(Event {
    at,
    kind,
    message,
    details
});

impl Event {
    /// An event without particulars.
    pub fn new(at: Timestamp, kind: EventKind, message: impl Into<String>) -> Self {
        Self {
            at,
            kind,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// Adds a particular.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.details.push((name.to_owned(), value.into()));
        self
    }
}
