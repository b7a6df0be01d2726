//! Which version the files had that were read, so that one that has not changed
//! since is looked at and not read again.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// For how long a file must have been left alone: one that was written just now
/// could be replaced within the same tick of the file system's clock, which in
/// the coarsest one is two seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The versions by key.
#[derive(Default)]
pub(super) struct SettledVersions(Mutex<HashMap<String, (Signature, u64)>>);

impl SettledVersions {
    /// The version that was read under a key, where the file is still the same.
    pub(super) fn get(&self, key: &str, path: &Path) -> Option<u64> {
        let (signature, version) = *self.versions().get(key)?;
        let found = fs::metadata(path).ok()?;
        (Signature::of(&found)? == signature).then_some(version)
    }

    /// Remembers the version that a file had which was found so before it was
    /// read, unless it was written just now.
    pub(super) fn put(&self, key: &str, found: &Metadata, version: u64) {
        let signature = Signature::of(found).filter(|signature| signature.is_settled());
        match signature {
            Some(signature) => {
                let mut versions = self.versions();
                versions.insert(key.to_owned(), (signature, version));
            }
            None => self.forget(key),
        }
    }

    pub(super) fn forget(&self, key: &str) {
        self.versions().remove(key);
    }

    fn versions(&self) -> MutexGuard<'_, HashMap<String, (Signature, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells a file from every other that has its name at another time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Signature {
    /// Where the system numbers files, the device and the number.
    number: (u64, u64),
    length: u64,
    /// When it was last changed, or for Windows written.
    changed: SystemTime,
    written: SystemTime,
}

impl Signature {
    #[cfg(unix)]
    fn of(found: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let since_1970 = Duration::new(
            found.ctime().try_into().ok()?,
            found.ctime_nsec().try_into().ok()?,
        );
        Some(Self {
            number: (found.dev(), found.ino()),
            length: found.len(),
            changed: UNIX_EPOCH.checked_add(since_1970)?,
            written: found.modified().ok()?,
        })
    }

    #[cfg(not(unix))]
    fn of(found: &Metadata) -> Option<Self> {
        Some(Self {
            number: (0, 0),
            length: found.len(),
            changed: found.created().unwrap_or(UNIX_EPOCH),
            written: found.modified().ok()?,
        })
    }

    /// A file of the future, by a clock that was set back, never is.
    fn is_settled(&self) -> bool {
        let last = self.changed.max(self.written);
        last.elapsed().is_ok_and(|age| age > SETTLED_AFTER)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::File;
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    /// Files that have been left alone for long enough.
    fn settled(contents: &[(&str, &str)]) -> TempDir {
        let directory = TempDir::new().unwrap();
        for (name, content) in contents {
            fs::write(directory.path().join(name), content).unwrap();
        }
        thread::sleep(SETTLED_AFTER + Duration::from_millis(100));
        directory
    }

    fn read(versions: &SettledVersions, path: &Path) {
        versions.put("crm", &fs::metadata(path).unwrap(), 7);
    }

    #[test]
    fn a_file_has_its_version_until_it_is_written_replaced_or_removed() {
        let directory = settled(&[("crm", "one"), ("new", "two")]);
        let path = directory.path().join("crm");
        let versions = SettledVersions::default();
        assert_eq!(versions.get("crm", &path), None);
        read(&versions, &path);
        assert_eq!(versions.get("crm", &path), Some(7));
        assert_eq!(versions.get("other", &path), None);

        // As long as it was, and with the time it had.
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(written)
            .unwrap();
        assert_eq!(versions.get("crm", &path), None);

        let new = directory.path().join("new");
        read(&versions, &new);
        assert_eq!(versions.get("crm", &new), Some(7));
        fs::rename(&path, &new).unwrap();
        assert_eq!(versions.get("crm", &new), None);
        fs::remove_file(&new).unwrap();
        assert_eq!(versions.get("crm", &new), None);
    }

    #[test]
    fn a_file_that_was_written_just_now_is_read_again() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("crm");
        fs::write(&path, "one").unwrap();
        let versions = SettledVersions::default();
        read(&versions, &path);
        assert_eq!(versions.get("crm", &path), None);
    }
}
