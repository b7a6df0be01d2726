//! Demonstrating Proof of Possession (RFC 9449): what a proof claims, and how a
//! server asks for its nonce in one.

use crate::base64::base64url;
use crate::challenge::{self, Challenge};
use crate::endpoint::Endpoint;
use crate::http::Response;
use crate::json::{self, Object};
use crate::secret::SecretString;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How often a request is sent again because the server asks for another nonce
/// than the proof had: once for the first one, once where that has just been
/// replaced. A server whose nonce changes for ever is not followed further.
pub const NONCE_RETRIES: usize = 2;

/// The header of a proof, and that of a server's nonce, names in lower case.
pub(crate) const HEADER: &str = "dpop";
pub(crate) const NONCE_HEADER: &str = "dpop-nonce";

/// What a proof is for (RFC 9449 section 4.2).
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// Its URL.
    pub url: &'a Endpoint,
    /// The access token that goes with it.
    pub access_token: Option<&'a SecretString>,
    /// The server's nonce.
    pub nonce: Option<&'a str>,
}

/// Adds to claims that bear `jti` and `iat` what binds the proof to a request.
pub(crate) fn bind(claims: &mut Object, subject: Subject<'_>) {
    let mut put = |name: &str, value: String| {
        claims.insert(name.to_owned(), Value::from(value));
    };
    put("htm", subject.method.to_owned());
    // Without query; an endpoint has no fragment.
    let url = subject.url.at(subject.url.path().to_owned());
    put("htu", url.to_string());
    if let Some(access_token) = subject.access_token {
        let hash = Sha256::digest(access_token.reveal().as_bytes());
        put("ath", base64url(&hash));
    }
    if let Some(nonce) = subject.nonce {
        put("nonce", nonce.to_owned());
    }
}

/// Whether a server refuses a proof for want of its nonce: the authorization
/// server in the body (RFC 9449 section 8), a resource server in a challenge
/// (section 9).
pub(crate) fn asks_for_nonce(response: &Response) -> bool {
    const CODE: &str = "use_dpop_nonce";
    match response.status {
        400 => json::parse_object(&response.body)
            .is_ok_and(|body| body.get("error").and_then(Value::as_str) == Some(CODE)),
        401 => challenge::of(response).iter().any(Challenge::wants_nonce),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jws::Received;
    use crate::time::Timestamp;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../tests/vectors/oauth.json")).expect("JSON")
    }

    /// Shows: RFC 9449.
    #[test]
    fn a_proof_claims_what_the_proofs_of_rfc_9449_claim() {
        for (place, method, url) in [
            (0, "POST", "https://server.example.com/token"),
            (
                2,
                "GET",
                "https://resource.example.org/protectedresource?x=y",
            ),
        ] {
            let vectors = vectors();
            let vector = &vectors["dpop_proofs"][place];
            let proof = vector["jwt"].as_str().expect("text");
            let published = Received::parse(proof).expect("a JWT");
            let mut claims = Object::new();
            for name in ["jti", "iat"] {
                claims.insert(name.to_owned(), published.claims[name].clone());
            }
            let access_token = vector["access_token"].as_str().map(SecretString::new);
            bind(
                &mut claims,
                Subject {
                    method,
                    url: &Endpoint::parse(url).expect("a URL"),
                    access_token: access_token.as_ref(),
                    nonce: None,
                },
            );
            assert_eq!(claims, published.claims, "{}", vector["id"]);
        }
    }

    #[test]
    fn a_demand_for_a_nonce_is_read_from_either_server() {
        let asks = |status, header: Option<&str>, body: &str| {
            let headers = header.map(|value| ("www-authenticate".to_owned(), value.to_owned()));
            asks_for_nonce(&Response {
                status,
                headers: headers.into_iter().collect(),
                body: body.as_bytes().to_vec(),
                arrived_at: Timestamp(0),
            })
        };
        // RFC 9449 sections 8 and 9.
        assert!(asks(400, None, r#"{"error": "use_dpop_nonce"}"#));
        assert!(asks(401, Some(r#"dPoP error="use_dpop_nonce""#), ""));
        assert!(!asks(400, None, r#"{"error": "invalid_dpop_proof"}"#));
        assert!(!asks(401, Some(r#"Bearer error="use_dpop_nonce""#), ""));
        assert!(!asks(500, None, r#"{"error": "use_dpop_nonce"}"#));
    }
}
