//! What the server has received, for whoever started it.

use std::fmt;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

/// Where a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The server's metadata (RFC 8414).
    Metadata,
    /// The authorization endpoint (RFC 6749 section 3.1): the page is shown.
    Authorization,
    /// What the user decided on that page.
    Decision,
    /// The token endpoint (RFC 6749 section 3.2).
    Token,
    /// The revocation endpoint (RFC 7009).
    Revocation,
    /// The protected resource.
    Resource,
    /// Anywhere else.
    Other,
}

/// The grants that the token endpoint knows (RFC 6749 section 1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// `authorization_code`
    AuthorizationCode,
    /// `refresh_token`
    RefreshToken,
    /// `client_credentials`
    ClientCredentials,
}

impl GrantType {
    pub(crate) const ALL: [Self; 3] = [
        Self::AuthorizationCode,
        Self::RefreshToken,
        Self::ClientCredentials,
    ];

    /// The value of the `grant_type` parameter.
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

/// Tells one token from another without showing it: eight hexadecimal digits
/// of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 4]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(token).into();
        Self([a, b, c, d])
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One request and how it was answered. No secret and no token is in it.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it arrived.
    pub at: SystemTime,
    /// Where it went.
    pub endpoint: Endpoint,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The OAuth error code of the answer.
    pub error: Option<&'static str>,
    /// At the token endpoint: the grant.
    pub grant_type: Option<GrantType>,
    /// At the token endpoint: the refresh token that came.
    pub refresh_token_presented: Option<TokenHash>,
    /// At the token endpoint: the refresh token that was given out.
    pub refresh_token_issued: Option<TokenHash>,
    /// At the token endpoint: the access token that was given out.
    pub access_token_issued: Option<TokenHash>,
    /// At the protected resource: the access token that came.
    pub access_token_presented: Option<TokenHash>,
}

impl Received {
    pub(crate) fn at(endpoint: Endpoint) -> Self {
        Self {
            at: SystemTime::now(),
            endpoint,
            status: 0,
            error: None,
            grant_type: None,
            refresh_token_presented: None,
            refresh_token_issued: None,
            access_token_issued: None,
            access_token_presented: None,
        }
    }
}
