//! Records in files, for any number of processes on one machine.
//!
//! # The files, for hosts in other languages
//! With `DIR` the directory and `KEY` the key (letters, digits, `.`, `_`, `-`;
//! no leading dot; at most 100):
//!
//! | file | content |
//! |---|---|
//! | `DIR/KEY` | the record: `{"format":"tokenwell-record","format_version":1,"version":N,"sealed":"BASE64"}` and a newline |
//! | `DIR/.locks/KEY.lock` | nothing; its `flock` (exclusive) guards every write below, and is held for as short as that takes |
//! | `DIR/.locks/KEY.lease` | the last lease: `{"fence":N,"expires_at_ms":N,"deleted_version":N}` |
//! | `DIR/.locks/KEY.holder.FENCE` | nothing; its `flock` is held by the holder of that lease for as long as it lives |
//!
//! - **Read** a record without any lock: it is only ever replaced whole.
//! - **Write** under `KEY.lock`: compare the version; compare the fence with the
//!   one in `KEY.lease` (a smaller one is fenced); write a temporary file beside
//!   the record, `fsync` it, rename it over the record, `fsync` the directory.
//!   The new version is the greater of the old one plus 1 and the time in
//!   microseconds since 1970, so that it also grows across a deletion.
//! - **Delete** under `KEY.lock`: write the version into `deleted_version` of
//!   `KEY.lease`, which later versions have to exceed, then remove the record.
//! - **Take the lease** under `KEY.lock`: it is held if `expires_at_ms` (since
//!   1970) is to come *and* `KEY.holder.FENCE` is there *and* is locked.
//!   Otherwise take the next fence (the greater of the old one plus 1 and the
//!   time in microseconds), create and lock `KEY.holder.FENCE`, replace
//!   `KEY.lease`, remove the old holder file. The kernel drops the lock of a
//!   process that dies, so its lease passes on at once; that of one that stalls
//!   passes on when it expires.
//! - **Release** it: remove `KEY.holder.FENCE` and close it. No lock is needed.

mod settled;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use self::settled::SettledVersions;
use super::turnstile::{Attempt, Turnstile, Turnstiles};
use super::{LONGEST_LEASE, Lease, TokenStore, check_key};
use crate::contract::{Entry, Loaded, StoreError, Swapped};
use crate::files::{self, Durability};

/// What a record file says it is.
const FORMAT: &str = "tokenwell-record";

/// The one version of that format.
const FORMAT_VERSION: u64 = 1;

/// More than a record ever has, in bytes.
const RECORD_LIMIT: u64 = 16 << 20;

/// The longest pause between two looks at a lease that another process holds.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Keeps each record in a file of a directory, which is created when first
/// written to. Any number of processes on the machine can share the directory.
/// Clones wait for leases in one queue.
#[derive(Clone)]
pub struct FileStore {
    directory: Arc<PathBuf>,
    turnstiles: Arc<Turnstiles>,
    settled: Arc<SettledVersions>,
}

impl FileStore {
    /// A store in that directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: Arc::new(directory.into()),
            turnstiles: Arc::default(),
            settled: Arc::default(),
        }
    }

    fn slot(&self, key: &str) -> Result<Slot, StoreError> {
        check_key(key)?;
        Ok(Slot {
            directory: Arc::clone(&self.directory),
            settled: Arc::clone(&self.settled),
            key: key.to_owned(),
        })
    }
}

