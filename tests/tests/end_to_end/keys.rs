//! The keys that seal what is stored: a master password, the key file, the
//! operating system's keyring, and the way from one to another.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tokenwell_tests::{Answer, Cli, Part, SecretService, workspace};

use crate::support::{
    SECRET, access_token, authorized_shop, begin, refresh_token, scripted_config, text, tokens,
};

const PASSWORD: &str = "TOKENWELL_PASSWORD";

/// A connection `shop`, authorized where this master password is set.
fn authorized_under(password: &str) -> (Cli, tokenwell_tests::ScriptedServer) {
    let server = tokenwell_tests::ScriptedServer::start();
    let mut cli = Cli::new();
    cli.set(PASSWORD, password);
    cli.create("shop", &scripted_config(&server)).expect_code(0);
    let begun = begin(&cli, "shop");
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    cli.run(&["complete", "shop", &begun.success(), "--json"])
        .expect_code(0);
    (cli, server)
}

/// What is stored: the records and the entry that says which key seals them.
fn stored(cli: &Cli) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let is_kept = |path: &std::path::Path| !path.to_string_lossy().contains(".locks");
    let files = cli.files().into_iter();
    files.filter(|(path, _)| is_kept(path)).collect()
}

fn error_kind(error: &Value) -> &str {
    text(error, "kind")
}

#[test]
fn what_is_sealed_under_a_master_password_opens_with_it_alone() {
    let (mut cli, _server) = authorized_under("correct horse");
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));
    assert!(!cli.directory().join("tokenwell.key").exists());
    let before = stored(&cli);
    for (_, content) in &before {
        let content = String::from_utf8_lossy(content);
        for secret in [access_token(1), refresh_token(1)] {
            assert!(!content.contains(&secret), "{content}");
        }
    }
    for wrong in ["wrong horse", "Correct horse", "correct horse "] {
        cli.set(PASSWORD, wrong);
        for command in ["token", "status", "refresh", "clear", "history"] {
            let outcome = cli.run(&[command, "shop", "--json"]).expect_code(7);
            let error = outcome.error();
            assert_eq!(error_kind(&error), "storage");
            assert!(
                text(&error, "message").contains("master password"),
                "{error}"
            );
            assert!(!outcome.stderr.contains("horse"), "{}", outcome.stderr);
        }
    }
    cli.unset(PASSWORD);
    let error = cli.run(&["token", "shop", "--json"]).expect_code(7).error();
    assert!(text(&error, "mend").contains(PASSWORD), "{error}");
    assert_eq!(stored(&cli), before);
    cli.set(PASSWORD, "correct horse");
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));
}

#[test]
fn the_master_password_can_come_from_a_file() {
    let (mut cli, _server) = authorized_under("from a file");
    cli.unset(PASSWORD);
    let file = cli.config_file("from a file\n");
    let file = file.to_str().expect("a temporary path in UTF-8");
    cli.run(&["token", "shop", "--password-file", file])
        .expect_code(0);
    cli.set(PASSWORD, "the file goes first");
    cli.run(&["--password-file", file, "token", "shop"])
        .expect_code(0);
    cli.run(&["--password-file", "nothing-here", "token", "shop"])
        .expect_code(7);
}

#[test]
fn config_and_tokens_can_be_copied_where_the_password_is_the_same() {
    let (here, server) = authorized_under("one for both");
    let mut there = Cli::new();
    there.set(PASSWORD, "one for both");
    // It has tokens and so a key of its own already.
    let machine = json!({
        "client_id": "client",
        "client_secret": SECRET,
        "grant_type": "client_credentials",
        "token_endpoint": server.url("/token"),
    });
    there.create("machine", &machine).expect_code(0);
    server.answer("/token", Answer::json(200, &tokens(5, 3600)));
    there.token("machine");
    for file in ["shop.json", "shop.tokens"] {
        fs::copy(here.directory().join(file), there.directory().join(file))
            .expect("a file can be copied");
    }
    assert_eq!(text(&there.token("shop"), "access_token"), access_token(1));
    // Written there, it is sealed under the key of its new home.
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    there.run(&["refresh", "shop"]).expect_code(0);
    assert_eq!(text(&there.token("shop"), "access_token"), access_token(2));
}

