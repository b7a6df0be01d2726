//! One renewal, however many ask: tasks in one host, processes, on every store;
//! and stores that go away in the middle of it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokenwell::{Connection, Error, Host, LocalSecrets, TokenOptions, TokenStore, store};
use tokenwell_tests::{
    Answer, Part, PostgresServer, RedisServer, ScriptedServer, faults, form, only, report,
};

use crate::authorized::{built, connection};
use crate::sick_stores::{authorize, config, tokens};

/// A store that tests race on, with what it lives in.
struct Stage {
    url: String,
    name: &'static str,
    directory: TempDir,
    _postgres: Option<Arc<PostgresServer>>,
    _redis: Option<Arc<RedisServer>>,
}

impl Stage {
    fn new(name: &'static str) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mut stage = Self {
            url: format!("file:{}", directory.path().join("store").display()),
            name,
            directory,
            _postgres: None,
            _redis: None,
        };
        match name {
            "files" => {}
            "PostgreSQL" if Part::Postgres.is_lacking() => return None,
            "PostgreSQL" => {
                let server = PostgresServer::shared();
                stage.url = server.new_database();
                stage._postgres = Some(server);
            }
            "Redis" if Part::Redis.is_lacking() => return None,
            "Redis" => {
                let server = RedisServer::shared();
                stage.url = server.new_database();
                stage._redis = Some(server);
            }
            other => panic!("there is no store {other}"),
        }
        Some(stage)
    }

    fn host(&self) -> Host {
        let store = store::open(&self.url).unwrap();
        host_on(store, self.directory.path())
    }
}

fn host_on(store: Arc<dyn TokenStore>, directory: &Path) -> Host {
    let secrets = LocalSecrets::in_directory(directory).with_store(Arc::clone(&store));
    built(Host::builder().store(store).secrets(secrets))
}

