//! Signatures in JWS form (RFC 7515, RFC 7518 section 3, RFC 8037 section 3.1):
//! made with private keys that stay in the host, and checked with public ones.
//!
//! A private key is PEM (PKCS#8, PKCS#1, SEC 1), a JWK (RFC 7517), or the file that
//! Google gives for a service account; RSA, EC on P-256 or P-384, or Ed25519. The
//! texts of the errors hold nothing of a key.

mod der;
mod jwk;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, Ed25519KeyPair, KeyPair,
    RsaEncoding, RsaKeyPair, RsaParameters, UnparsedPublicKey,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use self::der::PrivateKeyInfo;
use self::jwk::{Jwk, Limits, MOST_OCTETS};
use crate::contract::SecretError;

const ALGORITHMS: &str =
    "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA (Ed25519)";

const KEYS: &str = "RSA keys of 2048, 3072 or 4096 bits, EC keys on P-256 or P-384, and Ed25519 keys, in PEM (PKCS#8, PKCS#1, SEC 1) or as a JWK";

/// What makes a file of an EC key one that can be read.
const REWRITE_EC: &str = "`openssl ec -in KEY.pem -conv_form uncompressed -param_enc named_curve` writes one that has it";

/// What RFC 7518 sections 3.3 and 3.5 demand of an RSA key.
const LEAST_RSA_BITS: usize = 2048;

/// The longest RSA key that a signature is checked with.
const MOST_RSA_BITS: usize = 8192;

fn unsupported(text: impl Into<String>) -> SecretError {
    SecretError::Unsupported(text.into())
}

/// A name from outside, fit for the text of an error.
fn quoted(name: &str) -> String {
    let name: String = name
        .chars()
        .filter(char::is_ascii_graphic)
        .take(24)
        .collect();
    format!("`{name}`")
}

/// A JWS algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Rsa(RsaScheme),
    Ecdsa(Curve),
    Ed25519,
}

