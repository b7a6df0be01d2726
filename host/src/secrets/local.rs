use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::{SealingKey, Secrets};
use crate::contract::SecretError;
use crate::files::{self, Durability};

/// What a key file says it is.
const FORMAT: &str = "tokenwell-key";

/// The name of the key file.
const KEY_FILE: &str = "tokenwell.key";

/// Secrets of this machine: `env:NAME` is an environment variable, `file:PATH`
/// a file without the line end at its close (a relative path is relative to the
/// directory). The sealing key is in `tokenwell.key` in the directory, made of
/// 32 random bytes when first needed, readable by its owner only.
pub struct LocalSecrets {
    directory: Option<Arc<Path>>,
    key: OnceCell<SealingKey>,
}

impl LocalSecrets {
    /// Secrets whose sealing key is kept in that directory.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: Some(directory.into().into()),
            key: OnceCell::new(),
        }
    }

    /// Secrets whose sealing key is gone when this value is; `file:PATH` is
    /// relative to the working directory.
    pub fn in_memory() -> Self {
        Self {
            directory: None,
            key: OnceCell::new(),
        }
    }
}

#[async_trait]
impl Secrets for LocalSecrets {
    async fn resolve(&self, reference: &str) -> Result<String, SecretError> {
        match reference.split_once(':') {
            Some(("env", name)) => environment_variable(name),
            Some(("file", path)) => {
                let path = match &self.directory {
                    Some(directory) => directory.join(path),
                    None => PathBuf::from(path),
                };
                blocking(move || read_secret(&path)).await
            }
            Some((form @ ("keyring" | "sealed"), _)) => Err(SecretError::Unsupported(format!(
                "this host does not resolve `{form}:` references yet"
            ))),
            _ => Err(SecretError::Unsupported(
                "a reference is `env:NAME` or `file:PATH`".to_owned(),
            )),
        }
    }

    async fn sealing_keys(&self) -> Result<Vec<SealingKey>, SecretError> {
        let key = self.key.get_or_try_init(|| async {
            match self.directory.clone() {
                Some(directory) => blocking(move || key_in(&directory)).await,
                None => new_key(),
            }
        });
        Ok(vec![key.await?.clone()])
    }

    async fn sign(&self, _: &str, _: &str, _: &[u8]) -> Result<Vec<u8>, SecretError> {
        Err(no_signing())
    }

    async fn public_key(&self, _: &str) -> Result<String, SecretError> {
        Err(no_signing())
    }

    async fn verify(&self, _: &str, _: &str, _: &[u8], _: &[u8]) -> Result<bool, SecretError> {
        Err(no_signing())
    }
}

fn no_signing() -> SecretError {
    SecretError::Unsupported("this host does not sign or verify yet".to_owned())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SecretError> + Send + 'static,
) -> Result<T, SecretError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SecretError::Unavailable(error.to_string())),
    }
}

fn environment_variable(name: &str) -> Result<String, SecretError> {
    // Such a name makes the standard library panic or never match.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(SecretError::NotFound(format!(
            "`{name}` is no name of an environment variable"
        )));
    }
    env::var(name).map_err(|error| match error {
        env::VarError::NotPresent => {
            SecretError::NotFound(format!("the environment variable {name} is not set"))
        }
        // The error's own text would show the value.
        env::VarError::NotUnicode(_) => {
            SecretError::Unavailable(format!("the environment variable {name} is not Unicode"))
        }
    })
}

fn read_secret(path: &Path) -> Result<String, SecretError> {
    let mut secret = fs::read_to_string(path).map_err(|error| failed("reading", path, &error))?;
    if secret.ends_with('\n') {
        secret.pop();
        if secret.ends_with('\r') {
            secret.pop();
        }
    }
    Ok(secret)
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    format: String,
    id: String,
    key: String,
}

/// The key of a directory, made if there is none.
fn key_in(directory: &Path) -> Result<SealingKey, SecretError> {
    let path = directory.join(KEY_FILE);
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    let locks = directory.join(".locks");
    let _lock = files::create_private_directory(&locks)
        .and_then(|()| files::lock(&locks.join(format!("{KEY_FILE}.lock"))))
        .map_err(|error| failed("locking", &path, &error))?;
    // Another process may have been quicker.
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    let key = new_key()?;
    let file = KeyFile {
        format: FORMAT.to_owned(),
        id: key.id.clone(),
        key: STANDARD.encode(key.key),
    };
    serde_json::to_vec(&file)
        .map_err(io::Error::other)
        .and_then(|mut json| {
            json.push(b'\n');
            files::replace(&path, &json, Durability::Durable)
        })
        .map_err(|error| failed("writing", &path, &error))?;
    Ok(key)
}

fn read_key(path: &Path) -> Result<Option<SealingKey>, SecretError> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("reading", path, &error)),
    };
    if is_open_to_others(path).map_err(|error| failed("reading", path, &error))? {
        return Err(SecretError::Denied(format!(
            "{} can be read by others than its owner: `chmod 600` it",
            path.display()
        )));
    }
    let damaged =
        || SecretError::Unavailable(format!("{} is not a whole key file", path.display()));
    let file: KeyFile = serde_json::from_slice(&content).map_err(|_| damaged())?;
    if file.format != FORMAT {
        return Err(damaged());
    }
    let key = STANDARD.decode(file.key).map_err(|_| damaged())?;
    Ok(Some(SealingKey {
        id: file.id,
        key: key.try_into().map_err(|_| damaged())?,
    }))
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

