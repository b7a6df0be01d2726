//! What an id_token claims (OpenID Connect Core section 3.1.3.7). It comes from
//! the token endpoint over TLS, so its signature need not be checked (number 6
//! there); its claims must be.

use crate::error::{Error, Result, ViolationKind};
use crate::json::{self, Object};
use crate::secret::{SecretString, base64url};
use crate::time::Timestamp;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How far clocks may differ, in seconds, beyond the skew that was measured.
const LEEWAY_SECONDS: i64 = 60;

/// What the claims are held against.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The issuer that was asked, where it is known; with names of claims in
    /// braces where it differs with the user.
    pub issuer: Option<&'a str>,
    /// The client.
    pub client_id: &'a str,
    /// The `nonce` that was sent.
    pub nonce: Option<&'a SecretString>,
    /// The access token that came with it.
    pub access_token: &'a SecretString,
    /// The time by the server's clock.
    pub server_now: Timestamp,
}

/// Checks the claims of an id_token.
///
/// # Errors
/// A violation, of the kind nonce or id_token, that names the claim.
pub fn check(id_token: &SecretString, expected: &Expected<'_>) -> Result<()> {
    let violation = |message: &str| Error::violation(ViolationKind::IdToken, message);
    let mut parts = id_token.reveal().split('.');
    let (Some(header), Some(payload), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(violation("the id_token is not a signed JWT"));
    };
    let header = object(header).ok_or_else(|| violation("the id_token's header is malformed"))?;
    let claims = object(payload).ok_or_else(|| violation("the id_token's claims are malformed"))?;
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if algorithm.is_empty() || algorithm.eq_ignore_ascii_case("none") {
        return Err(violation("the id_token is not signed"));
    }
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let issuer = text("iss");
    let is_expected = |issuer: &str| {
        let expected = expected.issuer;
        expected.is_none_or(|expected| is_issuer(issuer, expected, &claims))
    };
    if !issuer.is_some_and(is_expected) {
        return Err(violation("the id_token is from another issuer"));
    }
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&expected.client_id) {
        return Err(violation("the id_token is for another client"));
    }
    match text("azp") {
        Some(party) if party != expected.client_id => {
            return Err(violation("the id_token was issued to another client"));
        }
        None if audience.len() > 1 => {
            return Err(violation(
                "the id_token has several audiences and names no azp",
            ));
        }
        _ => {}
    }
    let now = i64::try_from(expected.server_now.seconds()).unwrap_or(i64::MAX);
    let time = |name: &str| {
        claims
            .get(name)
            .and_then(Value::as_f64)
            .map(|seconds| seconds as i64)
    };
    match time("exp") {
        Some(expiry) if now < expiry.saturating_add(LEEWAY_SECONDS) => {}
        _ => return Err(violation("the id_token has expired, or does not say when")),
    }
    match time("iat") {
        Some(issued) if issued <= now.saturating_add(LEEWAY_SECONDS) => {}
        _ => {
            return Err(violation(
                "the id_token is from the future, or does not say when",
            ));
        }
    }
    if let Some(nonce) = expected.nonce {
        let found = text("nonce").unwrap_or_default();
        if !bool::from(found.as_bytes().ct_eq(nonce.reveal().as_bytes())) {
            return Err(Error::violation(
                ViolationKind::Nonce,
                "the id_token bears another nonce than was sent",
            ));
        }
    }
    if let Some(found) = text("at_hash")
        && algorithm.ends_with("256")
        && found != half_hash(expected.access_token)
    {
        return Err(violation("the id_token belongs to another access token"));
    }
    Ok(())
}

/// Whether an issuer is the one expected: itself, or with a claim of the id_token
/// where its name is in braces.
fn is_issuer(found: &str, expected: &str, claims: &Object) -> bool {
    let Some((before, rest)) = expected.split_once('{') else {
        return found == expected;
    };
    let (claim, after) = rest.split_once('}').unwrap_or((rest, ""));
    let middle = found.strip_prefix(before);
    let middle = middle.and_then(|middle| middle.strip_suffix(after));
    let claim = claims.get(claim).and_then(Value::as_str);
    middle.is_some_and(|middle| !middle.is_empty() && claim == Some(middle))
}

fn object(part: &str) -> Option<Object> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    json::parse_object(&bytes).ok()
}

/// `at_hash` for the algorithms with SHA-256 (OpenID Connect Core section
/// 3.1.3.6).
fn half_hash(access_token: &SecretString) -> String {
    base64url(&Sha256::digest(access_token.reveal().as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(header: &Value, claims: &Value) -> SecretString {
        let part = |value: &Value| base64url(value.to_string().as_bytes());
        SecretString::new(format!("{}.{}.c2ln", part(header), part(claims)))
    }

    fn good() -> Value {
        json!({"iss": "https://as.example", "aud": "id", "exp": 2000, "iat": 1000, "nonce": "n",
            // OpenID Connect Core appendix A.3 has this hash of this token.
            "at_hash": "77QmUPtjPfzWtF2AnpK9RQ"})
    }

    fn checked(header: &Value, claims: &Value) -> Result<()> {
        let nonce = SecretString::new("n");
        check(
            &token(header, claims),
            &Expected {
                issuer: Some("https://as.example"),
                client_id: "id",
                nonce: Some(&nonce),
                access_token: &SecretString::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"),
                server_now: Timestamp::from_seconds(1500),
            },
        )
    }

    fn with(name: &str, value: Value) -> Result<()> {
        let mut claims = good();
        claims[name] = value;
        checked(&json!({"alg": "RS256"}), &claims)
    }

    #[test]
    fn good_claims_are_accepted() {
        assert_eq!(checked(&json!({"alg": "RS256"}), &good()), Ok(()));
    }

    #[test]
    fn each_wrong_claim_is_refused() {
        for (name, value) in [
            ("iss", json!("https://evil.example")),
            ("iss", json!(null)),
            ("aud", json!("other")),
            ("aud", json!([])),
            ("aud", json!(["id", "other"])),
            ("azp", json!("other")),
            ("exp", json!(1000)),
            ("exp", json!(null)),
            ("iat", json!(9000)),
            ("iat", json!(null)),
            ("nonce", json!("other")),
            ("nonce", json!(null)),
            ("at_hash", json!("other")),
        ] {
            assert!(with(name, value.clone()).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn a_wrong_nonce_is_told_apart() {
        let Err(Error::ProtocolViolation(violation)) = with("nonce", json!("other")) else {
            panic!("accepted");
        };
        assert_eq!(violation.kind, ViolationKind::Nonce);
    }

    #[test]
    fn several_audiences_need_the_authorized_party() {
        let mut claims = good();
        claims["aud"] = json!(["id", "other"]);
        claims["azp"] = json!("id");
        assert_eq!(checked(&json!({"alg": "RS256"}), &claims), Ok(()));
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        for header in [json!({"alg": "none"}), json!({"alg": "None"}), json!({})] {
            assert!(checked(&header, &good()).is_err(), "{header}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a.b", "a.b.c", "....", "e30.e30.", "e30.W10.x"] {
            let expected = Expected {
                issuer: None,
                client_id: "id",
                nonce: None,
                access_token: &SecretString::default(),
                server_now: Timestamp(0),
            };
            assert!(
                check(&SecretString::new(text), &expected).is_err(),
                "{text}"
            );
        }
    }
}