impl Algorithm {
    /// The algorithm of that name; there is none called `none`, and none whose
    /// key both sides have.
    fn named(name: &str) -> Result<Self, SecretError> {
        Ok(match name {
            "RS256" => Self::Rsa(RsaScheme::Rs256),
            "RS384" => Self::Rsa(RsaScheme::Rs384),
            "RS512" => Self::Rsa(RsaScheme::Rs512),
            "PS256" => Self::Rsa(RsaScheme::Ps256),
            "PS384" => Self::Rsa(RsaScheme::Ps384),
            "PS512" => Self::Rsa(RsaScheme::Ps512),
            "ES256" => Self::Ecdsa(Curve::P256),
            "ES384" => Self::Ecdsa(Curve::P384),
            // RFC 9864 gives EdDSA with Ed25519 a name of its own.
            "EdDSA" | "Ed25519" => Self::Ed25519,
            _ => {
                return Err(unsupported(format!(
                    "{} is not among the signature algorithms here, which are {ALGORITHMS}",
                    quoted(name)
                )));
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RsaScheme {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
}

impl RsaScheme {
    fn signing(self) -> &'static dyn RsaEncoding {
        match self {
            Self::Rs256 => &signature::RSA_PKCS1_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_SHA512,
            Self::Ps256 => &signature::RSA_PSS_SHA256,
            Self::Ps384 => &signature::RSA_PSS_SHA384,
            Self::Ps512 => &signature::RSA_PSS_SHA512,
        }
    }

    fn verification(self) -> &'static RsaParameters {
        match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        }
    }
}

/// A curve of ECDSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    /// The curve of that name in a JWK.
    fn named(name: &str) -> Result<Self, SecretError> {
        match name {
            "P-256" => Ok(Self::P256),
            "P-384" => Ok(Self::P384),
            _ => Err(unsupported(format!(
                "the key is an EC key on {}; supported are P-256 and P-384",
                quoted(name)
            ))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    /// The length of a coordinate and of a private key.
    fn length(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED,
        }
    }
}

/// A private key.
pub(super) struct SigningKey {
    pair: Pair,
    id: Option<String>,
    limits: Limits,
}

/// The file that Google gives for a service account, which has the key as PEM in
/// it, and by which name the server knows it.
#[derive(Deserialize)]
struct ServiceAccount {
    private_key: Zeroizing<String>,
    private_key_id: Option<String>,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Reads the text of a private key.
    ///
    /// # Errors
    /// `Denied` for an RSA key that is too short, `Unsupported` for all else
    /// that is no key to sign with.
    pub(super) fn read(text: &str) -> Result<Self, SecretError> {
        let text = text.trim_start_matches('\u{feff}').trim();
        if !text.starts_with('{') {
            return Self::of_pem(text, None);
        }
        if text.len() <= MOST_OCTETS
            && let Ok(account) = serde_json::from_str::<ServiceAccount>(text)
        {
            return Self::of_pem(&account.private_key, account.private_key_id);
        }
        Self::from_jwk(text)
    }

    fn of_pem(text: &str, id: Option<String>) -> Result<Self, SecretError> {
        Ok(Self {
            pair: from_pem(text)?,
            id,
            limits: Limits::default(),
        })
    }

    fn from_jwk(text: &str) -> Result<Self, SecretError> {
        let jwk = Jwk::read(text)?;
        let pair = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = jwk.modulus_and_exponent()?;
                let [d, p, q, dp, dq, qi] = jwk.private_rsa()?;
                rsa_pair(&KeyPairComponents {
                    public_key: PublicKeyComponents { n: &n, e: &e },
                    d: &d,
                    p: &p,
                    q: &q,
                    dP: &dp,
                    dQ: &dq,
                    qInv: &qi,
                })?
            }
            ("EC", Some(name)) => {
                let curve = Curve::named(name)?;
                ec_pair(curve, &jwk.private()?, &jwk.point(curve)?)?
            }
            ("OKP", Some("Ed25519")) => {
                let private = jwk.private()?;
                Ed25519KeyPair::from_seed_and_public_key(&private, &jwk.x()?)
                    .map(Pair::Ed25519)
                    .map_err(|error| {
                        unsupported(format!("the Ed25519 key is not valid: {error}"))
                    })?
            }
            _ => return Err(jwk.of_another_type()),
        };
        Ok(Self {
            pair,
            limits: jwk.limits(),
            id: jwk.kid,
        })
    }

    /// The signature of `data` in JWS form.
    ///
    /// # Errors
    /// `Unsupported` for an algorithm that the host does not have or that does
    /// not fit the key, `Denied` where the JWK excludes it, `Unavailable` where
    /// the system gives no random numbers.
    pub(super) fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, SecretError> {
        let wanted = Algorithm::named(algorithm)?;
        self.limits.allow(wanted, "sign")?;
        let random = SystemRandom::new();
        match (&self.pair, wanted) {
            (Pair::Rsa(pair), Algorithm::Rsa(scheme)) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                match pair.sign(scheme.signing(), &random, data, &mut signature) {
                    Ok(()) => Ok(signature),
                    // Reading the key does not find out, for it takes a signature.
                    Err(_) => Err(unsupported(
                        "the RSA key makes no valid signature: its parts do not belong together",
                    )),
                }
            }
            (Pair::Ec(curve, pair), Algorithm::Ecdsa(of)) if *curve == of => {
                match pair.sign(&random, data) {
                    Ok(signature) => Ok(signature.as_ref().to_vec()),
                    Err(_) => Err(SecretError::Unavailable(
                        "the system gives no random numbers to sign with".to_owned(),
                    )),
                }
            }
            (Pair::Ed25519(pair), Algorithm::Ed25519) => Ok(pair.sign(data).as_ref().to_vec()),
            _ => Err(unsupported(format!(
                "{} does not fit the key: {}",
                quoted(algorithm),
                self.pair.fitting()
            ))),
        }
    }