#[test]
fn a_password_that_protects_nothing_is_said_to_be_unused() {
    let (mut cli, _server) = authorized_shop(|config| config, 3600);
    cli.set(PASSWORD, "in vain");
    let outcome = cli.run(&["token", "shop"]).expect_code(0);
    assert!(outcome.stderr.contains("not used"), "{}", outcome.stderr);
}

#[test]
fn rekeying_moves_everything_under_the_new_key() {
    let (mut cli, _server) = authorized_shop(|config| config, 3600);
    cli.run_with_input(&["seal", "api"], b"hunter2\n")
        .expect_code(0);
    let rekey = |cli: &Cli, arguments: &[&str]| {
        let outcome = cli.run(&[&["rekey", "--json"], arguments].concat());
        outcome.expect_code(0).json()
    };

    cli.set("TOKENWELL_NEW_PASSWORD", "first");
    assert_eq!(
        rekey(&cli, &["--to", "password"]),
        json!({"key": "password", "sealed": ["shop"], "failed": [], "left": []})
    );
    assert!(!cli.directory().join("tokenwell.key").exists());
    cli.run(&["token", "shop"]).expect_code(7);
    cli.set(PASSWORD, "first");
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));

    cli.set("TOKENWELL_NEW_PASSWORD", "second");
    rekey(&cli, &[]);
    cli.run(&["token", "shop"]).expect_code(7);
    cli.set(PASSWORD, "second");
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));

    rekey(&cli, &["--to", "key-file"]);
    cli.unset(PASSWORD);
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));
}

#[test]
fn rekeying_without_the_old_password_changes_nothing() {
    let (mut cli, _server) = authorized_under("old");
    let before = stored(&cli);
    cli.set(PASSWORD, "not the old one");
    cli.set("TOKENWELL_NEW_PASSWORD", "new");
    cli.run(&["rekey"]).expect_code(7);
    cli.run(&["rekey", "--to", "key-file"]).expect_code(7);
    assert_eq!(
        stored(&cli)
            .into_iter()
            .filter(|(path, _)| !path.ends_with("tokenwell.key"))
            .collect::<Vec<_>>(),
        before
    );
}

#[test]
fn a_running_rekey_that_dies_leaves_everything_readable() {
    // Sealing anew is the last that it does; a copy from before stands for
    // what it did not come to.
    let (mut cli, _server) = authorized_shop(|config| config, 3600);
    let tokens = cli.directory().join("shop.tokens");
    let before = fs::read(&tokens).expect("the tokens");
    cli.set("TOKENWELL_NEW_PASSWORD", "new");
    cli.run(&["rekey", "--to", "password"]).expect_code(0);
    fs::write(&tokens, before).expect("the tokens can be put back");
    cli.set(PASSWORD, "new");
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));
}

#[test]
fn a_connection_goes_from_one_place_to_another_with_its_tokens() {
    let (mut here, _server) = authorized_shop(|config| config, 3600);
    here.set("TOKENWELL_TRANSFER_PASSWORD", "journey");
    let exported = here.run(&["export", "shop"]).expect_code(0).stdout;
    for secret in [SECRET, &access_token(1), &refresh_token(1)] {
        assert!(!exported.contains(secret), "{exported}");
    }

    let mut there = Cli::new();
    there.set("TOKENWELL_TRANSFER_PASSWORD", "another");
    let import = |cli: &Cli, arguments: &[&str]| {
        let arguments = [&["import", "-", "--json"], arguments].concat();
        cli.run_with_input(&arguments, exported.as_bytes())
    };
    let error = import(&there, &[]).expect_code(7).error();
    assert!(text(&error, "message").contains("password"), "{error}");
    there.set("TOKENWELL_TRANSFER_PASSWORD", "journey");
    import(&there, &[]).expect_code(0);
    assert_eq!(text(&there.token("shop"), "access_token"), access_token(1));

    import(&there, &[]).expect_code(2);
    import(&there, &["--force"]).expect_code(0);
    import(&there, &["--name", "second"]).expect_code(0);
    assert_eq!(
        text(&there.token("second"), "access_token"),
        access_token(1)
    );
}

