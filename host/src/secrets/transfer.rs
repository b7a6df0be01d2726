//! A connection on its way to another place: config, tokens and sealed secrets,
//! under a password that is made for the journey.
//!
//! The document is a JSON object: `format` is `tokenwell-connection`,
//! `format_version` 1, `name` the connection's, and `sealed`, in base64, a JSON
//! object sealed as records are, under a key from the password, for the store
//! key `NAME.export`. In it are `config`, `tokens` (the record's plain text;
//! absent where the connection has none) and `secrets` (each by its name).

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenwell_core::seal as format;
use zeroize::Zeroizing;

use super::local::{LocalSecrets, sealed_key};
use super::password::{self, MasterPassword, Use};
use super::{blocking, from_store_error, sealing};
use crate::contract::{Loaded, SecretError, Swapped};
use crate::store::Lease;

/// How long nobody renews what an import replaces, at most.
const LEASE: Duration = Duration::from_secs(60);

/// How long an import waits for a renewal that is under way.
const LEASE_WAIT: Duration = Duration::from_secs(30);

/// What a document says it is.
const FORMAT: &str = "tokenwell-connection";

/// The one version of that format.
const FORMAT_VERSION: u64 = 1;

/// A connection with all that belongs to it, unsealed.
pub struct Transfer {
    name: String,
    content: Content,
}

#[derive(Serialize, Deserialize)]
struct Content {
    config: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<Zeroizing<String>>,
    #[serde(default)]
    secrets: BTreeMap<String, Zeroizing<String>>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: String,
    format_version: u64,
    name: String,
    sealed: String,
}

impl Transfer {
    /// The name that the connection had.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The config, a JSON object.
    pub fn config(&self) -> &Value {
        &self.content.config
    }

    /// The same under another name. The sealed secrets that are called after the
    /// connection are called after the new name then, and the config refers to
    /// them so.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        let Self {
            name: old,
            mut content,
        } = self;
        // A profile may share the secrets of its connection.
        let of_its_own = format!("{old}.");
        let shared = old.split('.').next().map(|base| format!("{base}."));
        let mut secrets = BTreeMap::new();
        for (secret, value) in content.secrets {
            let field = secret
                .strip_prefix(&of_its_own)
                .or_else(|| secret.strip_prefix(shared.as_deref()?));
            let renamed = field
                .map(|field| format!("{name}.{field}"))
                .filter(|renamed| !secrets.contains_key(renamed))
                .unwrap_or_else(|| secret.clone());
            refer(&mut content.config, &secret, &renamed);
            secrets.insert(renamed, value);
        }
        content.secrets = secrets;
        Self {
            name: name.to_owned(),
            content,
        }
    }

    /// Whether tokens are with it.
    pub fn has_tokens(&self) -> bool {
        self.content.tokens.is_some()
    }

    /// The references in the config that lead outside: what they name has to be
    /// provided where the connection goes.
    pub fn outside_references(&self) -> Vec<String> {
        let references = references(&self.content.config).into_iter();
        references
            .filter(|reference| !reference.starts_with("sealed:"))
            .map(str::to_owned)
            .collect()
    }

    /// The document, sealed under a password.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    pub async fn seal(&self, password: &MasterPassword) -> Result<String, SecretError> {
        let password = password.clone();
        let key = blocking(move || password.new_key()).await?;
        let plain = Zeroizing::new(serde_json::to_vec(&self.content).map_err(malformed)?);
        let sealed = sealing::seal(&[key], &export_key(&self.name), &plain)?;
        let document = Document {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            name: self.name.clone(),
            sealed: STANDARD.encode(sealed),
        };
        serde_json::to_string(&document).map_err(malformed)
    }

    /// Opens a document.
    ///
    /// # Errors
    /// Not found, where the password is another; unavailable, where it is no
    /// whole document.
    pub async fn open(document: &str, password: &MasterPassword) -> Result<Self, SecretError> {
        let damaged =
            || SecretError::Unavailable("this is not a whole exported connection".to_owned());
        let document: Document = serde_json::from_str(document).map_err(|_| damaged())?;
        if document.format != FORMAT {
            return Err(damaged());
        }
        if document.format_version != FORMAT_VERSION {
            return Err(SecretError::Unavailable(format!(
                "the exported connection has format version {}; this version reads {FORMAT_VERSION}",
                document.format_version
            )));
        }
        let sealed = STANDARD.decode(&document.sealed).map_err(|_| damaged())?;
        let id = format::key_id(&sealed)
            .filter(|id| password::is_password_key(id))
            .ok_or_else(damaged)?
            .to_owned();
        let password = password.clone();
        let key = blocking(move || password.key(&id, Use::Open)).await;
        let key = key.map_err(|error| match error {
            // It is no master password, whatever it is made into.
            SecretError::NotFound(_) => SecretError::NotFound(
                "the password is not the one that the connection was exported with".to_owned(),
            ),
            error => error,
        })?;
        let plain =
            format::open(&[key], &export_key(&document.name), &sealed).map_err(|_| damaged())?;
        Ok(Self {
            content: serde_json::from_slice(&plain).map_err(|_| damaged())?,
            name: document.name,
        })
    }
}

