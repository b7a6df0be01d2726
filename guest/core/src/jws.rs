//! Signed JSON (RFC 7515) and the keys that sign it (RFC 7517), as far as a
//! client makes and checks them. The private keys are the host's; what is made
//! here is made with a shared secret alone.

use crate::base64::{base64url, from_base64url};
use crate::json::{self, Object};
use crate::secret::SecretString;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// The algorithms that are signed with and believed, each with the keys that it
/// takes (RFC 7518 section 3.1, RFC 8037, RFC 9864). `none` is not among them,
/// nor is any with a shared secret: that would be a public key's bytes one day.
const ALGORITHMS: &[(&str, &str, &str)] = &[
    ("RS256", "RSA", ""),
    ("PS256", "RSA", ""),
    ("RS384", "RSA", ""),
    ("RS512", "RSA", ""),
    ("PS384", "RSA", ""),
    ("PS512", "RSA", ""),
    ("ES256", "EC", "P-256"),
    ("ES384", "EC", "P-384"),
    ("ES512", "EC", "P-521"),
    ("EdDSA", "OKP", "Ed25519"),
    ("Ed25519", "OKP", "Ed25519"),
];

/// Whether a key is one for an algorithm: of its type and curve, and not
/// declared for another use or algorithm (RFC 7517 sections 4.2 and 4.4).
fn fits(key: &Object, algorithm: &(&str, &str, &str)) -> bool {
    let (name, key_type, curve) = *algorithm;
    let text = |member: &str| key.get(member).and_then(Value::as_str);
    text("kty") == Some(key_type)
        && text("crv").unwrap_or_default() == curve
        && text("alg").is_none_or(|declared| declared == name)
        && text("use").is_none_or(|declared| declared == "sig")
}

/// The algorithm that a key signs with: the one that it declares, else the first
/// that fits it and that the server is known to accept, else the first that fits.
pub(crate) fn algorithm_for(key: &Object, accepted: &[String]) -> Option<&'static str> {
    let mut fitting = ALGORITHMS
        .iter()
        .filter(|algorithm| fits(key, algorithm))
        .map(|(name, ..)| *name);
    let first = fitting.clone().next();
    fitting
        .find(|name| accepted.iter().any(|accepted| accepted == name))
        .or(first)
}

/// Whether signatures by an algorithm are looked at.
pub(crate) fn is_accepted(algorithm: &str) -> bool {
    ALGORITHMS.iter().any(|(name, ..)| *name == algorithm)
}

/// The one key of a set that a signature with that header is to be checked with
/// (RFC 7515 section 6).
///
/// # Errors
/// Why there is none, as the second half of a sentence.
pub(crate) fn select<'a>(keys: &'a [Value], header: &Object) -> Result<&'a Object, &'static str> {
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    let algorithm = ALGORITHMS
        .iter()
        .find(|(name, ..)| Some(*name) == text("alg"))
        .ok_or("is signed in a way that is not accepted")?;
    let kid = text("kid");
    let mut candidates = keys
        .iter()
        .filter_map(Value::as_object)
        .filter(|key| fits(key, algorithm))
        .filter(|key| kid.is_none() || key.get("kid").and_then(Value::as_str) == kid);
    match (candidates.next(), candidates.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err("is signed with a key that the server does not publish"),
        (Some(_), Some(_)) => Err("does not say with which of the server's keys it is signed"),
    }
}

/// The members that make a public key, in the order of their names (RFC 7638
/// section 3.2): nothing private, whatever else a host gives.
///
/// `None`, where it is no public key that is known here.
pub(crate) fn public_members(key: &Object) -> Option<Object> {
    let members: &[&str] = match key.get("kty")?.as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let mut public = Object::new();
    for member in members {
        let value = Value::from(key.get(*member)?.as_str()?);
        public.insert((*member).to_owned(), value);
    }
    Some(public)
}

/// The SHA-256 thumbprint of a key of [`public_members`] alone (RFC 7638 section
/// 3).
pub(crate) fn thumbprint(public: Object) -> String {
    base64url(&Sha256::digest(json::text(&Value::Object(public))))
}

/// What is signed: header and claims (RFC 7515 section 5.1).
pub(crate) fn signing_input(header: Object, claims: Object) -> String {
    let part = |object| base64url(json::text(&Value::Object(object)).as_bytes());
    let mut input = part(header);
    input.push('.');
    input.push_str(&part(claims));
    input
}

