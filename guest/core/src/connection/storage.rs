//! Loading, opening, changing and sealing the stored record.

use super::Connection;
use crate::error::{Error, Result, StorageFailureKind};
use crate::event::Event;
use crate::platform::{Entry, Loaded, Platform, SealingKey, SecretError, StoreError, Swapped};
use crate::record::Record;
use crate::seal;
use std::rc::Rc;

/// How often a change is tried on top of somebody else's before giving up.
pub(super) const CHANGE_ATTEMPTS: usize = 100;

/// How long a value that must not be lost is offered to a store that fails:
/// pauses in milliseconds, about ten seconds in all.
pub(super) const COMMIT_PAUSES: [u64; 8] = [20, 50, 100, 300, 700, 1500, 3000, 5000];

/// A record as it was at a version of its entry.
#[derive(Clone)]
pub(super) struct Version {
    /// `None` where nothing is stored.
    number: Option<u64>,
    /// The record; the empty one where nothing is stored.
    pub record: Rc<Record>,
}

impl Version {
    fn absent() -> Self {
        Self {
            number: None,
            record: Rc::default(),
        }
    }

    /// Whether it still has the credential of an earlier version, and has not been
    /// deleted since.
    pub fn has_credential_of(&self, earlier: &Self) -> bool {
        self.number.is_some() == earlier.number.is_some()
            && self.record.has_credential_of(&earlier.record)
    }
}

