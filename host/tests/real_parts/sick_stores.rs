//! Stores that are full, read-only, slow, or away for a while.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenwell::{
    AuthorizationOptions, Connection, Error, FileStore, Host, Lease, Loaded, LocalSecrets,
    Redirect, StoreError, Swapped, TokenOptions, TokenStore,
};
use tokenwell_tests::{Answer, Part, ScriptedServer, query_parameter, report};

use crate::authorized::{assert_nothing_is_torn, built, connection};

/// A token response of that number.
pub fn tokens(number: usize, expires_in: u32) -> Value {
    json!({
        "access_token": format!("access-{number}"),
        "refresh_token": format!("refresh-{number}"),
        "token_type": "Bearer",
        "expires_in": expires_in,
    })
}

pub fn config(server: &ScriptedServer) -> String {
    json!({
        "client_id": "client",
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
        "redirect_uri": "https://client.example/oauth2",
        "timeout": 20,
    })
    .to_string()
}

/// Authorizes a connection, which is given the tokens of number 1.
pub async fn authorize(connection: &Connection, server: &ScriptedServer, expires_in: u32) {
    server.answer("/token", Answer::json(200, &tokens(1, expires_in)));
    let pending = connection
        .begin_authorization(AuthorizationOptions::default())
        .await
        .unwrap();
    let state = query_parameter(&pending.authorization_url, "state");
    let redirect = format!("https://client.example/oauth2?code=c&state={state}");
    connection
        .complete_authorization(Redirect::Url(redirect))
        .await
        .unwrap();
}

