//! Tokens elsewhere than beside the config: another directory, PostgreSQL,
//! Redis.

use serde_json::json;
use tokenwell_tests::{Answer, Cli, Part, PostgresServer, RedisServer, ScriptedServer};

use crate::support::{access_token, begin, scripted_config, text, tokens};

const STORE: &str = "TOKENWELL_STORE";

/// Authorizes a connection `shop` on whatever store is set.
fn authorize(cli: &Cli, server: &ScriptedServer) {
    cli.create("shop", &scripted_config(server)).expect_code(0);
    let begun = begin(cli, "shop");
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    cli.run(&["complete", "shop", &begun.success(), "--json"])
        .expect_code(0);
}

#[test]
fn tokens_can_be_in_another_directory_than_the_config() {
    let server = ScriptedServer::start();
    let (mut cli, elsewhere) = (Cli::new(), Cli::new());
    let url = format!("file:{}", elsewhere.directory().display());
    cli.set(STORE, &url);
    authorize(&cli, &server);
    assert!(!cli.directory().join("shop.tokens").exists());
    assert!(elsewhere.directory().join("shop.tokens").exists());
    cli.unset(STORE);
    cli.run(&["token", "shop"]).expect_code(4);
    cli.run(&["--store", &url, "token", "shop"]).expect_code(0);
}

#[test]
fn a_store_that_is_none_is_refused_without_its_password() {
    let cli = Cli::new();
    for url in [
        "postgress://app:hunter2@db.example.com/tokens",
        "postgres://app:hunter2@db.example.com:port/tokens",
        "redis://:hunter2@db.example.com/zero",
        "app:hunter2@db.example.com",
        "",
    ] {
        let outcome = cli.run(&["--store", url, "list", "--json"]).expect_code(2);
        assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
        let error = outcome.error();
        assert!(text(&error, "message").contains("expected"), "{error}");
    }
}

/// Two machines that share a store and a master password.
fn two_machines(url: &str) {
    let server = ScriptedServer::start();
    let mut machines = [Cli::new(), Cli::new()];
    for machine in &mut machines {
        machine.set(STORE, url);
        machine.set("TOKENWELL_PASSWORD", "one for all");
    }
    let [one, other] = &machines;
    authorize(one, &server);
    other
        .create("shop", &scripted_config(&server))
        .expect_code(0);
    assert_eq!(text(&other.token("shop"), "access_token"), access_token(1));
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    other.run(&["refresh", "shop"]).expect_code(0);
    assert_eq!(text(&one.token("shop"), "access_token"), access_token(2));

    // A machine with a key of its own neither reads nor spoils what is there.
    let mut stranger = Cli::new();
    stranger.set(STORE, url);
    stranger
        .create("shop", &scripted_config(&server))
        .expect_code(0);
    for command in ["token", "refresh", "clear"] {
        let error = stranger
            .run(&[command, "shop", "--json"])
            .expect_code(7)
            .error();
        assert!(
            text(&error, "message").contains("master password"),
            "{error}"
        );
    }
    assert_eq!(text(&one.token("shop"), "access_token"), access_token(2));
    one.run(&["delete", "shop", "--yes"]).expect_code(0);
    other.run(&["token", "shop"]).expect_code(4);
}

#[test]
fn two_machines_share_their_tokens_in_postgresql() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let server = PostgresServer::shared();
    let url = server.new_database();
    two_machines(&url);
}

#[test]
fn two_machines_share_their_tokens_in_redis() {
    if Part::Redis.is_lacking() {
        return;
    }
    let server = RedisServer::shared();
    two_machines(&server.new_database());
}

#[test]
fn machines_with_key_files_of_their_own_are_told_to_share_one() {
    if Part::Redis.is_lacking() {
        return;
    }
    let (redis, server) = (RedisServer::shared(), ScriptedServer::start());
    let mut machines = [Cli::new(), Cli::new()];
    let url = redis.new_database();
    for machine in &mut machines {
        machine.set(STORE, &url);
    }
    let [one, other] = &machines;
    authorize(one, &server);
    let machine = json!({
        "client_id": "client",
        "client_secret": "s",
        "grant_type": "client_credentials",
        "token_endpoint": server.url("/token"),
    });
    other.create("machine", &machine).expect_code(0);
    let error = other
        .run(&["token", "machine", "--json"])
        .expect_code(7)
        .error();
    assert!(
        text(&error, "message").contains("copy the key file"),
        "{error}"
    );
    std::fs::copy(
        one.directory().join("tokenwell.key"),
        other.directory().join("tokenwell.key"),
    )
    .expect("a key file can be copied");
    other.run(&["token", "machine"]).expect_code(0);
}

#[test]
fn a_process_gives_its_lease_back_before_it_ends() {
    if Part::Postgres.is_lacking() {
        return;
    }
    let (postgres, server) = (PostgresServer::start(), ScriptedServer::start());
    let mut cli = Cli::new();
    cli.set(STORE, &postgres.url());
    authorize(&cli, &server);
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    cli.run(&["refresh", "shop"]).expect_code(0);
    let held = postgres.sql(
        "postgres",
        "select count(*) from tokenwell_entry where fence > 0 and lease_until is null",
    );
    assert_eq!(held.trim(), "1");
}