    /// The public half as a JWK. `kid` is the one of the private JWK, else the
    /// thumbprint (RFC 7638); `alg` and `use` are there where the private JWK
    /// has them.
    pub(super) fn public_jwk(&self) -> String {
        let members = self.pair.public_members();
        let mut members: Vec<(&str, &str)> = members
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let thumbprint = jwk::thumbprint(&members);
        members.push(("kid", self.id.as_deref().unwrap_or(&thumbprint)));
        if let Some(algorithm) = &self.limits.alg {
            members.push(("alg", algorithm));
        }
        if let Some(usage) = &self.limits.usage {
            members.push(("use", usage));
        }
        jwk::write(&members)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

impl Pair {
    /// What it is and signs with.
    fn fitting(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "an RSA key signs with RS256, RS384, RS512, PS256, PS384 and PS512",
            Self::Ec(Curve::P256, _) => "an EC key on P-256 signs with ES256",
            Self::Ec(Curve::P384, _) => "an EC key on P-384 signs with ES384",
            Self::Ed25519(_) => "an Ed25519 key signs with EdDSA",
        }
    }

    /// What a JWK of the public key must have, in the order of RFC 7638.
    fn public_members(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Rsa(pair) => {
                let PublicKeyComponents { n, e } =
                    PublicKeyComponents::<Vec<u8>>::from(pair.public());
                vec![
                    ("e", jwk::encode(&e)),
                    ("kty", "RSA".to_owned()),
                    ("n", jwk::encode(&n)),
                ]
            }
            Self::Ec(curve, pair) => {
                // An octet that says that it is uncompressed comes first.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(curve.length());
                vec![
                    ("crv", curve.name().to_owned()),
                    ("kty", "EC".to_owned()),
                    ("x", jwk::encode(x)),
                    ("y", jwk::encode(y)),
                ]
            }
            Self::Ed25519(pair) => vec![
                ("crv", "Ed25519".to_owned()),
                ("kty", "OKP".to_owned()),
                ("x", jwk::encode(pair.public_key().as_ref())),
            ],
        }
    }
}

/// Checks a JWS signature with the public key in a JWK. A signature that is not
/// one at all is a wrong one.
///
/// # Errors
/// `Unsupported` for an algorithm that the host does not have or that does not
/// fit the key, and for a key that cannot be read; `Denied` for a key that is
/// too weak or not meant for this.
pub(super) fn verify(
    jwk: &str,
    algorithm: &str,
    data: &[u8],
    signature: &[u8],
) -> Result<bool, SecretError> {
    let wanted = Algorithm::named(algorithm)?;
    let jwk = Jwk::read(jwk)?;
    jwk.limits().allow(wanted, "verify")?;
    let verified = match (wanted, jwk.kty.as_str(), jwk.crv.as_deref()) {
        (Algorithm::Rsa(scheme), "RSA", _) => {
            let (n, e) = jwk.modulus_and_exponent()?;
            check_modulus(&n)?;
            check_exponent(&e, 3)?;
            PublicKeyComponents { n, e }.verify(scheme.verification(), data, signature)
        }
        (Algorithm::Ecdsa(curve), "EC", Some(name)) if name == curve.name() => {
            UnparsedPublicKey::new(curve.verification(), jwk.point(curve)?).verify(data, signature)
        }
        (Algorithm::Ed25519, "OKP", Some("Ed25519")) => {
            UnparsedPublicKey::new(&signature::ED25519, jwk.x()?).verify(data, signature)
        }
        (_, "RSA", _) | (_, "EC", Some("P-256" | "P-384")) | (_, "OKP", Some("Ed25519")) => {
            return Err(unsupported(format!(
                "{} does not fit the key, whose type is {}",
                quoted(algorithm),
                jwk.kind()
            )));
        }
        _ => return Err(jwk.of_another_type()),
    };
    Ok(verified.is_ok())
}