async fn access_token(connection: &Connection) -> String {
    let token = connection.token(TokenOptions::default()).await.unwrap();
    token.access_token
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Absent where nothing can be mounted, which is then told.
    fn mount() -> Option<Self> {
        if Part::Mount.is_lacking() {
            return None;
        }
        let directory = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs"])
            .arg(directory.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "not mounted");
        Some(Self { directory })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn remount(&self, option: &str) {
        let remounted = Command::new("mount")
            .args(["-o", &format!("remount,{option}")])
            .arg(self.path())
            .status();
        assert!(remounted.is_ok_and(|status| status.success()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a store may still have a file open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Fills a file system to its last byte.
fn fill(directory: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(directory.join("filling")).unwrap();
    for size in [4096, 512, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

fn make_room(directory: &Path) {
    std::fs::remove_file(directory.join("filling")).unwrap();
}

fn record(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("crm.tokens")).unwrap()
}

async fn on_small_disk() -> Option<(SmallDisk, ScriptedServer, Connection)> {
    let disk = SmallDisk::mount()?;
    let server = ScriptedServer::start();
    let host = built(Host::in_directory(disk.path()));
    let connection = connection(&host, &config(&server)).await;
    authorize(&connection, &server, 3600).await;
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    Some((disk, server, connection))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_sent_and_nothing_is_lost() {
    let Some((disk, server, connection)) = on_small_disk().await else {
        return;
    };
    let before = record(disk.path());
    fill(disk.path());
    let refused = connection.refresh().await;
    assert!(matches!(refused, Err(Error::Storage(_))), "{refused:?}");
    assert_eq!(server.requests_to("/token").len(), 1, "a renewal was sent");
    assert_eq!(record(disk.path()), before);
    // What is fresh is handed out all the same.
    assert_eq!(access_token(&connection).await, "access-1");
    make_room(disk.path());
    connection.refresh().await.unwrap();
    assert_eq!(access_token(&connection).await, "access-2");
    report("a disk that is full: nothing sent, lost: 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_for_a_moment_does_not_cost_the_new_refresh_token() {
    let Some((disk, server, connection)) = on_small_disk().await else {
        return;
    };
    let directory = disk.path().to_owned();
    server.script("/token", move |_| {
        // The server has acted, and now there is no room for what it says.
        fill(&directory);
        let freed = directory.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            make_room(&freed);
        });
        Answer::json(200, &tokens(2, 3600))
    });
    connection.refresh().await.unwrap();
    assert_eq!(access_token(&connection).await, "access-2");
    server.answer("/token", Answer::json(200, &tokens(3, 3600)));
    connection.refresh().await.unwrap();
    let spent = server.requests_to("/token").pop().unwrap().form();
    assert_eq!(tokenwell_tests::only(&spent, "refresh_token"), "refresh-2");
    assert_nothing_is_torn(disk.path());
    report("a disk that is full while a renewal is stored: lost: 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_read_only_disk_what_is_fresh_is_handed_out_and_nothing_is_sent() {
    let Some((disk, server, connection)) = on_small_disk().await else {
        return;
    };
    disk.remount("ro");
    assert_eq!(access_token(&connection).await, "access-1");
    let refused = connection.refresh().await;
    assert!(matches!(refused, Err(Error::Storage(_))), "{refused:?}");
    assert_eq!(server.requests_to("/token").len(), 1, "a renewal was sent");
    disk.remount("rw");
    connection.refresh().await.unwrap();
    assert_eq!(access_token(&connection).await, "access-2");
    report("a disk that is read-only: nothing sent, lost: 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_taken_away_and_comes_back_has_lost_nothing() {
    let directory = TempDir::new().unwrap();
    let (here, away) = (directory.path().join("here"), directory.path().join("away"));
    let server = ScriptedServer::start();
    let host = built(Host::in_directory(&here));
    let connection = connection(&host, &config(&server)).await;
    authorize(&connection, &server, 3600).await;
    std::fs::rename(&here, &away).unwrap();
    let gone = connection.token(TokenOptions::default()).await;
    assert!(matches!(gone, Err(Error::NotAuthorized(_))), "{gone:?}");
    let _ = std::fs::remove_dir_all(&here);
    std::fs::rename(&away, &here).unwrap();
    assert_eq!(access_token(&connection).await, "access-1");
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    connection.refresh().await.unwrap();
    assert_eq!(access_token(&connection).await, "access-2");
}

/// A store of files that takes its time, and fails while it is told to.
struct Sick {
    inner: FileStore,
    delay: Duration,
    fails: Arc<AtomicBool>,
}

impl Sick {
    async fn suffer(&self) -> Result<(), StoreError> {
        tokio::time::sleep(self.delay).await;
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("it is away".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl TokenStore for Sick {
    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        self.suffer().await?;
        self.inner.load(key, known).await
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Vec<u8>,
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        self.suffer().await?;
        self.inner
            .compare_and_swap(key, expected, value, fence)
            .await
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<bool, StoreError> {
        self.suffer().await?;
        self.inner.delete(key, expected).await
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Option<Box<dyn Lease>>, StoreError> {
        self.suffer().await?;
        self.inner.acquire_lease(key, ttl, wait).await
    }
}

fn sick_host(directory: PathBuf, delay: Duration) -> (Host, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let store = Sick {
        inner: FileStore::new(&directory),
        delay,
        fails: Arc::clone(&fails),
    };
    let secrets = LocalSecrets::in_directory(directory);
    (built(Host::builder().store(store).secrets(secrets)), fails)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_slows_a_renewal_down_and_no_more() {
    let directory = TempDir::new().unwrap();
    let server = ScriptedServer::start();
    let (host, _) = sick_host(directory.path().to_owned(), Duration::from_millis(200));
    let connection = connection(&host, &config(&server)).await;
    authorize(&connection, &server, 3600).await;
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    let rejected = || TokenOptions {
        rejected: Some("access-1".to_owned()),
        ..TokenOptions::default()
    };
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let connection = connection.clone();
        callers.spawn(async move { connection.token(rejected()).await.unwrap().access_token });
    }
    for token in callers.join_all().await {
        assert_eq!(token, "access-2");
    }
    assert_eq!(server.requests_to("/token").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_while_the_server_answers_does_not_cost_the_new_refresh_token() {
    let directory = TempDir::new().unwrap();
    let server = ScriptedServer::start();
    let (host, fails) = sick_host(directory.path().to_owned(), Duration::ZERO);
    let connection = connection(&host, &config(&server)).await;
    authorize(&connection, &server, 3600).await;
    server.script("/token", move |_| {
        fails.store(true, Ordering::SeqCst);
        let back = Arc::clone(&fails);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(2));
            back.store(false, Ordering::SeqCst);
        });
        Answer::json(200, &tokens(2, 3600))
    });
    connection.refresh().await.unwrap();
    assert_eq!(access_token(&connection).await, "access-2");
    report("a store that is away while a renewal is stored: lost: 0");
}
