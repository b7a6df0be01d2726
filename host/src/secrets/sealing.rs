//! The sealing keys: where they come from, and how one replaces another.
//!
//! # What is stored, for hosts in other languages
//! The entry `tokenwell.keys` of the token store, written when the store's first
//! key is made, is a JSON object in clear: `format` is `tokenwell-keys`,
//! `format_version` 1, `current` the identifier of the key that seals, `source`
//! where it is (`key-file`, `keyring` or `password`), and `previous` lists the
//! keys that it has replaced, each with its `id` and, in base64, `sealed`: its 32
//! bytes, sealed under the current key as a record is, for the store key
//! `tokenwell.keys/ID`. So whoever has the current key opens whatever was ever
//! sealed here, and a record under an earlier key is sealed anew when next
//! written. A store without the entry is sealed under the key file beside it,
//! and marks the key that it finds there as `shared`: it may be another store's.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokenwell_core::platform::{Random, SealingKey};
use tokenwell_core::seal as format;
use tokio::sync::Mutex;

use super::key_file::KeyFile;
use super::password::{self, MasterPassword, Use};
use super::{blocking, from_store_error, keyring};
use crate::contract::{Entry, Loaded, SecretError, Swapped};
use crate::store::TokenStore;

/// The entry that says which key seals the store.
const KEYS_ENTRY: &str = "tokenwell.keys";

const FORMAT: &str = "tokenwell-keys";

/// The one version of that format.
const FORMAT_VERSION: u64 = 1;

/// Where a sealing key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    /// In `tokenwell.key` in the directory, readable by its owner alone.
    KeyFile,
    /// In the operating system's keyring.
    Keyring,
    /// Nowhere: it is derived from a master password by Argon2id (RFC 9106).
    Password,
}

/// Is told when a store's first key has been made, and where it is.
pub(super) type Announce = Arc<dyn Fn(KeySource) + Send + Sync>;

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    format_version: u64,
    source: KeySource,
    current: String,
    previous: Vec<PreviousKey>,
}

#[derive(Serialize, Deserialize)]
struct PreviousKey {
    id: String,
    sealed: String,
}

/// The sealing keys of a store. Clones share what they know.
#[derive(Clone)]
pub(super) struct SealingKeys {
    /// `None`: the key lives as long as this does.
    directory: Option<Arc<Path>>,
    store: Arc<dyn TokenStore>,
    password: MasterPassword,
    announce: Option<Announce>,
    /// The keys that this process has, the current one first.
    known: Arc<Mutex<Vec<SealingKey>>>,
}

impl SealingKeys {
    pub(super) fn new(
        directory: Option<Arc<Path>>,
        store: Arc<dyn TokenStore>,
        password: MasterPassword,
        announce: Option<Announce>,
    ) -> Self {
        Self {
            directory,
            store,
            password,
            announce,
            known: Arc::default(),
        }
    }

    /// The keys: the first seals, all open. `needed` is one to open with.
    pub(super) async fn get(&self, needed: Option<&str>) -> Result<Vec<SealingKey>, SecretError> {
        let mut known = self.known.lock().await;
        let is_enough = match needed {
            None => !known.is_empty(),
            Some(id) => known.iter().any(|key| key.id == id),
        };
        if !is_enough {
            *known = self.look_up(&known, needed).await?;
        }
        Ok(known.clone())
    }

    async fn look_up(
        &self,
        known: &[SealingKey],
        needed: Option<&str>,
    ) -> Result<Vec<SealingKey>, SecretError> {
        let Some(directory) = &self.directory else {
            // What was sealed by another process, nobody here can open.
            return match known {
                [] => Ok(vec![random_key()?]),
                known => Ok(known.to_vec()),
            };
        };
        let mut keys = match (self.header().await?, needed) {
            (Some((header, _)), _) => self.keys_of(directory, known, &header, Use::Seal).await?,
            (None, None) => self.create(directory).await?,
            // To read what is there, nothing is made.
            (None, Some(_)) => {
                let file = KeyFile::in_directory(directory);
                blocking(move || file.read()).await?
            }
        };
        // A record that was sealed elsewhere with the same password.
        if let Some(id) = needed
            && password::is_password_key(id)
            && keys.iter().all(|key| key.id != id)
        {
            keys.push(self.derived(id, Use::Open).await?);
        }
        Ok(keys)
    }

