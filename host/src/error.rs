//! What can go wrong, by what a host can do about it.

use std::fmt;

use crate::contract::{
    Problem, Reauthorization, ServerError, Severity, StorageFailure, Unavailability, Violation,
};

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
        use crate::contract::Error as E;
        match error {
            E::NotConfigured(problems) => Error::NotConfigured(problems),
            E::NotAuthorized(reason) => Error::NotAuthorized(reason),
            E::ReauthorizationRequired(reason) => Error::ReauthorizationRequired(reason),
            E::Denied(said) => Error::Denied(said),
            E::Refused(said) => Error::Refused(said),
            E::Unavailable(what) => Error::Unavailable(what),
            E::ProtocolViolation(violation) => Error::ProtocolViolation(violation),
            E::Storage(failure) => Error::Storage(failure),
            E::Forbidden(reason) => Error::Forbidden(reason),
            E::Unsupported(what) => Error::Unsupported(what),
        }
    }
}

impl From<wasmtime::Error> for Error {
    fn from(error: wasmtime::Error) -> Self {
        Error::Internal(error.into())
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
    /// The component is damaged, or not one of the world
    /// `tokenwell:oauth2/interactive-connection`.
    #[error("the component cannot be loaded: {0}")]
    Component(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A store was given without secrets. What it keeps would be sealed with a
    /// key that is gone when the process ends.
    #[error("a store was given without secrets: give `HostBuilder::secrets` too")]
    NoSecrets,
    /// The TLS client could not be set up.
    #[error("the TLS client cannot be set up: {0}")]
    Tls(#[source] std::io::Error),
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
