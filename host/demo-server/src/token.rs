//! The token endpoint (RFC 6749 section 3.2) and the revocation endpoint
//! (RFC 7009).

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use serde_json::json;

use crate::answer::{Answer, empty, failure, json, with_header};
use crate::grants::{Issued, Refusal, same_secret};
use crate::parameters::Parameters;
use crate::received::{GrantType, Received, TokenHash};
use crate::server::Server;

/// An answer of RFC 6749 section 5.2.
pub(crate) enum TokenError {
    InvalidRequest(&'static str),
    InvalidClient { by_header: bool },
    InvalidGrant(&'static str),
    InvalidScope,
    UnauthorizedClient(&'static str),
    UnsupportedGrantType,
    Failure,
}

impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Grant(why) => Self::InvalidGrant(why),
            Refusal::Scope => Self::InvalidScope,
            Refusal::Random => Self::Failure,
        }
    }
}

impl TokenError {
    pub(crate) fn answer(self, received: &mut Received) -> Answer {
        let (error, description) = match self {
            Self::InvalidRequest(why) => ("invalid_request", why),
            Self::InvalidClient { .. } => (
                "invalid_client",
                "the client is not known, or not by this secret",
            ),
            Self::InvalidGrant(why) => ("invalid_grant", why),
            Self::InvalidScope => (
                "invalid_scope",
                "scope is not known, or more than was granted",
            ),
            Self::UnauthorizedClient(why) => ("unauthorized_client", why),
            Self::UnsupportedGrantType => {
                ("unsupported_grant_type", "grant_type is not known here")
            }
            Self::Failure => {
                received.error = Some("server_error");
                return failure();
            }
        };
        received.error = Some(error);
        let body = json!({ "error": error, "error_description": description });
        match self {
            Self::InvalidClient { by_header } => {
                let answer = json(StatusCode::UNAUTHORIZED, &body);
                if by_header {
                    with_header(answer, WWW_AUTHENTICATE, "Basic realm=\"token endpoint\"")
                } else {
                    answer
                }
            }
            _ => json(StatusCode::BAD_REQUEST, &body),
        }
    }
}

/// Who is asking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    /// The demonstration's native program: it has no secret.
    Public,
    /// The demonstration's service: it has one.
    Confidential,
}

impl Client {
    fn id(self, server: &Server) -> &str {
        match self {
            Self::Public => &server.client_id,
            Self::Confidential => &server.confidential_client_id,
        }
    }

    /// Finds out who is asking, by exactly one method (RFC 6749 section 2.3).
    fn authenticate(
        server: &Server,
        headers: &HeaderMap,
        form: &Parameters,
    ) -> Result<Self, TokenError> {
        if let Some(header) = headers.get(AUTHORIZATION) {
            let refused = TokenError::InvalidClient { by_header: true };
            if form.get("client_secret").is_some() {
                return Err(TokenError::InvalidRequest(
                    "the client authenticates in two ways",
                ));
            }
            let Some((id, secret)) = header.to_str().ok().and_then(basic_credentials) else {
                return Err(refused);
            };
            if form.get("client_id").is_some_and(|in_form| in_form != id) {
                return Err(TokenError::InvalidRequest(
                    "client_id is not the one in the header",
                ));
            }
            return Self::by_secret(server, &id, &secret).ok_or(refused);
        }
        let refused = TokenError::InvalidClient { by_header: false };
        let id = form
            .get("client_id")
            .ok_or(TokenError::InvalidClient { by_header: false })?;
        match form.get("client_secret") {
            Some(secret) => Self::by_secret(server, id, secret).ok_or(refused),
            None if id == server.client_id => Ok(Self::Public),
            None => Err(refused),
        }
    }

    fn by_secret(server: &Server, id: &str, secret: &str) -> Option<Self> {
        (id == server.confidential_client_id
            && same_secret(secret, &server.confidential_client_secret))
        .then_some(Self::Confidential)
    }
}

/// Identifier and secret, each form-encoded in the header (RFC 6749 section
/// 2.3.1).
fn basic_credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decode(id)?, form_decode(secret)?))
}

