//! `RedisStore` on a real server.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokenwell::{Entry, Loaded, RedisStore, TokenStore};

use super::both::{self, KEY, On, assert_corrupt, assert_denied, assert_unavailable, held, put};
use super::certificates::certify;
use tokenwell_tests::{Part, RedisServer, free_port};

type Store = On<RedisServer, RedisStore>;

fn open(url: &str) -> RedisStore {
    RedisStore::new(url).expect("a URL")
}

fn fresh() -> Store {
    let server = RedisServer::shared();
    On {
        store: open(&server.new_database()),
        _server: server,
    }
}

fn pair() -> (Store, Store) {
    let server = RedisServer::shared();
    let url = server.new_database();
    let side = || On {
        store: open(&url),
        _server: Arc::clone(&server),
    };
    (side(), side())
}

mod conformance {
    use tokenwell_tests::Part;

    tokenwell::conformance_tests!(super::fresh(), unless Part::Redis.is_lacking());
    tokenwell::shared_conformance_tests!(super::pair(), unless Part::Redis.is_lacking());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_hold_the_lease_one_at_a_time() {
    if Part::Redis.is_lacking() {
        return;
    }
    let store = fresh();
    both::a_thousand_tasks_hold_the_lease_one_at_a_time(store.store.clone()).await;
}

#[tokio::test]
async fn a_lease_is_kept_for_as_long_as_its_holder_lives() {
    if Part::Redis.is_lacking() {
        return;
    }
    let (one, other) = pair();
    both::a_lease_is_kept_for_as_long_as_its_holder_lives(one, other).await;
}

#[tokio::test]
async fn a_lease_ends_with_its_time() {
    if Part::Redis.is_lacking() {
        return;
    }
    let (one, other) = pair();
    both::a_lease_ends_with_its_time(one, other).await;
}

#[tokio::test]
async fn the_lease_of_one_that_died_lapses_long_before_its_time() {
    if Part::Redis.is_lacking() {
        return;
    }
    let (one, other) = pair();
    both::the_lease_of_one_that_died_lapses_long_before_its_time(one, other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_survives_a_restart_of_its_server() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    both::a_store_survives_its_server(store, || server.stop(), || server.start_again()).await;
}

#[tokio::test]
async fn a_store_survives_a_crash_of_its_server() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    both::a_store_survives_its_server(store, || server.kill(), || server.start_again()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_survives_a_crash() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    both::what_was_confirmed_survives_a_crash(store, || server.kill(), || server.start_again())
        .await;
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    both::a_server_that_hangs_is_unavailable(store, || server.suspend(), || server.resume()).await;
}

#[tokio::test]
async fn an_idle_caller_does_not_see_that_the_server_was_restarted() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    let version = put(&store, None, b"one").await;
    server.stop();
    server.start_again();
    assert_eq!(store.load(KEY, Some(version)).await, Ok(Loaded::Unchanged));
    put(&store, Some(version), b"two").await;
}

#[tokio::test]
async fn a_flushed_server_does_not_turn_fences_or_versions_back() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    let version = put(&store, None, b"one").await;
    let ttl = Duration::from_secs(9);
    let fence = held(&store, ttl, Duration::ZERO).await.fence();
    server.command(&["FLUSHALL"]);
    assert_eq!(store.load(KEY, Some(version)).await, Ok(Loaded::Absent));
    assert!(put(&store, None, b"two").await > version);
    assert!(held(&store, ttl, Duration::ZERO).await.fence() > fence);
}

#[tokio::test]
async fn a_server_that_may_forget_is_denied_unless_the_url_says_so() {
    if Part::Redis.is_lacking() {
        return;
    }
    for (setting, part) in [
        ("appendonly no", "`appendonly` is `no`, not `yes`"),
        (
            "appendfsync everysec",
            "`appendfsync` is `everysec`, not `always`",
        ),
        (
            "no-appendfsync-on-rewrite yes",
            "`no-appendfsync-on-rewrite` is `yes`, not `no`",
        ),
        ("maxmemory-policy allkeys-lru", "not `noeviction`"),
    ] {
        let server = RedisServer::start_with(&[setting]);
        let loaded = open(&server.url()).load(KEY, None).await;
        assert_denied(&loaded, part);
        assert_denied(&loaded, "?durability=none");
        let store = open(&format!("{}?durability=none", server.url()));
        put(&store, None, b"one").await;
    }
}

#[tokio::test]
async fn a_user_who_may_not_look_is_denied_unless_the_url_says_so() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let rules = "+eval +hget +hmget +hset +hdel +time +select";
    let set_user = |name: &str, more: &str| {
        let mut words = vec!["ACL", "SETUSER", name, "on", ">pw", "~tokenwell:*"];
        words.extend(rules.split(' '));
        words.extend(more.split_whitespace());
        assert_eq!(server.command(&words), "OK");
    };
    set_user("blind", "");
    set_user("seeing", "+config|get");
    let url = |user: &str| format!("redis://{user}:pw@127.0.0.1:{}", server.port());

    let loaded = open(&url("blind")).load(KEY, None).await;
    assert_denied(&loaded, "?durability=none");
    for url in [url("blind") + "?durability=none", url("seeing")] {
        let store = open(&url);
        let version = put(&store, None, b"one").await;
        drop(held(&store, Duration::from_secs(1), Duration::ZERO).await);
        assert_eq!(store.delete(KEY, version).await, Ok(true));
    }
}