    /// The current key of a store, and those before it.
    async fn keys_of(
        &self,
        directory: &Path,
        known: &[SealingKey],
        header: &Header,
        use_: Use,
    ) -> Result<Vec<SealingKey>, SecretError> {
        let id = header.current.clone();
        let at_hand = known.iter().find(|key| key.id == id).cloned();
        let current = match (at_hand, header.source) {
            (Some(key), _) => key,
            (None, KeySource::KeyFile) => {
                let file = KeyFile::in_directory(directory);
                blocking(move || in_key_file(&file, &id)).await?
            }
            (None, KeySource::Keyring) => blocking(move || in_keyring(&id)).await?,
            (None, KeySource::Password) => self.derived(&id, use_).await?,
        };
        let mut keys = vec![current];
        for previous in &header.previous {
            let key = open_previous(&keys[..1], previous);
            keys.push(key.ok_or_else(damaged)?);
        }
        Ok(keys)
    }

    async fn derived(&self, id: &str, use_: Use) -> Result<SealingKey, SecretError> {
        let (password, id) = (self.password.clone(), id.to_owned());
        blocking(move || password.key(&id, use_)).await
    }

    /// The first key of a store, unless somebody else is quicker.
    async fn create(&self, directory: &Path) -> Result<Vec<SealingKey>, SecretError> {
        let file = KeyFile::in_directory(directory);
        let first = if self.password.is_given() {
            let password = self.password.clone();
            FirstKey {
                source: KeySource::Password,
                key: blocking(move || password.new_key()).await?,
                is_found: false,
            }
        } else {
            let file = file.clone();
            blocking(move || first_key(&file)).await?
        };
        let FirstKey { source, key, .. } = first;
        let header = Header {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            source,
            current: key.id.clone(),
            previous: Vec::new(),
        };
        match self.write(&header, None).await? {
            Ok(()) => {
                if first.is_found {
                    let id = key.id.clone();
                    // Where the file cannot be changed, no key is removed from it
                    // either.
                    let _ = blocking(move || file.share(&id)).await;
                }
                if let Some(announce) = &self.announce {
                    announce(source);
                }
                Ok(vec![key])
            }
            Err(theirs) => {
                if source == KeySource::Keyring && theirs.current != key.id {
                    let name = keyring_name(&key.id);
                    blocking(move || keyring::delete(&name)).await?;
                }
                self.keys_of(directory, &[key], &theirs, Use::Seal).await
            }
        }
    }

    /// Where the current key is; `None` where the store has none yet.
    pub(super) async fn source(&self) -> Result<Option<KeySource>, SecretError> {
        if let Some((header, _)) = self.header().await? {
            return Ok(Some(header.source));
        }
        let Some(directory) = &self.directory else {
            return Ok(None);
        };
        let file = KeyFile::in_directory(directory);
        let keys = blocking(move || file.read()).await?;
        Ok((!keys.is_empty()).then_some(KeySource::KeyFile))
    }