fn from_pem(text: &str) -> Result<Pair, SecretError> {
    let mut found = None;
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, after)) = after.split_once("-----") else {
            return Err(damaged("PEM"));
        };
        let Some((body, after)) = after.split_once(&format!("-----END {label}-----")) else {
            return Err(damaged("PEM"));
        };
        rest = after;
        match label {
            "PRIVATE KEY" => return from_pkcs8(&pem_body(body)?),
            "RSA PRIVATE KEY" => return from_pkcs1(&pem_body(body)?),
            "EC PRIVATE KEY" => return from_sec1(&pem_body(body)?, None),
            "ENCRYPTED PRIVATE KEY" => return Err(encrypted()),
            "DSA PRIVATE KEY" => found = Some("a DSA key"),
            "OPENSSH PRIVATE KEY" => found = Some("a key in the form of OpenSSH"),
            "PUBLIC KEY" | "RSA PUBLIC KEY" => found = Some("a public key"),
            "CERTIFICATE" => found = found.or(Some("a certificate")),
            // What OpenSSL writes before an EC key.
            "EC PARAMETERS" => {}
            _ => found = found.or(Some("something else")),
        }
    }
    Err(unsupported(match found {
        Some(found) => {
            format!("the PEM holds {found} and no private key that is supported: {KEYS}")
        }
        None => format!("this is no private key; supported are {KEYS}"),
    }))
}

/// The octets of a PEM section, however its lines are broken.
fn pem_body(body: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    if body.contains("Proc-Type:") {
        return Err(encrypted());
    }
    // Of that capacity from the start: growing would leave copies behind.
    let mut encoded = Zeroizing::new(Vec::with_capacity(body.len()));
    encoded.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    decode(&STANDARD, &encoded).ok_or_else(|| damaged("PEM"))
}

/// Decodes what may be a key, so that no copy of it stays in memory, not even
/// where it is damaged.
fn decode(engine: &GeneralPurpose, encoded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let room = base64::decoded_len_estimate(encoded.len());
    let mut octets = Zeroizing::new(Vec::with_capacity(room));
    engine.decode_vec(encoded, &mut octets).ok()?;
    Some(octets)
}

fn encrypted() -> SecretError {
    unsupported(
        "the private key is encrypted with a password; supported are plain ones (`openssl pkey -in KEY.pem` writes it so), which `sealed:NAME` and `keyring:NAME` keep safe",
    )
}

/// The text says nothing more: it must not quote a key.
fn damaged(what: &str) -> SecretError {
    unsupported(format!("the {what} of the private key is damaged"))
}

fn more_than_two_primes() -> SecretError {
    unsupported("the RSA key has more than two primes; supported are those with two")
}

fn from_pkcs8(octets: &[u8]) -> Result<Pair, SecretError> {
    let info = PrivateKeyInfo::read(octets).ok_or_else(|| damaged("PKCS#8"))?;
    match info.algorithm {
        der::RSA_ENCRYPTION => from_pkcs1(info.key),
        der::EC_PUBLIC_KEY => {
            let curve = info.curve.ok_or_else(explicit_curve)?;
            from_sec1(info.key, Some(curve))
        }
        der::ED25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(octets)
            .map(Pair::Ed25519)
            .map_err(|error| unsupported(format!("the Ed25519 key is not valid: {error}"))),
        other => Err(unsupported(format!(
            "the PEM holds {}; supported are {KEYS}",
            der::key_type(other)
        ))),
    }
}

fn from_pkcs1(octets: &[u8]) -> Result<Pair, SecretError> {
    let (version, [n, e, d, p, q, dp, dq, qi]) =
        der::rsa_private_key(octets).ok_or_else(|| damaged("RSA form (PKCS#1)"))?;
    if version != [0] {
        return Err(more_than_two_primes());
    }
    rsa_pair(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: dp,
        dQ: dq,
        qInv: qi,
    })
}