#[async_trait]
impl TokenStore for FileStore {
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        let slot = self.slot(key)?;
        // One look at a file takes a tenth of what it takes to have another
        // thread do it.
        let settled = || self.settled.get(key, &slot.record_file());
        if known.is_some() && settled() == known {
            return Ok(Loaded::Unchanged);
        }
        blocking(move || {
            Ok(match slot.read()? {
                None => Loaded::Absent,
                Some(entry) if Some(entry.version) == known => Loaded::Unchanged,
                Some(entry) => Loaded::Entry(entry),
            })
        })
        .await
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        let slot = self.slot(key)?;
        blocking(move || slot.compare_and_swap(expected, &value, fence)).await
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError> {
        let slot = self.slot(key)?;
        blocking(move || slot.delete(expected)).await
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        let slot = self.slot(key)?;
        let turnstile = self.turnstiles.at(key);
        let mut pause = Duration::from_millis(5);
        turnstile
            .pass(wait, || {
                let slot = slot.clone();
                let turnstile = Arc::clone(&turnstile);
                let again = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                async move {
                    let attempt = blocking(move || slot.take_lease(ttl)).await?;
                    Ok(match attempt {
                        Attempt::Held(lapse) => Attempt::Held(lapse.min(again)),
                        Attempt::Taken(holder) => {
                            let _released = Released(turnstile);
                            let lease = FileLease { holder, _released };
                            Attempt::Taken(Box::new(lease) as Box<dyn Lease>)
                        }
                    })
                }
            })
            .await
    }
}

/// Runs what waits for the file system where waiting is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(StoreError::Unavailable(error.to_string())),
    }
}

/// The files of one key.
#[derive(Clone)]
struct Slot {
    directory: Arc<PathBuf>,
    settled: Arc<SettledVersions>,
    key: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: String,
    format_version: u64,
    version: u64,
    sealed: String,
}

/// What can be read of a record of any version.
#[derive(Deserialize)]
struct RecordHead {
    format: String,
    format_version: u64,
}

/// The content of `KEY.lease`. One that cannot be read counts as none: fences
/// and versions then go on from the clock.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct LeaseState {
    fence: u64,
    expires_at_ms: u64,
    deleted_version: u64,
}

impl Slot {
    fn record_file(&self) -> PathBuf {
        self.directory.join(&self.key)
    }

    fn lock_file(&self, suffix: &str) -> PathBuf {
        let name = format!("{}.{suffix}", self.key);
        self.directory.join(".locks").join(name)
    }

    fn holder_file(&self, fence: u64) -> PathBuf {
        self.lock_file(&format!("holder.{fence}"))
    }

    fn lock(&self) -> Result<File, StoreError> {
        files::create_private_directory(&self.directory.join(".locks"))
            .and_then(|()| files::lock(&self.lock_file("lock")))
            .map_err(|e| self.failed("locking", &e))
    }

    fn read(&self) -> Result<Option<Entry>, StoreError> {
        let path = self.record_file();
        let mut content = Vec::new();
        let found = match File::open(&path) {
            Ok(file) => {
                let found = file.metadata();
                let read = file.take(RECORD_LIMIT + 1).read_to_end(&mut content);
                let found = read.and(found);
                found.map_err(|e| self.failed("reading", &e))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.settled.forget(&self.key);
                return Ok(None);
            }
            Err(error) => return Err(self.failed("reading", &error)),
        };
        if content.len() as u64 > RECORD_LIMIT {
            return Err(corrupt(&path, "is longer than any record"));
        }
        let not_a_record = || corrupt(&path, "is not a whole token record");
        let head: RecordHead = serde_json::from_slice(&content).map_err(|_| not_a_record())?;
        if head.format != FORMAT {
            return Err(not_a_record());
        }
        if head.format_version != FORMAT_VERSION {
            return Err(corrupt(
                &path,
                &format!(
                    "has format version {}; this version reads {FORMAT_VERSION}",
                    head.format_version
                ),
            ));
        }
        let record: Record = serde_json::from_slice(&content).map_err(|_| not_a_record())?;
        let value = STANDARD.decode(record.sealed).map_err(|_| not_a_record())?;
        self.settled.put(&self.key, &found, record.version);
        Ok(Some(Entry {
            version: record.version,
            value,
        }))
    }

