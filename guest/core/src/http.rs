//! The little of HTTP that the protocol speaks.

use crate::endpoint::Endpoint;
use crate::secret::SecretString;
use crate::time::Timestamp;
use std::fmt;

/// The largest response read, in bytes.
pub const RESPONSE_LIMIT: usize = 1024 * 1024;

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads metadata or claims.
    Get,
    /// Everything else.
    Post,
    /// Revokes a token, where the server has it so.
    Delete,
}

impl Method {
    /// Its name, as a request line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A request to an endpoint of the authorization server.
#[derive(Clone)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Where.
    pub url: Endpoint,
    /// The headers, names in lower case.
    pub headers: Vec<(String, SecretString)>,
    /// The body; empty for a GET.
    pub body: SecretString,
    /// What of it must not be seen, whoever repeats it.
    pub secrets: Vec<SecretString>,
    /// How long the whole exchange may take.
    pub timeout_millis: u64,
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.method.name();
        // Some servers take the parameters in the query.
        let url = self.url.at(self.url.path().to_owned());
        write!(formatter, "{method} {url}")
    }
}

/// A response, read to its end.
#[derive(Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, at most [`RESPONSE_LIMIT`].
    pub body: Vec<u8>,
    /// When it had arrived.
    pub arrived_at: Timestamp,
}

impl Response {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} bytes)", self.status, self.body.len())
    }
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Nothing was sent: no address, no connection, no TLS session.
    NotSent(String),
    /// It may have been sent, and the server may have acted on it.
    InDoubt(String),
    /// The response was larger than [`RESPONSE_LIMIT`].
    TooLarge,
    /// The host's policy does not let it out.
    Forbidden(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(cause) | Self::InDoubt(cause) | Self::Forbidden(cause) => {
                formatter.write_str(cause)
            }
            Self::TooLarge => write!(
                formatter,
                "the response is larger than {RESPONSE_LIMIT} bytes"
            ),
        }
    }
}
