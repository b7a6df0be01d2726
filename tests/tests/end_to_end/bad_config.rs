//! Configs that cannot work, and metadata that is not to be believed.

use serde_json::{Value, json};
use tokenwell_tests::{Answer, Cli, ScriptedServer};

use crate::support::{scripted_config, text, with};

/// The problems told of a config that is refused; nothing has been written.
#[track_caller]
fn problems(config: &Value) -> Vec<Value> {
    let cli = Cli::new();
    let path = cli.config_file(&config.to_string());
    let path = path.to_str().expect("a temporary path in UTF-8");
    let error = cli
        .run(&["create", "bad", "--config", path, "--json"])
        .expect_code(3)
        .error();
    assert_eq!(text(&error, "kind"), "not_configured");
    assert_eq!(cli.files(), [], "something was written");
    let problems = error["problems"].as_array().cloned().unwrap_or_default();
    for problem in &problems {
        assert!(!text(problem, "message").is_empty() && !text(problem, "mend").is_empty());
    }
    problems
}

/// Checks that exactly these fields are complained about as errors.
#[track_caller]
fn assert_fields(config: &Value, expected: &[&str]) {
    let problems = problems(config);
    let errors = problems
        .iter()
        .filter(|problem| problem["severity"] == "error");
    let mut fields: Vec<_> = errors
        .map(|problem| text(problem, "field").to_owned())
        .collect();
    fields.sort();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(fields, expected, "{problems:?}");
}

#[test]
fn every_problem_of_a_config_is_told_at_once() {
    let config = json!({
        "client_idd": "client",
        "pkce": "yes",
        "timeout": -1,
        "authorization_endpoint": "http://as.example/authorize",
        "token_endpoint": "no URL at all",
    });
    let fields = [
        "authorization_endpoint",
        "client_id",
        "client_idd",
        "pkce",
        "timeout",
        "token_endpoint",
    ];
    assert_fields(&config, &fields);
}

#[test]
fn an_unknown_field_names_the_nearest_known_one() {
    let problems = problems(&json!({"client_id": "c", "isuer": "https://as.example"}));
    let problem = problems.iter().find(|problem| problem["field"] == "isuer");
    let problem = problem.unwrap_or_else(|| panic!("isuer is no problem: {problems:?}"));
    assert!(text(problem, "mend").contains("issuer"), "{problem}");
}

#[test]
fn an_empty_config_lacks_its_fields() {
    assert_fields(
        &json!({}),
        &["authorization_endpoint", "client_id", "token_endpoint"],
    );
}

#[test]
fn plain_http_is_for_this_machine_alone() {
    let config = json!({"client_id": "c", "issuer": "http://as.example"});
    assert_fields(&config, &["issuer"]);
}

#[test]
fn a_scheme_that_is_not_http_is_refused() {
    let config = json!({
        "client_id": "c",
        "authorization_endpoint": "data:text/html,hello",
        "token_endpoint": "file:///etc/passwd",
    });
    assert_fields(&config, &["authorization_endpoint", "token_endpoint"]);
}

#[test]
fn a_config_that_is_not_json_is_refused() {
    for config in ["", "{", "[]", "{\"client_id\": ", "client_id = c"] {
        let cli = Cli::new();
        let path = cli.config_file(config);
        let path = path.to_str().expect("a temporary path in UTF-8");
        let outcome = cli
            .run(&["create", "bad", "--config", path, "--json"])
            .expect_code(3);
        assert!(!text(&outcome.error(), "message").is_empty());
        assert_eq!(cli.files(), [], "something was written");
    }
}

#[test]
fn a_config_that_turned_bad_on_disk_is_told_and_nothing_is_sent() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    cli.create("shop", &scripted_config(&server)).expect_code(0);
    let bad = with(
        scripted_config(&server),
        json!({"token_endpoint": "http://as.example/token"}),
    );
    std::fs::write(cli.directory().join("shop.json"), bad.to_string()).expect("written");
    let error = cli.run(&["token", "shop", "--json"]).expect_code(3).error();
    assert_eq!(error["problems"][0]["field"], "token_endpoint", "{error}");
    assert!(server.requests_to("/token").is_empty());
}

/// The exit code and error of a token that needs metadata of this answer.
fn discovery(answer: impl FnOnce(&ScriptedServer) -> Answer, code: i32) -> (Value, ScriptedServer) {
    let server = ScriptedServer::start();
    let metadata = answer(&server);
    server.answer("/.well-known/openid-configuration", metadata.clone());
    server.answer("/.well-known/oauth-authorization-server", metadata);
    let cli = Cli::new();
    let config = json!({
        "issuer": server.url(""),
        "client_id": "client",
        "client_secret": "client-secret-4c1f",
        "grant_type": "client_credentials",
    });
    cli.create("machine", &config).expect_code(0);
    let error = cli
        .run(&["token", "machine", "--json"])
        .expect_code(code)
        .error();
    assert!(server.requests_to("/token").is_empty());
    (error, server)
}

/// Shows: RFC 8414.
#[test]
fn metadata_that_names_another_issuer_is_refused() {
    let (error, _) = discovery(
        |server| {
            let metadata = json!({
                "issuer": "https://other.example",
                "token_endpoint": server.url("/token"),
            });
            Answer::json(200, &metadata)
        },
        5,
    );
    assert_eq!(text(&error, "kind"), "protocol_violation");
}

#[test]
fn metadata_with_an_endpoint_in_the_clear_is_refused() {
    let (error, _) = discovery(
        |server| {
            let metadata = json!({
                "issuer": server.url(""),
                "token_endpoint": "http://as.example/token",
            });
            Answer::json(200, &metadata)
        },
        5,
    );
    assert_eq!(text(&error, "kind"), "protocol_violation");
}

#[test]
fn metadata_that_is_a_page_is_refused() {
    let (error, _) = discovery(|_| Answer::html(200), 5);
    assert_eq!(text(&error, "kind"), "protocol_violation");
}

#[test]
fn metadata_that_cannot_be_had_now_is_told_as_such() {
    let (error, _) = discovery(|_| Answer::html(503), 6);
    assert_eq!(text(&error, "kind"), "unavailable");
}
