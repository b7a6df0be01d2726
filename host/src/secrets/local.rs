use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs, io};

use async_trait::async_trait;
use tokenwell_core::error::{Error, StorageFailureKind};
use tokenwell_core::seal as format;
use zeroize::Zeroizing;

use super::sealing::{self, Announce, KeySource, SealingKeys};
use super::signing::{self, SigningKey};
use super::{MasterPassword, SealingKey, Secrets, blocking, failed, from_store_error, keyring};
use crate::contract::{Loaded, SecretError, Swapped};
use crate::store::{FileStore, MemoryStore, TokenStore};

/// Secrets of this machine.
///
/// | reference | is |
/// |---|---|
/// | `env:NAME` | an environment variable |
/// | `file:PATH` | a file without the line end at its close; a relative path is relative to the directory |
/// | `keyring:NAME` | the entry `NAME` of the service `tokenwell` in the operating system's keyring |
/// | `sealed:NAME` | kept in the token store under `NAME.secret`, sealed as tokens are |
///
/// A private key that signs is the text of a reference: PEM (PKCS #8, PKCS #1,
/// SEC 1), a JWK, of RSA, P-256, P-384 or Ed25519, or the file of a Google service
/// account.
///
/// The sealing key of a new store is derived from the master password where one
/// is given; else it is made at random and kept in the operating system's
/// keyring, or where there is none in `tokenwell.key` in the directory, readable
/// by its owner alone. Clones share the keys.
#[derive(Clone)]
pub struct LocalSecrets {
    directory: Option<Arc<Path>>,
    pub(super) store: Arc<dyn TokenStore>,
    password: MasterPassword,
    announce: Option<Announce>,
    pub(super) keys: SealingKeys,
}

