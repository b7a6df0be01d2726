//! Everything that can go wrong, by what a host can do about it.

use crate::config::Problem;
use crate::json::{stored_cases, stored_fields};
use crate::time::Timestamp;
use std::fmt;

/// The result of every flow. The error is in a box: it is passed on in some
/// hundred places, and each would move all of it.
pub type Result<T> = std::result::Result<T, Box<Error>>;

/// Takes the error out of its box, so that a test can match it.
#[cfg(test)]
pub(crate) trait Unboxed<T> {
    fn unboxed(self) -> std::result::Result<T, Error>;
}

#[cfg(test)]
impl<T> Unboxed<T> for Result<T> {
    fn unboxed(self) -> std::result::Result<T, Error> {
        self.map_err(|error| *error)
    }
}

/// Why a flow did not do what it was asked. No text in it contains a secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The config lacks something or is wrong.
    NotConfigured(Vec<Problem>),
    /// The connection has to be authorized; the text says why it is not.
    NotAuthorized(String),
    /// The connection has to be authorized again.
    ReauthorizationRequired(Reauthorization),
    /// The authorization endpoint said no (RFC 6749 section 4.1.2.1).
    Denied(ServerError),
    /// The token endpoint, or another, said no (RFC 6749 section 5.2).
    Refused(ServerError),
    /// It failed in a way that will pass.
    Unavailable(Unavailability),
    /// A response broke the protocol.
    ProtocolViolation(Violation),
    /// A record could not be kept or read; what is stored is untouched.
    Storage(StorageFailure),
    /// The host's policy says no.
    Forbidden(String),
    /// This version cannot do it.
    Unsupported(String),
}

/// What an authorization server said.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerError {
    /// `error`.
    pub code: String,
    /// `error_description`, with `error_uri` where there is one.
    pub description: Option<String>,
    /// The HTTP status; absent where it came in a redirect.
    pub http_status: Option<u16>,
}

stored_fields!(ServerError {
    code,
    description,
    http_status
});

impl ServerError {
    /// Puts together what the server said.
    pub(crate) fn new(
        code: String,
        description: Option<String>,
        uri: Option<String>,
        http_status: Option<u16>,
    ) -> Self {
        let description = match (description, uri) {
            (Some(description), Some(uri)) => Some(format!("{description}; see {uri}")),
            (description, uri) => description.or(uri),
        };
        Self {
            code,
            description,
            http_status,
        }
    }
}

/// Why the user has to authorize again.
#[derive(Clone, Debug, PartialEq)]
pub struct Reauthorization {
    /// In one sentence.
    pub reason: String,
    /// What the server said, where it said something.
    pub error: Option<ServerError>,
}

stored_fields!(Reauthorization { reason, error });

/// A failure that will pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Unavailability {
    /// What failed, in one sentence.
    pub cause: String,
    /// When the next try is due.
    pub retry_at: Option<Timestamp>,
}

/// Which rule a response broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// `state` is unknown, used, expired or missing.
    State,
    /// The issuer of the authorization response is another, or missing where it
    /// must be.
    Issuer,
    /// The `nonce` is another, or missing.
    Nonce,
    /// The redirect is malformed.
    Redirect,
    /// The token endpoint's response is malformed.
    Response,
    /// The metadata is malformed, or that of another issuer or resource.
    Metadata,
    /// The id_token is not to be believed.
    IdToken,
}

stored_cases!(ViolationKind {
    State = "state",
    Issuer = "issuer",
    Nonce = "nonce",
    Redirect = "redirect",
    Response = "response",
    Metadata = "metadata",
    IdToken = "id_token",
});

/// A response that the protocol does not allow.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Which rule.
    pub kind: ViolationKind,
    /// What was found, in one sentence.
    pub message: String,
}

stored_fields!(Violation { kind, message });

/// What a store could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFailureKind {
    /// It cannot be reached, read or written.
    Unavailable,
    /// No key given by the host opens the record.
    WrongKey,
    /// The record is damaged.
    Corrupt,
    /// The record was written by a later version.
    NewerVersion,
}

/// A failure to keep or read a record.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageFailure {
    /// What kind.
    pub kind: StorageFailureKind,
    /// What happened, in one sentence.
    pub message: String,
}

impl Error {
    pub(crate) fn violation(kind: ViolationKind, message: impl Into<String>) -> Box<Self> {
        Box::new(Self::ProtocolViolation(Violation {
            kind,
            message: message.into(),
        }))
    }

    /// One thing that is wrong with what the host says.
    pub(crate) fn not_configured(field: &str, message: &str, mend: &str) -> Box<Self> {
        let problem = Problem::error(field, message, mend);
        Box::new(Self::NotConfigured(vec![problem]))
    }

    pub(crate) fn storage(kind: StorageFailureKind, message: impl Into<String>) -> Box<Self> {
        Box::new(Self::Storage(StorageFailure {
            kind,
            message: message.into(),
        }))
    }

    pub(crate) fn not_authorized(why: impl Into<String>) -> Box<Self> {
        Box::new(Self::NotAuthorized(why.into()))
    }

    pub(crate) fn denied(error: ServerError) -> Box<Self> {
        Box::new(Self::Denied(error))
    }

    pub(crate) fn refused(error: ServerError) -> Box<Self> {
        Box::new(Self::Refused(error))
    }

    pub(crate) fn forbidden(why: String) -> Box<Self> {
        Box::new(Self::Forbidden(why))
    }

    pub(crate) fn unsupported(what: String) -> Box<Self> {
        Box::new(Self::Unsupported(what))
    }

    pub(crate) fn unavailable(cause: impl Into<String>) -> Box<Self> {
        Box::new(Self::Unavailable(Unavailability {
            cause: cause.into(),
            retry_at: None,
        }))
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.code)?;
        if let Some(description) = &self.description {
            write!(formatter, " ({description})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured(problems) => {
                formatter.write_str("the configuration is incomplete")?;
                for problem in problems {
                    write!(formatter, "; {}: {}", problem.field, problem.message)?;
                }
                Ok(())
            }
            Self::NotAuthorized(why) => write!(formatter, "not authorized: {why}"),
            Self::ReauthorizationRequired(cause) => {
                write!(formatter, "reauthorization required: {}", cause.reason)
            }
            Self::Denied(error) => write!(formatter, "authorization denied: {error}"),
            Self::Refused(error) => write!(formatter, "the server refused: {error}"),
            Self::Unavailable(failure) => write!(formatter, "unavailable: {}", failure.cause),
            Self::ProtocolViolation(violation) => formatter.write_str(&violation.message),
            Self::Storage(failure) => write!(formatter, "storage: {}", failure.message),
            Self::Forbidden(why) => write!(formatter, "forbidden by the host: {why}"),
            Self::Unsupported(what) => write!(formatter, "unsupported: {what}"),
        }
    }
}

impl std::error::Error for Error {}
