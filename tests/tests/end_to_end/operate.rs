//! What an operator needs: configs changed from outside and the origin of each
//! value, the audit log, and connections watched.

use std::path::Path;

use serde_json::{Value, json};
use tokenwell_tests::{Answer, Cli, Outcome, ScriptedServer};

use crate::support::{SECRET, text, tokens};

/// A connection `job` that obtains its tokens by itself.
fn job() -> (Cli, ScriptedServer) {
    let server = ScriptedServer::start();
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    let cli = Cli::new();
    cli.create("job", &job_config(&server)).expect_code(0);
    (cli, server)
}

fn job_config(server: &ScriptedServer) -> Value {
    json!({
        "grant_type": "client_credentials",
        "client_id": "client",
        "client_secret": SECRET,
        "token_endpoint": server.url("/token"),
    })
}

/// Writes a config past `create`.
fn write(cli: &Cli, file: &str, config: &Value) {
    std::fs::create_dir_all(cli.directory()).expect("the directory");
    let path = cli.directory().join(file);
    std::fs::write(path, config.to_string()).expect("a config is written");
}

/// The value, origin and source that `show` tells of a field.
#[track_caller]
fn field(shown: &Value, name: &str) -> (Value, String, Value) {
    let fields = shown.as_array().expect("a list of fields");
    let field = fields.iter().find(|field| field["field"] == name);
    let field = field.unwrap_or_else(|| panic!("there is no {name} in {shown}"));
    (
        field["value"].clone(),
        text(field, "origin").to_owned(),
        field["source"].clone(),
    )
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the audit log");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn each_layer_goes_before_the_next_and_show_tells_which_one_won() {
    let mut cli = Cli::new();
    let base = json!({
        "client_id": "of-the-file",
        "client_secret": SECRET,
        "scope": "of-the-file",
        "timeout": 1,
        "token_endpoint": "https://as.example/token",
        "authorization_endpoint": "https://as.example/authorize",
        "renewal": {"early_seconds": 1, "max_attempts": 2},
    });
    write(&cli, "shop.json", &base);
    let profile = json!({"client_id": "of-the-profile", "scope": "of-the-profile", "timeout": 2});
    write(&cli, "shop.dev.json", &profile);
    cli.set("TOKENWELL_SET_CLIENT_ID", "of-the-environment");
    cli.set("TOKENWELL_SET_TIMEOUT", "3");
    cli.set("TOKENWELL_SET_RENEWAL__EARLY_SECONDS", "60");
    let arguments = ["--profile", "dev", "--set", "timeout=4", "show", "shop"];
    let shown = |more: &[&str]| cli.run(&[&arguments[..], more].concat()).expect_code(0);
    let effective = shown(&["--effective", "--json"]).json();

    let file = |name: &str| json!(cli.directory().join(name).to_str());
    for (name, value, origin, source) in [
        ("timeout", json!(4), "set", Value::Null),
        (
            "client_id",
            json!("of-the-environment"),
            "environment",
            json!("TOKENWELL_SET_CLIENT_ID"),
        ),
        (
            "renewal.early_seconds",
            json!(60),
            "environment",
            json!("TOKENWELL_SET_RENEWAL__EARLY_SECONDS"),
        ),
        (
            "renewal.max_attempts",
            json!(2),
            "config",
            file("shop.json"),
        ),
        ("client_secret", json!("***"), "config", file("shop.json")),
        ("tls", json!("verify"), "default", Value::Null),
    ] {
        let expected = (value, origin.to_owned(), source);
        assert_eq!(field(&effective, name), expected, "{name}");
    }
    // Without a profile's or the component's addition the scope is the profile's.
    let plain = cli
        .run(&[
            "--profile",
            "dev",
            "show",
            "shop",
            "--json",
            "--set",
            "timeout=4",
        ])
        .expect_code(0)
        .json();
    assert_eq!(plain["scope"], "of-the-profile");
    assert_eq!(plain["timeout"], 4);
    assert_eq!(plain["client_id"], "of-the-environment");

    let table = shown(&["--effective"]).stdout;
    assert!(
        table.contains("TOKENWELL_SET_RENEWAL__EARLY_SECONDS"),
        "{table}"
    );
    assert!(!table.contains(SECRET), "{table}");
}

