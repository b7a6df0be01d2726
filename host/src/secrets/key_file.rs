//! The key file: random sealing keys beside what they seal, for their owner's
//! eyes alone.
//!
//! `DIR/tokenwell.key` is a JSON object: `format` is `tokenwell-key`, `id` and
//! `key` (32 bytes in base64) are the key, and `others` lists further ones while
//! one key takes the place of another.

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
}

impl StoredKey {
    fn of(key: &SealingKey) -> Self {
        Self {
            id: key.id.clone(),
            key: Zeroizing::new(STANDARD.encode(key.key)),
        }
    }

    fn read(&self) -> Option<SealingKey> {
        let key = Zeroizing::new(STANDARD.decode(self.key.as_bytes()).ok()?);
        Some(SealingKey {
            id: self.id.clone(),
            key: key.as_slice().try_into().ok()?,
        })
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

    /// The keys, a first one being made where there is none.
    pub(super) fn read_or_create(
        &self,
        new_key: impl FnOnce() -> Result<SealingKey, SecretError>,
    ) -> Result<Vec<SealingKey>, SecretError> {
        match self.read()? {
            keys if keys.is_empty() => self.change(|keys| {
                // Another process may have been quicker.
                if keys.is_empty() {
                    keys.push(new_key()?);
                }
                Ok(())
            }),
            keys => Ok(keys),
        }
    }

    /// Changes the keys; a file without any is removed.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut Vec<SealingKey>) -> Result<(), SecretError>,
    ) -> Result<Vec<SealingKey>, SecretError> {
        let path = self.path();
        let locks = self.directory.join(".locks");
        let _lock = files::create_private_directory(&locks)
            .and_then(|()| files::lock(&locks.join(format!("{FILE_NAME}.lock"))))
            .map_err(|error| failed("locking", &path, &error))?;
        let mut keys = self.read()?;
        change(&mut keys)?;
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
        Ok(keys)
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
