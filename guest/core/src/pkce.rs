//! Proof Key for Code Exchange (RFC 7636), with S256 alone (RFC 9700 section
//! 2.1.1).

use crate::base64::base64url;
use crate::platform::Random;
use crate::secret::{SecretString, hex};
use sha2::{Digest, Sha256};

/// 256 random bits as 43 characters: fit for a code verifier (RFC 7636 section
/// 4.1), a `state` (RFC 6749 section 10.10) and a `nonce`.
pub fn random_token(random: &impl Random) -> SecretString {
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    let token = SecretString::new(base64url(&bytes));
    zeroize::Zeroize::zeroize(&mut bytes);
    token
}

/// The `code_challenge` of a verifier by the method S256 (RFC 7636 section 4.2).
pub fn s256_challenge(verifier: &SecretString) -> String {
    base64url(&Sha256::digest(verifier.reveal().as_bytes()))
}

/// The same hash in hexadecimal digits, for a server that wants it so.
pub fn hex_challenge(verifier: &SecretString) -> String {
    hex(&Sha256::digest(verifier.reveal().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows: RFC 7636.
    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        let verifier = SecretString::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let challenge = s256_challenge(&verifier);
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_random_token_is_43_characters_that_need_no_encoding() {
        struct Counting(std::cell::Cell<u8>);
        impl Random for Counting {
            fn fill(&self, bytes: &mut [u8]) {
                for byte in bytes {
                    *byte = self.0.replace(self.0.get().wrapping_add(37));
                }
            }
        }
        let random = Counting(std::cell::Cell::new(0));
        let (first, second) = (random_token(&random), random_token(&random));
        assert_eq!(first.reveal().len(), 43);
        assert!(
            first
                .reveal()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert_ne!(first, second);
    }
}
