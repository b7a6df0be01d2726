//! What can go wrong, by what a host can do about it.

use std::fmt;

use crate::contract::{
    ErrorKind, Problem, ServerError, Severity, StorageFailureKind, UnixSeconds, ViolationKind,
};

/// Why the user has to authorize again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reauthorization {
    /// In one sentence.
    pub reason: String,
    /// What the server said, where it said something.
    pub error: Option<ServerError>,
}

/// A failure that will pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailability {
    /// What failed, in one sentence.
    pub cause: String,
    /// When the next try is due.
    pub retry_at: Option<UnixSeconds>,
}

/// A response that the protocol does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule it broke.
    pub kind: ViolationKind,
    /// What was found, in one sentence.
    pub message: String,
}

/// A failure to keep or read a record. What is stored is untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageFailure {
    /// What kind.
    pub kind: StorageFailureKind,
    /// What happened, in one sentence.
    pub message: String,
}

/// Why a connection could not do what was asked: the contract's `error`, and
/// what only a host can fail at. No text in it contains a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Complete the config.
    #[error("the connection is not configured: {}", Problems(.0))]
    NotConfigured(Vec<Problem>),
    /// Authorize the connection; the text says why it is not.
    #[error("the connection is not authorized: {0}")]
    NotAuthorized(String),
    /// Authorize the connection again.
    #[error("the connection has to be authorized again: {}", Reauthorize(.0))]
    ReauthorizationRequired(Reauthorization),
    /// The authorization endpoint said no (RFC 6749 section 4.1.2.1).
    #[error("the authorization was denied: {}", Said(.0))]
    Denied(ServerError),
    /// The token endpoint, or another endpoint of the server, said no (RFC 6749
    /// section 5.2).
    #[error("the server refused: {}", Said(.0))]
    Refused(ServerError),
    /// Try again later.
    #[error("not available at the moment: {}", .0.cause)]
    Unavailable(Unavailability),
    /// Do not go on: a response broke the protocol.
    #[error("a response broke the protocol: {}", .0.message)]
    ProtocolViolation(Violation),
    /// Mend the store.
    #[error("the store failed: {}", .0.message)]
    Storage(StorageFailure),
    /// The host's policy says no.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// This version cannot do it.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The component trapped or the host failed: a defect, or a limit reached.
    #[error("internal error: {0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<crate::contract::Error> for Error {
    fn from(error: crate::contract::Error) -> Self {
        let message = error.message;
        // A component that leaves out what belongs to the kind says less, not
        // something else.
        let said = |said: Option<ServerError>, message: String| {
            said.unwrap_or(ServerError {
                code: message,
                description: None,
                http_status: None,
            })
        };
        match error.kind {
            ErrorKind::NotConfigured => Error::NotConfigured(error.problems),
            ErrorKind::NotAuthorized => Error::NotAuthorized(message),
            ErrorKind::ReauthorizationRequired => Error::ReauthorizationRequired(Reauthorization {
                reason: message,
                error: error.server_error,
            }),
            ErrorKind::Denied => Error::Denied(said(error.server_error, message)),
            ErrorKind::Refused => Error::Refused(said(error.server_error, message)),
            ErrorKind::Unavailable => Error::Unavailable(Unavailability {
                cause: message,
                retry_at: error.retry_at,
            }),
            ErrorKind::ProtocolViolation => Error::ProtocolViolation(Violation {
                kind: error.violation.unwrap_or(ViolationKind::Response),
                message,
            }),
            ErrorKind::Storage => Error::Storage(StorageFailure {
                kind: error.storage.unwrap_or(StorageFailureKind::Unavailable),
                message,
            }),
            ErrorKind::Forbidden => Error::Forbidden(message),
            ErrorKind::Unsupported => Error::Unsupported(message),
        }
    }
}