    /// Puts a new key in place of the current one, which from then on only
    /// opens. Whatever instant it is interrupted at, either the old key is
    /// current still or the new one opens everything. Says where an earlier key
    /// is kept outside the store still, and why.
    pub(super) async fn replace(
        &self,
        source: KeySource,
        password: MasterPassword,
    ) -> Result<Vec<String>, SecretError> {
        let Some(directory) = &self.directory else {
            return Err(SecretError::Unsupported(
                "keys in memory are not replaced".to_owned(),
            ));
        };
        let mut known = self.known.lock().await;
        let header = self.header().await?;
        let file = KeyFile::in_directory(directory);
        let (old_keys, old_source) = match &header {
            // Whatever the current key is made with, it has to open.
            Some((header, _)) => (
                self.keys_of(directory, &known, header, Use::Open).await?,
                header.source,
            ),
            None => {
                let file = file.clone();
                let found = blocking(move || {
                    let keys = file.read()?;
                    // They may be another store's.
                    for key in &keys {
                        file.share(&key.id)?;
                    }
                    Ok(keys)
                });
                (found.await?, KeySource::KeyFile)
            }
        };
        let added = file.clone();
        // The new key is kept before anything says that it is current.
        let key = blocking(move || match source {
            KeySource::KeyFile => {
                let key = random_key()?;
                added.add(&key)?;
                Ok(key)
            }
            KeySource::Keyring => {
                let key = random_key()?;
                keyring::set(&keyring_name(&key.id), &key.key)?;
                Ok(key)
            }
            KeySource::Password => password.new_key(),
        })
        .await?;
        let mut previous = Vec::new();
        for old in &old_keys {
            previous.push(seal_previous(&key, old)?);
        }
        let new_header = Header {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            source,
            current: key.id.clone(),
            previous,
        };
        let version = header.as_ref().map(|(_, version)| *version);
        if self.write(&new_header, version).await?.is_err() {
            let added = vec![key.id.clone()];
            blocking(move || Ok(remove(&file, source, &added))).await?;
            return Err(SecretError::Unavailable(
                "another process has replaced the key at the same time".to_owned(),
            ));
        }
        // Those that the new key opens are needed outside the store no longer:
        // the last one, and those that an interrupted replacement has left.
        let replaced: Vec<_> = old_keys.iter().map(|old| old.id.clone()).collect();
        *known = std::iter::once(key).chain(old_keys).collect();
        blocking(move || Ok(remove(&file, old_source, &replaced))).await
    }

    async fn header(&self) -> Result<Option<(Header, u64)>, SecretError> {
        match self.store.load(KEYS_ENTRY, None).await {
            Ok(Loaded::Entry(entry)) => read_header(&entry).map(Some),
            Ok(Loaded::Absent | Loaded::Unchanged) => Ok(None),
            Err(error) => Err(from_store_error(error)),
        }
    }

    /// Writes the header; gives the one that is there where it is another than
    /// was expected.
    async fn write(
        &self,
        header: &Header,
        expected: Option<u64>,
    ) -> Result<Result<(), Header>, SecretError> {
        let json = serde_json::to_vec(header)
            .map_err(|error| SecretError::Unavailable(error.to_string()))?;
        let swapped = self
            .store
            .compare_and_swap(KEYS_ENTRY, expected, json, None);
        match swapped.await.map_err(from_store_error)? {
            Swapped::Stored(_) => Ok(Ok(())),
            Swapped::Stale(Some(entry)) => Ok(Err(read_header(&entry)?.0)),
            Swapped::Stale(None) | Swapped::Fenced => Err(damaged()),
        }
    }
}

fn read_header(entry: &Entry) -> Result<(Header, u64), SecretError> {
    let header: Header = serde_json::from_slice(&entry.value).map_err(|_| damaged())?;
    if header.format != FORMAT {
        return Err(damaged());
    }
    if header.format_version != FORMAT_VERSION {
        return Err(SecretError::Unavailable(format!(
            "the store's entry {KEYS_ENTRY} has format version {}; this version reads {FORMAT_VERSION}",
            header.format_version
        )));
    }
    Ok((header, entry.version))
}

fn damaged() -> SecretError {
    SecretError::Unavailable(format!("the store's entry {KEYS_ENTRY} is damaged"))
}

/// The key that a store begins with.
struct FirstKey {
    source: KeySource,
    key: SealingKey,
    /// Whether it was there before, and may be another store's.
    is_found: bool,
}

/// The first key of a store that nobody has set a password for: in the keyring
/// where there is one, else in the key file.
fn first_key(file: &KeyFile) -> Result<FirstKey, SecretError> {
    let has_file = !file.read()?.is_empty();
    if !has_file && keyring::is_likely() {
        let key = random_key()?;
        if keyring::set(&keyring_name(&key.id), &key.key).is_ok() {
            return Ok(FirstKey {
                source: KeySource::Keyring,
                key,
                is_found: false,
            });
        }
    }
    let (key, is_made) = file.first_or_create(random_key)?;
    Ok(FirstKey {
        source: KeySource::KeyFile,
        key,
        is_found: !is_made,
    })
}