/// What became of a conditional write.
pub(super) enum Written {
    /// It is stored.
    Stored(Version),
    /// Somebody else wrote meanwhile: this.
    Stale(Version),
    /// A later lease has been given out.
    Fenced,
}

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// The record as it is stored now.
    pub(super) async fn load(&self) -> Result<Version> {
        let known = self.known.borrow().clone();
        let number = known.as_ref().and_then(|known| known.number);
        let loaded = self.platform.load(&self.store_key, number).await;
        let version = match loaded.map_err(from_store_error)? {
            Loaded::Unchanged => {
                return known.ok_or_else(|| {
                    Error::storage(
                        StorageFailureKind::Corrupt,
                        "the store calls unchanged what was never loaded",
                    )
                });
            }
            Loaded::Absent => Version::absent(),
            Loaded::Entry(entry) => self.open_entry(entry).await?,
        };
        self.known.replace(Some(version.clone()));
        Ok(version)
    }

    async fn open_entry(&self, entry: Entry) -> Result<Version> {
        let keys = self.sealing_keys(seal::key_id(&entry.value)).await?;
        let plain = seal::open(&keys, &self.store_key, &entry.value)?;
        let record = Record::from_text(&plain).ok_or_else(|| {
            Error::storage(
                StorageFailureKind::Corrupt,
                format!("the record {} is not one of this version", self.store_key),
            )
        })?;
        Ok(Version {
            number: Some(entry.version),
            record: Rc::new(record),
        })
    }

    /// Writes a record where the entry is still at the given version.
    pub(super) async fn write(
        &self,
        from: &Version,
        record: Record,
        fence: Option<u64>,
    ) -> Result<Written> {
        let plain = record.to_text();
        let keys = self.sealing_keys(None).await?;
        let sealed = seal::seal(&self.platform, &keys, &self.store_key, plain.as_bytes())?;
        let swapped = self
            .platform
            .compare_and_swap(&self.store_key, from.number, &sealed, fence)
            .await
            .map_err(from_store_error)?;
        let (current, is_ours) = match swapped {
            Swapped::Fenced => return Ok(Written::Fenced),
            Swapped::Stored(number) => {
                let version = Version {
                    number: Some(number),
                    record: Rc::new(record),
                };
                (version, true)
            }
            Swapped::Stale(Some(entry)) => (self.open_entry(entry).await?, false),
            Swapped::Stale(None) => (Version::absent(), false),
        };
        self.known.replace(Some(current.clone()));
        Ok(if is_ours {
            Written::Stored(current)
        } else {
            Written::Stale(current)
        })
    }

    /// Changes the record, on top of whatever others write meanwhile. The change
    /// may end it with an error; then nothing is written.
    pub(super) async fn change(
        &self,
        change: &mut dyn FnMut(&mut Record) -> Result<()>,
    ) -> Result<()> {
        let mut version = self.load().await?;
        for _ in 0..CHANGE_ATTEMPTS {
            let mut record = Record::clone(&version.record);
            change(&mut record)?;
            match self.write(&version, record, None).await? {
                Written::Stored(_) => return Ok(()),
                Written::Stale(current) => version = current,
                Written::Fenced => break,
            }
        }
        Err(Error::storage(
            StorageFailureKind::Unavailable,
            "the record is changed by others without end",
        ))
    }

    /// The same for a change that must not be lost, such as a new refresh token:
    /// a store that fails is asked again for a while.
    pub(super) async fn change_surely(
        &self,
        change: &mut dyn FnMut(&mut Record) -> Result<()>,
    ) -> Result<()> {
        let mut pauses = COMMIT_PAUSES.iter();
        loop {
            match (self.change(change).await, pauses.next()) {
                (Err(error), Some(pause)) if may_pass(&error) => {
                    self.platform.sleep(*pause).await;
                }
                (outcome, _) => return outcome,
            }
        }
    }

    /// Without a key what is stored can neither be read nor written, whatever
    /// the reason: a failure of the storage.
    async fn sealing_keys(&self, needed: Option<&str>) -> Result<Vec<SealingKey>> {
        let keys = self.platform.sealing_keys(needed).await;
        keys.map_err(|error| match error {
            SecretError::NotFound(what) | SecretError::Unsupported(what) => {
                Error::storage(StorageFailureKind::WrongKey, what)
            }
            SecretError::Unavailable(cause) => {
                Error::storage(StorageFailureKind::Unavailable, cause)
            }
            SecretError::Denied(why) => Error::forbidden(why),
        })
    }

    /// Tells what happened, once it is stored.
    pub(super) fn tell(&self, events: &[Event]) {
        for event in events {
            self.platform.emit(&self.name, event);
        }
    }

    /// The lease, once no renewal is under way.
    ///
    /// # Errors
    /// Unavailable, where one takes too long; storage.
    pub(super) async fn lease(&self) -> Result<P::Lease> {
        let timeout = self.config.timeout_millis();
        let lease = self
            .platform
            .acquire_lease(&self.store_key, timeout.saturating_mul(3), timeout)
            .await;
        let lease = lease.map_err(from_store_error)?;
        lease.ok_or_else(|| Error::unavailable("a renewal is under way; try again"))
    }

    /// Seals the stored record anew under the current key.
    ///
    /// # Errors
    /// Unavailable, where a renewal is under way; storage.
    pub async fn reseal(&self) -> Result<()> {
        if self.load().await?.number.is_none() {
            return Ok(());
        }
        // The host of a renewal that is under way may not have that key, and what
        // it brings could not be put on top.
        let _lease = self.lease().await?;
        self.change(&mut |_| Ok(())).await
    }
}

/// Whether a store that failed so may take the write a moment later. One that
/// denies it counts too: a database is read-only while its standby takes over.
pub(super) fn may_pass(error: &Error) -> bool {
    match error {
        Error::Storage(failure) => failure.kind == StorageFailureKind::Unavailable,
        Error::Forbidden(_) => true,
        _ => false,
    }
}

pub(super) fn from_store_error(error: StoreError) -> Box<Error> {
    match error {
        StoreError::Unavailable(message) => {
            Error::storage(StorageFailureKind::Unavailable, message)
        }
        StoreError::Denied(why) => Error::forbidden(why),
        StoreError::Corrupt(message) => Error::storage(StorageFailureKind::Corrupt, message),
    }
}
