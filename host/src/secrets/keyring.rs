//! The operating system's keyring: the Secret Service on Linux, the Keychain on
//! macOS, the Credential Manager on Windows. Everything is under the service
//! `tokenwell`.

use crate::contract::SecretError;

/// The service that the entries are under.
#[cfg(feature = "keyring")]
const SERVICE: &str = "tokenwell";

#[cfg(feature = "keyring")]
pub(super) use available::{delete, get, set};

#[cfg(not(feature = "keyring"))]
pub(super) use missing::{delete, get, set};

/// Whether there may be a keyring, so that it is worth asking.
pub(super) fn is_likely() -> bool {
    cfg!(feature = "keyring")
        && (cfg!(any(windows, target_os = "macos"))
            || std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some())
}

#[cfg(feature = "keyring")]
mod available {
    use std::sync::Arc;

    use keyring_core::{Entry, api::CredentialStoreApi};
    use zeroize::Zeroizing;

    use super::{SERVICE, SecretError};

    #[cfg(target_os = "macos")]
    fn store() -> keyring_core::Result<Arc<impl CredentialStoreApi>> {
        apple_native_keyring_store::keychain::Store::new()
    }

    #[cfg(windows)]
    fn store() -> keyring_core::Result<Arc<impl CredentialStoreApi>> {
        windows_native_keyring_store::Store::new()
    }

    #[cfg(all(unix, not(target_os = "macos")))]
    fn store() -> keyring_core::Result<Arc<impl CredentialStoreApi>> {
        dbus_secret_service_keyring_store::Store::new()
    }

    fn entry(name: &str) -> Result<Entry, SecretError> {
        let entry = store().and_then(|store| store.build(SERVICE, name, None));
        entry.map_err(|error| failed(name, &error))
    }

    /// Reads an entry, waiting for the user to unlock the keyring where that is
    /// needed.
    pub(in super::super) fn get(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let secret = entry(name)?.get_secret();
        secret
            .map(Zeroizing::new)
            .map_err(|error| failed(name, &error))
    }

    /// Writes an entry, in place of one that is there.
    pub(in super::super) fn set(name: &str, secret: &[u8]) -> Result<(), SecretError> {
        let set = entry(name)?.set_secret(secret);
        set.map_err(|error| failed(name, &error))
    }

    /// Deletes an entry, and tells whether there was one.
    pub(in super::super) fn delete(name: &str) -> Result<bool, SecretError> {
        match entry(name)?.delete_credential() {
            Ok(()) => Ok(true),
            Err(keyring_core::Error::NoEntry) => Ok(false),
            Err(error) => Err(failed(name, &error)),
        }
    }

    fn failed(name: &str, error: &keyring_core::Error) -> SecretError {
        match error {
            keyring_core::Error::NoEntry => SecretError::NotFound(format!(
                "the operating system's keyring has nothing under {SERVICE}/{name}"
            )),
            other => SecretError::Unavailable(format!(
                "the operating system's keyring cannot be used: {other}"
            )),
        }
    }
}

#[cfg(not(feature = "keyring"))]
mod missing {
    use zeroize::Zeroizing;

    use super::SecretError;

    pub(in super::super) fn get(_: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        Err(unsupported())
    }

    pub(in super::super) fn set(_: &str, _: &[u8]) -> Result<(), SecretError> {
        Err(unsupported())
    }

    pub(in super::super) fn delete(_: &str) -> Result<bool, SecretError> {
        Err(unsupported())
    }

    fn unsupported() -> SecretError {
        SecretError::Unsupported(
            "this host was built without the operating system's keyring".to_owned(),
        )
    }
}