#[test]
fn an_effective_config_asks_nobody_and_a_resolved_one_asks_the_issuer() {
    const METADATA: &str = "/.well-known/oauth-authorization-server";
    let server = ScriptedServer::start();
    let issuer = server.url("");
    let metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
        "response_types_supported": ["code"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
    });
    server.answer(METADATA, Answer::json(200, &metadata));
    let cli = Cli::new();
    let config =
        json!({"issuer": issuer, "client_id": "client", "client_secret": SECRET, "scope": "read"});
    write(&cli, "shop.json", &config);

    let shown = cli.run(&["show", "shop", "--effective", "--json"]);
    let effective = shown.expect_code(0).json();
    let unknown = (Value::Null, "metadata".to_owned(), json!(issuer));
    assert_eq!(field(&effective, "token_endpoint"), unknown);
    assert_eq!(field(&effective, "token_endpoint_auth_method"), unknown);
    assert_eq!(field(&effective, "issuer").1, "config");
    assert_eq!(field(&effective, "timeout").1, "default");
    assert!(server.requests_to(METADATA).is_empty());
    let told = cli.run(&["show", "shop", "--effective"]).expect_code(0);
    assert!(told.stderr.contains("--resolved"), "{}", told.stderr);

    let shown = cli.run(&["show", "shop", "--resolved", "--json"]);
    let resolved = shown.expect_code(0).json();
    let known = (
        json!(server.url("/token")),
        "metadata".to_owned(),
        json!(issuer),
    );
    assert_eq!(field(&resolved, "token_endpoint"), known);
    assert_eq!(server.requests_to(METADATA).len(), 1);
}

#[test]
fn an_effective_config_tells_what_its_provider_declares() {
    let cli = Cli::new();
    write(
        &cli,
        "hub.json",
        &json!({"provider": "github", "client_id": "client", "client_secret": SECRET}),
    );
    let shown = cli.run(&["show", "hub", "--effective", "--json"]);
    let effective = shown.expect_code(0).json();
    let (value, origin, source) = field(&effective, "token_endpoint");
    assert!(value.as_str().is_some_and(|url| url.contains("github")));
    assert_eq!(
        (origin.as_str(), source),
        ("provider", json!("github")),
        "{effective}"
    );
}

#[test]
fn an_effective_config_of_a_provider_that_is_discovered_tells_its_issuer_without_asking() {
    let cli = Cli::new();
    write(
        &cli,
        "own.json",
        &json!({
            "provider": "oidc",
            "parameters": {"host": "as.invalid"},
            "client_id": "client",
            "client_secret": SECRET,
            "scope": "openid",
        }),
    );
    let shown = cli.run(&["show", "own", "--effective", "--json"]);
    let effective = shown.expect_code(0).json();
    let (value, origin, source) = field(&effective, "issuer");
    assert_eq!(value, "https://as.invalid");
    assert_eq!((origin.as_str(), source), ("provider", json!("oidc")));
    assert_eq!(field(&effective, "token_endpoint").0, Value::Null);
    assert_eq!(field(&effective, "provider").1, "config");
    assert_eq!(field(&effective, "parameters.host").1, "config");
}

#[test]
fn what_is_wrong_with_a_variable_is_told_with_its_name() {
    let (mut cli, server) = job();
    cli.set("TOKENWELL_SET_CLIENT_IDD", "x");
    for command in ["check", "token", "status"] {
        let told = cli.run(&[command, "job", "--json"]);
        let all = format!("{}{}", told.stdout, told.stderr);
        assert!(all.contains("set by TOKENWELL_SET_CLIENT_IDD"), "{all}");
    }
    cli.unset("TOKENWELL_SET_CLIENT_IDD");
    cli.set("TOKENWELL_SET_CLIENT_ID", "");
    let error = cli.run(&["token", "job", "--json"]).expect_code(2).error();
    assert!(
        text(&error, "message").contains("TOKENWELL_SET_CLIENT_ID"),
        "{error}"
    );
    assert!(server.requests_to("/token").is_empty());
}

#[test]
fn a_variable_changes_what_is_sent_and_nothing_that_is_written() {
    let (mut cli, server) = job();
    cli.set("TOKENWELL_SET_CLIENT_ID", "other-client");
    cli.set("TOKENWELL_TRANSFER_PASSWORD", "journey");
    cli.run(&["token", "job"]).expect_code(0);
    let request = server.only_request_to("/token");
    let authorization = request.header("authorization").expect("credentials");
    // `other-client:client-secret-4c1f` in base64.
    assert!(
        authorization.starts_with("Basic b3RoZXItY2xpZW50O"),
        "{authorization}"
    );

    cli.create("second", &job_config(&server)).expect_code(0);
    let file = cli.directory().join("job.export");
    let file = file.to_str().expect("a path in UTF-8");
    cli.run(&["export", "job", "--output", file]).expect_code(0);
    cli.run(&["delete", "job", "--yes"]).expect_code(0);
    cli.run(&["import", file]).expect_code(0);
    cli.unset("TOKENWELL_SET_CLIENT_ID");
    for name in ["second", "job"] {
        let config = cli.run(&["show", name, "--json"]).expect_code(0).json();
        assert_eq!(config["client_id"], "client", "{name}");
    }
}