/// A signed JWT in its compact form (RFC 7515 section 7.1).
pub(crate) fn compact(mut signing_input: String, signature: &[u8]) -> SecretString {
    signing_input.push('.');
    signing_input.push_str(&base64url(signature));
    SecretString::new(signing_input)
}

/// A JWT that came, taken apart; nothing of it is believed yet.
pub(crate) struct Received<'a> {
    /// The header.
    pub header: Object,
    /// The claims.
    pub claims: Object,
    /// What is signed.
    pub signed: &'a str,
    /// The signature.
    pub signature: Vec<u8>,
}

impl<'a> Received<'a> {
    /// Takes a compact JWS apart. An encrypted one has five parts and is none.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (header, rest) = text.split_once('.')?;
        let (claims, signature) = rest.split_once('.')?;
        let object = |part: &str| json::parse_object(&from_base64url(part)?).ok();
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signed: text.strip_suffix(signature)?.strip_suffix('.')?,
            signature: from_base64url(signature)?,
        })
    }

    /// A claim that is text.
    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// The algorithm that it claims to be signed by.
    pub(crate) fn algorithm(&self) -> &str {
        let algorithm = self.header.get("alg").and_then(Value::as_str);
        algorithm.unwrap_or_default()
    }

    /// Whether it bears the HMAC of a secret (RFC 7518 section 3.2).
    pub(crate) fn is_keyed_with(&self, secret: &SecretString) -> bool {
        let expected = hmac_sha256(secret.reveal().as_bytes(), self.signed.as_bytes());
        expected.as_slice().ct_eq(&self.signature).into()
    }
}

