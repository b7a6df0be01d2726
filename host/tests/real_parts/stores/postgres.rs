//! `PostgresStore` on a real server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokenwell::{Entry, Loaded, PostgresStore, StoreError, Swapped, TokenStore};

use super::both::{self, KEY, On, assert_corrupt, assert_denied, assert_unavailable, held, put};
use super::certificates::certify;
use tokenwell_tests::{Part, PostgresServer, free_port};

type Store = On<PostgresServer, PostgresStore>;

fn open(url: &str) -> PostgresStore {
    PostgresStore::new(url).expect("a URL")
}

fn fresh() -> Store {
    let server = PostgresServer::shared();
    On {
        store: open(&server.new_database()),
        _server: server,
    }
}

fn pair() -> (Store, Store) {
    let server = PostgresServer::shared();
    let url = server.new_database();
    let side = || On {
        store: open(&url),
        _server: Arc::clone(&server),
    };
    (side(), side())
}

mod conformance {
    use tokenwell_tests::Part;

    tokenwell::conformance_tests!(super::fresh(), unless Part::Postgres.is_lacking());
    tokenwell::shared_conformance_tests!(super::pair(), unless Part::Postgres.is_lacking());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_hold_the_lease_one_at_a_time() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let store = fresh();
    both::a_thousand_tasks_hold_the_lease_one_at_a_time(store.store.clone()).await;
}

#[tokio::test]
async fn a_lease_is_kept_for_as_long_as_its_holder_lives() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let (one, other) = pair();
    both::a_lease_is_kept_for_as_long_as_its_holder_lives(one, other).await;
}

#[tokio::test]
async fn a_lease_ends_with_its_time() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let (one, other) = pair();
    both::a_lease_ends_with_its_time(one, other).await;
}

#[tokio::test]
async fn the_lease_of_one_that_died_lapses_long_before_its_time() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let (one, other) = pair();
    both::the_lease_of_one_that_died_lapses_long_before_its_time(one, other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_survives_a_restart_of_its_server() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::start();
    let store = open(&server.url());
    both::a_store_survives_its_server(store, || server.stop(), || server.start_again()).await;
}

#[tokio::test]
async fn a_store_survives_a_crash_of_its_server() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::start();
    let store = open(&server.url());
    both::a_store_survives_its_server(store, || server.kill(), || server.start_again()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_survives_a_crash() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::start_with(&["synchronous_commit = off"]);
    let store = open(&server.url());
    both::what_was_confirmed_survives_a_crash(store, || server.kill(), || server.start_again())
        .await;
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::start();
    let store = open(&server.url());
    both::a_server_that_hangs_is_unavailable(store, || server.suspend(), || server.resume()).await;
}