impl LocalSecrets {
    /// Secrets whose sealing key belongs to that directory, and to the
    /// [`FileStore`] in it unless [`with_store`](Self::with_store) says
    /// otherwise.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let store = Arc::new(FileStore::new(&directory));
        Self::new(
            Some(directory.into()),
            store,
            MasterPassword::default(),
            None,
        )
    }

    /// Secrets whose sealing key is gone when this value is; `file:PATH` is
    /// relative to the working directory.
    pub fn in_memory() -> Self {
        let store = Arc::new(MemoryStore::new());
        Self::new(None, store, MasterPassword::default(), None)
    }

    /// With the store that the keys are for, and that sealed secrets are in: the
    /// one that the host has.
    #[must_use]
    pub fn with_store(self, store: Arc<dyn TokenStore>) -> Self {
        Self::new(self.directory, store, self.password, self.announce)
    }

    /// With a master password.
    #[must_use]
    pub fn with_password(self, password: MasterPassword) -> Self {
        Self::new(self.directory, self.store, password, self.announce)
    }

    /// With somebody to tell where the first key of a store is kept, when it has
    /// been made: losing it loses what it seals.
    #[must_use]
    pub fn announcing(self, announce: impl Fn(KeySource) + Send + Sync + 'static) -> Self {
        let announce: Announce = Arc::new(announce);
        Self::new(self.directory, self.store, self.password, Some(announce))
    }

    fn new(
        directory: Option<Arc<Path>>,
        store: Arc<dyn TokenStore>,
        password: MasterPassword,
        announce: Option<Announce>,
    ) -> Self {
        Self {
            keys: SealingKeys::new(
                directory.clone(),
                Arc::clone(&store),
                password.clone(),
                announce.clone(),
            ),
            directory,
            store,
            password,
            announce,
        }
    }

    /// Where the current sealing key is kept; `None` where the store has none
    /// yet.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    pub async fn key_source(&self) -> Result<Option<KeySource>, SecretError> {
        self.keys.source().await
    }

    /// Makes a new key the current one, kept there: a new random one, or one of
    /// that master password. What is sealed under earlier keys opens as before,
    /// and is sealed anew when next written. The earlier keys are removed from
    /// where they were kept; each text of the answer tells of one that is not,
    /// and why, such as that another store may be sealed under it.
    ///
    /// # Errors
    /// As [`SecretError`] has them; the key is the one that it was then.
    pub async fn replace_key(
        &self,
        source: KeySource,
        password: MasterPassword,
    ) -> Result<Vec<String>, SecretError> {
        self.keys.replace(source, password).await
    }

    /// Keeps a secret for `sealed:NAME`, in place of one that is there.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    pub async fn seal_secret(&self, name: &str, secret: &str) -> Result<(), SecretError> {
        let key = sealed_key(name)?;
        let keys = self.keys.get(None).await?;
        loop {
            let version = match self.store.load(&key, None).await {
                Ok(Loaded::Entry(entry)) => Some(entry.version),
                Ok(Loaded::Absent | Loaded::Unchanged) => None,
                Err(error) => return Err(from_store_error(error)),
            };
            let sealed = sealing::seal(&keys, &key, secret.as_bytes())?;
            let swapped = self.store.compare_and_swap(&key, version, sealed, None);
            // Somebody else may have written in between.
            if let Swapped::Stored(_) = swapped.await.map_err(from_store_error)? {
                return Ok(());
            }
        }
    }

    /// Forgets a sealed secret, and tells whether there was one.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    pub async fn forget_secret(&self, name: &str) -> Result<bool, SecretError> {
        let key = sealed_key(name)?;
        self.store.forget(&key).await.map_err(from_store_error)
    }

    /// Keeps a secret for `keyring:NAME` in the operating system's keyring, in
    /// place of one that is there.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    pub async fn keep_in_keyring(&self, name: &str, secret: &str) -> Result<(), SecretError> {
        let (name, secret) = (name.to_owned(), Zeroizing::new(secret.to_owned()));
        blocking(move || keyring::set(&name, secret.as_bytes())).await
    }

    /// Deletes a secret from the operating system's keyring, and tells whether
    /// there was one.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    pub async fn forget_in_keyring(&self, name: &str) -> Result<bool, SecretError> {
        let name = name.to_owned();
        blocking(move || keyring::delete(&name)).await
    }

    /// Looks for what a reference names, as far as that goes without opening
    /// anything: nobody is asked for a password, and the keyring is left alone.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    pub async fn look_for(&self, reference: &str) -> Result<(), SecretError> {
        match reference.split_once(':') {
            Some(("keyring", _)) => Ok(()),
            Some(("sealed", name)) => match self.store.load(&sealed_key(name)?, None).await {
                Ok(Loaded::Entry(_)) => Ok(()),
                Ok(Loaded::Absent | Loaded::Unchanged) => Err(no_sealed_secret(name)),
                Err(error) => Err(from_store_error(error)),
            },
            _ => self.resolve(reference).await.map(drop),
        }
    }

    /// The text of a private key.
    async fn signing_key(&self, reference: &str) -> Result<Zeroizing<String>, SecretError> {
        self.resolve(reference).await.map(Zeroizing::new)
    }

    pub(super) async fn sealed_secret(&self, name: &str) -> Result<String, SecretError> {
        let plain = self
            .open_entry(&sealed_key(name)?)
            .await?
            .ok_or_else(|| no_sealed_secret(name))?;
        String::from_utf8(plain.to_vec())
            .map_err(|_| SecretError::Unavailable(format!("sealed:{name} is not text")))
    }

    /// What is sealed under a store key; `None` where nothing is.
    pub(super) async fn open_entry(
        &self,
        key: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, SecretError> {
        let entry = match self.store.load(key, None).await {
            Ok(Loaded::Entry(entry)) => entry,
            Ok(Loaded::Absent | Loaded::Unchanged) => return Ok(None),
            Err(error) => return Err(from_store_error(error)),
        };
        let keys = self.keys.get(format::key_id(&entry.value)).await?;
        match format::open(&keys, key, &entry.value).map_err(|error| *error) {
            Ok(plain) => Ok(Some(plain)),
            Err(Error::Storage(failure)) if failure.kind == StorageFailureKind::WrongKey => {
                Err(SecretError::NotFound(failure.message))
            }
            Err(error) => Err(SecretError::Unavailable(format!("{key}: {error}"))),
        }
    }
}

fn no_sealed_secret(name: &str) -> SecretError {
    SecretError::NotFound(format!("there is no sealed secret {name}"))
}

/// The store key of a sealed secret.
pub(super) fn sealed_key(name: &str) -> Result<String, SecretError> {
    match check_sealed_name(name) {
        Ok(()) => Ok(format!("{name}.secret")),
        Err(what) => Err(SecretError::NotFound(what.to_owned())),
    }
}

/// Says whether a sealed secret can have that name.
///
/// # Errors
/// It cannot: what a name is like.
pub fn check_sealed_name(name: &str) -> Result<(), &'static str> {
    let is_name = (1..=80).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_name {
        return Ok(());
    }
    Err(
        "a sealed secret's name has at most 80 letters, digits, `-`, `_` and `.`, and begins with a letter or digit",
    )
}

