//! What an id_token claims (OpenID Connect Core section 3.1.3.7). Its signature
//! is checked by the flow, with the keys that the server publishes. Where it
//! publishes none, the TLS server that the id_token came from vouches for it
//! (number 6 there); there is no such exemption where there are keys.

use crate::base64::base64url;
use crate::error::{Error, Result, ViolationKind};
use crate::json::Object;
use crate::jws::{self, Received};
use crate::secret::SecretString;
use crate::time::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How far clocks may differ, in seconds, beyond the skew that was measured.
const LEEWAY_SECONDS: i64 = 60;

/// How long ago an id_token that has just come may have been issued, in seconds:
/// an older one was made for another occasion.
const OLDEST_SECONDS: i64 = 24 * 60 * 60;

/// The algorithm that is keyed with the client's secret (section 10.1).
pub(crate) const KEYED_WITH_SECRET: &str = "HS256";

/// What the claims are held against.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The issuer that was asked, where it is known; with names of claims in
    /// braces where it differs with the user.
    pub issuer: Option<&'a str>,
    /// The client.
    pub client_id: &'a str,
    /// The algorithms that the server says it signs with; none: it does not say.
    pub algorithms: &'a [String],
    /// The `nonce` that was sent, where it has to be there.
    pub nonce: Option<&'a SecretString>,
    /// The `max_age` that was sent, in seconds.
    pub max_age: Option<u32>,
    /// The user of the id_token before (OpenID Connect Core section 12.2).
    pub subject: Option<&'a str>,
    /// The access token that came with it.
    pub access_token: &'a SecretString,
    /// The time by the server's clock.
    pub server_now: Timestamp,
}

/// A violation that names what is wrong with the id_token, or with claims of the
/// user that are signed like one.
pub(crate) fn violation(message: &str) -> Box<Error> {
    Error::violation(ViolationKind::IdToken, message)
}

/// What a JWT is, as a message begins.
pub(crate) const ID_TOKEN: &str = "the id_token";
pub(crate) const USERINFO: &str = "the userinfo";

/// What is wrong with what.
pub(crate) fn wrong(what: &str, how: &str) -> Box<Error> {
    violation(&[what, " ", how].concat())
}

/// Whether an id_token has no `nonce` at all, which is another thing than a wrong
/// one.
pub(crate) fn omits_nonce(id_token: &SecretString) -> bool {
    Received::parse(id_token.reveal()).is_some_and(|token| !token.claims.contains_key("nonce"))
}

/// Takes an id_token apart and checks what it claims, all but the signature.
///
/// # Errors
/// A violation, of the kind nonce or id_token, that names the claim.
pub(crate) fn check<'a>(
    id_token: &'a SecretString,
    expected: &Expected<'_>,
) -> Result<Received<'a>> {
    let token = Received::parse(id_token.reveal())
        .ok_or_else(|| violation("the id_token is not a signed JWT"))?;
    match token.algorithm() {
        algorithm if algorithm.is_empty() || algorithm.eq_ignore_ascii_case("none") => {
            return Err(violation("the id_token is not signed"));
        }
        algorithm if algorithm != KEYED_WITH_SECRET && !jws::is_accepted(algorithm) => {
            return Err(violation(
                "the id_token is signed in a way that is not accepted",
            ));
        }
        algorithm
            if !expected.algorithms.is_empty()
                && expected.algorithms.iter().all(|name| name != algorithm) =>
        {
            return Err(violation(
                "the id_token is signed in another way than the server says",
            ));
        }
        _ => {}
    }
    check_parties(ID_TOKEN, &token, expected.issuer, expected.client_id)?;
    if token.text("sub").is_none_or(str::is_empty) {
        return Err(violation("the id_token names no user"));
    }
    if expected.subject.is_some() && token.text("sub") != expected.subject {
        return Err(violation("the id_token is for another user than before"));
    }
    check_times(&token, expected)?;
    if let Some(nonce) = expected.nonce {
        let found = token.text("nonce").unwrap_or_default();
        if !bool::from(found.as_bytes().ct_eq(nonce.reveal().as_bytes())) {
            return Err(Error::violation(
                ViolationKind::Nonce,
                "the id_token bears another nonce than was sent",
            ));
        }
    }
    // Of the other algorithms the hash is another, which the standard leaves
    // the client free to check in the code flow (section 3.1.3.8).
    if let Some(found) = token.text("at_hash")
        && token.algorithm().ends_with("256")
        && found != half_hash(expected.access_token)
    {
        return Err(violation("the id_token belongs to another access token"));
    }
    Ok(token)
}

/// Numbers 2 to 5 of section 3.1.3.7: by whom and for whom. `what` is what the
/// token is.
pub(crate) fn check_parties(
    what: &str,
    token: &Received<'_>,
    issuer: Option<&str>,
    client_id: &str,
) -> Result<()> {
    let is_expected =
        |found: &str| issuer.is_none_or(|expected| is_issuer(found, expected, &token.claims));
    if !token.text("iss").is_some_and(is_expected) {
        return Err(wrong(what, "is from another issuer"));
    }
    let audience: Vec<&str> = match token.claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&client_id) {
        return Err(wrong(what, "is for another client"));
    }
    match token.text("azp") {
        Some(party) if party != client_id => Err(wrong(what, "was issued to another client")),
        None if audience.len() > 1 => Err(wrong(what, "has several audiences and names no azp")),
        _ => Ok(()),
    }
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

