//! The key file: random sealing keys beside what they seal, for their owner's
//! eyes alone.
//!
//! `DIR/tokenwell.key` is a JSON object: `format` is `tokenwell-key`, `id` and
//! `key` (32 bytes in base64) are the key, and `others` lists further ones: while
//! one key takes the place of another, and where several stores have their keys
//! in one directory. A key with `shared`, true, may be that of more than one
//! store, and so is not removed for any.

use std::ops::Not;
use std::path::{Path, PathBuf};
use std::{fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokenwell_core::platform::SealingKey;
use zeroize::Zeroizing;

use super::failed;
use crate::contract::SecretError;
use crate::files::{self, Durability};

/// What a key file says it is.
const FORMAT: &str = "tokenwell-key";

/// Its name.
pub(super) const FILE_NAME: &str = "tokenwell.key";

#[derive(Serialize, Deserialize)]
struct Content {
    format: String,
    #[serde(flatten)]
    first: StoredKey,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    id: String,
    key: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    shared: bool,
}

impl StoredKey {
    fn of(kept: &KeptKey) -> Self {
        Self {
            id: kept.key.id.clone(),
            key: Zeroizing::new(STANDARD.encode(kept.key.key)),
            shared: kept.is_shared,
        }
    }

    fn read(&self) -> Option<KeptKey> {
        let key = Zeroizing::new(STANDARD.decode(self.key.as_bytes()).ok()?);
        Some(KeptKey {
            key: SealingKey {
                id: self.id.clone(),
                key: key.as_slice().try_into().ok()?,
            },
            is_shared: self.shared,
        })
    }
}

/// A key of the file.
struct KeptKey {
    key: SealingKey,
    /// Whether more than one store may be sealed under it.
    is_shared: bool,
}

impl KeptKey {
    fn new(key: SealingKey) -> Self {
        Self {
            key,
            is_shared: false,
        }
    }
}

/// The key file of a directory.
#[derive(Clone)]
pub(super) struct KeyFile {
    directory: PathBuf,
}

impl KeyFile {
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    /// The keys, the one that seals first; none where there is no file.
    pub(super) fn read(&self) -> Result<Vec<SealingKey>, SecretError> {
        let kept = self.kept()?;
        Ok(kept.into_iter().map(|kept| kept.key).collect())
    }

    fn kept(&self) -> Result<Vec<KeptKey>, SecretError> {
        let path = self.path();
        let content = match fs::read(&path) {
            Ok(content) => Zeroizing::new(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("reading", &path, &error)),
        };
        if is_open_to_others(&path).map_err(|error| failed("reading", &path, &error))? {
            return Err(SecretError::Denied(format!(
                "{} can be read by others than its owner: `chmod 600` it",
                path.display()
            )));
        }
        let content: Option<Content> = serde_json::from_slice(&content).ok();
        content
            .filter(|content| content.format == FORMAT)
            .and_then(|content| {
                let keys = std::iter::once(&content.first).chain(&content.others);
                keys.map(StoredKey::read).collect()
            })
            .ok_or_else(|| {
                SecretError::Unavailable(format!("{} is not a whole key file", path.display()))
            })
    }

    /// The first key, which is made where there is none; and whether it was.
    pub(super) fn first_or_create(
        &self,
        new_key: impl FnOnce() -> Result<SealingKey, SecretError>,
    ) -> Result<(SealingKey, bool), SecretError> {
        if let Some(key) = self.read()?.into_iter().next() {
            return Ok((key, false));
        }
        self.change(|kept| {
            // Another process may have been quicker.
            if let Some(first) = kept.first() {
                return Ok((first.key.clone(), false));
            }
            let key = new_key()?;
            kept.push(KeptKey::new(key.clone()));
            Ok((key, true))
        })
    }

    /// Adds a key, which seals for no store yet.
    pub(super) fn add(&self, key: &SealingKey) -> Result<(), SecretError> {
        self.change(|kept| {
            kept.push(KeptKey::new(key.clone()));
            Ok(())
        })
    }

    /// Marks a key, where it is there, as one that another store may be sealed
    /// under as well.
    pub(super) fn share(&self, id: &str) -> Result<(), SecretError> {
        let has = |kept: &KeptKey| kept.key.id == id && !kept.is_shared;
        if !self.kept()?.iter().any(has) {
            return Ok(());
        }
        self.change(|kept| {
            for kept in kept.iter_mut().filter(|kept| has(kept)) {
                kept.is_shared = true;
            }
            Ok(())
        })
    }

    /// Removes those of the keys that are there, but for the shared ones, whose
    /// identifiers it gives. They go last: no store is to begin with one.
    pub(super) fn remove(&self, ids: &[String]) -> Result<Vec<String>, SecretError> {
        let is_one = |kept: &KeptKey| ids.contains(&kept.key.id);
        if !self.kept()?.iter().any(is_one) {
            return Ok(Vec::new());
        }
        self.change(|kept| {
            kept.retain(|kept| kept.is_shared || !is_one(kept));
            kept.sort_by_key(is_one);
            let shared = kept.iter().filter(|kept| is_one(kept));
            Ok(shared.map(|kept| kept.key.id.clone()).collect())
        })
    }

    /// Changes the keys; a file without any is removed.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<KeptKey>) -> Result<T, SecretError>,
    ) -> Result<T, SecretError> {
        let path = self.path();
        let locks = self.directory.join(".locks");
        let _lock = files::create_private_directory(&locks)
            .and_then(|()| files::lock(&locks.join(format!("{FILE_NAME}.lock"))))
            .map_err(|error| failed("locking", &path, &error))?;
        let mut keys = self.kept()?;
        let done = change(&mut keys)?;
        let written = match keys.split_first() {
            None => files::remove_if_there(&path),
            Some((first, others)) => {
                let content = Content {
                    format: FORMAT.to_owned(),
                    first: StoredKey::of(first),
                    others: others.iter().map(StoredKey::of).collect(),
                };
                serde_json::to_vec(&content)
                    .map_err(io::Error::other)
                    .and_then(|json| {
                        let mut json = Zeroizing::new(json);
                        json.push(b'\n');
                        files::replace(&path, &json, Durability::Durable)
                    })
            }
        };
        written.map_err(|error| failed("writing", &path, &error))?;
        Ok(done)
    }
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> io::Result<bool> {
    Ok(false)
}