/// As the component tells it, for plugins that were lent a connection. What only
/// a host can fail at is none of their business.
impl From<Error> for crate::contract::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NotConfigured(problems) => Self {
                problems,
                ..Self::new(ErrorKind::NotConfigured, message)
            },
            Error::NotAuthorized(message) => Self::new(ErrorKind::NotAuthorized, message),
            Error::ReauthorizationRequired(why) => Self {
                server_error: why.error,
                ..Self::new(ErrorKind::ReauthorizationRequired, why.reason)
            },
            Error::Denied(said) => Self {
                server_error: Some(said),
                ..Self::new(ErrorKind::Denied, message)
            },
            Error::Refused(said) => Self {
                server_error: Some(said),
                ..Self::new(ErrorKind::Refused, message)
            },
            Error::Unavailable(failure) => Self {
                retry_at: failure.retry_at,
                ..Self::new(ErrorKind::Unavailable, failure.cause)
            },
            Error::ProtocolViolation(violation) => Self {
                violation: Some(violation.kind),
                ..Self::new(ErrorKind::ProtocolViolation, violation.message)
            },
            Error::Storage(failure) => Self {
                storage: Some(failure.kind),
                ..Self::new(ErrorKind::Storage, failure.message)
            },
            Error::Forbidden(message) => Self::new(ErrorKind::Forbidden, message),
            Error::Unsupported(message) => Self::new(ErrorKind::Unsupported, message),
            Error::Internal(_) => {
                Self::new(ErrorKind::Unavailable, "the host failed at it".to_owned())
            }
        }
    }
}

impl From<wasmtime::Error> for Error {
    fn from(error: wasmtime::Error) -> Self {
        // Around a trap there are only addresses in the component.
        match error.downcast::<wasmtime::Trap>() {
            Ok(trap) => Error::Internal(trap.into()),
            Err(error) => Error::Internal(error.into()),
        }
    }
}

/// Why a host could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// This build of the library has no component in it and none was given.
    #[error(
        "this build has no component in it: run `cargo xtask build`, or give one to \
         `HostBuilder::component`"
    )]
    NoComponent,
    /// What was given is not one of the world
    /// `tokenwell:oauth2/interactive-connection`.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The component is damaged, or its interfaces are not what their names say.
    #[error("the component cannot be loaded: {0}")]
    Component(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A store was given without secrets. What it keeps would be sealed with a
    /// key that is gone when the process ends.
    #[error("a store was given without secrets: give `HostBuilder::secrets` too")]
    NoSecrets,
}

/// What was found in place of a component that a host can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// The bytes are no component.
    #[error(
        "found {found}; expected a component of the world \
         tokenwell:oauth2/interactive-connection@0.2.0"
    )]
    NoComponent {
        /// What they are.
        found: &'static str,
    },
    /// It imports what hosts do not give.
    #[error("the component imports {found}; a host gives {expected}")]
    Imports {
        /// What that is.
        found: String,
        /// What it may import in its place.
        expected: String,
    },
    /// It does not export what is called.
    #[error("the component exports {found}; expected {expected}")]
    Exports {
        /// What it exports.
        found: String,
        /// What is missing.
        expected: String,
    },
}

/// Problems in one line, errors first as they come.
struct Problems<'a>(&'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.0.iter().filter(|p| p.severity == Severity::Error);
        for (i, problem) in errors.enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {}", problem.field, problem.message)?;
        }
        Ok(())
    }
}

/// A server's error response in one line.
struct Said<'a>(&'a ServerError);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.code)?;
        if let Some(description) = &self.0.description {
            write!(f, " ({description})")?;
        }
        if let Some(status) = self.0.http_status {
            write!(f, ", HTTP {status}")?;
        }
        Ok(())
    }
}

/// Why to authorize again, and what the server said.
struct Reauthorize<'a>(&'a Reauthorization);

impl fmt::Display for Reauthorize<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.reason)?;
        if let Some(error) = &self.0.error {
            write!(f, ": {}", Said(error))?;
        }
        Ok(())
    }
}