fn form_decode(encoded: &str) -> Option<String> {
    if encoded.contains(['&', '=']) {
        return None;
    }
    let (name, _) = form_urlencoded::parse(encoded.as_bytes()).next()?;
    Some(name.into_owned())
}

/// POST at the token endpoint.
pub(crate) fn token(
    server: &Server,
    headers: &HeaderMap,
    form: &Parameters,
    received: &mut Received,
) -> Answer {
    match grant(server, headers, form, received) {
        Ok(issued) => {
            received.access_token_issued = Some(TokenHash::of(&issued.access_token));
            received.refresh_token_issued = issued.refresh_token.as_deref().map(TokenHash::of);
            let mut body = json!({
                "access_token": issued.access_token,
                "token_type": "Bearer",
                "expires_in": issued.expires_in.as_secs(),
                "scope": issued.scope.to_string(),
            });
            if let Some(refresh_token) = issued.refresh_token {
                body["refresh_token"] = refresh_token.into();
            }
            json(StatusCode::OK, &body)
        }
        Err(error) => error.answer(received),
    }
}

fn grant(
    server: &Server,
    headers: &HeaderMap,
    form: &Parameters,
    received: &mut Received,
) -> Result<Issued, TokenError> {
    if form.any_repeated() {
        return Err(TokenError::InvalidRequest("a parameter came twice"));
    }
    let grant_type = form
        .get("grant_type")
        .ok_or(TokenError::InvalidRequest("grant_type is missing"))?;
    let grant_type = GrantType::ALL
        .into_iter()
        .find(|known| known.name() == grant_type);
    received.grant_type = grant_type;
    received.refresh_token_presented = form.get("refresh_token").map(TokenHash::of);

    let client = Client::authenticate(server, headers, form)?;
    let needed = |name, missing| form.get(name).ok_or(TokenError::InvalidRequest(missing));
    let now = Instant::now();
    match (grant_type, client) {
        (None, _) => Err(TokenError::UnsupportedGrantType),
        (Some(GrantType::ClientCredentials), Client::Confidential) => Ok(server
            .grants()
            .client_credentials(client.id(server), form.get("scope"), now)?),
        (Some(GrantType::ClientCredentials), Client::Public) => Err(
            TokenError::UnauthorizedClient("a client without a secret has no credentials"),
        ),
        (Some(_), Client::Confidential) => {
            Err(TokenError::UnauthorizedClient("this client has no users"))
        }
        (Some(GrantType::AuthorizationCode), Client::Public) => {
            let code = needed("code", "code is missing")?;
            let redirect_uri = needed("redirect_uri", "redirect_uri is missing")?;
            let code_verifier = needed("code_verifier", "code_verifier is missing")?;
            let well_formed = (43..=128).contains(&code_verifier.len())
                && code_verifier
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
            if !well_formed {
                return Err(TokenError::InvalidRequest("code_verifier is malformed"));
            }
            let mut grants = server.grants();
            Ok(grants.redeem_code(code, client.id(server), redirect_uri, code_verifier, now)?)
        }
        (Some(GrantType::RefreshToken), Client::Public) => {
            let refresh_token = needed("refresh_token", "refresh_token is missing")?;
            Ok(server
                .grants()
                .refresh(refresh_token, client.id(server), form.get("scope"), now)?)
        }
    }
}

/// POST at the revocation endpoint: a token that is not known is as good as
/// revoked (RFC 7009 section 2.2).
pub(crate) fn revoke(
    server: &Server,
    headers: &HeaderMap,
    form: &Parameters,
    received: &mut Received,
) -> Answer {
    let revoked = (|| {
        if form.any_repeated() {
            return Err(TokenError::InvalidRequest("a parameter came twice"));
        }
        let client = Client::authenticate(server, headers, form)?;
        let token = form
            .get("token")
            .ok_or(TokenError::InvalidRequest("token is missing"))?;
        server
            .grants()
            .revoke(token, client.id(server))
            .map_err(|_| TokenError::InvalidGrant("the token was issued to another client"))
    })();
    match revoked {
        Ok(()) => empty(StatusCode::OK),
        Err(error) => error.answer(received),
    }
}
