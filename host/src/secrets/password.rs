//! A sealing key from a master password, by Argon2id (RFC 9106).
//!
//! The identifier of such a key says how it is made, so that whoever knows the
//! password can open a record wherever it was sealed:
//! `argon2id$m=65536,t=3,p=4$SALT$CHECK`. The memory is in KiB; the salt and the
//! check are base64url without padding; the version is 19. The check is the
//! first four bytes of the SHA-256 of `tokenwell key check` and the key, and
//! tells a wrong password from a damaged record. It gives an attacker nothing
//! that the record's own tag does not.

use std::io;
use std::sync::{Arc, OnceLock};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokenwell_core::platform::SealingKey;
use zeroize::Zeroizing;

use crate::contract::SecretError;

/// What the identifiers begin with.
const SCHEME: &str = "argon2id";

/// What keys are made with: RFC 9106 section 4, the second recommended option.
const MEMORY: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// The least that a key may be made with, in KiB and passes: a store that names
/// less would have new records sealed so that the password can be guessed.
const LEAST: (u32, u32) = (19 * 1024, 2);

/// The most that is believed of a stored record, whose writer may be anybody.
const MOST: (u32, u32, u32) = (1024 * 1024, 16, 16);

const SALT_LENGTH: usize = 16;

type Prompt = dyn Fn() -> io::Result<String> + Send + Sync;

/// The master password: at hand, to be asked for, or none. Clones share what was
/// asked for.
#[derive(Clone, Default)]
pub struct MasterPassword {
    given: Option<Arc<Zeroizing<String>>>,
    prompt: Option<Arc<Prompt>>,
    asked: Arc<OnceLock<Zeroizing<String>>>,
}

impl MasterPassword {
    /// This one. Where a store has no key yet, it is sealed under it.
    pub fn given(password: String) -> Self {
        Self {
            given: Some(Arc::new(Zeroizing::new(password))),
            ..Self::default()
        }
    }

    /// One that is asked for, once, when what is stored is found to need it.
    /// Nobody is asked for a password that was never set.
    pub fn prompt(ask: impl Fn() -> io::Result<String> + Send + Sync + 'static) -> Self {
        Self {
            prompt: Some(Arc::new(ask)),
            ..Self::default()
        }
    }

    pub(super) fn is_given(&self) -> bool {
        self.given.is_some()
    }

    fn reveal(&self) -> Result<&str, SecretError> {
        if let Some(password) = &self.given {
            return Ok(password);
        }
        if let Some(password) = self.asked.get() {
            return Ok(password);
        }
        let Some(prompt) = &self.prompt else {
            return Err(SecretError::NotFound(
                "what is stored is sealed under a master password, and none was given".to_owned(),
            ));
        };
        let password = prompt().map_err(|error| {
            SecretError::NotFound(format!(
                "what is stored is sealed under a master password, which cannot be asked for: {error}"
            ))
        })?;
        Ok(self.asked.get_or_init(|| Zeroizing::new(password)))
    }

    /// A new key of this password, under a salt of its own. It takes a fraction
    /// of a second and 64 MiB.
    pub(super) fn new_key(&self) -> Result<SealingKey, SecretError> {
        let mut salt = [0; SALT_LENGTH];
        getrandom::fill(&mut salt).map_err(|error| SecretError::Unavailable(error.to_string()))?;
        let made = Made {
            memory: MEMORY,
            passes: PASSES,
            lanes: LANES,
            salt: salt.to_vec(),
        };
        let password = self.reveal()?;
        if password.is_empty() {
            return Err(SecretError::NotFound(
                "the master password is empty".to_owned(),
            ));
        }
        let key = made.derive(password)?;
        Ok(SealingKey {
            id: made.identifier(&check(&key)),
            key: *key,
        })
    }

    /// The key of that identifier.
    pub(super) fn key(&self, id: &str, use_: Use) -> Result<SealingKey, SecretError> {
        let (made, expected) = Made::parse(id).ok_or_else(|| {
            SecretError::Unavailable(format!("{id} does not say how its key is made"))
        })?;
        if use_ == Use::Seal && (made.memory, made.passes) < LEAST {
            return Err(SecretError::Denied(format!(
                "the store's key is made with less than is safe: {} KiB and {} passes",
                made.memory, made.passes
            )));
        }
        let key = made.derive(self.reveal()?)?;
        if check(&key) != expected {
            return Err(SecretError::NotFound(
                "the master password is not the one that this was sealed with".to_owned(),
            ));
        }
        Ok(SealingKey {
            id: id.to_owned(),
            key: *key,
        })
    }
}

/// What a key is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Seal,
    Open,
}

/// Whether the identifier is that of a key from a password.
pub(super) fn is_password_key(id: &str) -> bool {
    id.split('$').next() == Some(SCHEME)
}

/// How a key is made.
#[derive(Debug, PartialEq)]
struct Made {
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
}

impl Made {
    fn identifier(&self, check: &[u8; 4]) -> String {
        format!(
            "{SCHEME}$m={},t={},p={}${}${}",
            self.memory,
            self.passes,
            self.lanes,
            URL_SAFE_NO_PAD.encode(&self.salt),
            URL_SAFE_NO_PAD.encode(check)
        )
    }