#[async_trait]
impl Secrets for LocalSecrets {
    async fn resolve(&self, reference: &str) -> Result<String, SecretError> {
        match reference.split_once(':') {
            Some(("env", name)) => environment_variable(name),
            Some(("file", "")) => Err(SecretError::NotFound("`file:` names no file".to_owned())),
            Some(("file", path)) => {
                let path = match &self.directory {
                    Some(directory) => directory.join(path),
                    None => PathBuf::from(path),
                };
                blocking(move || read_secret(&path)).await
            }
            Some(("keyring", name)) => {
                let name = name.to_owned();
                blocking(move || from_keyring(&name)).await
            }
            Some(("sealed", name)) => self.sealed_secret(name).await,
            _ => Err(SecretError::Unsupported(
                "a reference is `env:NAME`, `file:PATH`, `keyring:NAME` or `sealed:NAME`"
                    .to_owned(),
            )),
        }
    }

    async fn sealing_keys(&self, needed: Option<&str>) -> Result<Vec<SealingKey>, SecretError> {
        self.keys.get(needed).await
    }

    async fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, SecretError> {
        let key = self.signing_key(key).await?;
        let (algorithm, data) = (algorithm.to_owned(), data.to_vec());
        blocking(move || SigningKey::read(&key)?.sign(&algorithm, &data)).await
    }

    async fn public_key(&self, key: &str) -> Result<String, SecretError> {
        let key = self.signing_key(key).await?;
        blocking(move || Ok(SigningKey::read(&key)?.public_jwk())).await
    }

