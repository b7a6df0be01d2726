//! How records are kept from view: ChaCha20-Poly1305 (RFC 8439) under a key of
//! the host, with the store key as associated data, so that one connection's
//! record cannot be passed off as another's.
//!
//! A sealed record is the magic `TWS`, the format version 1, the length of the
//! key's identifier in one byte, the identifier, a nonce of 12 bytes, and the
//! ciphertext with its tag. Everything before the nonce is authenticated too.

use crate::error::{Error, Result, StorageFailureKind};
use crate::platform::{Random, SealingKey};
use tokenwell_sealing::{NONCE_LENGTH, decrypt, encrypt};
use zeroize::Zeroizing;

const MAGIC: &[u8; 3] = b"TWS";
const FORMAT: u8 = 1;

/// Seals a record for a store key under the first of the keys.
///
/// # Errors
/// Storage, where the host gives no key.
pub fn seal(
    random: &impl Random,
    keys: &[SealingKey],
    store_key: &str,
    plain: &[u8],
) -> Result<Vec<u8>> {
    let no_key = || {
        Error::storage(
            StorageFailureKind::WrongKey,
            "the host gives no sealing key",
        )
    };
    let key = keys.first().ok_or_else(no_key)?;
    let id_length = u8::try_from(key.id.len())
        .map_err(|_| Error::storage(StorageFailureKind::WrongKey, "the key's name is too long"))?;
    let mut sealed = Vec::with_capacity(plain.len() + key.id.len() + 64);
    sealed.extend_from_slice(MAGIC);
    sealed.push(FORMAT);
    sealed.push(id_length);
    sealed.extend_from_slice(key.id.as_bytes());
    let aad = associated_data(&sealed, store_key);
    let mut nonce = [0; NONCE_LENGTH];
    random.fill(&mut nonce);
    let ciphertext = encrypt(&key.key, &nonce, &aad, plain)
        .ok_or_else(|| Error::storage(StorageFailureKind::Corrupt, "the record is too large"))?;
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// The identifier of the key that a sealed record is sealed under; `None` where
/// it is not a sealed record of this version.
pub fn key_id(sealed: &[u8]) -> Option<&str> {
    let Parts { id, .. } = split(sealed).ok()?;
    std::str::from_utf8(id).ok()
}

/// Opens a sealed record.
///
/// # Errors
/// Storage: of a newer version, under a key that the host does not give, or
/// damaged.
pub fn open(keys: &[SealingKey], store_key: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let parts = split(sealed)?;
    let Some(key) = keys.iter().find(|key| key.id.as_bytes() == parts.id) else {
        return Err(Error::storage(
            StorageFailureKind::WrongKey,
            format!(
                "the record is sealed under the key {}, which the host does not give",
                String::from_utf8_lossy(parts.id)
            ),
        ));
    };
    let aad = associated_data(parts.header, store_key);
    let plain = decrypt(&key.key, parts.nonce, &aad, parts.ciphertext)
        .ok_or_else(|| corrupt("the record is damaged, or belongs to another connection"))?;
    Ok(Zeroizing::new(plain))
}

/// A sealed record in its parts.
struct Parts<'a> {
    /// All that comes before the nonce.
    header: &'a [u8],
    id: &'a [u8],
    nonce: &'a [u8; NONCE_LENGTH],
    ciphertext: &'a [u8],
}

fn split(sealed: &[u8]) -> Result<Parts<'_>> {
    let rest = sealed
        .strip_prefix(MAGIC)
        .ok_or_else(|| corrupt("the record is not a sealed one"))?;
    let truncated = || corrupt("the record is cut short");
    let (format, rest) = rest.split_first().ok_or_else(truncated)?;
    if *format > FORMAT {
        return Err(Error::storage(
            StorageFailureKind::NewerVersion,
            format!("the record has the format version {format}; this version reads {FORMAT}"),
        ));
    }
    let (id_length, rest) = rest.split_first().ok_or_else(truncated)?;
    let (id, rest) = rest
        .split_at_checked(usize::from(*id_length))
        .ok_or_else(truncated)?;
    let (nonce, ciphertext) = rest
        .split_first_chunk::<NONCE_LENGTH>()
        .ok_or_else(truncated)?;
    Ok(Parts {
        header: sealed.get(..MAGIC.len() + 2 + id.len()).unwrap_or(sealed),
        id,
        nonce,
        ciphertext,
    })
}

fn corrupt(what: &str) -> Box<Error> {
    Error::storage(StorageFailureKind::Corrupt, what)
}

fn associated_data(header: &[u8], store_key: &str) -> Vec<u8> {
    [header, store_key.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Unboxed as _;

    struct Fixed;
    impl Random for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn key(id: &str, byte: u8) -> SealingKey {
        SealingKey {
            id: id.to_owned(),
            key: [byte; 32],
        }
    }

    fn kind(result: Result<Zeroizing<Vec<u8>>>) -> StorageFailureKind {
        match result.unboxed() {
            Err(Error::Storage(failure)) => failure.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_sealed_opens_to_the_same() {
        let keys = [key("a", 1)];
        let sealed = seal(&Fixed, &keys, "crm.tokens", b"plain").expect("sealed");
        assert!(!sealed.windows(5).any(|window| window == b"plain"));
        let plain = open(&keys, "crm.tokens", &sealed).expect("opened");
        assert_eq!(plain.as_slice(), b"plain");
    }

    #[test]
    fn an_older_key_opens() {
        let sealed = seal(&Fixed, &[key("old", 1)], "k", b"x").expect("sealed");
        assert!(open(&[key("new", 2), key("old", 1)], "k", &sealed).is_ok());
    }

    #[test]
    fn a_sealed_record_tells_which_key_it_needs() {
        let sealed = seal(&Fixed, &[key("2026-11", 1)], "k", b"x").expect("sealed");
        assert_eq!(key_id(&sealed), Some("2026-11"));
        assert_eq!(key_id(&sealed[..8]), None);
        assert_eq!(key_id(b"{}"), None);
    }

    #[test]
    fn a_record_does_not_open_under_another_name() {
        let keys = [key("a", 1)];
        let sealed = seal(&Fixed, &keys, "crm.tokens", b"x").expect("sealed");
        assert_eq!(
            kind(open(&keys, "erp.tokens", &sealed)),
            StorageFailureKind::Corrupt
        );
    }

    #[test]
    fn a_key_that_is_not_given_is_named() {
        let sealed = seal(&Fixed, &[key("a", 1)], "k", b"x").expect("sealed");
        assert_eq!(
            kind(open(&[key("b", 1)], "k", &sealed)),
            StorageFailureKind::WrongKey
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let keys = [key("a", 1)];
        let sealed = seal(&Fixed, &keys, "k", b"plain text").expect("sealed");
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(open(&keys, "k", &flipped).is_err(), "bit in byte {at}");
            assert!(open(&keys, "k", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let keys = [key("a", 1)];
        let mut sealed = seal(&Fixed, &keys, "k", b"x").expect("sealed");
        sealed[3] = 2;
        assert_eq!(
            kind(open(&keys, "k", &sealed)),
            StorageFailureKind::NewerVersion
        );
    }
}