impl LocalSecrets {
    /// Takes up a connection with its tokens and the sealed secrets that its
    /// config refers to. What is stored stays.
    ///
    /// # Errors
    /// As [`SecretError`] has them.
    pub async fn export(&self, name: &str, config: Value) -> Result<Transfer, SecretError> {
        let mut secrets = BTreeMap::new();
        for reference in references(&config) {
            if let Some(secret) = reference.strip_prefix("sealed:") {
                let value = self.sealed_secret(secret).await?;
                secrets.insert(secret.to_owned(), Zeroizing::new(value));
            }
        }
        let tokens = match self.open_entry(&tokens_key(name)).await? {
            None => None,
            Some(plain) => {
                let text = String::from_utf8(plain.to_vec());
                Some(Zeroizing::new(text.map_err(|_| {
                    SecretError::Unavailable(format!("the record of {name} is not text"))
                })?))
            }
        };
        Ok(Transfer {
            name: name.to_owned(),
            content: Content {
                config,
                tokens,
                secrets,
            },
        })
    }

    /// Begins to put a connection's tokens and sealed secrets in place under a
    /// name, sealed under this store's key; the config is the caller's to keep,
    /// before the import is finished. `None`: others are there already and may
    /// not be replaced. Nothing is changed yet, and until the import is finished
    /// or dropped nobody renews what is there; a renewal that is under way is
    /// waited for, for half a minute.
    ///
    /// # Errors
    /// As [`SecretError`] has them; unavailable, where the renewal takes longer.
    pub async fn import<'a>(
        &'a self,
        transfer: &'a Transfer,
        name: &str,
        replace: bool,
    ) -> Result<Option<Import<'a>>, SecretError> {
        let tokens_key = tokens_key(name);
        let leased = self.store.acquire_lease(&tokens_key, LEASE, LEASE_WAIT);
        let lease = leased.await.map_err(from_store_error)?.ok_or_else(|| {
            SecretError::Unavailable(format!("the tokens of {name} are being renewed"))
        })?;
        let loaded = self.store.load(&tokens_key, None).await;
        let version = match loaded.map_err(from_store_error)? {
            Loaded::Entry(_) if !replace => return Ok(None),
            Loaded::Entry(entry) => Some(entry.version),
            Loaded::Absent | Loaded::Unchanged => None,
        };
        for (secret, value) in &transfer.content.secrets {
            let there = self.open_entry(&sealed_key(secret)?).await?;
            if !replace && there.is_some_and(|there| *there != value.as_bytes()) {
                return Ok(None);
            }
        }
        let keys = self.keys.get(None).await?;
        let tokens = match &transfer.content.tokens {
            Some(tokens) => Some(sealing::seal(&keys, &tokens_key, tokens.as_bytes())?),
            None => None,
        };
        Ok(Some(Import {
            there: self,
            secrets: &transfer.content.secrets,
            tokens_key,
            version,
            tokens,
            lease,
        }))
    }
}

/// An import that has begun. Dropping it leaves everything as it was.
pub struct Import<'a> {
    there: &'a LocalSecrets,
    secrets: &'a BTreeMap<String, Zeroizing<String>>,
    tokens_key: String,
    /// The version of the tokens that are there.
    version: Option<u64>,
    /// The new ones, sealed.
    tokens: Option<Vec<u8>>,
    lease: Box<dyn Lease>,
}

impl Import<'_> {
    /// Puts the secrets in place, and then the tokens; without tokens it forgets
    /// those that are there.
    ///
    /// # Errors
    /// As [`SecretError`] has them; the tokens are those that were there then.
    pub async fn finish(self) -> Result<(), SecretError> {
        for (secret, value) in self.secrets {
            self.there.seal_secret(secret, value).await?;
        }
        let (store, key) = (&self.there.store, &self.tokens_key);
        let is_done = match (self.tokens, self.version) {
            (Some(sealed), version) => {
                let fence = Some(self.lease.fence());
                let swapped = store.compare_and_swap(key, version, sealed, fence).await;
                matches!(swapped.map_err(from_store_error)?, Swapped::Stored(_))
            }
            (None, Some(version)) => {
                let deleted = store.delete(key, version).await;
                deleted.map_err(from_store_error)?
            }
            (None, None) => true,
        };
        if is_done {
            return Ok(());
        }
        Err(SecretError::Unavailable(format!(
            "somebody else has written {key} at the same time"
        )))
    }
}