fn new_key() -> Result<SealingKey, SecretError> {
    let (mut id, mut key) = ([0; 4], [0; 32]);
    getrandom::fill(&mut id)
        .and_then(|()| getrandom::fill(&mut key))
        .map_err(|error| SecretError::Unavailable(error.to_string()))?;
    Ok(SealingKey {
        id: format!("{:08x}", u32::from_be_bytes(id)),
        key,
    })
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> SecretError {
    let text = format!("{doing} {} failed: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => SecretError::NotFound(text),
        io::ErrorKind::PermissionDenied => SecretError::Denied(text),
        _ => SecretError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn in_temporary() -> (TempDir, LocalSecrets) {
        let directory = TempDir::new().unwrap();
        let secrets = LocalSecrets::in_directory(directory.path());
        (directory, secrets)
    }

    #[tokio::test]
    async fn an_environment_variable_is_resolved() {
        let (_directory, secrets) = in_temporary();
        let path = env::var("PATH").unwrap();
        assert_eq!(secrets.resolve("env:PATH").await, Ok(path));
    }

    #[tokio::test]
    async fn an_environment_variable_that_is_not_set_is_not_found() {
        let (_directory, secrets) = in_temporary();
        for name in ["TOKENWELL_NO_SUCH_VARIABLE", "", "A=B", "A\0B"] {
            let resolved = secrets.resolve(&format!("env:{name}")).await;
            assert!(
                matches!(resolved, Err(SecretError::NotFound(_))),
                "{resolved:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_file_is_resolved_without_its_last_line_end() {
        let (directory, secrets) = in_temporary();
        for (content, secret) in [
            ("s", "s"),
            ("s\n", "s"),
            ("s\r\n", "s"),
            ("s\n\n", "s\n"),
            ("", ""),
        ] {
            fs::write(directory.path().join("secret"), content).unwrap();
            assert_eq!(secrets.resolve("file:secret").await, Ok(secret.to_owned()));
        }
    }

    #[tokio::test]
    async fn an_absolute_path_is_taken_as_it_is() {
        let (_directory, secrets) = in_temporary();
        let elsewhere = TempDir::new().unwrap();
        let path = elsewhere.path().join("secret");
        fs::write(&path, "s\n").unwrap();
        let reference = format!("file:{}", path.display());
        assert_eq!(secrets.resolve(&reference).await, Ok("s".to_owned()));
    }

    #[tokio::test]
    async fn a_missing_file_is_not_found() {
        let (_directory, secrets) = in_temporary();
        let resolved = secrets.resolve("file:nothing").await;
        assert!(
            matches!(resolved, Err(SecretError::NotFound(_))),
            "{resolved:?}"
        );
    }

    #[tokio::test]
    async fn other_references_are_unsupported_and_not_repeated() {
        let (_directory, secrets) = in_temporary();
        for reference in [
            "keyring:hunter2",
            "sealed:hunter2",
            "vault:hunter2",
            "hunter2",
        ] {
            let Err(SecretError::Unsupported(text)) = secrets.resolve(reference).await else {
                panic!("{reference} is supported");
            };
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[tokio::test]
    async fn the_key_is_the_same_for_the_next_process() {
        let (directory, secrets) = in_temporary();
        let made = secrets.sealing_keys().await.unwrap();
        let read = LocalSecrets::in_directory(directory.path())
            .sealing_keys()
            .await;
        assert_eq!(read, Ok(made));
    }

    #[tokio::test]
    async fn every_directory_has_a_key_of_its_own() {
        let (_one, one) = in_temporary();
        let (_other, other) = in_temporary();
        let (one, other) = (
            one.sealing_keys().await.unwrap(),
            other.sealing_keys().await.unwrap(),
        );
        assert_ne!(one[0].key, other[0].key);
        assert_ne!(one[0].id, other[0].id);
    }

    #[tokio::test]
    async fn hosts_that_make_the_key_at_once_end_with_one() {
        let directory = TempDir::new().unwrap();
        let mut hosts = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let secrets = LocalSecrets::in_directory(directory.path());
            hosts.spawn(async move { secrets.sealing_keys().await.unwrap() });
        }
        let mut keys = hosts.join_all().await;
        keys.dedup();
        assert_eq!(keys.len(), 1);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_key_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;

        let (directory, secrets) = in_temporary();
        secrets.sealing_keys().await.unwrap();
        let path = directory.path().join(KEY_FILE);
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_key_file_that_others_can_read_is_denied() {
        use std::os::unix::fs::PermissionsExt;

        let (directory, secrets) = in_temporary();
        secrets.sealing_keys().await.unwrap();
        let path = directory.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let keys = LocalSecrets::in_directory(directory.path())
            .sealing_keys()
            .await;
        assert!(matches!(keys, Err(SecretError::Denied(_))), "{keys:?}");
    }

    #[tokio::test]
    async fn a_damaged_key_file_is_not_replaced() {
        let (directory, secrets) = in_temporary();
        let path = directory.path().join(KEY_FILE);
        files::replace(&path, b"{\"format\":\"tok", Durability::Volatile).unwrap();
        let keys = secrets.sealing_keys().await;
        assert!(matches!(keys, Err(SecretError::Unavailable(_))), "{keys:?}");
        assert_eq!(fs::read(&path).unwrap(), b"{\"format\":\"tok");
    }

    #[tokio::test]
    async fn debug_does_not_show_a_key() {
        let (_directory, secrets) = in_temporary();
        let keys = secrets.sealing_keys().await.unwrap();
        let shown = format!("{keys:?}");
        assert!(shown.contains(&keys[0].id), "{shown}");
        assert!(!shown.contains(&format!("{:?}", keys[0].key)), "{shown}");
    }
}