#[tokio::test]
async fn what_the_store_did_not_write_is_corrupt() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    let hash = format!("tokenwell:{KEY}");
    for (command, part) in [
        (&["SET", &hash, "x"][..], "no hash"),
        (&["HSET", &hash, "value", "x"][..], "version"),
        (
            &["HSET", &hash, "version", "01", "value", "x"][..],
            "version",
        ),
        (
            &["HSET", &hash, "version", "1e3", "value", "x"][..],
            "version",
        ),
        (
            &["HSET", &hash, "version", "-1", "value", "x"][..],
            "version",
        ),
        (
            &["HSET", &hash, "version", "9007199254740993", "value", "x"][..],
            "version",
        ),
        (&["HSET", &hash, "fence", ""][..], "fence"),
        (&["HSET", &hash, "lease_until", "soon"][..], "lease_until"),
    ] {
        server.command(&["DEL", &hash]);
        server.command(command);
        assert_corrupt(&store.load(KEY, None).await, part);
        let swapped = store.compare_and_swap(KEY, None, b"y".to_vec(), None).await;
        assert_corrupt(&swapped, part);
        assert_corrupt(&store.delete(KEY, 1).await, part);
    }
}

#[tokio::test]
async fn a_replica_denies_writes() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    put(&store, None, b"one").await;
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let loaded = store.load(KEY, None).await;
    assert!(matches!(loaded, Ok(Loaded::Entry(_))), "{loaded:?}");
    let ttl = Duration::from_secs(1);
    let taken = store.acquire_lease(KEY, ttl, ttl).await;
    assert_denied(&taken.map(|lease| lease.is_some()), "READONLY");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    held(&store, ttl, Duration::ZERO).await;
}

#[tokio::test]
async fn a_full_server_is_unavailable() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    let version = put(&store, None, b"one").await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let swapped = store
        .compare_and_swap(KEY, Some(version), b"two".to_vec(), None)
        .await;
    assert_unavailable(&swapped, "OOM");
    assert_eq!(store.load(KEY, Some(version)).await, Ok(Loaded::Unchanged));
}

#[tokio::test]
async fn a_wrong_password_user_or_database_is_denied() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::shared();
    let port = server.port();
    for (user, database, part) in [
        (":hunter2@", "", "user or password"),
        ("nobody:hunter2@", "", "user or password"),
        ("", "", "NOAUTH"),
        (":redis%2Fs3cret%40@", "5000", "no database"),
    ] {
        let loaded = open(&format!("redis://{user}127.0.0.1:{port}/{database}"))
            .load(KEY, None)
            .await;
        assert_denied(&loaded, part);
        assert_denied(&loaded, &format!("Redis at 127.0.0.1:{port}"));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    if Part::Redis.is_lacking() {
        return;
    }
    let port = free_port();
    for (place, part) in [
        (format!("127.0.0.1:{port}"), "refused"),
        ("nowhere.invalid".to_owned(), "nowhere.invalid:6379"),
    ] {
        let begun = Instant::now();
        let loaded = open(&format!("redis://:hunter2@{place}"))
            .load(KEY, None)
            .await;
        assert_unavailable(&loaded, part);
        assert!(begun.elapsed() < Duration::from_secs(8));
    }
}

#[tokio::test]
async fn tls_is_verified() {
    if Part::Redis.is_lacking() {
        return;
    }
    let certified = certify("localhost");
    let files = tempfile::TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = files.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let root = file("root.pem", &certified.root);
    let certificate = file("server.crt", &certified.certificate);
    let key = file("server.key", &certified.key);
    let port = free_port();
    let server = RedisServer::start_with(&[
        &format!("tls-port {port}"),
        &format!("tls-cert-file {certificate}"),
        &format!("tls-key-file {key}"),
        "tls-auth-clients no",
    ]);
    let version = put(&open(&server.url()), None, b"one").await;
    let url = |host: &str, parameters: &str| {
        server.url().replace("redis://", "rediss://").replace(
            &format!("127.0.0.1:{}", server.port()),
            &format!("{host}:{port}"),
        ) + parameters
    };
    let with_root = format!("?cacert={root}");

    let loaded = open(&url("localhost", &with_root))
        .load(KEY, Some(version))
        .await;
    assert_eq!(loaded, Ok(Loaded::Unchanged));
    assert_denied(
        &open(&url("localhost", "")).load(KEY, None).await,
        "certificate",
    );
    let other_name = open(&url("127.0.0.1", &with_root)).load(KEY, None).await;
    assert_denied(&other_name, "certificate");
    let no_file = open(&url("localhost", "?cacert=/nowhere.pem"))
        .load(KEY, None)
        .await;
    assert_denied(&no_file, "/nowhere.pem");
}

#[tokio::test]
async fn a_hash_is_what_the_module_says() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url());
    let version = put(&store, None, b"sealed").await;
    let lease = held(&store, Duration::from_secs(120), Duration::ZERO).await;
    let hash = "tokenwell:crm.tokens";
    let field = |name: &str| server.command(&["HGET", hash, name]);
    assert_eq!(field("version"), version.to_string());
    assert_eq!(field("value"), "sealed");
    assert_eq!(field("fence"), lease.fence().to_string());
    let ahead = |name: &str| {
        let until: u64 = field(name).parse().unwrap();
        let now = server.command(&["TIME"]);
        let now: u64 = now.lines().next().unwrap().parse().unwrap();
        until / 1_000_000 - now
    };
    assert!((9..=10).contains(&ahead("lease_until")));
    assert!((119..=120).contains(&ahead("lease_expires")));
    drop(lease);
    while !field("lease_until").is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.delete(KEY, version).await, Ok(true));
    assert_eq!(server.command(&["HKEYS", hash]), "version\nfence");
    // What another program writes by these rules is read.
    server.command(&[
        "HSET",
        hash,
        "version",
        &(version + 1).to_string(),
        "value",
        "other",
    ]);
    let entry = Entry {
        version: version + 1,
        value: b"other".to_vec(),
    };
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Entry(entry)));
}