#[tokio::test]
async fn of_two_servers_the_one_that_can_be_written_is_used() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let (one, other) = (PostgresServer::start(), PostgresServer::start());
    let both = format!("127.0.0.1:{},127.0.0.1:{}", one.port(), other.port());
    let url = one.url();
    let url = url.replace(&format!("127.0.0.1:{}", one.port()), &both);
    let store = open(&url);
    let mut version = put(&store, None, b"one").await;

    // The other has taken over.
    one.sql(
        "postgres",
        "alter system set default_transaction_read_only = on",
    );
    one.sql("postgres", "select pg_reload_conf()");
    let begun = Instant::now();
    loop {
        let value = b"two".to_vec();
        match store
            .compare_and_swap(KEY, Some(version), value, None)
            .await
        {
            // The server has not read its configuration yet, or has just done so.
            Ok(Swapped::Stored(stored)) => version = stored,
            Err(StoreError::Denied(_)) => {}
            swapped => {
                assert_eq!(swapped, Ok(Swapped::Stale(None)));
                break;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let version = put(&store, None, b"three").await;

    one.suspend();
    put(&open(&url), Some(version), b"four").await;
    one.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_stores_at_once_create_the_one_table() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::shared();
    let url = server.new_database();
    let mut stores = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let store = open(&url);
        stores.spawn(async move {
            loop {
                let loaded = store.load(KEY, None).await;
                // A busy machine takes its time over the passwords.
                match &loaded {
                    Err(StoreError::Unavailable(text)) if text.contains("longer than 5 s") => {}
                    _ => return loaded,
                }
            }
        });
    }
    for loaded in stores.join_all().await {
        assert_eq!(loaded, Ok(Loaded::Absent));
    }
}

#[tokio::test]
async fn a_role_that_may_not_create_tables_uses_the_one_that_is_there() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::shared();
    let url = server.new_database();
    let database = url.rsplit('/').next().unwrap().to_owned();
    let role = format!("limited_{database}");
    server.sql(
        &database,
        &format!("create role {role} login password 'pw'"),
    );
    let limited = open(&format!(
        "postgres://{role}:pw@127.0.0.1:{}/{database}",
        server.port()
    ));
    assert_denied(&limited.load(KEY, None).await, "no table tokenwell_entry");

    let owner = open(&url);
    let version = put(&owner, None, b"one").await;
    assert_denied(&limited.load(KEY, None).await, "permission denied");
    server.sql(
        &database,
        &format!("grant select, insert, update on tokenwell_entry to {role}"),
    );
    let version = put(&limited, Some(version), b"two").await;
    drop(held(&limited, Duration::from_secs(1), Duration::ZERO).await);
    assert_eq!(limited.delete(KEY, version).await, Ok(true));
}

#[tokio::test]
async fn commits_are_durable_whatever_the_default_is() {
    if Part::Postgres.is_lacking() {
        return;
    }
    // Three statements that write durably, and two that need not.
    let server = PostgresServer::shared();
    let url = server.new_database();
    let database = url.rsplit('/').next().unwrap();
    server.sql(
        database,
        "create table seen (setting text);
         create function note() returns trigger language plpgsql as $$ begin
             insert into seen values (current_setting('synchronous_commit'));
             return null; end $$",
    );
    server.sql(
        "postgres",
        &format!("alter database {database} set synchronous_commit = off"),
    );
    let store = open(&url);
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Absent));
    server.sql(
        database,
        "create constraint trigger at_commit after insert or update on tokenwell_entry
             deferrable initially deferred for each row execute function note()",
    );
    let seen = || server.sql(database, "select string_agg(setting, ',') from seen");
    let first = put(&store, None, b"one").await;
    let second = put(&store, Some(first), b"two").await;
    assert_eq!(store.delete(KEY, second).await, Ok(true));
    put(&store, None, b"three").await;
    let lease = held(&store, Duration::from_secs(9), Duration::ZERO).await;
    assert_eq!(seen(), "on,on,on,on,on");
    drop(lease);
    while seen() == "on,on,on,on,on" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seen(), "on,on,on,on,on,off");
}

#[tokio::test]
async fn serializable_transactions_are_no_hindrance() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::shared();
    let url = server.new_database();
    let database = url.rsplit('/').next().unwrap();
    server.sql(
        "postgres",
        &format!("alter database {database} set default_transaction_isolation = 'serializable'"),
    );
    let side = || On {
        store: open(&url),
        _server: Arc::clone(&server),
    };
    tokenwell::store::conformance::of_many_swaps_on_two_sides_one_wins(side(), side()).await;
}

#[tokio::test]
async fn a_lost_table_does_not_turn_fences_or_versions_back() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::shared();
    let url = server.new_database();
    let database = url.rsplit('/').next().unwrap();
    let store = open(&url);
    let version = put(&store, None, b"one").await;
    let ttl = Duration::from_secs(9);
    let fence = held(&store, ttl, Duration::ZERO).await.fence();
    server.sql(database, "drop table tokenwell_entry");

    let swapped = store
        .compare_and_swap(KEY, Some(version), b"two".to_vec(), None)
        .await;
    assert_unavailable(&swapped, "tokenwell_entry");
    assert!(put(&store, None, b"two").await > version);
    assert!(held(&store, ttl, Duration::ZERO).await.fence() > fence);
}