/// Waits until a token that lives for a second has expired.
async fn until_expired(connection: &Connection) {
    let expires_at = connection.status().await.unwrap().expires_at.unwrap();
    let now = || {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        since.as_secs()
    };
    while now() <= expires_at {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Long enough that everybody asks while the first one waits.
const SLOWLY: Duration = Duration::from_secs(1);

/// An expired token of number 1 on a host, and a server that answers slowly with
/// number 2.
async fn expired(host: &Host) -> (ScriptedServer, Connection) {
    let server = ScriptedServer::start();
    let connection = connection(host, &config(&server)).await;
    authorize(&connection, &server, 1).await;
    until_expired(&connection).await;
    server.answer("/token", Answer::json(200, &tokens(2, 3600)).after(SLOWLY));
    (server, connection)
}

async fn a_thousand_tasks(name: &'static str) {
    let Some(stage) = Stage::new(name) else {
        return;
    };
    a_thousand_tasks_of(&stage.host(), name).await;
}

async fn a_thousand_tasks_of(host: &Host, name: &str) {
    let (server, connection) = expired(host).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let connection = connection.clone();
        callers.spawn(async move { connection.token(TokenOptions::default()).await });
    }
    for token in callers.join_all().await {
        assert_eq!(token.unwrap().access_token, "access-2");
    }
    let requests = server.requests_to("/token").len();
    assert_eq!(requests, 2, "one for the code, one for the renewal");
    report(&format!("1000 tasks, one expired token, {name}: 1 renewal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_on_files_cause_one_renewal() {
    a_thousand_tasks("files").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_on_postgresql_cause_one_renewal() {
    a_thousand_tasks("PostgreSQL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_on_redis_cause_one_renewal() {
    a_thousand_tasks("Redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_in_memory_cause_one_renewal() {
    a_thousand_tasks_of(&built(Host::builder()), "memory").await;
}

/// Asks for the token in a process of its own.
fn ask(stage: &Stage) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_tokenwell"))
        .arg("--dir")
        .arg(stage.directory.path())
        .args(["token", "crm"])
        .env("TOKENWELL_STORE", &stage.url)
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn fifty_processes(name: &'static str) {
    let Some(stage) = Stage::new(name) else {
        return;
    };
    let (server, _connection) = expired(&stage.host()).await;
    std::fs::write(stage.directory.path().join("crm.json"), config(&server)).unwrap();
    // Slow enough that all have started by then, however busy the machine.
    server.answer(
        "/token",
        Answer::json(200, &tokens(2, 3600)).after(SLOWLY * 5),
    );
    let callers: Vec<_> = (0..50).map(|_| ask(&stage)).collect();
    for caller in callers {
        let output = tokio::task::block_in_place(|| caller.wait_with_output().unwrap());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert_eq!(output.stdout, b"access-2\n");
    }
    assert_eq!(server.requests_to("/token").len(), 2);
    report(&format!(
        "50 processes, one expired token, {}: 1 renewal",
        stage.name
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_processes_on_files_cause_one_renewal() {
    fifty_processes("files").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_processes_on_postgresql_cause_one_renewal() {
    fifty_processes("PostgreSQL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_processes_on_redis_cause_one_renewal() {
    fifty_processes("Redis").await;
}

/// A server that replaces the refresh token at each use and takes a second use
/// of one for theft.
fn rotate(server: &ScriptedServer) -> Arc<AtomicUsize> {
    let current = Arc::new(AtomicUsize::new(1));
    let issued = Arc::clone(&current);
    server.script("/token", move |request| {
        let spent = form(&String::from_utf8_lossy(&request.body));
        let current = issued.load(Ordering::SeqCst);
        if only(&spent, "refresh_token") != format!("refresh-{current}") {
            return Answer::refusal(400, "invalid_grant");
        }
        let next = current + 1;
        issued.store(next, Ordering::SeqCst);
        Answer::json(200, &tokens(next, 3600))
    });
    current
}

/// Renewals by several hosts on one store while it goes away and comes back;
/// `disturb` does that, again and again.
async fn renewals_survive(url: &str, name: &str, mut disturb: impl FnMut() + Send + 'static) {
    let directory = TempDir::new().unwrap();
    let server = ScriptedServer::start();
    let first = connection(
        &host_on(store::open(url).unwrap(), directory.path()),
        &config(&server),
    )
    .await;
    authorize(&first, &server, 3600).await;
    let issued = rotate(&server);

    let is_over = Arc::new(AtomicBool::new(false));
    let (renewed, failed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut hosts = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let host = host_on(store::open(url).unwrap(), directory.path());
        let connection = connection(&host, &config(&server)).await;
        let (is_over, renewed, failed) = (
            Arc::clone(&is_over),
            Arc::clone(&renewed),
            Arc::clone(&failed),
        );
        hosts.spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                match connection.refresh().await {
                    Ok(_) => renewed.fetch_add(1, Ordering::SeqCst),
                    Err(Error::Storage(_) | Error::Unavailable(_) | Error::Forbidden(_)) => {
                        failed.fetch_add(1, Ordering::SeqCst)
                    }
                    Err(error) => panic!("{error:?}"),
                };
            }
        });
    }
    let disturbances = faults(20, 3);
    tokio::task::spawn_blocking(move || {
        for _ in 0..disturbances {
            std::thread::sleep(Duration::from_millis(700));
            disturb();
        }
    })
    .await
    .unwrap();
    is_over.store(true, Ordering::SeqCst);
    hosts.join_all().await;

    let patience = Instant::now() + Duration::from_secs(60);
    let renewed_at_last = loop {
        match first.refresh().await {
            Ok(token) => break token,
            // A lease may outlive its holder's connection for some seconds.
            Err(Error::Storage(_) | Error::Unavailable(_)) if Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    let current = issued.load(Ordering::SeqCst);
    assert_eq!(renewed_at_last.access_token, format!("access-{current}"));
    let (renewed, failed) = (
        renewed.load(Ordering::SeqCst),
        failed.load(Ordering::SeqCst),
    );
    assert!(renewed > disturbances, "{renewed} renewals only");
    report(&format!(
        "{name} restarted {disturbances} times under 4 hosts: {renewed} calls renewed, {failed} told to come back, lost: 0"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_survive_a_postgresql_that_is_restarted() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let postgres = Arc::new(PostgresServer::start());
    let (url, disturbed) = (postgres.url(), Arc::clone(&postgres));
    let mut number = 0;
    renewals_survive(&url, "PostgreSQL", move || {
        number += 1;
        if number % 2 == 0 {
            disturbed.kill();
        } else {
            disturbed.stop();
        }
        disturbed.start_again();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_survive_a_redis_that_is_restarted() {
    if Part::Redis.is_lacking() {
        return;
    }
    let redis = Arc::new(RedisServer::start());
    let (url, disturbed) = (redis.url(), Arc::clone(&redis));
    let mut number = 0;
    renewals_survive(&url, "Redis", move || {
        number += 1;
        if number % 2 == 0 {
            disturbed.kill();
        } else {
            disturbed.stop();
        }
        disturbed.start_again();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_for_a_minute_is_not_hammered() {
    let server = ScriptedServer::start();
    let connection = connection(&built(Host::builder()), &config(&server)).await;
    authorize(&connection, &server, 1).await;
    until_expired(&connection).await;
    server.answer("/token", Answer::html(500));
    let asked_before = server.requests_to("/token").len();
    let minute = Duration::from_secs(faults(60, 3) as u64);
    let begun = Instant::now();
    let mut calls = 0;
    while begun.elapsed() < minute {
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let connection = connection.clone();
            callers.spawn(async move { connection.token(TokenOptions::default()).await });
        }
        for token in callers.join_all().await {
            calls += 1;
            assert!(matches!(token, Err(Error::Unavailable(_))), "{token:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = server.requests_to("/token").len() - asked_before;
    // Pauses of 1, 2, 4, 8, 16 and 32 seconds, each shorter by up to a quarter.
    assert!((1..=8).contains(&asked), "{asked} requests");
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    let renewed = connection.refresh().await.unwrap();
    assert_eq!(renewed.access_token, "access-2");
    report(&format!(
        "a server that fails for {} s: {calls} calls, {asked} requests, lost: 0",
        minute.as_secs()
    ));
}
