//! Keys of the fake world, whose values the RFCs publish: what the host signs and
//! verifies with, and what the fake server does.

use crate::base64::from_base64url;
use ring::rand::SystemRandom;
use ring::{rsa, signature};
use serde_json::Value;

/// The key of an RFC's example, private parts and all.
pub fn published(id: &str) -> Value {
    let vectors: Value = serde_json::from_str(include_str!("../../../../tests/vectors/jose.json"))
        .expect("the vectors are JSON");
    let vectors = vectors["jws"].as_array().expect("a list");
    let vector = vectors.iter().find(|vector| vector["id"] == id);
    vector.expect("it is published")["key"].clone()
}

/// A key that the host gives away, private parts and all, when it is asked for
/// the public one.
pub const CARELESS: &str = "key:careless";

/// The key that a reference of the host stands for.
pub fn of_host(reference: &str) -> Option<Value> {
    let (id, kid) = match reference {
        "key:rsa" => ("RFC 7520 section 4.1", "client-rsa"),
        "key:ec" | CARELESS => ("RFC 7515 appendix A.3", "client-ec"),
        "key:ed" => ("RFC 8037 appendix A.4", "client-ed"),
        _ => return None,
    };
    let mut key = published(id);
    key["kid"] = kid.into();
    Some(key)
}

/// The server's keys, by their `kid`.
pub fn of_server(kid: &str) -> Value {
    let mut key = published(match kid {
        "server-ec" => "RFC 7515 appendix A.3",
        "server-ed" => "RFC 8037 appendix A.4",
        "other-rsa" => "RFC 7520 section 4.1",
        _ => "RFC 7515 appendix A.2",
    });
    key["kid"] = kid.into();
    key
}

/// The public half.
pub fn public(key: &Value) -> Value {
    let mut public = key.clone();
    let members = public.as_object_mut().expect("a key");
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        members.remove(private);
    }
    public
}

fn bytes(key: &Value, member: &str) -> Vec<u8> {
    let text = key[member].as_str().unwrap_or_default();
    from_base64url(text).expect("base64url")
}

/// A point of a curve, uncompressed.
fn point(key: &Value) -> Vec<u8> {
    [vec![4], bytes(key, "x"), bytes(key, "y")].concat()
}

/// Signs; `None` where the key is not one for the algorithm.
pub fn sign(key: &Value, algorithm: &str, data: &[u8]) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    match (key["kty"].as_str()?, algorithm) {
        ("RSA", _) => {
            let encoding: &dyn signature::RsaEncoding = match algorithm {
                "RS256" => &signature::RSA_PKCS1_SHA256,
                "PS256" => &signature::RSA_PSS_SHA256,
                _ => return None,
            };
            let member = |name| bytes(key, name);
            let pair = rsa::KeyPair::from_components(&rsa::KeyPairComponents {
                public_key: rsa::PublicKeyComponents {
                    n: member("n"),
                    e: member("e"),
                },
                d: member("d"),
                p: member("p"),
                q: member("q"),
                dP: member("dp"),
                dQ: member("dq"),
                qInv: member("qi"),
            })
            .expect("an RSA key");
            let mut signed = vec![0; pair.public().modulus_len()];
            pair.sign(encoding, &random, data, &mut signed).ok()?;
            Some(signed)
        }
        ("EC", "ES256") => {
            let pair = signature::EcdsaKeyPair::from_private_key_and_public_key(
                &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                &bytes(key, "d"),
                &point(key),
                &random,
            );
            let signed = pair.expect("an EC key").sign(&random, data).ok()?;
            Some(signed.as_ref().to_vec())
        }
        ("OKP", "EdDSA" | "Ed25519") => {
            let pair = signature::Ed25519KeyPair::from_seed_and_public_key(
                &bytes(key, "d"),
                &bytes(key, "x"),
            );
            Some(pair.expect("an Ed25519 key").sign(data).as_ref().to_vec())
        }
        _ => None,
    }
}

/// Verifies; `None` where the key is not one for the algorithm.
pub fn verify(key: &Value, algorithm: &str, data: &[u8], signed: &[u8]) -> Option<bool> {
    let of = |algorithm: &'static dyn signature::VerificationAlgorithm, public: Vec<u8>| {
        let key = signature::UnparsedPublicKey::new(algorithm, public);
        Some(key.verify(data, signed).is_ok())
    };
    match (key["kty"].as_str()?, algorithm) {
        ("RSA", _) => {
            let parameters = match algorithm {
                "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                _ => return None,
            };
            let public = rsa::PublicKeyComponents {
                n: bytes(key, "n"),
                e: bytes(key, "e"),
            };
            Some(public.verify(parameters, data, signed).is_ok())
        }
        ("EC", "ES256") => of(&signature::ECDSA_P256_SHA256_FIXED, point(key)),
        ("OKP", "EdDSA" | "Ed25519") => of(&signature::ED25519, bytes(key, "x")),
        _ => None,
    }
}

#[test]
fn the_published_signatures_are_verified_and_a_changed_one_is_not() {
    let vectors: Value = serde_json::from_str(include_str!("../../../../tests/vectors/jose.json"))
        .expect("the vectors are JSON");
    let mut seen = 0;
    for vector in vectors["jws"].as_array().expect("a list") {
        let compact = vector["compact"].as_str().expect("text");
        let (signed, signature) = compact.rsplit_once('.').expect("parts");
        let (header, _) = signed.split_once('.').expect("parts");
        let header = from_base64url(header).expect("base64url");
        let header: Value = serde_json::from_slice(&header).expect("JSON");
        let algorithm = header["alg"].as_str().expect("text");
        let mut signature = from_base64url(signature).expect("base64url");
        let key = public(&vector["key"]);
        let Some(good) = verify(&key, algorithm, signed.as_bytes(), &signature) else {
            continue;
        };
        signature[7] ^= 1;
        let bad = verify(&key, algorithm, signed.as_bytes(), &signature);
        assert_eq!((good, bad), (true, Some(false)), "{}", vector["id"]);
        seen += 1;
    }
    assert_eq!(seen, 5);
}