#[tokio::test]
async fn what_the_store_did_not_write_is_corrupt() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::shared();
    for (table, part) in [
        ("create table tokenwell_entry (id int)", "does not exist"),
        (
            "create table tokenwell_entry (key text primary key, version bigint, value text,
                 fence bigint, lease_until timestamptz, lease_expires timestamptz);
             insert into tokenwell_entry values ('crm.tokens', 1, 'text', 0)",
            "not the table of this store",
        ),
        (
            "create table tokenwell_entry (key text primary key, version bigint, value bytea,
                 fence bigint, lease_until timestamptz, lease_expires timestamptz);
             insert into tokenwell_entry values ('crm.tokens', -1, 'x', 0)",
            "below 0",
        ),
        (
            "create table tokenwell_entry (key text primary key, version bigint, value bytea,
                 fence bigint, lease_until timestamptz, lease_expires timestamptz);
             insert into tokenwell_entry values ('crm.tokens', 0, 'x', 0)",
            "no version",
        ),
        (
            "create table tokenwell_entry (key text primary key, version bigint, value bytea,
                 fence bigint, lease_until timestamptz, lease_expires timestamptz);
             insert into tokenwell_entry values ('crm.tokens', null, 'x', 0)",
            "not the table of this store",
        ),
    ] {
        let url = server.new_database();
        let database = url.rsplit('/').next().unwrap();
        server.sql(database, table);
        assert_corrupt(&open(&url).load(KEY, None).await, part);
    }
}

#[tokio::test]
async fn a_read_only_server_is_read_and_denies_writes() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::shared();
    let url = server.new_database();
    let database = url.rsplit('/').next().unwrap();
    put(&open(&url), None, b"one").await;
    server.sql(
        "postgres",
        &format!("alter database {database} set default_transaction_read_only = on"),
    );
    let store = open(&url);
    let loaded = store.load(KEY, None).await;
    assert!(matches!(loaded, Ok(Loaded::Entry(_))), "{loaded:?}");
    let swapped = store
        .compare_and_swap(KEY, None, b"two".to_vec(), None)
        .await;
    // It is stale before it is a write.
    assert!(
        matches!(swapped, Err(StoreError::Denied(_)) | Ok(Swapped::Stale(_))),
        "{swapped:?}"
    );
    let ttl = Duration::from_secs(1);
    let taken = store.acquire_lease(KEY, ttl, ttl).await;
    assert_denied(&taken.map(|lease| lease.is_some()), "read-only");
}

#[tokio::test]
async fn a_wrong_password_user_or_database_is_denied() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::shared();
    let port = server.port();
    for (user, database, part) in [
        (
            "tokenwell:hunter2",
            "postgres",
            "password authentication failed",
        ),
        (
            "nobody:hunter2",
            "postgres",
            "password authentication failed",
        ),
        ("tokenwell", "postgres", "password missing"),
        ("tokenwell:pg%2Fs3cret%40", "nowhere", "does not exist"),
    ] {
        let store = open(&format!("postgres://{user}@127.0.0.1:{port}/{database}"));
        let loaded = store.load(KEY, None).await;
        assert_denied(&loaded, part);
        assert_denied(&loaded, &format!("PostgreSQL at 127.0.0.1:{port}"));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let port = free_port();
    for (place, part) in [
        (format!("127.0.0.1:{port}"), "refused"),
        ("nowhere.invalid".to_owned(), "nowhere.invalid:5432"),
    ] {
        let begun = Instant::now();
        let loaded = open(&format!("postgres://u:hunter2@{place}/t"))
            .load(KEY, None)
            .await;
        assert_unavailable(&loaded, part);
        assert!(begun.elapsed() < Duration::from_secs(8));
    }
}