#[test]
fn a_secret_that_is_sealed_is_in_no_file_and_is_used_all_the_same() {
    let server = tokenwell_tests::ScriptedServer::start();
    let cli = Cli::new();
    let config = json!({
        "client_id": "client",
        "client_secret": SECRET,
        "grant_type": "client_credentials",
        "token_endpoint": server.url("/token"),
        "token_endpoint_auth_method": "client_secret_post",
    });
    let path = cli.config_file(&config.to_string());
    let path = path.to_str().expect("a temporary path in UTF-8");
    cli.run(&["create", "machine", "--config", path, "--seal"])
        .expect_code(0);
    for (path, content) in cli.files() {
        let content = String::from_utf8_lossy(&content).into_owned();
        assert!(!content.contains(SECRET), "{}: {content}", path.display());
    }
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    cli.token("machine");
    let form = server.only_request_to("/token").form();
    assert_eq!(tokenwell_tests::only(&form, "client_secret"), SECRET);
    cli.run(&["delete", "machine", "--yes"]).expect_code(0);
    let left: Vec<_> = stored(&cli)
        .into_iter()
        .map(|(path, _)| path.file_name().map(|name| name.to_owned()))
        .collect();
    let kept = ["tokenwell.key", "tokenwell.keys"].map(|name| Some(name.into()));
    assert!(left.iter().all(|name| kept.contains(name)), "{left:?}");
}

#[test]
fn a_sealed_secret_is_typed_in_referred_to_and_forgotten() {
    let cli = Cli::new();
    let sealed = cli.run_with_input(&["seal", "api", "--json"], b"hunter2\n");
    assert_eq!(sealed.expect_code(0).json(), json!({"ref": "sealed:api"}));
    let server = tokenwell_tests::ScriptedServer::start();
    let config = json!({
        "client_id": "client",
        "client_secret": {"ref": "sealed:api"},
        "grant_type": "client_credentials",
        "token_endpoint": server.url("/token"),
        "token_endpoint_auth_method": "client_secret_post",
    });
    cli.create("machine", &config).expect_code(0);
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    cli.token("machine");
    let form = server.only_request_to("/token").form();
    assert_eq!(tokenwell_tests::only(&form, "client_secret"), "hunter2");
    cli.run(&["seal", "api", "--delete"]).expect_code(0);
    let error = cli
        .run(&["refresh", "machine", "--json"])
        .expect_code(3)
        .error();
    assert!(error.to_string().contains("api"), "{error}");
}

/// What can become of a record in a file.
fn spoil(content: &[u8], how: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(content).into_owned();
    match how {
        "truncated" => content[..content.len() / 2].to_vec(),
        "emptied" => Vec::new(),
        "another file" => b"{\"name\": \"something else\"}\n".to_vec(),
        "newer version" => text
            .replace("\"format_version\":1", "\"format_version\":2")
            .into_bytes(),
        "older version" => text
            .replace("\"format_version\":1", "\"format_version\":0")
            .into_bytes(),
        "bit-flipped" => {
            let middle = content.len() / 2;
            let mut flipped = content.to_vec();
            flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
            flipped
        }
        other => panic!("{other} is no way to spoil a file"),
    }
}

#[test]
fn a_spoilt_record_is_said_and_stays_as_it_is() {
    let (cli, _server) = authorized_shop(|config| config, 3600);
    let tokens = cli.directory().join("shop.tokens");
    let whole = fs::read(&tokens).expect("the tokens");
    for how in [
        "truncated",
        "emptied",
        "another file",
        "newer version",
        "older version",
        "bit-flipped",
    ] {
        fs::write(&tokens, spoil(&whole, how)).expect("the tokens can be spoilt");
        let before = stored(&cli);
        for command in ["token", "status", "refresh", "clear"] {
            let outcome = cli.run(&[command, "shop", "--json"]).expect_code(7);
            assert_eq!(error_kind(&outcome.error()), "storage", "{how}: {command}");
        }
        assert_eq!(stored(&cli), before, "{how}");
    }
    fs::write(&tokens, whole).expect("the tokens can be put back");
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));
}