/// Reads an `ECPrivateKey` (RFC 5915), which names its curve unless what it is
/// in does.
fn from_sec1(octets: &[u8], curve: Option<&[u8]>) -> Result<Pair, SecretError> {
    let key = der::ec_private_key(octets).ok_or_else(|| damaged("EC form (SEC 1)"))?;
    let curve = match curve.or(key.curve).ok_or_else(explicit_curve)? {
        der::P256 => Curve::P256,
        der::P384 => Curve::P384,
        other => {
            return Err(unsupported(format!(
                "the PEM holds an EC key on {}; supported are P-256 and P-384",
                der::curve(other)
            )));
        }
    };
    // To compute it takes arithmetic on the curve, which `ring` keeps to itself.
    let public = key.public.ok_or_else(|| {
        unsupported(format!(
            "the PEM of the EC key lacks the public key: {REWRITE_EC}"
        ))
    })?;
    if let [2 | 3, ..] = public {
        return Err(unsupported(format!(
            "the PEM of the EC key has the public key in compressed form, and only the uncompressed one is supported: {REWRITE_EC}"
        )));
    }
    ec_pair(curve, key.private, public)
}

fn explicit_curve() -> SecretError {
    unsupported(format!(
        "the PEM of the EC key does not name its curve: {REWRITE_EC}"
    ))
}

fn ec_pair(curve: Curve, private: &[u8], public: &[u8]) -> Result<Pair, SecretError> {
    let invalid = |why: &dyn fmt::Display| {
        unsupported(format!(
            "the EC key on {} is not valid: {why}",
            curve.name()
        ))
    };
    // Some writers leave out leading zeros.
    let mut padded = Zeroizing::new(vec![0; curve.length()]);
    let missing = curve
        .length()
        .checked_sub(private.len())
        .ok_or_else(|| invalid(&"the private key is too long"))?;
    padded[missing..].copy_from_slice(private);
    EcdsaKeyPair::from_private_key_and_public_key(
        curve.signing(),
        &padded,
        public,
        &SystemRandom::new(),
    )
    .map(|pair| Pair::Ec(curve, pair))
    .map_err(|error| invalid(&error))
}

fn rsa_pair(components: &KeyPairComponents<&[u8]>) -> Result<Pair, SecretError> {
    let PublicKeyComponents { n, e } = components.public_key;
    check_modulus(n)?;
    check_exponent(e, 65537)?;
    let bits = bit_length(n);
    if ![2048, 3072, 4096].contains(&bits) {
        return Err(unsupported(format!(
            "the RSA key has {bits} bits; supported for signing are 2048, 3072 and 4096"
        )));
    }
    RsaKeyPair::from_components(components)
        .map(Pair::Rsa)
        .map_err(|error| unsupported(format!("the RSA key is not valid: {error}")))
}

/// The length of a number without leading zero octets.
fn bit_length(number: &[u8]) -> usize {
    match number.first() {
        Some(first) => number.len() * 8 - first.leading_zeros() as usize,
        None => 0,
    }
}

fn check_modulus(n: &[u8]) -> Result<(), SecretError> {
    match bit_length(n) {
        bits if bits < LEAST_RSA_BITS => Err(SecretError::Denied(format!(
            "the RSA key has {bits} bits, and less than {LEAST_RSA_BITS} are not safe"
        ))),
        bits if bits > MOST_RSA_BITS => Err(unsupported(format!(
            "the RSA key has {bits} bits, and at most {MOST_RSA_BITS} are supported"
        ))),
        _ => Ok(()),
    }
}

/// Refuses exponents that make a signature worthless (1, even ones) or slow to
/// check.
fn check_exponent(e: &[u8], least: u64) -> Result<(), SecretError> {
    let value = match e.len() {
        1..=8 => e
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        _ => 0,
    };
    if value >= least && value % 2 == 1 && value < 1 << 33 {
        Ok(())
    } else {
        Err(SecretError::Denied(format!(
            "the public exponent of the RSA key is not an odd number of {least} or more and less than 2^33"
        )))
    }
}

#[cfg(test)]
mod tests;