    fn compare_and_swap(
        &self,
        expected: Option<u64>,
        value: &[u8],
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        let _lock = self.lock()?;
        let state = self.lease_state()?;
        if fence.is_some_and(|fence| fence < state.fence) {
            return Ok(Swapped::Fenced);
        }
        let current = self.read()?;
        let version = current.as_ref().map(|entry| entry.version);
        if version != expected {
            return Ok(Swapped::Stale(current));
        }
        let version = next_number(version.unwrap_or(state.deleted_version))?;
        let record = Record {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            version,
            sealed: STANDARD.encode(value),
        };
        self.write_json(&self.record_file(), &record, Durability::Durable)?;
        Ok(Swapped::Stored(version))
    }

    fn delete(&self, expected: u64) -> Result<bool, StoreError> {
        let _lock = self.lock()?;
        if self.read()?.map(|entry| entry.version) != Some(expected) {
            return Ok(false);
        }
        let mut state = self.lease_state()?;
        state.deleted_version = expected;
        self.write_json(&self.lock_file("lease"), &state, Durability::Durable)?;
        fs::remove_file(self.record_file())
            .and_then(|()| files::sync_directory(&self.directory))
            .map_err(|e| self.failed("deleting", &e))?;
        Ok(true)
    }

    fn take_lease(&self, ttl: Duration) -> Result<Attempt<Holder>, StoreError> {
        let _lock = self.lock()?;
        let mut state = self.lease_state()?;
        let now = since_1970()?;
        let left = Duration::from_millis(state.expires_at_ms).saturating_sub(now);
        let previous = self.holder_file(state.fence);
        if !left.is_zero() && is_locked(&previous).map_err(|e| self.failed("locking", &e))? {
            return Ok(Attempt::Held(left));
        }
        state.fence = next_number(state.fence)?;
        state.expires_at_ms = number((now + ttl.min(LONGEST_LEASE)).as_millis())?;

        let path = self.holder_file(state.fence);
        let holder = Holder {
            fence: state.fence,
            file: files::lock(&path).map_err(|e| self.failed("locking", &e))?,
            path,
        };
        self.write_json(&self.lock_file("lease"), &state, Durability::Volatile)?;
        files::remove_if_there(&previous).map_err(|e| self.failed("locking", &e))?;
        Ok(Attempt::Taken(holder))
    }

    fn lease_state(&self) -> Result<LeaseState, StoreError> {
        match fs::read(self.lock_file("lease")) {
            Ok(content) => Ok(serde_json::from_slice(&content).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LeaseState::default()),
            Err(error) => Err(self.failed("reading the lease of", &error)),
        }
    }

    fn write_json(
        &self,
        path: &Path,
        content: &impl Serialize,
        durability: Durability,
    ) -> Result<(), StoreError> {
        serde_json::to_vec(content)
            .map_err(io::Error::other)
            .and_then(|mut json| {
                json.push(b'\n');
                files::replace(path, &json, durability)
            })
            .map_err(|e| self.failed("writing", &e))
    }

    fn failed(&self, doing: &str, error: &io::Error) -> StoreError {
        StoreError::Unavailable(format!(
            "{doing} {} failed: {error}",
            self.record_file().display()
        ))
    }
}

fn corrupt(path: &Path, what: &str) -> StoreError {
    StoreError::Corrupt(format!("{} {what}", path.display()))
}

/// Whether a live process has that file locked.
fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match files::private_file().open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A number greater than that one, and than any given out before it, even if
/// there is no memory of those.
fn next_number(previous: u64) -> Result<u64, StoreError> {
    let now = number(since_1970()?.as_micros())?;
    Ok(previous.saturating_add(1).max(now))
}

fn since_1970() -> Result<Duration, StoreError> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| StoreError::Unavailable("the clock is before 1970".to_owned()))
}

fn number(wide: u128) -> Result<u64, StoreError> {
    u64::try_from(wide)
        .map_err(|_| StoreError::Unavailable("the clock is beyond all bounds".to_owned()))
}