/// HMAC with SHA-256 (RFC 2104), the algorithm `HS256`.
pub(crate) fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    // The key of the inner hash, then that of the outer.
    let pad = |block: &mut [u8; 64], byte: u8| block.iter_mut().for_each(|key| *key ^= byte);
    pad(&mut block, 0x36);
    let inner = Sha256::new().chain_update(block).chain_update(data);
    let inner = inner.finalize();
    pad(&mut block, 0x36 ^ 0x5c);
    let outer = Sha256::new().chain_update(block).chain_update(inner);
    block.zeroize();
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The values that RFCs publish.
    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../tests/vectors/jose.json")).expect("JSON")
    }

    fn decoded(text: &Value) -> Vec<u8> {
        let text = text.as_str().expect("text");
        from_base64url(text).expect("base64url")
    }

    #[test]
    fn the_hmac_is_that_of_rfc_7515_and_rfc_7520() {
        let vectors = vectors();
        let keyed = vectors["jws"].as_array().expect("a list").iter();
        let keyed = keyed.filter(|vector| vector["key"]["kty"] == "oct");
        let mut seen = 0;
        for vector in keyed {
            let compact = vector["compact"].as_str().expect("text");
            let (signed, signature) = compact.rsplit_once('.').expect("parts");
            let mac = hmac_sha256(&decoded(&vector["key"]["k"]), signed.as_bytes());
            assert_eq!(base64url(&mac), signature, "{}", vector["id"]);
            seen += 1;
        }
        assert_eq!(seen, 2);
    }

    #[test]
    fn the_hmac_of_a_long_key_is_that_of_rfc_4231() {
        // RFC 4231 section 4.7: a key of 131 bytes.
        let mac = hmac_sha256(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
        );
        assert_eq!(
            crate::secret::hex(&mac),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn thumbprints_are_those_of_the_rfcs() {
        for vector in vectors()["thumbprints"].as_array().expect("a list") {
            let key = vector["jwk"].as_object().expect("a key");
            let public = public_members(key).expect("a public key");
            assert_eq!(thumbprint(public), vector["sha256"], "{}", vector["id"]);
        }
    }

    #[test]
    fn nothing_private_is_among_the_public_members() {
        for vector in vectors()["jws"].as_array().expect("a list") {
            let key = vector["key"].as_object().expect("a key");
            match public_members(key) {
                Some(public) => {
                    for private in ["d", "p", "q", "dp", "dq", "qi", "k", "kid"] {
                        assert!(!public.contains_key(private), "{private}");
                    }
                }
                None => assert_eq!(key["kty"], "oct"),
            }
        }
    }

    #[test]
    fn the_algorithm_is_the_keys_own_then_one_that_the_server_accepts() {
        let of = |key: Value, accepted: &[&str]| {
            let accepted: Vec<_> = accepted.iter().map(|&name| name.to_owned()).collect();
            algorithm_for(key.as_object().expect("a key"), &accepted)
        };
        assert_eq!(of(json!({"kty": "RSA"}), &[]), Some("RS256"));
        assert_eq!(of(json!({"kty": "RSA"}), &["PS256"]), Some("PS256"));
        assert_eq!(of(json!({"kty": "RSA"}), &["ES256"]), Some("RS256"));
        assert_eq!(
            of(json!({"kty": "RSA", "alg": "PS256"}), &["RS256"]),
            Some("PS256")
        );
        assert_eq!(of(json!({"kty": "EC", "crv": "P-256"}), &[]), Some("ES256"));
        assert_eq!(
            of(json!({"kty": "OKP", "crv": "Ed25519"}), &["Ed25519"]),
            Some("Ed25519")
        );
        assert_eq!(of(json!({"kty": "oct"}), &["HS256"]), None);
        assert_eq!(of(json!({"kty": "RSA", "alg": "none"}), &[]), None);
    }

    fn selected(keys: &Value, header: &Value) -> Result<Value, &'static str> {
        let keys = keys.as_array().expect("keys");
        select(keys, header.as_object().expect("a header")).map(|key| key["n"].clone())
    }

    #[test]
    fn a_key_is_selected_by_its_identifier_and_must_fit_the_algorithm() {
        let keys = json!([
            {"kty": "RSA", "kid": "a", "n": 1},
            {"kty": "RSA", "kid": "b", "n": 2},
            {"kty": "RSA", "kid": "c", "use": "enc", "n": 3},
            {"kty": "EC", "crv": "P-256", "kid": "d", "n": 4},
            "nonsense"
        ]);
        let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});
        assert_eq!(selected(&keys, &header("RS256", "b")), Ok(json!(2)));
        for (alg, kid) in [
            ("RS256", "c"),
            ("RS256", "d"),
            ("RS256", "x"),
            ("none", "a"),
            ("HS256", "a"),
        ] {
            assert!(selected(&keys, &header(alg, kid)).is_err(), "{alg} {kid}");
        }
    }

    #[test]
    fn without_an_identifier_there_must_be_one_key_that_fits() {
        let rsa = |n| json!({"kty": "RSA", "n": n});
        let header = json!({"alg": "RS256"});
        let one = json!([rsa(1), {"kty": "EC", "crv": "P-256", "n": 2}]);
        assert_eq!(selected(&one, &header), Ok(json!(1)));
        assert!(selected(&json!([rsa(1), rsa(2)]), &header).is_err());
        assert!(selected(&json!([]), &header).is_err());
    }

    #[test]
    fn what_is_not_three_parts_of_json_is_no_jwt() {
        for text in [
            "",
            "a.b",
            "a.b.c",
            "....",
            "e30.e30",
            "e30.W10.x",
            "e30.e30.e30.e30.e30",
        ] {
            assert!(Received::parse(text).is_none(), "{text}");
        }
        assert!(Received::parse("e30.e30.").is_some());
    }

    #[test]
    fn the_curve_of_a_key_decides_on_the_algorithm() {
        for (key, algorithm) in [
            (json!({"kty": "EC", "crv": "P-384"}), Some("ES384")),
            (json!({"kty": "EC", "crv": "P-521"}), Some("ES512")),
            (json!({"kty": "EC", "crv": "secp256k1"}), None),
            (json!({"kty": "OKP", "crv": "X25519"}), None),
        ] {
            let key = key.as_object().expect("a key");
            assert_eq!(algorithm_for(key, &[]), algorithm, "{key:?}");
        }
    }

    #[test]
    fn a_key_without_a_name_is_not_the_one_that_is_named() {
        let keys = [json!({"kty": "RSA", "n": 1})];
        let header = json!({"alg": "RS256", "kid": "a"});
        assert!(select(&keys, header.as_object().expect("a header")).is_err());
    }

    #[test]
    fn a_mac_that_was_cut_short_is_none() {
        let whole = compact("e30.e30".to_owned(), &hmac_sha256(b"s", b"e30.e30"));
        let is_keyed = |text: &str| {
            let token = Received::parse(text).expect("a JWT");
            token.is_keyed_with(&SecretString::new("s"))
        };
        assert!(is_keyed(whole.reveal()));
        for length in [8, 12, 24] {
            assert!(!is_keyed(&whole.reveal()[..length]), "{length}");
        }
    }
}
