//! Values that must not be seen.

use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroize;

/// A password, token, code or verifier. It is wiped from memory when dropped
/// and prints as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretString(String);

impl SecretString {
    /// Takes the value in.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that sends or stores it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Eight hexadecimal digits of the value's SHA-256: enough to tell two
    /// tokens apart in a log, too little to learn anything of them.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes())[..4])
    }
}

impl Drop for SecretString {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl From<String> for SecretString {
    fn from(value: String) -> Self {
        Self(value)
    }
}

/// A server's text, made fit to be shown: bounded, without control characters,
/// and without the secrets that it may be repeating.
pub(crate) fn printable(text: &str, secrets: &[SecretString]) -> String {
    const LIMIT: usize = 500;
    /// What is shorter is no secret, and blanking it would blank everything.
    const SHORTEST: usize = 4;
    let mut shown = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.0.len() >= SHORTEST) {
        let encoded: String = form_urlencoded::byte_serialize(secret.0.as_bytes()).collect();
        for form in [secret.0.as_str(), encoded.as_str()] {
            if shown.contains(form) {
                shown = shown.replace(form, "***");
            }
        }
    }
    let is_long = shown.chars().nth(LIMIT).is_some();
    let characters = shown.chars().take(LIMIT);
    let mut shown: String = characters
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    if is_long {
        shown.push('…');
    }
    shown
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", SecretString::new("hunter2")), "***");
    }

    #[test]
    fn a_servers_text_is_bounded_printable_and_free_of_secrets() {
        let secrets = [SecretString::new("p:ss w%rd"), SecretString::new("abc")];
        let text = "no\u{1b}[31m p:ss w%rd, p%3Ass+w%25rd, abc";
        assert_eq!(printable(text, &secrets), "no [31m ***, ***, abc");
        assert_eq!(printable(&"é".repeat(600), &[]).chars().count(), 501);
    }

    #[test]
    fn a_fingerprint_is_the_start_of_the_sha_256() {
        // SHA-256("abc"), FIPS 180-2 appendix B.1.
        assert_eq!(SecretString::new("abc").fingerprint(), "ba7816bf");
    }
}