/// The locked holder file of a lease.
struct Holder {
    fence: u64,
    file: File,
    path: PathBuf,
}

/// Fields are dropped in their order: first the lock ends, then the next in the
/// queue is told.
struct FileLease {
    holder: Holder,
    _released: Released,
}

struct Released(Arc<Turnstile>);

impl Lease for FileLease {
    fn fence(&self) -> u64 {
        self.holder.fence
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Where either fails, the lock still ends as the file is closed.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Deref;

    use tempfile::TempDir;

    use super::*;

    /// A store in a directory that goes with it.
    struct Temporary {
        store: FileStore,
        directory: TempDir,
    }

    impl Temporary {
        fn new() -> Self {
            let directory = TempDir::new().unwrap();
            Self {
                store: FileStore::new(directory.path().join("connections")),
                directory,
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join("connections").join(name)
        }

        async fn put(&self, expected: Option<u64>, value: &[u8]) -> u64 {
            match self
                .compare_and_swap("crm.tokens", expected, value.to_vec(), None)
                .await
            {
                Ok(Swapped::Stored(version)) => version,
                other => panic!("{other:?}"),
            }
        }
    }

    impl Deref for Temporary {
        type Target = FileStore;

        fn deref(&self) -> &FileStore {
            &self.store
        }
    }

    #[async_trait]
    impl TokenStore for Temporary {
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
            self.store
                .compare_and_swap(key, expected, value, fence)
                .await
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

    crate::conformance_tests!(Temporary::new());

    #[tokio::test]
    async fn a_record_is_one_json_object_and_a_newline() {
        let store = Temporary::new();
        let version = store.put(None, b"value").await;
        assert_eq!(
            fs::read_to_string(store.path("crm.tokens")).unwrap(),
            format!(
                "{{\"format\":\"tokenwell-record\",\"format_version\":1,\"version\":{version},\
                 \"sealed\":\"dmFsdWU=\"}}\n"
            )
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn files_and_directories_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;

        let store = Temporary::new();
        store.put(None, b"value").await;
        let _lease = store
            .acquire_lease("crm.tokens", Duration::MAX, Duration::ZERO)
            .await;
        let mut paths = vec![store.path(""), store.path(".locks")];
        for directory in paths.clone() {
            paths.extend(
                fs::read_dir(directory)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        assert!(paths.len() > 5, "{paths:?}");
        for path in paths {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{}", path.display());
        }
    }

    #[tokio::test]
    async fn reading_creates_nothing() {
        let store = Temporary::new();
        assert_eq!(store.load("crm.tokens", None).await, Ok(Loaded::Absent));
        assert!(!store.path("").exists());
    }

    #[tokio::test]
    async fn no_temporary_and_no_holder_file_stays_behind() {
        let store = Temporary::new();
        let version = store.put(None, b"one").await;
        store.put(Some(version), b"two").await;
        drop(
            store
                .acquire_lease("crm.tokens", Duration::from_secs(9), Duration::ZERO)
                .await,
        );
        let mut names: Vec<_> = [store.path(""), store.path(".locks")]
            .iter()
            .flat_map(|directory| fs::read_dir(directory).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                ".locks",
                "crm.tokens",
                "crm.tokens.lease",
                "crm.tokens.lock"
            ]
        );
    }

    #[tokio::test]
    async fn what_a_dead_writer_left_is_no_hindrance() {
        let store = Temporary::new();
        let version = store.put(None, b"one").await;
        fs::write(store.path(".crm.tokens.tmp"), b"half").unwrap();
        store.put(Some(version), b"two").await;
        assert!(!store.path(".crm.tokens.tmp").exists());
    }

    #[test]
    fn missing_permissions_are_no_policy() {
        let store = Temporary::new();
        let slot = store.slot("crm.tokens").unwrap();
        for kind in [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        ] {
            let failed = slot.failed("writing", &kind.into());
            assert!(matches!(failed, StoreError::Unavailable(_)), "{failed:?}");
        }
    }

    #[tokio::test]
    async fn keys_that_could_leave_the_directory_are_denied() {
        let store = Temporary::new();
        let long = "k".repeat(101);
        for key in [
            "", ".", "..", ".locks", "../up", "a/b", "a\\b", "a\0b", "ä", "a b", &long,
        ] {
            let loaded = store.load(key, None).await;
            assert!(
                matches!(loaded, Err(StoreError::Denied(_))),
                "{key:?}: {loaded:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_damaged_record_is_corrupt_and_stays_as_it_is() {
        let whole =
            r#"{"format":"tokenwell-record","format_version":1,"version":3,"sealed":"dmFsdWU="}"#;
        let newer = whole.replace("\"format_version\":1", "\"format_version\":2");
        let foreign = whole.replace("tokenwell-record", "other");
        let bad_base64 = whole.replace("dmFsdWU=", "dmFsdWU");
        for content in [
            "",
            "{",
            &whole[..40],
            "[]",
            "<html>",
            &newer,
            &foreign,
            &bad_base64,
        ] {
            let store = Temporary::new();
            store.put(None, b"first").await;
            fs::write(store.path("crm.tokens"), content).unwrap();

            let loaded = store.load("crm.tokens", None).await;
            assert!(
                matches!(loaded, Err(StoreError::Corrupt(_))),
                "{content}: {loaded:?}"
            );
            let swapped = store
                .compare_and_swap("crm.tokens", None, b"new".to_vec(), None)
                .await;
            assert!(
                matches!(swapped, Err(StoreError::Corrupt(_))),
                "{content}: {swapped:?}"
            );
            let deleted = store.delete("crm.tokens", 3).await;
            assert!(
                matches!(deleted, Err(StoreError::Corrupt(_))),
                "{content}: {deleted:?}"
            );
            assert_eq!(
                fs::read_to_string(store.path("crm.tokens")).unwrap(),
                content
            );
        }
    }

    #[tokio::test]
    async fn a_record_of_a_later_version_says_so() {
        let store = Temporary::new();
        store.put(None, b"first").await;
        fs::write(
            store.path("crm.tokens"),
            r#"{"format":"tokenwell-record","format_version":2,"sealed":{"new":true}}"#,
        )
        .unwrap();
        let Err(StoreError::Corrupt(text)) = store.load("crm.tokens", None).await else {
            panic!("not corrupt");
        };
        assert!(text.contains("format version 2"), "{text}");
    }

    #[tokio::test]
    async fn a_lost_lease_file_does_not_turn_fences_or_versions_back() {
        let store = Temporary::new();
        let version = store.put(None, b"one").await;
        let acquire = || store.acquire_lease("crm.tokens", Duration::from_secs(9), Duration::ZERO);
        let fence = acquire().await.unwrap().unwrap().fence();
        store.delete("crm.tokens", version).await.unwrap();
        fs::write(store.path(".locks/crm.tokens.lease"), "{\"fen").unwrap();

        assert!(acquire().await.unwrap().unwrap().fence() > fence);
        assert!(store.put(None, b"two").await > version);
    }

    #[tokio::test]
    async fn two_stores_on_one_directory_exclude_each_other() {
        let one = Temporary::new();
        let other = FileStore::new(one.path(""));
        let ttl = Duration::from_secs(60);
        let held = one
            .acquire_lease("crm.tokens", ttl, Duration::ZERO)
            .await
            .unwrap();
        assert!(held.is_some());
        let refused = other
            .acquire_lease("crm.tokens", ttl, Duration::from_millis(20))
            .await;
        assert!(matches!(refused, Ok(None)));
        drop(held);
        let taken = other.acquire_lease("crm.tokens", ttl, ttl).await;
        assert!(matches!(taken, Ok(Some(_))));
    }
}