    /// Reads an identifier; gives the check too.
    fn parse(id: &str) -> Option<(Self, [u8; 4])> {
        let mut parts = id.split('$');
        let (scheme, numbers, salt, check) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let mut numbers = numbers.split(',');
        let mut number = |name: &str, most: u32| {
            let text = numbers.next()?.strip_prefix(name)?.strip_prefix('=')?;
            let number = text.parse().ok()?;
            (1..=most).contains(&number).then_some(number)
        };
        let made = Self {
            memory: number("m", MOST.0)?,
            passes: number("t", MOST.1)?,
            lanes: number("p", MOST.2)?,
            salt: URL_SAFE_NO_PAD.decode(salt).ok()?,
        };
        let check = URL_SAFE_NO_PAD.decode(check).ok()?.try_into().ok()?;
        let is_whole = scheme == SCHEME && parts.next().is_none() && numbers.next().is_none();
        is_whole.then_some((made, check))
    }

    fn derive(&self, password: &str) -> Result<Zeroizing<[u8; 32]>, SecretError> {
        let failed =
            |error: argon2::Error| SecretError::Unavailable(format!("deriving the key: {error}"));
        let params = Params::new(self.memory, self.passes, self.lanes, Some(32)).map_err(failed)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &self.salt, key.as_mut())
            .map_err(failed)?;
        Ok(key)
    }
}

fn check(key: &[u8; 32]) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(b"tokenwell key check")
        .chain_update(key)
        .finalize();
    let mut check = [0; 4];
    check.copy_from_slice(&hash[..4]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(salt: &[u8]) -> Made {
        Made {
            memory: 32,
            passes: 3,
            lanes: 4,
            salt: salt.to_vec(),
        }
    }

    #[test]
    fn the_derivation_is_argon2id_of_version_19() {
        // By another implementation, Python's argon2-cffi: hash_secret_raw of
        // the same, in its order 3, 32, 4, 32, Type.ID.
        let key = small(b"saltsaltsaltsalt").derive("password").unwrap();
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "2e8465cbe35266512d9c28cfe679a1638c4540995ab9a0826d6a0c3748c7187c"
        );
    }

    #[test]
    fn an_identifier_says_how_its_key_is_made() {
        let id = small(&[1; 16]).identifier(&[1, 2, 3, 4]);
        assert_eq!(id, "argon2id$m=32,t=3,p=4$AQEBAQEBAQEBAQEBAQEBAQ$AQIDBA");
        assert_eq!(Made::parse(&id), Some((small(&[1; 16]), [1, 2, 3, 4])));
        assert!(is_password_key(&id));
    }

    #[test]
    fn what_asks_for_too_much_or_is_malformed_is_no_identifier() {
        for id in [
            "",
            "0badcafe",
            "argon2id",
            "argon2id$m=32,t=3,p=4$AQEB",
            "argon2id$m=4294967295,t=3,p=4$AQEBAQEBAQE$AQIDBA",
            "argon2id$m=32,t=1000,p=4$AQEBAQEBAQE$AQIDBA",
            "argon2id$m=32,t=3,p=0$AQEBAQEBAQE$AQIDBA",
            "argon2id$m=32,t=3,p=4,x=1$AQEBAQEBAQE$AQIDBA",
            "argon2id$t=3,m=32,p=4$AQEBAQEBAQE$AQIDBA",
            "argon2id$m=32,t=3,p=4$AQEBAQEBAQE$AQID",
            "argon2id$m=32,t=3,p=4$AQEBAQEBAQE$AQIDBA$",
            "argon2i$m=32,t=3,p=4$AQEBAQEBAQE$AQIDBA",
        ] {
            assert_eq!(Made::parse(id), None, "{id}");
        }
    }

    #[test]
    fn a_wrong_password_is_told_from_damage() {
        let made = small(&[7; 16]);
        let id = made.identifier(&check(&made.derive("right").unwrap()));
        let right = MasterPassword::given("right".to_owned());
        assert!(right.key(&id, Use::Open).is_ok());
        let wrong = MasterPassword::given("wrong".to_owned());
        let Err(SecretError::NotFound(text)) = wrong.key(&id, Use::Open) else {
            panic!("it fits");
        };
        assert!(text.contains("password"), "{text}");
        assert!(!text.contains("wrong") && !text.contains("right"), "{text}");
    }

    #[test]
    fn nothing_is_sealed_under_a_key_that_is_cheap_to_guess() {
        let made = small(&[7; 16]);
        let id = made.identifier(&check(&made.derive("right").unwrap()));
        let password = MasterPassword::given("right".to_owned());
        let refused = password.key(&id, Use::Seal);
        assert!(
            matches!(refused, Err(SecretError::Denied(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn two_keys_of_one_password_differ() {
        let password = MasterPassword::given("same".to_owned());
        let (one, other) = (password.new_key().unwrap(), password.new_key().unwrap());
        assert_ne!(one.id, other.id);
        assert_ne!(one.key, other.key);
    }

    #[test]
    fn a_password_is_asked_for_once_and_only_when_needed() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let password = MasterPassword::prompt(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok("typed".to_owned())
        });
        assert!(!password.is_given());
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        let made = small(&[7; 16]);
        let id = made.identifier(&check(&made.derive("typed").unwrap()));
        for _ in 0..2 {
            assert!(password.clone().key(&id, Use::Open).is_ok());
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