fn malformed(error: serde_json::Error) -> SecretError {
    SecretError::Unavailable(error.to_string())
}

fn tokens_key(name: &str) -> String {
    format!("{name}.tokens")
}

fn export_key(name: &str) -> String {
    format!("{name}.export")
}

/// Has a config refer to a sealed secret under another name.
fn refer(config: &mut Value, secret: &str, renamed: &str) {
    let old = format!("sealed:{secret}");
    let fields = config.as_object_mut().into_iter().flatten();
    for reference in fields.filter_map(|(_, value)| value.get_mut("ref")) {
        if reference.as_str() == Some(&old) {
            *reference = format!("sealed:{renamed}").into();
        }
    }
}

/// Every reference in a config.
fn references(config: &Value) -> Vec<&str> {
    let Value::Object(fields) = config else {
        return Vec::new();
    };
    let references = fields.values().filter_map(|value| value.get("ref"));
    references.filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::store::TokenStore;

    fn password(text: &str) -> MasterPassword {
        MasterPassword::given(text.to_owned())
    }

    /// Imports, and tells whether that was allowed.
    async fn import(
        secrets: &LocalSecrets,
        transfer: &Transfer,
        name: &str,
        replace: bool,
    ) -> bool {
        match secrets.import(transfer, name, replace).await.unwrap() {
            Some(import) => import.finish().await.map(|()| true).unwrap(),
            None => false,
        }
    }

    /// A connection with tokens and a sealed secret.
    async fn with_tokens(directory: &TempDir) -> (LocalSecrets, Value) {
        let secrets = LocalSecrets::in_directory(directory.path());
        secrets
            .seal_secret("shop.client_secret", "hunter2")
            .await
            .unwrap();
        let keys = secrets.keys.get(None).await.unwrap();
        let sealed = sealing::seal(&keys, "shop.tokens", br#"{"generation":7}"#).unwrap();
        let stored = secrets
            .store
            .compare_and_swap("shop.tokens", None, sealed, None);
        assert!(matches!(stored.await, Ok(Swapped::Stored(_))));
        let config = json!({
            "client_id": "c",
            "client_secret": {"ref": "sealed:shop.client_secret"},
            "signing_key": {"ref": "file:key.pem"},
        });
        (secrets, config)
    }

    #[tokio::test]
    async fn what_is_exported_can_be_imported_under_another_key_and_name() {
        let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (secrets, config) = with_tokens(&here).await;
        let transfer = secrets.export("shop", config.clone()).await.unwrap();
        assert_eq!(transfer.outside_references(), ["file:key.pem"]);
        let document = transfer.seal(&password("journey")).await.unwrap();
        for secret in ["hunter2", "generation", "client_id"] {
            assert!(!document.contains(secret), "{document}");
        }

        let arrived = Transfer::open(&document, &password("journey"))
            .await
            .unwrap();
        assert_eq!((arrived.name(), arrived.config()), ("shop", &config));
        let elsewhere = LocalSecrets::in_directory(there.path());
        assert!(import(&elsewhere, &arrived, "store", false).await);
        let tokens = elsewhere.open_entry("store.tokens").await.unwrap().unwrap();
        assert_eq!(tokens.as_slice(), br#"{"generation":7}"#);
        let secret = elsewhere.sealed_secret("shop.client_secret").await;
        assert_eq!(secret, Ok("hunter2".to_owned()));
    }

    #[tokio::test]
    async fn under_another_name_its_secrets_are_called_after_that() {
        let here = TempDir::new().unwrap();
        let (secrets, mut config) = with_tokens(&here).await;
        secrets.seal_secret("shared", "s").await.unwrap();
        config["password"] = json!({"ref": "sealed:shared"});
        let transfer = secrets.export("shop", config).await.unwrap();
        let transfer = transfer.named("bank");
        assert_eq!(
            transfer.config()["client_secret"],
            json!({"ref": "sealed:bank.client_secret"})
        );
        assert_eq!(
            transfer.config()["password"],
            json!({"ref": "sealed:shared"})
        );

        // The other one's is untouched.
        secrets
            .seal_secret("shop.client_secret", "another")
            .await
            .unwrap();
        assert!(import(&secrets, &transfer, "bank", false).await);
        for (secret, value) in [
            ("shop.client_secret", "another"),
            ("bank.client_secret", "hunter2"),
            ("shared", "s"),
        ] {
            let kept = secrets.sealed_secret(secret).await;
            assert_eq!(kept.as_deref(), Ok(value), "{secret}");
        }
    }

    #[tokio::test]
    async fn a_profile_takes_the_secrets_of_its_connection_along() {
        let here = TempDir::new().unwrap();
        let (secrets, config) = with_tokens(&here).await;
        let transfer = secrets.export("shop.dev", config).await.unwrap();
        assert_eq!(
            transfer.named("shop-dev").config()["client_secret"],
            json!({"ref": "sealed:shop-dev.client_secret"})
        );
    }

    #[tokio::test]
    async fn what_is_there_is_replaced_only_when_told_so() {
        let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (secrets, config) = with_tokens(&here).await;
        let transfer = secrets.export("shop", config).await.unwrap();
        let elsewhere = LocalSecrets::in_directory(there.path());
        elsewhere
            .seal_secret("shop.client_secret", "another")
            .await
            .unwrap();
        assert!(!import(&elsewhere, &transfer, "shop", false).await);
        let loaded = elsewhere.store.load("shop.tokens", None).await;
        assert_eq!(loaded, Ok(Loaded::Absent));
        assert!(import(&elsewhere, &transfer, "shop", true).await);
        assert!(!import(&elsewhere, &transfer, "shop", false).await);
        let secret = elsewhere.sealed_secret("shop.client_secret").await;
        assert_eq!(secret, Ok("hunter2".to_owned()));
    }

    #[tokio::test]
    async fn replacing_by_a_connection_without_tokens_forgets_those_that_are_there() {
        let here = TempDir::new().unwrap();
        let (secrets, config) = with_tokens(&here).await;
        let transfer = secrets.export("another", config).await.unwrap();
        assert!(!transfer.has_tokens());
        assert!(import(&secrets, &transfer, "shop", true).await);
        let loaded = secrets.store.load("shop.tokens", None).await;
        assert_eq!(loaded, Ok(Loaded::Absent));
        // Where there are none, that is right too.
        assert!(import(&secrets, &transfer, "shop", true).await);
    }

    #[tokio::test]
    async fn an_import_changes_nothing_before_it_is_finished() {
        let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (secrets, config) = with_tokens(&here).await;
        let transfer = secrets.export("shop", config).await.unwrap();
        let elsewhere = LocalSecrets::in_directory(there.path());
        let begun = elsewhere.import(&transfer, "shop", true).await.unwrap();
        drop(begun.unwrap());
        for key in ["shop.tokens", "shop.client_secret.secret"] {
            let loaded = elsewhere.store.load(key, None).await;
            assert_eq!(loaded, Ok(Loaded::Absent), "{key}");
        }
    }

    #[tokio::test]
    async fn an_import_waits_for_a_renewal_and_keeps_the_next_one_waiting() {
        let here = TempDir::new().unwrap();
        let (secrets, config) = with_tokens(&here).await;
        let transfer = secrets.export("shop", config).await.unwrap();
        let lease = |wait| secrets.store.acquire_lease("shop.tokens", LEASE, wait);
        let renewing = lease(Duration::ZERO).await.unwrap().unwrap();
        let mut importing = std::pin::pin!(secrets.import(&transfer, "shop", true));
        let short = Duration::from_millis(50);
        assert!(tokio::time::timeout(short, &mut importing).await.is_err());
        drop(renewing);
        let begun = importing.await.unwrap().unwrap();
        assert!(lease(short).await.unwrap().is_none());
        begun.finish().await.unwrap();
        assert!(lease(LEASE_WAIT).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_wrong_password_and_a_damaged_document_are_told_apart() {
        let here = TempDir::new().unwrap();
        let (secrets, config) = with_tokens(&here).await;
        let transfer = secrets.export("shop", config).await.unwrap();
        let document = transfer.seal(&password("right")).await.unwrap();
        let wrong = Transfer::open(&document, &password("wrong")).await;
        assert!(matches!(wrong, Err(SecretError::NotFound(_))));
        let renamed = document.replace("\"shop\"", "\"bank\"");
        let newer = document.replace("\"format_version\":1", "\"format_version\":2");
        for damaged in [&document[..document.len() / 2], "", "{}", &renamed, &newer] {
            let opened = Transfer::open(damaged, &password("right")).await;
            assert!(
                matches!(opened, Err(SecretError::Unavailable(_))),
                "{damaged}"
            );
        }
    }
}
