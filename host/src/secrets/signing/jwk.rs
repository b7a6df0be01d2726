//! JSON Web Keys (RFC 7517, RFC 7518 section 6, RFC 8037 section 2).

use std::mem;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::{Algorithm, Curve, quoted, unsupported};
use crate::contract::SecretError;

/// Enough for any key here, and for a certificate chain beside it.
pub(super) const MOST_OCTETS: usize = 64 * 1024;

/// The members that matter here. Those that are private are zeroed when dropped.
#[derive(Deserialize)]
pub(super) struct Jwk {
    pub(super) kty: String,
    pub(super) crv: Option<String>,
    pub(super) kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Zeroizing<String>>,
    p: Option<Zeroizing<String>>,
    q: Option<Zeroizing<String>>,
    dp: Option<Zeroizing<String>>,
    dq: Option<Zeroizing<String>>,
    qi: Option<Zeroizing<String>>,
    oth: Option<IgnoredAny>,
}

impl Jwk {
    pub(super) fn read(text: &str) -> Result<Self, SecretError> {
        if text.len() > MOST_OCTETS {
            return Err(unsupported(format!(
                "the JWK has more than {MOST_OCTETS} octets"
            )));
        }
        // What `serde_json` says of it may quote the key.
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => unsupported(
                "this is no JWK: one is an object with `kty` and, by that, further members (RFC 7517)",
            ),
            _ => unsupported(format!(
                "the JWK is not JSON (line {}, column {})",
                error.line(),
                error.column()
            )),
        })
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            alg: self.alg.clone(),
            usage: self.usage.clone(),
            key_ops: self.key_ops.clone(),
        }
    }

    /// `n` and `e` of an RSA key, without the leading zeros that some writers
    /// put there.
    pub(super) fn modulus_and_exponent(&self) -> Result<(Vec<u8>, Vec<u8>), SecretError> {
        let mut numbers = [public("n", self.n.as_ref())?, public("e", self.e.as_ref())?];
        numbers.iter_mut().for_each(strip_zeros);
        let [n, e] = numbers;
        Ok((n, e))
    }

    /// The rest of a private RSA key: `d`, `p`, `q`, `dp`, `dq` and `qi`.
    pub(super) fn private_rsa(&self) -> Result<[Zeroizing<Vec<u8>>; 6], SecretError> {
        if self.oth.is_some() {
            return Err(super::more_than_two_primes());
        }
        let mut numbers = [
            private("d", self.d.as_ref())?,
            private("p", self.p.as_ref())?,
            private("q", self.q.as_ref())?,
            private("dp", self.dp.as_ref())?,
            private("dq", self.dq.as_ref())?,
            private("qi", self.qi.as_ref())?,
        ];
        numbers.iter_mut().for_each(|number| strip_zeros(number));
        Ok(numbers)
    }

    /// The private half of an EC or Ed25519 key.
    pub(super) fn private(&self) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        private("d", self.d.as_ref())
    }

    /// The public half of an EC key: a point in uncompressed form (SEC 1).
    pub(super) fn point(&self, curve: Curve) -> Result<Vec<u8>, SecretError> {
        let mut point = vec![4];
        for (name, value) in [("x", &self.x), ("y", &self.y)] {
            let coordinate = public(name, value.as_ref())?;
            // RFC 7518 section 6.2.1.2 has the leading zeros left in.
            if coordinate.len() != curve.length() {
                return Err(unsupported(format!(
                    "`{name}` of the JWK is {} octets long and not {}",
                    coordinate.len(),
                    curve.length()
                )));
            }
            point.extend(coordinate);
        }
        Ok(point)
    }

    /// The public half of an Ed25519 key.
    pub(super) fn x(&self) -> Result<Vec<u8>, SecretError> {
        public("x", self.x.as_ref())
    }

    /// Its type, for the text of an error.
    pub(super) fn kind(&self) -> String {
        let kty = quoted(&self.kty);
        match &self.crv {
            Some(crv) => format!("{kty} with {}", quoted(crv)),
            None => kty,
        }
    }

    pub(super) fn of_another_type(&self) -> SecretError {
        unsupported(format!(
            "the type of the JWK is {}; supported are `RSA`, `EC` with `P-256` or `P-384`, and `OKP` with `Ed25519`",
            self.kind()
        ))
    }
}

/// What a key says it is for (RFC 7517 sections 4.2 to 4.4).
#[derive(Default)]
pub(super) struct Limits {
    pub(super) alg: Option<String>,
    pub(super) usage: Option<String>,
    key_ops: Option<Vec<String>>,
}

impl Limits {
    pub(super) fn allow(&self, algorithm: Algorithm, operation: &str) -> Result<(), SecretError> {
        if let Some(alg) = &self.alg
            && Algorithm::named(alg) != Ok(algorithm)
        {
            return Err(unsupported(format!(
                "the key is for {} alone, as its `alg` says",
                quoted(alg)
            )));
        }
        if self.usage.as_deref() == Some("enc") {
            return Err(SecretError::Denied(
                "the key is for encryption and not for signatures, as its `use` says".to_owned(),
            ));
        }
        match &self.key_ops {
            Some(allowed) if !allowed.iter().any(|allowed| allowed == operation) => {
                Err(SecretError::Denied(format!(
                    "the `key_ops` of the key do not have `{operation}`"
                )))
            }
            _ => Ok(()),
        }
    }
}

fn public(name: &str, value: Option<&String>) -> Result<Vec<u8>, SecretError> {
    let value = value.ok_or_else(|| unsupported(format!("the JWK lacks `{name}`")))?;
    let mut octets = decode(name, value)?;
    Ok(mem::take(&mut octets))
}

fn private(
    name: &str,
    value: Option<&Zeroizing<String>>,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let value = value.ok_or_else(|| {
        unsupported(match name {
            "d" => "the JWK is a public key: it lacks `d`".to_owned(),
            // RFC 7518 section 6.3.2 asks for all of them, and lets them be
            // left out; to compute them takes factoring with `d`.
            _ => format!("the JWK lacks `{name}`, which is needed beside `d`"),
        })
    })?;
    decode(name, value)
}

fn decode(name: &str, value: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    super::decode(&URL_SAFE_NO_PAD, value.as_bytes()).ok_or_else(|| {
        unsupported(format!(
            "`{name}` of the JWK is not base64url without padding"
        ))
    })
}

pub(super) fn encode(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

fn strip_zeros(number: &mut Vec<u8>) {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    number.drain(..zeros);
}

/// A JSON object with members in that order.
pub(super) fn write(members: &[(&str, &str)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{}", Value::from(*value)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// The thumbprint of a public key (RFC 7638), given the members that the key
/// must have, sorted by name.
pub(super) fn thumbprint(members: &[(&str, &str)]) -> String {
    encode(digest(&SHA256, write(members).as_bytes()).as_ref())
}
