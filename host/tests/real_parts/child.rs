//! A host in a process of its own, which names each effect as it comes to it
//! and kills itself with `kill -9` where it is told to. It is this test program
//! once more.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokenwell::{
    Event, FileStore, Host, Lease, Loaded, LocalSecrets, SealingKey, SecretError, Secrets,
    StoreError, Swapped, TokenStore,
};

use crate::authorized::{built, connection};

/// What tells the program that it is such a host: where to die, or `nowhere`.
const DIE_AT: &str = "TOKENWELL_TEST_DIE_AT";
const DIRECTORY: &str = "TOKENWELL_TEST_DIRECTORY";
const CONFIG: &str = "TOKENWELL_TEST_CONFIG";

/// Starts a host that renews the token in that directory, and dies there. It
/// prints each boundary that it passes.
pub fn start(directory: &Path, config: &str, die_at: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program)
        .args([
            "--exact",
            "child::a_host_that_renews_and_may_die",
            "--nocapture",
        ])
        .env(DIE_AT, die_at)
        .env(DIRECTORY, directory)
        .env(CONFIG, config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The boundaries in what such a host printed.
pub fn boundaries(stdout: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stdout);
    let passed = text
        .lines()
        .filter_map(|line| line.split_once("boundary: "));
    passed.map(|(_, name)| name.to_owned()).collect()
}

#[test]
fn a_host_that_renews_and_may_die() {
    let (Ok(die_at), Ok(directory), Ok(config)) = (
        std::env::var(DIE_AT),
        std::env::var(DIRECTORY),
        std::env::var(CONFIG),
    ) else {
        // An ordinary run of the tests: nobody has asked for such a host.
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let wire = Arc::new(Tripwire {
            die_at,
            passed: Mutex::default(),
        });
        let store = Arc::new(FileStore::new(&directory));
        let secrets = LocalSecrets::in_directory(&directory).with_store(Arc::clone(&store) as _);
        let telling = Arc::clone(&wire);
        let host = built(
            Host::builder()
                .store(Wired {
                    inner: store,
                    wire: Arc::clone(&wire),
                })
                .secrets(WiredSecrets {
                    inner: secrets,
                    wire: Arc::clone(&wire),
                })
                .events(move |event: Event| telling.pass(&format!("event {}", event.kind))),
        );
        let connection = connection(&host, &config).await;
        wire.pass("before the call");
        let renewed = connection.refresh().await;
        wire.pass("after the call");
        if let Err(error) = renewed {
            println!("failed: {error}");
        }
    });
}

/// Counts the boundaries, and kills this process at one of them.
struct Tripwire {
    die_at: String,
    passed: Mutex<Vec<String>>,
}

impl Tripwire {
    fn pass(&self, boundary: &str) {
        let mut passed = self.passed.lock().unwrap();
        passed.push(boundary.to_owned());
        let times = passed.iter().filter(|name| *name == boundary).count();
        let name = format!("{boundary} ({times})");
        if name == self.die_at {
            let own = std::process::id().to_string();
            let killed = Command::new("kill").args(["-9", &own]).status();
            panic!("it lives on: {killed:?}");
        }
        println!("boundary: {name}");
    }
}

struct Wired<S> {
    inner: S,
    wire: Arc<Tripwire>,
}

#[async_trait]
impl<S: TokenStore> TokenStore for Wired<S> {
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        self.wire.pass("load begins");
        let loaded = self.inner.load(key, known).await;
        self.wire.pass("load ends");
        loaded
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        self.wire.pass("swap begins");
        let swapped = self.inner.compare_and_swap(key, expected, value, fence);
        let swapped = swapped.await;
        self.wire.pass("swap ends");
        swapped
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError> {
        self.wire.pass("deletion begins");
        let deleted = self.inner.delete(key, expected).await;
        self.wire.pass("deletion ends");
        deleted
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        self.wire.pass("lease is asked for");
        let lease = self.inner.acquire_lease(key, ttl, wait).await?;
        self.wire.pass("lease is taken");
        let wire = Arc::clone(&self.wire);
        Ok(lease.map(|inner| {
            Box::new(WiredLease {
                inner: Some(inner),
                wire,
            }) as _
        }))
    }
}

struct WiredLease {
    inner: Option<Box<dyn Lease>>,
    wire: Arc<Tripwire>,
}

impl Lease for WiredLease {
    fn fence(&self) -> u64 {
        self.inner.as_ref().map_or(0, |lease| lease.fence())
    }
}

impl Drop for WiredLease {
    fn drop(&mut self) {
        self.wire.pass("lease is given back");
        self.inner = None;
        self.wire.pass("lease is gone");
    }
}

struct WiredSecrets {
    inner: LocalSecrets,
    wire: Arc<Tripwire>,
}

#[async_trait]
impl Secrets for WiredSecrets {
    async fn resolve(&self, reference: &str) -> Result<String, SecretError> {
        self.inner.resolve(reference).await
    }

    async fn sealing_keys(&self, needed: Option<&str>) -> Result<Vec<SealingKey>, SecretError> {
        self.wire.pass("keys are asked for");
        self.inner.sealing_keys(needed).await
    }

    async fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, SecretError> {
        self.inner.sign(key, algorithm, data).await
    }

    async fn public_key(&self, key: &str) -> Result<String, SecretError> {
        self.inner.public_key(key).await
    }

    async fn verify(
        &self,
        jwk: &str,
        algorithm: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, SecretError> {
        self.inner.verify(jwk, algorithm, data, signature).await
    }
}