#[test]
fn processes_at_once_append_whole_lines_to_one_audit_log_that_rotates() {
    const PROCESSES: usize = 8;
    let (mut cli, server) = job();
    let log = cli.directory().join("audit.jsonl");
    cli.set("TOKENWELL_AUDIT", log.to_str().expect("a path in UTF-8"));
    // One line fits.
    cli.set("TOKENWELL_AUDIT_MAX_BYTES", "300");
    cli.set("TOKENWELL_AUDIT_KEEP", "100");
    let calls: Vec<_> = (0..PROCESSES)
        .map(|number| {
            let name = format!("job{number}");
            cli.create(&name, &job_config(&server)).expect_code(0);
            cli.start(&["refresh", &name])
        })
        .collect();
    for call in calls {
        let Outcome { stderr, .. } = call.finish().expect_code(0);
        assert!(!stderr.contains("audit"), "{stderr}");
    }
    // However many wrote at the same instant, a later one finds the file full.
    cli.run(&["refresh", "job"]).expect_code(0);
    let files: Vec<_> = cli
        .files()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("audit.jsonl") && !name.ends_with(".lock")
        })
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    let lines: Vec<Value> = files.iter().flat_map(|path| lines(path)).collect();
    let mut renewed: Vec<&str> = lines
        .iter()
        .filter(|line| line["kind"] == "renewed")
        .map(|line| {
            let time = text(line, "time");
            assert!(time.ends_with('Z') && time.contains('T'), "{line}");
            assert_eq!(line["details"]["reason"], "first_token", "{line}");
            text(line, "connection")
        })
        .collect();
    renewed.sort_unstable();
    let numbered = (0..PROCESSES).map(|number| format!("job{number}"));
    let expected: Vec<String> = ["job".to_owned()].into_iter().chain(numbered).collect();
    assert_eq!(renewed, expected);
    let whole = format!("{lines:?}");
    assert!(!whole.contains(SECRET) && !whole.contains("access-token"));
}

#[test]
fn without_its_audit_log_a_command_does_nothing() {
    let (cli, server) = job();
    let log = cli.directory().join("none").join("audit.jsonl");
    let log = log.to_str().expect("a path in UTF-8");
    let error = cli
        .run(&["token", "job", "--json", "--audit", log])
        .expect_code(7)
        .error();
    assert!(text(&error, "message").contains(log), "{error}");
    assert!(server.requests_to("/token").is_empty());
}

#[test]
fn a_renewal_that_failed_tells_in_one_word_at_what() {
    let (cli, server) = job();
    server.answer("/token", Answer::refusal(503, "temporarily_unavailable"));
    let log = cli.directory().join("audit.jsonl");
    let path = log.to_str().expect("a path in UTF-8");
    cli.run(&["token", "job", "--audit", path]).expect_code(6);
    let lines = lines(&log);
    let failed = lines.iter().find(|line| line["kind"] == "renewal-failed");
    let failed = failed.expect("the failure is told");
    assert_eq!(failed["details"]["error"], "unavailable");
}

#[test]
fn watching_prints_the_state_and_then_each_change() {
    let (cli, server) = job();
    let mut watching = cli.start(&["status", "--watch", "--interval", "1", "--json"]);
    let state = watching.next_json();
    assert_eq!(state["name"], "job");
    assert!(state["last_renewal"].is_null(), "{state}");
    assert!(state["at"].is_u64(), "{state}");

    // What is seen in the middle of a command is told as well.
    let mut until = |is_it: &dyn Fn(&Value) -> bool| {
        loop {
            let state = watching.next_json();
            if is_it(&state) {
                return;
            }
        }
    };
    cli.run(&["token", "job"]).expect_code(0);
    until(&|state| state["last_renewal"]["reason"] == "first_token");
    cli.create("another", &job_config(&server)).expect_code(0);
    until(&|state| state["name"] == "another");
    cli.run(&["delete", "job", "--yes"]).expect_code(0);
    until(&|state| state["name"] == "job" && state["state"] == "deleted");
    assert!(watching.is_running());
    watching.kill();
}

#[test]
fn watching_where_there_is_no_terminal_prints_lines_without_control_characters() {
    let (cli, _server) = job();
    let mut watching = cli.start(&["status", "job", "--watch", "--interval", "1"]);
    assert!(watching.next_line().contains("  job  "));
    cli.run(&["token", "job"]).expect_code(0);
    loop {
        let line = watching.next_line();
        assert!(!line.contains('\u{1b}'), "{line:?}");
        if line.contains("(first_token)") {
            assert!(line.contains("authorized  expires 2"), "{line}");
            break;
        }
    }
    watching.kill();
}

#[test]
fn watching_what_is_not_there_is_exit_code_3() {
    let (cli, _server) = job();
    cli.run(&["status", "jbo", "--watch"]).expect_code(3);
}
