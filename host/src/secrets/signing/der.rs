//! As much of DER (X.690) as private keys are written in.

/// rsaEncryption (RFC 8017).
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];

/// id-ecPublicKey (RFC 5480).
pub(super) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// id-Ed25519 (RFC 8410).
pub(super) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// secp256r1 (RFC 5480).
pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// secp384r1 (RFC 5480).
pub(super) const P384: &[u8] = &[0x2b, 0x81, 0x04, 0, 0x22];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;

/// What a key type that is not supported is called.
pub(super) fn key_type(identifier: &[u8]) -> &'static str {
    match identifier {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10] => {
            "an RSA key that is for PSS alone (one for all of RSA does PS256 as well)"
        }
        [0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1] => "a DSA key",
        [0x2b, 0x65, 0x6e] => "an X25519 key, which cannot sign",
        [0x2b, 0x65, 0x6f] => "an X448 key, which cannot sign",
        [0x2b, 0x65, 0x71] => "an Ed448 key",
        _ => "a key of an unknown type",
    }
}

/// What a curve that is not supported is called.
pub(super) fn curve(identifier: &[u8]) -> &'static str {
    match identifier {
        [0x2b, 0x81, 0x04, 0, 0x23] => "P-521",
        [0x2b, 0x81, 0x04, 0, 0x0a] => "secp256k1",
        _ => "an unknown curve",
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next value where it has that tag; else it stays.
    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (length, content) = match *self.0.strip_prefix(&[tag])? {
            [length, ref rest @ ..] if length < 0x80 => (usize::from(length), rest),
            [0x81, length, ref rest @ ..] => (usize::from(length), rest),
            // No key here is longer than two octets say.
            [0x82, high, low, ref rest @ ..] => {
                (usize::from(u16::from_be_bytes([high, low])), rest)
            }
            _ => return None,
        };
        let (content, rest) = content.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// A number that is not negative, without leading zeros.
    fn unsigned(&mut self) -> Option<&'a [u8]> {
        match self.next(INTEGER)? {
            [0, rest @ ..] if !rest.is_empty() => Some(rest),
            // The first bit is the sign.
            number if number.first()? & 0x80 == 0 => Some(number),
            _ => None,
        }
    }

    fn bit_string(&mut self) -> Option<&'a [u8]> {
        match self.next(BIT_STRING)? {
            // No bit of the last octet is unused.
            [0, octets @ ..] => Some(octets),
            _ => None,
        }
    }
}

/// The content of the one sequence that the octets are.
fn sequence(octets: &[u8]) -> Option<Reader<'_>> {
    let mut outer = Reader(octets);
    let content = outer.next(SEQUENCE)?;
    outer.0.is_empty().then_some(Reader(content))
}

/// The `PrivateKeyInfo` of PKCS#8 (RFC 5208), or the `OneAsymmetricKey` that
/// follows it (RFC 5958).
pub(super) struct PrivateKeyInfo<'a> {
    pub(super) algorithm: &'a [u8],
    /// What names the curve of an EC key.
    pub(super) curve: Option<&'a [u8]>,
    pub(super) key: &'a [u8],
}

impl<'a> PrivateKeyInfo<'a> {
    pub(super) fn read(octets: &'a [u8]) -> Option<Self> {
        let mut info = sequence(octets)?;
        let [0 | 1] = info.unsigned()? else {
            return None;
        };
        let mut algorithm = Reader(info.next(SEQUENCE)?);
        // Attributes and a public key may follow, which are not needed.
        Some(Self {
            algorithm: algorithm.next(OBJECT_IDENTIFIER)?,
            curve: algorithm.next(OBJECT_IDENTIFIER),
            key: info.next(OCTET_STRING)?,
        })
    }
}

/// The version and the numbers of an `RSAPrivateKey` (RFC 8017 appendix A.1.2).
pub(super) fn rsa_private_key(octets: &[u8]) -> Option<(&[u8], [&[u8]; 8])> {
    let mut key = sequence(octets)?;
    let version = key.unsigned()?;
    let mut numbers: [&[u8]; 8] = [&[]; 8];
    for number in &mut numbers {
        *number = key.unsigned()?;
    }
    Some((version, numbers))
}

/// An `ECPrivateKey` (RFC 5915).
pub(super) struct EcPrivateKey<'a> {
    pub(super) private: &'a [u8],
    pub(super) curve: Option<&'a [u8]>,
    pub(super) public: Option<&'a [u8]>,
}

pub(super) fn ec_private_key(octets: &[u8]) -> Option<EcPrivateKey<'_>> {
    let mut key = sequence(octets)?;
    let [1] = key.unsigned()? else {
        return None;
    };
    let private = key.next(OCTET_STRING)?;
    let curve = key
        .next(CONTEXT_0)
        .and_then(|parameters| Reader(parameters).next(OBJECT_IDENTIFIER));
    let public = match key.next(CONTEXT_1) {
        Some(public) => Some(Reader(public).bit_string()?),
        None => None,
    };
    Some(EcPrivateKey {
        private,
        curve,
        public,
    })
}