    async fn verify(
        &self,
        jwk: &str,
        algorithm: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, SecretError> {
        signing::verify(jwk, algorithm, data, signature)
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
    let mut secret = fs::read_to_string(path).map_err(|error| match error.kind() {
        // To wait mends neither: it is for whoever wrote the reference to do.
        io::ErrorKind::IsADirectory | io::ErrorKind::PermissionDenied => {
            SecretError::NotFound(format!("reading {} failed: {error}", path.display()))
        }
        _ => failed("reading", path, &error),
    })?;
    if secret.ends_with('\n') {
        secret.pop();
        if secret.ends_with('\r') {
            secret.pop();
        }
    }
    Ok(secret)
}

fn from_keyring(name: &str) -> Result<String, SecretError> {
    let secret = keyring::get(name).map_err(|error| match error {
        // Where there is none, to wait brings none.
        SecretError::Unavailable(why) if !keyring::is_likely() => SecretError::NotFound(why),
        error => error,
    })?;
    String::from_utf8(secret.to_vec())
        .map_err(|_| SecretError::Unavailable(format!("keyring:{name} is not text")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::contract::StoreError;
    use crate::files::{self, Durability};
    use crate::store::Lease;

    fn in_temporary() -> (TempDir, LocalSecrets) {
        let directory = TempDir::new().unwrap();
        let secrets = LocalSecrets::in_directory(directory.path());
        (directory, secrets)
    }

    #[tokio::test]
    async fn a_record_of_another_process_does_not_take_the_key_in_memory_away() {
        let secrets = LocalSecrets::in_memory();
        let own = secrets.sealing_keys(None).await.unwrap();
        let given = secrets.sealing_keys(Some("elsewhere")).await.unwrap();
        let ids = |keys: &[SealingKey]| keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&given), ids(&own));
        assert_eq!(ids(&secrets.sealing_keys(None).await.unwrap()), ids(&own));
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
    async fn what_no_time_will_bring_is_not_found() {
        let (directory, secrets) = in_temporary();
        fs::create_dir(directory.path().join("sub")).unwrap();
        for reference in ["file:", "file:sub"] {
            let resolved = secrets.resolve(reference).await;
            assert!(
                matches!(resolved, Err(SecretError::NotFound(_))),
                "{reference}: {resolved:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_sealed_secret_is_looked_for_without_its_key() {
        let (directory, secrets) = in_temporary();
        secrets.seal_secret("api", "s").await.unwrap();
        fs::remove_file(directory.path().join("tokenwell.key")).unwrap();
        let later = LocalSecrets::in_directory(directory.path());
        assert_eq!(later.look_for("sealed:api").await, Ok(()));
        let other = later.look_for("sealed:other").await;
        assert!(matches!(other, Err(SecretError::NotFound(_))), "{other:?}");
    }

    #[tokio::test]
    async fn other_references_are_unsupported_and_not_repeated() {
        let (_directory, secrets) = in_temporary();
        for reference in ["vault:hunter2", "hunter2"] {
            let Err(SecretError::Unsupported(text)) = secrets.resolve(reference).await else {
                panic!("{reference} is supported");
            };
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[tokio::test]
    async fn the_key_is_the_same_for_the_next_process() {
        let (directory, secrets) = in_temporary();
        let made = secrets.sealing_keys(None).await.unwrap();
        let read = LocalSecrets::in_directory(directory.path())
            .sealing_keys(None)
            .await;
        assert_eq!(read, Ok(made));
    }

    #[tokio::test]
    async fn every_directory_has_a_key_of_its_own() {
        let (_one, one) = in_temporary();
        let (_other, other) = in_temporary();
        let (one, other) = (
            one.sealing_keys(None).await.unwrap(),
            other.sealing_keys(None).await.unwrap(),
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
            hosts.spawn(async move { secrets.sealing_keys(None).await.unwrap() });
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
        secrets.sealing_keys(None).await.unwrap();
        let path = directory.path().join("tokenwell.key");
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
        secrets.sealing_keys(None).await.unwrap();
        let path = directory.path().join("tokenwell.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let keys = LocalSecrets::in_directory(directory.path())
            .sealing_keys(None)
            .await;
        assert!(matches!(keys, Err(SecretError::Denied(_))), "{keys:?}");
    }

    #[tokio::test]
    async fn a_damaged_key_file_is_not_replaced() {
        let (directory, secrets) = in_temporary();
        let path = directory.path().join("tokenwell.key");
        files::replace(&path, b"{\"format\":\"tok", Durability::Volatile).unwrap();
        let keys = secrets.sealing_keys(None).await;
        assert!(matches!(keys, Err(SecretError::Unavailable(_))), "{keys:?}");
        assert_eq!(fs::read(&path).unwrap(), b"{\"format\":\"tok");
    }

    fn with_password(directory: &Path, password: &str) -> LocalSecrets {
        LocalSecrets::in_directory(directory)
            .with_password(MasterPassword::given(password.to_owned()))
    }

    /// What is in a directory, the locks left out.
    fn files_in(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn a_new_store_is_sealed_under_the_password_that_is_given() {
        let directory = TempDir::new().unwrap();
        let secrets = with_password(directory.path(), "correct horse");
        let keys = secrets.sealing_keys(None).await.unwrap();
        assert!(keys[0].id.starts_with("argon2id$"), "{}", keys[0].id);
        assert_eq!(secrets.key_source().await, Ok(Some(KeySource::Password)));
        assert!(!directory.path().join("tokenwell.key").exists());
        let again = with_password(directory.path(), "correct horse");
        assert_eq!(again.sealing_keys(None).await, Ok(keys));
    }

    #[tokio::test]
    async fn a_wrong_password_is_said_and_changes_nothing() {
        let directory = TempDir::new().unwrap();
        let right = with_password(directory.path(), "right");
        right.seal_secret("api", "s").await.unwrap();
        let before = files_in(directory.path());
        let wrong = with_password(directory.path(), "wrong");
        let none = LocalSecrets::in_directory(directory.path());
        for secrets in [wrong, none] {
            let Err(SecretError::NotFound(text)) = secrets.sealing_keys(None).await else {
                panic!("it opens");
            };
            assert!(text.contains("master password"), "{text}");
            assert!(secrets.seal_secret("api", "other").await.is_err());
            assert!(secrets.resolve("sealed:api").await.is_err());
        }
        assert_eq!(files_in(directory.path()), before);
    }

    #[tokio::test]
    async fn what_is_sealed_opens_elsewhere_with_the_same_password() {
        let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let secrets = with_password(here.path(), "one for both");
        secrets.seal_secret("api", "s").await.unwrap();
        // Its own store has a key already, under another salt.
        let elsewhere = with_password(there.path(), "one for both");
        elsewhere.sealing_keys(None).await.unwrap();
        fs::copy(
            here.path().join("api.secret"),
            there.path().join("api.secret"),
        )
        .unwrap();
        assert_eq!(elsewhere.resolve("sealed:api").await, Ok("s".to_owned()));
    }

    #[tokio::test]
    async fn hosts_that_make_a_first_key_of_a_password_at_once_end_with_one() {
        let directory = TempDir::new().unwrap();
        let mut hosts = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let secrets = with_password(directory.path(), "one");
            hosts.spawn(async move { secrets.sealing_keys(None).await.unwrap()[0].clone() });
        }
        let mut keys = hosts.join_all().await;
        keys.dedup();
        assert_eq!(keys.len(), 1);
    }

    #[tokio::test]
    async fn a_host_with_another_key_file_than_the_store_has_is_told_so() {
        let store: Arc<dyn TokenStore> = Arc::new(MemoryStore::new());
        let (_here, one) = in_temporary();
        let (there, other) = in_temporary();
        let one = one.with_store(Arc::clone(&store));
        let other = other.with_store(store);
        let key = one.sealing_keys(None).await.unwrap()[0].id.clone();
        for _ in 0..2 {
            let Err(SecretError::NotFound(text)) = other.sealing_keys(None).await else {
                panic!("it seals under a key of its own");
            };
            assert!(text.contains(&key), "{text}");
        }
        // Once it has the key file it is at home.
        fs::copy(
            _here.path().join("tokenwell.key"),
            there.path().join("tokenwell.key"),
        )
        .unwrap();
        assert!(other.sealing_keys(None).await.is_ok());
    }

    #[tokio::test]
    async fn a_store_without_the_entry_is_sealed_under_its_key_file() {
        let (directory, secrets) = in_temporary();
        let keys = secrets.sealing_keys(None).await.unwrap();
        fs::remove_file(directory.path().join("tokenwell.keys")).unwrap();
        let later = LocalSecrets::in_directory(directory.path());
        assert_eq!(
            later.sealing_keys(Some(&keys[0].id)).await,
            Ok(keys.clone())
        );
        assert!(!directory.path().join("tokenwell.keys").exists());
        assert_eq!(later.sealing_keys(None).await, Ok(keys));
    }

    #[tokio::test]
    async fn a_replaced_key_still_opens_and_no_longer_seals() {
        let (directory, secrets) = in_temporary();
        let old = secrets.sealing_keys(None).await.unwrap()[0].clone();
        secrets.seal_secret("api", "s").await.unwrap();
        let password = MasterPassword::given("new".to_owned());
        for (source, given) in [
            (KeySource::KeyFile, MasterPassword::default()),
            (KeySource::Password, password.clone()),
            (KeySource::Password, password.clone()),
            (KeySource::KeyFile, MasterPassword::default()),
        ] {
            secrets.replace_key(source, given).await.unwrap();
            let has_file = directory.path().join("tokenwell.key").exists();
            assert_eq!(has_file, source == KeySource::KeyFile);
            for secrets in [
                secrets.clone(),
                LocalSecrets::in_directory(directory.path()).with_password(password.clone()),
            ] {
                assert_eq!(secrets.key_source().await, Ok(Some(source)));
                let keys = secrets.sealing_keys(Some(&old.id)).await.unwrap();
                assert!(keys.contains(&old));
                assert_ne!(keys[0], old);
                assert_eq!(secrets.resolve("sealed:api").await, Ok("s".to_owned()));
            }
        }
    }

    #[tokio::test]
    async fn a_host_that_runs_on_while_the_key_is_replaced_opens_what_is_new() {
        let (directory, running) = in_temporary();
        running.sealing_keys(None).await.unwrap();
        let other = LocalSecrets::in_directory(directory.path());
        other
            .replace_key(KeySource::KeyFile, MasterPassword::default())
            .await
            .unwrap();
        other.seal_secret("api", "s").await.unwrap();
        assert_eq!(running.resolve("sealed:api").await, Ok("s".to_owned()));
        assert_eq!(
            running.sealing_keys(None).await.unwrap()[0],
            other.sealing_keys(None).await.unwrap()[0]
        );
    }

    #[tokio::test]
    async fn a_replacement_that_dies_before_it_counts_leaves_the_old_key_current() {
        let (directory, secrets) = in_temporary();
        let old = secrets.sealing_keys(None).await.unwrap();
        let header = fs::read(directory.path().join("tokenwell.keys")).unwrap();
        let password = MasterPassword::given("new".to_owned());
        secrets
            .replace_key(KeySource::KeyFile, password)
            .await
            .unwrap();
        // As if it had died after adding the key: both are in the file, and the
        // entry says that the old one is current.
        let added = fs::read(directory.path().join("tokenwell.key")).unwrap();
        let added: serde_json::Value = serde_json::from_slice(&added).unwrap();
        let mut both = stored(&old[0]);
        both["others"] = serde_json::json!([{"id": added["id"], "key": added["key"]}]);
        for (name, content) in [
            ("tokenwell.key", both.to_string().into_bytes()),
            ("tokenwell.keys", header),
        ] {
            let path = directory.path().join(name);
            files::replace(&path, &content, Durability::Volatile).unwrap();
        }
        let later = LocalSecrets::in_directory(directory.path());
        assert_eq!(later.sealing_keys(None).await, Ok(old));
    }

    /// A key as the key file has it.
    fn stored(key: &SealingKey) -> serde_json::Value {
        let bytes = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key.key);
        serde_json::json!({"format": "tokenwell-key", "id": key.id, "key": bytes})
    }

    #[tokio::test]
    async fn what_an_interrupted_replacement_has_left_is_removed_by_the_next() {
        let (directory, secrets) = in_temporary();
        let old = secrets.sealing_keys(None).await.unwrap()[0].clone();
        let password = MasterPassword::given("new".to_owned());
        let path = directory.path().join("tokenwell.key");
        for is_interrupted in [true, false] {
            let left = secrets
                .replace_key(KeySource::Password, password.clone())
                .await;
            assert_eq!(left, Ok(Vec::new()));
            assert!(!path.exists());
            if is_interrupted {
                // As if it had died before removing the old key.
                let key = stored(&old).to_string();
                files::replace(&path, key.as_bytes(), Durability::Volatile).unwrap();
            }
        }
    }

    /// A store whose key is replaced by somebody else while a value is stored: just
    /// before or just after.
    struct Interrupted {
        store: Arc<dyn TokenStore>,
        meanwhile: tokio::sync::Mutex<Option<LocalSecrets>>,
        is_before: bool,
    }

    impl Interrupted {
        async fn interrupt(&self) {
            if let Some(other) = self.meanwhile.lock().await.take() {
                other
                    .replace_key(KeySource::KeyFile, MasterPassword::default())
                    .await
                    .unwrap();
            }
        }
    }

    #[async_trait]
    impl TokenStore for Interrupted {
        async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
            self.store.load(key, known).await
        }

        async fn compare_and_swap(
            &self,
            key: &str,
            expected: Option<u64>,
            value: Vec<u8>,
            fence: Option<u64>,
        ) -> Result<Swapped, StoreError> {
            if self.is_before {
                self.interrupt().await;
            }
            let swapped = self.store.compare_and_swap(key, expected, value, fence);
            let swapped = swapped.await;
            self.interrupt().await;
            swapped
        }

        async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError> {
            self.store.delete(key, expected).await
        }

        async fn acquire_lease(
            &self,
            key: &str,
            ttl: Duration,
            wait: Duration,
        ) -> Result<Option<Box<dyn Lease>>, StoreError> {
            self.store.acquire_lease(key, ttl, wait).await
        }
    }

    #[tokio::test]
    async fn of_two_replacements_at_once_neither_removes_the_others_key() {
        for is_before in [false, true] {
            let (directory, secrets) = in_temporary();
            secrets.seal_secret("api", "s").await.unwrap();
            let interrupted = Interrupted {
                store: Arc::new(FileStore::new(directory.path())),
                meanwhile: tokio::sync::Mutex::new(Some(secrets)),
                is_before,
            };
            let one = LocalSecrets::in_directory(directory.path())
                .with_store(Arc::new(interrupted))
                .replace_key(KeySource::KeyFile, MasterPassword::default())
                .await;
            assert_eq!(one.is_ok(), !is_before, "{one:?}");
            let later = LocalSecrets::in_directory(directory.path());
            assert_eq!(later.resolve("sealed:api").await, Ok("s".to_owned()));
            // Nor does it leave one that nothing is sealed under.
            let file = fs::read(directory.path().join("tokenwell.key")).unwrap();
            let key = later.sealing_keys(None).await.unwrap()[0].clone();
            let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
            assert_eq!(file, stored(&key));
        }
    }

    #[tokio::test]
    async fn a_replaced_key_stays_in_the_file_for_another_store_that_has_it_too() {
        let password = MasterPassword::given("new".to_owned());
        for source in [KeySource::KeyFile, KeySource::Password] {
            for replaced_first in [0, 1] {
                let directory = TempDir::new().unwrap();
                let stores: [Arc<dyn TokenStore>; 2] =
                    [Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())];
                let on = |which: usize| {
                    LocalSecrets::in_directory(directory.path())
                        .with_store(Arc::clone(&stores[which]))
                };
                for which in [0, 1] {
                    on(which).seal_secret("api", "s").await.unwrap();
                }
                let replacing = on(replaced_first);
                let left = replacing.replace_key(source, password.clone()).await;
                assert!(left.unwrap()[0].contains("another store"));

                let other = on(1 - replaced_first);
                assert_eq!(other.resolve("sealed:api").await, Ok("s".to_owned()));
                other.seal_secret("api", "t").await.unwrap();
                let itself = on(replaced_first).with_password(password.clone());
                assert_eq!(itself.resolve("sealed:api").await, Ok("s".to_owned()));
                // A store that is new begins with the newest key of the file.
                let new = on(0).with_store(Arc::new(MemoryStore::new()));
                let new = new.sealing_keys(None).await.unwrap()[0].clone();
                let old = other.sealing_keys(None).await.unwrap()[0].clone();
                assert_eq!(new == old, source == KeySource::Password);
            }
        }
    }

    #[tokio::test]
    async fn a_store_whose_first_key_is_a_replacement_leaves_the_file_its_own() {
        let (directory, one) = in_temporary();
        one.seal_secret("api", "s").await.unwrap();
        let other = one.clone().with_store(Arc::new(MemoryStore::new()));
        let password = MasterPassword::given("new".to_owned());
        other
            .replace_key(KeySource::Password, password)
            .await
            .unwrap();
        let one = LocalSecrets::in_directory(directory.path());
        assert_eq!(one.resolve("sealed:api").await, Ok("s".to_owned()));
    }

    #[tokio::test]
    async fn a_damaged_entry_is_said_and_stays() {
        let (directory, secrets) = in_temporary();
        secrets.sealing_keys(None).await.unwrap();
        let path = directory.path().join("tokenwell.keys");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let before = files_in(directory.path());
        let later = LocalSecrets::in_directory(directory.path());
        let keys = later.sealing_keys(None).await;
        assert!(matches!(keys, Err(SecretError::Unavailable(_))), "{keys:?}");
        assert_eq!(files_in(directory.path()), before);
    }

    #[tokio::test]
    async fn a_sealed_secret_is_resolved_and_not_readable_in_its_file() {
        let (directory, secrets) = in_temporary();
        secrets.seal_secret("shop.api", "old").await.unwrap();
        secrets.seal_secret("shop.api", "hunter2").await.unwrap();
        assert_eq!(
            secrets.resolve("sealed:shop.api").await,
            Ok("hunter2".to_owned())
        );
        let file = fs::read_to_string(directory.path().join("shop.api.secret")).unwrap();
        assert!(!file.contains("hunter2"), "{file}");
        assert_eq!(secrets.forget_secret("shop.api").await, Ok(true));
        assert_eq!(secrets.forget_secret("shop.api").await, Ok(false));
        let gone = secrets.resolve("sealed:shop.api").await;
        assert!(matches!(gone, Err(SecretError::NotFound(_))), "{gone:?}");
    }

    #[tokio::test]
    async fn a_sealed_secret_under_another_name_does_not_open() {
        let (directory, secrets) = in_temporary();
        secrets.seal_secret("one", "s").await.unwrap();
        fs::copy(
            directory.path().join("one.secret"),
            directory.path().join("two.secret"),
        )
        .unwrap();
        assert!(secrets.resolve("sealed:two").await.is_err());
    }

    #[tokio::test]
    async fn a_name_that_is_none_reaches_no_file() {
        let (_directory, secrets) = in_temporary();
        for name in ["", "../x", ".x", "a/b", "a b", &"x".repeat(81)] {
            assert!(secrets.seal_secret(name, "s").await.is_err(), "{name}");
            let resolved = secrets.resolve(&format!("sealed:{name}")).await;
            assert!(resolved.is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn debug_does_not_show_a_key() {
        let (_directory, secrets) = in_temporary();
        let keys = secrets.sealing_keys(None).await.unwrap();
        let shown = format!("{keys:?}");
        assert!(shown.contains(&keys[0].id), "{shown}");
        assert!(!shown.contains(&format!("{:?}", keys[0].key)), "{shown}");
    }
}