#[tokio::test]
async fn a_key_that_no_store_takes_is_denied() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let store = open("postgres://u@127.0.0.1:1/t");
    for key in ["", ".locks", "a b", "ä"] {
        assert_denied(&store.load(key, None).await, "a key has letters");
    }
}

#[tokio::test]
async fn an_idle_caller_does_not_see_that_the_server_was_restarted() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::start();
    let store = open(&server.url());
    let version = put(&store, None, b"one").await;
    server.stop();
    server.start_again();
    assert_eq!(store.load(KEY, Some(version)).await, Ok(Loaded::Unchanged));
    put(&store, Some(version), b"two").await;
}

#[tokio::test]
async fn tls_is_verified() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let certified = certify("localhost");
    let server = PostgresServer::start();
    let version = put(&open(&server.url()), None, b"one").await;
    let url = |host: &str, parameters: &str| {
        server.url().replace("127.0.0.1", host).to_string() + "?" + parameters
    };

    let refused = open(&url("localhost", "sslmode=require"))
        .load(KEY, None)
        .await;
    assert_denied(&refused, "server does not support TLS");
    let plain = open(&url("localhost", "sslmode=prefer"))
        .load(KEY, Some(version))
        .await;
    assert_eq!(plain, Ok(Loaded::Unchanged));

    let root = server.add_file("root.pem", &certified.root);
    server.add_file("server.crt", &certified.certificate);
    server.add_file("server.key", &certified.key);
    server.sql("postgres", "alter system set ssl = on");
    server.stop();
    server.start_again();
    let url =
        |host: &str, parameters: &str| server.url().replace("127.0.0.1", host) + "?" + parameters;
    let with_root = format!("sslrootcert={}", root.display());

    for mode in ["require", "verify-full", "prefer"] {
        let store = open(&url("localhost", &format!("sslmode={mode}&{with_root}")));
        assert_eq!(store.load(KEY, Some(version)).await, Ok(Loaded::Unchanged));
    }
    let encrypted = server.sql(
        "postgres",
        "select count(*) > 0 from pg_stat_ssl join pg_stat_activity using (pid)
         where ssl and application_name = 'tokenwell'",
    );
    // The connections are gone with their stores.
    assert!(matches!(&*encrypted, "t" | "f"));
    let unknown = open(&url("localhost", "sslmode=require"))
        .load(KEY, None)
        .await;
    assert_denied(&unknown, "certificate");
    let other_name = open(&url("127.0.0.1", &format!("sslmode=require&{with_root}")))
        .load(KEY, None)
        .await;
    assert_denied(&other_name, "certificate");
    let no_file = open(&url(
        "localhost",
        "sslmode=require&sslrootcert=/nowhere.pem",
    ))
    .load(KEY, None)
    .await;
    assert_denied(&no_file, "/nowhere.pem");
}

#[tokio::test]
async fn a_row_is_what_the_module_says() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::shared();
    let url = server.new_database();
    let database = url.rsplit('/').next().unwrap();
    let store = open(&url);
    let version = put(&store, None, b"sealed").await;
    let lease = held(&store, Duration::from_secs(120), Duration::ZERO).await;
    let row = server.sql(
        database,
        "select key, version, value, fence,
             round(extract(epoch from lease_until - clock_timestamp())),
             round(extract(epoch from lease_expires - clock_timestamp()))
         from tokenwell_entry",
    );
    let fence = lease.fence();
    assert_eq!(
        row,
        format!("crm.tokens|{version}|\\x7365616c6564|{fence}|10|120")
    );
    assert_eq!(store.delete(KEY, version).await, Ok(true));
    let row = server.sql(
        database,
        "select version, value is null from tokenwell_entry",
    );
    assert_eq!(row, format!("{version}|t"));
    // What another program writes by these rules is read.
    server.sql(
        database,
        &format!("update tokenwell_entry set value = 'other', version = {version} + 1"),
    );
    let entry = Entry {
        version: version + 1,
        value: b"other".to_vec(),
    };
    assert_eq!(store.load(KEY, None).await, Ok(Loaded::Entry(entry)));
}
