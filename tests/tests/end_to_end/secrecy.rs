//! What must not be seen is not to be seen.

use base64::Engine as _;
use serde_json::{Value, json};
use tokenwell_tests::{Answer, Cli, Outcome, ScriptedServer, only};

use crate::support::{
    CODE, SECRET, access_token, authorized_shop, begin, refresh_token, scripted_config, tokens,
    with,
};

/// Checks that none of the secrets is in any of the texts.
#[track_caller]
fn assert_unseen<'a>(secrets: &[String], texts: impl IntoIterator<Item = &'a str>) {
    for text in texts {
        for secret in secrets {
            assert!(
                !text.contains(secret.as_str()),
                "{secret} is in this: {text}"
            );
        }
    }
}

fn outputs(outcomes: &[Outcome]) -> impl Iterator<Item = &str> {
    outcomes
        .iter()
        .flat_map(|outcome| [outcome.stdout.as_str(), outcome.stderr.as_str()])
}

/// Every secret that has been in a request to the token endpoint, beside the
/// ones of the support module.
fn secrets(server: &ScriptedServer) -> Vec<String> {
    let mut secrets = vec![SECRET.to_owned(), CODE.to_owned()];
    for number in 1..=3 {
        secrets.extend([access_token(number), refresh_token(number)]);
    }
    for request in server.requests_to("/token") {
        let form = request.form();
        let verifier = form.iter().find(|(name, _)| name == "code_verifier");
        secrets.extend(verifier.map(|(_, value)| value.clone()));
    }
    secrets
}

/// The token endpoint at its most talkative: it repeats the request.
fn parrot(
    status: u16,
    error: &str,
) -> impl Fn(&tokenwell_tests::ReceivedRequest) -> Answer + use<> {
    let error = error.to_owned();
    move |request| {
        let said = form_text(request);
        Answer::json(
            status,
            &json!({"error": error, "error_description": said, "error_uri": format!("https://as.example/?{said}")}),
        )
    }
}

fn form_text(request: &tokenwell_tests::ReceivedRequest) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

#[test]
fn a_failing_completion_shows_neither_code_nor_verifier_nor_secret() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    let fields = json!({"token_endpoint_auth_method": "client_secret_post"});
    cli.create("shop", &with(scripted_config(&server), fields))
        .expect_code(0);
    let mut seen = Vec::new();
    for answer in [
        Answer::html(200),
        Answer::html(500),
        Answer::close(),
        Answer::refusal(400, "invalid_grant"),
        Answer::json(
            200,
            &json!({"access_token": [access_token(1)], "token_type": "Bearer"}),
        ),
    ] {
        let begun = begin(&cli, "shop");
        server.answer("/token", answer);
        let outcome = cli.run(&["complete", "shop", &begun.success(), "--json"]);
        assert_ne!(outcome.code, Some(0));
        seen.push(outcome);
    }
    for arguments in [
        ["status", "shop"],
        ["history", "shop"],
        ["show", "shop"],
        ["check", "shop"],
    ] {
        seen.push(cli.run(&arguments));
        seen.push(cli.run(&[arguments.as_slice(), &["--json"]].concat()));
    }
    assert!(secrets(&server).len() > 8, "no verifier was sent");
    assert_unseen(&secrets(&server), outputs(&seen));
}

#[test]
fn a_server_that_repeats_the_request_does_not_make_the_client_repeat_it() {
    for (status, error) in [
        (400, "invalid_request"),
        (401, "invalid_client"),
        (503, "server_error"),
    ] {
        let fields = json!({"token_endpoint_auth_method": "client_secret_post"});
        let (cli, server) = authorized_shop(|config| with(config, fields), 3600);
        server.script("/token", parrot(status, error));
        let mut seen = vec![
            cli.run(&["refresh", "shop", "--json"]),
            cli.run(&["refresh", "shop"]),
        ];
        assert!(seen.iter().all(|outcome| outcome.code != Some(0)));
        seen.push(cli.run(&["status", "shop", "--json"]));
        seen.push(cli.run(&["history", "shop", "--json"]));
        assert_unseen(&secrets(&server), outputs(&seen));
    }
}