/// Numbers 9, 10 and 13: when.
fn check_times(token: &Received<'_>, expected: &Expected<'_>) -> Result<()> {
    let now = i64::try_from(expected.server_now.seconds()).unwrap_or(i64::MAX);
    let later = now.saturating_add(LEEWAY_SECONDS);
    let time = |name: &str| {
        let value = token.claims.get(name).and_then(Value::as_f64);
        value.map(|seconds| seconds as i64)
    };
    match time("exp") {
        Some(expiry) if now < expiry.saturating_add(LEEWAY_SECONDS) => {}
        _ => return Err(violation("the id_token has expired, or does not say when")),
    }
    match time("iat") {
        Some(issued) if issued > later => {
            return Err(violation("the id_token is from the future"));
        }
        Some(issued) if now.saturating_sub(issued) > OLDEST_SECONDS => {
            return Err(violation("the id_token was issued long ago"));
        }
        Some(_) => {}
        None => return Err(violation("the id_token does not say when it was issued")),
    }
    if let Some(max_age) = expected.max_age {
        let oldest = now - LEEWAY_SECONDS - i64::from(max_age);
        if time("auth_time").is_none_or(|signed_in| signed_in < oldest) {
            return Err(violation(
                "the user signed in longer ago than max_age allows, or the id_token does not say when",
            ));
        }
    }
    Ok(())
}

/// `at_hash` for the algorithms with SHA-256 (OpenID Connect Core section
/// 3.1.3.6).
fn half_hash(access_token: &SecretString) -> String {
    base64url(&Sha256::digest(access_token.reveal().as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Unboxed as _;
    use serde_json::json;

    fn token(header: &Value, claims: &Value) -> SecretString {
        let part = |value: &Value| base64url(value.to_string().as_bytes());
        SecretString::new(format!("{}.{}.c2ln", part(header), part(claims)))
    }

    fn good() -> Value {
        json!({"iss": "https://as.example", "aud": "id", "sub": "user", "exp": 2000, "iat": 1000,
            "nonce": "n", "auth_time": 1000,
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
                algorithms: &["RS256".to_owned()],
                nonce: Some(&nonce),
                max_age: Some(600),
                subject: Some("user"),
                access_token: &SecretString::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"),
                server_now: Timestamp::from_seconds(1500),
            },
        )
        .map(drop)
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

    /// Shows: OpenID Connect Core section 3.1.3.7.
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
            ("iat", json!(-90_000)),
            ("sub", json!(null)),
            ("sub", json!("")),
            ("sub", json!("other")),
            ("auth_time", json!(100)),
            ("auth_time", json!(null)),
            ("nonce", json!("other")),
            ("nonce", json!(null)),
            ("at_hash", json!("other")),
        ] {
            assert!(with(name, value.clone()).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn a_wrong_nonce_is_told_apart() {
        let Err(Error::ProtocolViolation(violation)) = with("nonce", json!("other")).unboxed()
        else {
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
    fn a_way_of_signing_that_the_server_does_not_announce_is_refused() {
        for algorithm in ["PS256", "HS256", "ES256", "rs256", "HS512", "X"] {
            assert!(
                checked(&json!({"alg": algorithm}), &good()).is_err(),
                "{algorithm}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a.b", "a.b.c", "....", "e30.e30.", "e30.W10.x"] {
            let expected = Expected {
                issuer: None,
                client_id: "id",
                algorithms: &[],
                nonce: None,
                max_age: None,
                subject: None,
                access_token: &SecretString::default(),
                server_now: Timestamp(0),
            };
            assert!(
                check(&SecretString::new(text), &expected).is_err(),
                "{text}"
            );
        }
    }

    /// An id_token by that algorithm with those claims, where the server announces
    /// none, at the second 100,000.
    fn at_100_000(algorithm: &str, change: &[(&str, Value)]) -> bool {
        let mut claims = json!({"iss": "i", "aud": "id", "sub": "u", "exp": 100_100,
            "iat": 100_000, "auth_time": 100_000});
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        let expected = Expected {
            issuer: Some("i"),
            client_id: "id",
            algorithms: &[],
            nonce: None,
            max_age: Some(600),
            subject: None,
            access_token: &SecretString::new("a"),
            server_now: Timestamp::from_seconds(100_000),
        };
        check(&token(&json!({"alg": algorithm}), &claims), &expected).is_ok()
    }

    #[test]
    fn times_are_held_to_the_second() {
        for (name, last_good, first_bad) in [
            ("exp", 99_941, 99_940),
            ("iat", 100_060, 100_061),
            ("iat", 13_600, 13_599),
            ("auth_time", 99_340, 99_339),
        ] {
            for (value, is_good) in [(last_good, true), (first_bad, false)] {
                let is_taken = at_100_000("RS256", &[(name, json!(value))]);
                assert_eq!(is_taken, is_good, "{name} {value}");
            }
        }
    }

    #[test]
    fn where_the_server_announces_no_algorithms_only_known_ones_are_taken() {
        for algorithm in ["RS256", "HS256"] {
            assert!(at_100_000(algorithm, &[]), "{algorithm}");
        }
        for algorithm in ["HS512", "X", "rs256", "ES256K"] {
            assert!(!at_100_000(algorithm, &[]), "{algorithm}");
        }
    }

    #[test]
    fn the_hash_of_the_access_token_is_held_against_sha_256_alone() {
        let other = [("at_hash", json!("x"))];
        assert!(!at_100_000("RS256", &other));
        assert!(at_100_000("RS384", &other));
    }
}
