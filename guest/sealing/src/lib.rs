//! ChaCha20-Poly1305 (RFC 8439), in a crate of its own: the cipher is generic, so
//! that its code is made where it is used, and as fast as that crate is compiled.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};

/// The length of a key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// The length of a nonce, in bytes. None may serve twice under one key.
pub const NONCE_LENGTH: usize = 12;

/// The ciphertext, with its tag at the end; `None` for a text of 256 GiB.
pub fn encrypt(
    key: &[u8; KEY_LENGTH],
    nonce: &[u8; NONCE_LENGTH],
    associated_data: &[u8],
    plain: &[u8],
) -> Option<Vec<u8>> {
    let payload = Payload {
        msg: plain,
        aad: associated_data,
    };
    cipher(key).encrypt(&Nonce::from(*nonce), payload).ok()
}

/// The text of a ciphertext; `None` where it, the associated data or the nonce is
/// not what was encrypted under the key.
pub fn decrypt(
    key: &[u8; KEY_LENGTH],
    nonce: &[u8; NONCE_LENGTH],
    associated_data: &[u8],
    ciphertext: &[u8],
) -> Option<Vec<u8>> {
    let payload = Payload {
        msg: ciphertext,
        aad: associated_data,
    };
    cipher(key).decrypt(&Nonce::from(*nonce), payload).ok()
}

fn cipher(key: &[u8; KEY_LENGTH]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&Key::from(*key))
}