#[test]
fn another_language_reads_the_tokens_by_what_is_documented() {
    if Part::Node.is_lacking() {
        return;
    }
    let (cli, _server) = authorized_shop(|config| config, 3600);
    let read = || {
        let output = Command::new("node")
            .arg(workspace().join("tests/readers/tokens.mjs"))
            .arg(cli.directory())
            .arg("shop")
            .output()
            .expect("node runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        serde_json::from_slice::<Value>(&output.stdout).expect("the record is JSON")
    };
    let before = read();
    let credential = &before["record"]["credential"];
    assert_eq!(text(credential, "access_token"), access_token(1));
    assert_eq!(text(credential, "refresh_token"), refresh_token(1));
    let expires_at = cli.status("shop")["expires_at"].as_u64();
    let millis = credential["expires_at"].as_u64();
    assert_eq!(millis.map(|millis| millis / 1000), expires_at);
    assert!(credential["response"].is_string());
    let history = before["history"].as_array().expect("lines");
    let latest = history.last().and_then(Value::as_str).expect("an event");
    let kind = latest.split('\t').nth(1);
    assert_eq!(kind, Some("authorized"), "{history:?}");

    // A record under the key before the last one.
    let tokens = cli.directory().join("shop.tokens");
    let old = fs::read(&tokens).expect("the tokens");
    cli.run(&["rekey"]).expect_code(0);
    fs::write(&tokens, old).expect("put back");
    assert_eq!(read(), before);
}

#[test]
fn two_hosts_with_different_keys_do_not_spoil_what_they_share() {
    let (cli, _server) = authorized_shop(|config| config, 3600);
    let other = Cli::new();
    other.run_with_input(&["seal", "x"], b"y\n").expect_code(0);
    // The same store, with the key file of another.
    let key = "tokenwell.key";
    let ours = fs::read(cli.directory().join(key)).expect("a key file");
    fs::copy(other.directory().join(key), cli.directory().join(key)).expect("copied");
    let before = stored(&cli);
    for command in ["token", "refresh", "clear"] {
        let error = cli.run(&[command, "shop", "--json"]).expect_code(7).error();
        assert!(
            text(&error, "message").contains("sealed under the key"),
            "{error}"
        );
    }
    assert_eq!(stored(&cli), before);
    fs::write(cli.directory().join(key), ours).expect("put back");
    cli.token("shop");
}

#[test]
fn where_there_is_a_keyring_the_key_is_kept_in_it() {
    let Some(service) = SecretService::start() else {
        return;
    };
    let server = tokenwell_tests::ScriptedServer::start();
    let mut cli = Cli::new();
    cli.set("DBUS_SESSION_BUS_ADDRESS", service.address());
    let config = json!({
        "client_id": "client",
        "client_secret": {"ref": "keyring:crm"},
        "grant_type": "client_credentials",
        "token_endpoint": server.url("/token"),
        "token_endpoint_auth_method": "client_secret_post",
    });
    cli.run_with_input(&["seal", "crm", "--keyring"], b"from the keyring\n")
        .expect_code(0);
    cli.create("machine", &config).expect_code(0);
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    let first = cli.run(&["token", "machine"]).expect_code(0);
    assert!(first.stderr.contains("keyring"), "{}", first.stderr);
    let form = server.only_request_to("/token").form();
    assert_eq!(
        tokenwell_tests::only(&form, "client_secret"),
        "from the keyring"
    );
    assert!(!cli.directory().join("tokenwell.key").exists());
    cli.token("machine");

    // Without the keyring it does not open, and says so.
    cli.unset("DBUS_SESSION_BUS_ADDRESS");
    let error = cli
        .run(&["token", "machine", "--json"])
        .expect_code(7)
        .error();
    assert!(text(&error, "message").contains("keyring"), "{error}");

    // A service that runs without one is given a key file.
    cli.set("DBUS_SESSION_BUS_ADDRESS", service.address());
    cli.run(&["rekey", "--to", "key-file"]).expect_code(0);
    cli.unset("DBUS_SESSION_BUS_ADDRESS");
    assert_eq!(text(&cli.token("machine"), "access_token"), access_token(1));
}