#[test]
fn a_malformed_config_is_told_without_its_secrets() {
    let cli = Cli::new();
    let path = cli.config_file(
        &json!({
            "client_id": 7,
            "client_secret": {"reff": SECRET},
            "password": SECRET,
            "clientsecret": SECRET,
            "token_parameters": [SECRET],
        })
        .to_string(),
    );
    let path = path.to_str().expect("a temporary path in UTF-8");
    let seen = [
        cli.run(&["create", "shop", "--config", path])
            .expect_code(3),
        cli.run(&["create", "shop", "--config", path, "--json"])
            .expect_code(3),
    ];
    assert_unseen(&[SECRET.to_owned()], outputs(&seen));
}

#[test]
fn a_redirect_that_is_refused_is_not_repeated() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    cli.create("shop", &scripted_config(&server)).expect_code(0);
    let begun = begin(&cli, "shop");
    let redirects = [
        begun.redirect(&[("code", CODE), ("state", "wrong")]),
        begun.redirect(&[("code", CODE), ("code", CODE), ("state", &begun.state)]),
        begun.redirect(&[("code", CODE)]),
    ];
    let seen: Vec<_> = redirects
        .iter()
        .map(|redirect| cli.run(&["complete", "shop", redirect]).expect_code(5))
        .collect();
    assert_unseen(&[CODE.to_owned()], outputs(&seen));
}

#[test]
fn what_is_stored_is_sealed() {
    let (cli, server) = authorized_shop(|config| config, 3600);
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    cli.run(&["refresh", "shop"]).expect_code(0);
    begin(&cli, "shop");
    let verifier = only(&server.requests_to("/token")[0].form(), "code_verifier").to_owned();
    let mut secrets = vec![CODE.to_owned(), verifier];
    for number in 1..=2 {
        secrets.extend([access_token(number), refresh_token(number)]);
    }
    let files = cli.files();
    let mut records = 0;
    for (path, content) in &files {
        let mut forms = vec![content.clone()];
        // A record file wraps what is sealed in Base64, which hides nothing.
        let record: Value = serde_json::from_slice(content).unwrap_or_default();
        if let Some(sealed) = record["sealed"].as_str() {
            let sealed = base64::engine::general_purpose::STANDARD.decode(sealed);
            forms.push(sealed.expect("Base64"));
            records += 1;
        }
        for secret in &secrets {
            let is_in =
                |form: &Vec<u8>| form.windows(secret.len()).any(|at| at == secret.as_bytes());
            assert!(
                !forms.iter().any(is_in),
                "{secret} is in {}",
                path.display()
            );
        }
    }
    assert_eq!(
        records, 2,
        "the tokens, with the pending authorization, and which key seals them"
    );
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (cli, _server) = authorized_shop(|config| config, 3600);
    begin(&cli, "shop");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path)
            .expect("metadata")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(cli.directory()), 0o700);
    let files = cli.files();
    assert!(files.len() >= 2, "config and tokens");
    for (path, _) in files {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_record_under_a_lost_key_is_a_clear_error_and_stays_as_it_is() {
    let (cli, server) = authorized_shop(|config| config, 3600);
    let tokens = cli.directory().join("shop.tokens");
    let sealed = std::fs::read(&tokens).expect("the tokens");
    let other = Cli::new();
    other
        .create("shop", &scripted_config(&server))
        .expect_code(0);
    // A directory of another user's: same connection, another key.
    begin(&other, "shop");
    let foreign = other.directory().join("shop.tokens");
    std::fs::write(&foreign, &sealed).expect("written");
    let error = other
        .run(&["token", "shop", "--json"])
        .expect_code(7)
        .error();
    assert_eq!(error["kind"], Value::from("storage"));
    assert_eq!(std::fs::read(&foreign).expect("the tokens"), sealed);
}

#[test]
fn a_damaged_record_is_a_clear_error_and_stays_as_it_is() {
    let (cli, _server) = authorized_shop(|config| config, 3600);
    let path = cli.directory().join("shop.tokens");
    let sealed = std::fs::read(&path).expect("the tokens");
    let mut damaged = vec![
        Vec::new(),
        sealed[..sealed.len() / 2].to_vec(),
        vec![0; 4096],
    ];
    let mut changed = sealed.clone();
    let middle = sealed.len() / 2;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    damaged.push(changed);
    for content in damaged {
        std::fs::write(&path, &content).expect("written");
        cli.run(&["token", "shop"]).expect_code(7);
        assert_eq!(std::fs::read(&path).expect("the tokens"), content);
    }
    std::fs::write(&path, &sealed).expect("written");
    cli.run(&["token", "shop"]).expect_code(0);
}