/// Removes keys from wherever they are kept outside the store, the last of them
/// at `source`. Says where they are left, and why.
fn remove(file: &KeyFile, source: KeySource, ids: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    let path = file.path().display().to_string();
    match file.remove(ids) {
        Ok(shared) => left.extend(shared.into_iter().map(|id| {
            format!(
                "{path} has the earlier key {id} still: another store may be sealed under it; \
                 remove it where none is"
            )
        })),
        Err(error) => left.push(format!(
            "{path} may have an earlier key still: {}",
            text_of(error)
        )),
    }
    // Where no key was kept in a keyring, there need not be one.
    let is_wanted = source == KeySource::Keyring;
    if is_wanted || keyring::is_likely() {
        let ids = ids.iter().filter(|id| !password::is_password_key(id));
        let deleted = ids.map(|id| keyring::delete(&keyring_name(id)));
        if let Some(error) = deleted.filter_map(Result::err).next().filter(|_| is_wanted) {
            left.push(format!(
                "the keyring may have an earlier key still: {}",
                text_of(error)
            ));
        }
    }
    left
}

fn text_of(error: SecretError) -> String {
    match error {
        SecretError::NotFound(text)
        | SecretError::Denied(text)
        | SecretError::Unavailable(text)
        | SecretError::Unsupported(text) => text,
    }
}

fn in_key_file(file: &KeyFile, id: &str) -> Result<SealingKey, SecretError> {
    let keys = file.read()?;
    let has = match keys.first() {
        None => "is not there".to_owned(),
        Some(first) => format!("has {}", first.id),
    };
    keys.into_iter().find(|key| key.id == id).ok_or_else(|| {
        SecretError::NotFound(format!(
            "the store is sealed under the key {id}, and {} {has}; copy the key file that belongs to the store",
            file.path().display()
        ))
    })
}

fn in_keyring(id: &str) -> Result<SealingKey, SecretError> {
    let key = keyring::get(&keyring_name(id))?;
    Ok(SealingKey {
        id: id.to_owned(),
        key: key.as_slice().try_into().map_err(|_| {
            SecretError::Unavailable(format!("the key {id} in the keyring is not 32 bytes long"))
        })?,
    })
}

fn keyring_name(id: &str) -> String {
    format!("sealing-key-{id}")
}

/// A new random key.
fn random_key() -> Result<SealingKey, SecretError> {
    let (mut id, mut key) = ([0; 4], [0; 32]);
    getrandom::fill(&mut id)
        .and_then(|()| getrandom::fill(&mut key))
        .map_err(|error| SecretError::Unavailable(error.to_string()))?;
    Ok(SealingKey {
        id: format!("{:08x}", u32::from_be_bytes(id)),
        key,
    })
}

fn previous_name(id: &str) -> String {
    format!("{KEYS_ENTRY}/{id}")
}

fn seal_previous(current: &SealingKey, old: &SealingKey) -> Result<PreviousKey, SecretError> {
    Ok(PreviousKey {
        id: old.id.clone(),
        sealed: STANDARD.encode(seal(
            std::slice::from_ref(current),
            &previous_name(&old.id),
            &old.key,
        )?),
    })
}

fn open_previous(current: &[SealingKey], previous: &PreviousKey) -> Option<SealingKey> {
    let sealed = STANDARD.decode(&previous.sealed).ok()?;
    let key = format::open(current, &previous_name(&previous.id), &sealed).ok()?;
    Some(SealingKey {
        id: previous.id.clone(),
        key: key.as_slice().try_into().ok()?,
    })
}

/// Seals under the first of the keys, as the component does.
pub(super) fn seal(
    keys: &[SealingKey],
    store_key: &str,
    plain: &[u8],
) -> Result<Vec<u8>, SecretError> {
    let mut drawn = Drawn::default();
    getrandom::fill(&mut drawn.0).map_err(|error| SecretError::Unavailable(error.to_string()))?;
    format::seal(&drawn, keys, store_key, plain)
        .map_err(|error| SecretError::Unavailable(error.to_string()))
}

/// Random bytes drawn beforehand, where failing to draw any could be told. They
/// are as many as a nonce needs.
#[derive(Default)]
struct Drawn([u8; 12]);

impl Random for Drawn {
    fn fill(&self, bytes: &mut [u8]) {
        for (byte, drawn) in bytes.iter_mut().zip(self.0) {
            *byte = drawn;
        }
    }
}
