//! The modes of `tls` against a real TLS server whose certificate is not in order.

use serde_json::{Value, json};
use tokenwell_tests::{Certificates, Cli, NginxServer};

use crate::support::text;

fn config(server: &NginxServer, tls: &str) -> Value {
    json!({
        "grant_type": "client_credentials",
        "client_id": "machine",
        "client_secret": "hunter2",
        "token_endpoint": server.token_endpoint(),
        "tls": tls,
    })
}

/// A command line for a system that believes this authority alone.
fn believing(certificates: &Certificates) -> Cli {
    let mut cli = Cli::new();
    let authority = certificates.file("ca.pem");
    let authority = authority.to_str().expect("a temporary path in UTF-8");
    cli.set("SSL_CERT_FILE", authority);
    cli
}

#[test]
fn verify_takes_what_the_system_vouches_for_and_nothing_else() {
    let certificates = Certificates::new();
    let Some(mut server) = NginxServer::start(&certificates, "server") else {
        return;
    };
    let cli = believing(&certificates);
    cli.create("shop", &config(&server, "verify"))
        .expect_code(0);
    cli.run(&["refresh", "shop"]).expect_code(0);
    let answered = server.requests();
    for name in ["own-server", "expired", "wrong-host"] {
        server.show(&certificates, name);
        // A connection of its own, that no earlier failure holds back.
        cli.create(name, &config(&server, "verify")).expect_code(0);
        let error = cli.run(&["token", name, "--json"]).expect_code(6).error();
        let message = text(&error, "message");
        assert!(message.contains("certificate"), "{message}");
    }
    assert_eq!(server.requests(), answered);
}

#[test]
fn trust_imports_a_certificate_on_first_use_and_holds_to_it() {
    let certificates = Certificates::new();
    let Some(mut server) = NginxServer::start(&certificates, "own-server") else {
        return;
    };
    for name in ["own-server", "expired", "wrong-host"] {
        server.show(&certificates, name);
        let cli = believing(&certificates);
        cli.create("shop", &config(&server, "trust")).expect_code(0);
        let first = cli.run(&["token", "shop"]).expect_code(0);
        assert!(
            first.stderr.contains("imported the certificate"),
            "{}",
            first.stderr
        );
        let again = cli.run(&["refresh", "shop"]).expect_code(0);
        assert!(!again.stderr.contains("imported"), "{}", again.stderr);
        let kept = cli
            .files()
            .into_iter()
            .find(|(path, _)| path.ends_with("shop.trust"));
        assert!(kept.is_some_and(|(_, content)| !content.is_empty()));
    }
}

#[test]
fn trust_refuses_a_replaced_certificate_with_both_fingerprints() {
    let certificates = Certificates::new();
    let Some(mut server) = NginxServer::start(&certificates, "own-server") else {
        return;
    };
    let cli = believing(&certificates);
    cli.create("shop", &config(&server, "trust")).expect_code(0);
    cli.run(&["token", "shop"]).expect_code(0);
    let answered = server.requests();
    // Not even one that the system vouches for.
    for name in ["successor", "server"] {
        server.show(&certificates, name);
        let error = cli
            .run(&["refresh", "shop", "--json"])
            .expect_code(8)
            .error();
        let message = text(&error, "message");
        assert_eq!(message.matches("SHA-256").count(), 1, "{message}");
        let fingerprints = message.split(|c: char| !c.is_ascii_hexdigit());
        let fingerprints = fingerprints.filter(|word| word.len() == 64).count();
        assert_eq!(fingerprints, 2, "{message}");
    }
    assert_eq!(server.requests(), answered);
    cli.run(&["clear", "shop", "--trust"]).expect_code(0);
    cli.run(&["refresh", "shop"]).expect_code(0);
    assert_eq!(server.requests(), answered + 1);
}

#[test]
fn trust_imports_nothing_that_the_system_vouches_for() {
    let certificates = Certificates::new();
    let Some(server) = NginxServer::start(&certificates, "server") else {
        return;
    };
    let cli = believing(&certificates);
    cli.create("shop", &config(&server, "trust")).expect_code(0);
    let first = cli.run(&["token", "shop"]).expect_code(0);
    assert!(!first.stderr.contains("imported"), "{}", first.stderr);
    let again = cli.run(&["refresh", "shop"]).expect_code(0);
    assert!(!again.stderr.contains("imported"), "{}", again.stderr);
}

#[test]
fn trust_takes_nothing_less_from_a_server_that_the_system_vouched_for() {
    let certificates = Certificates::new();
    let Some(mut server) = NginxServer::start(&certificates, "server") else {
        return;
    };
    let cli = believing(&certificates);
    cli.create("shop", &config(&server, "trust")).expect_code(0);
    cli.run(&["token", "shop"]).expect_code(0);
    let answered = server.requests();
    for name in ["own-server", "expired", "wrong-host"] {
        server.show(&certificates, name);
        let error = cli
            .run(&["refresh", "shop", "--json"])
            .expect_code(8)
            .error();
        let message = text(&error, "message");
        assert!(message.contains("does not vouch for"), "{message}");
    }
    assert_eq!(server.requests(), answered);
    server.show(&certificates, "server");
    cli.run(&["refresh", "shop"]).expect_code(0);
    // Its owner says so.
    server.show(&certificates, "own-server");
    cli.run(&["clear", "shop", "--trust"]).expect_code(0);
    let imported = cli.run(&["refresh", "shop"]).expect_code(0);
    assert!(
        imported.stderr.contains("imported the certificate"),
        "{}",
        imported.stderr
    );
}

#[test]
fn off_needs_to_be_allowed_and_is_told_each_time() {
    let certificates = Certificates::new();
    let Some(server) = NginxServer::start(&certificates, "wrong-host") else {
        return;
    };
    let cli = Cli::new();
    let file = cli.config_file(&config(&server, "off").to_string());
    let file = file.to_str().expect("a temporary path in UTF-8");
    cli.run(&["create", "shop", "--config", file, "--allow-tls-off"])
        .expect_code(0);
    for command in ["token", "refresh"] {
        cli.run(&[command, "shop"]).expect_code(8);
    }
    let checked = cli.run(&["check", "shop"]).expect_code(3);
    assert!(checked.stdout.contains("not allowed"), "{}", checked.stdout);
    assert_eq!(server.requests(), 0);
    for _ in 0..2 {
        let told = cli
            .run(&["refresh", "shop", "--allow-tls-off"])
            .expect_code(0);
        assert!(told.stderr.contains("tls is off"), "{}", told.stderr);
    }
    // What carries the token no less than what gets it.
    let url = server.token_endpoint();
    let told = cli
        .run(&["request", "shop", &url, "--allow-tls-off"])
        .expect_code(0);
    assert_eq!(
        told.stderr.matches("tls is off").count(),
        1,
        "{}",
        told.stderr
    );
    let status = cli.status("shop");
    let warnings = status["warnings"].as_array().expect("warnings");
    assert!(
        warnings.iter().any(|warning| warning["field"] == "tls"),
        "{status}"
    );
}

#[test]
fn a_cookie_that_breaks_the_policy_is_told_unless_that_is_ignored() {
    let certificates = Certificates::new();
    let Some(server) = NginxServer::start(&certificates, "server") else {
        return;
    };
    let cli = believing(&certificates);
    cli.create("shop", &config(&server, "verify"))
        .expect_code(0);
    let told = cli.run(&["token", "shop"]).expect_code(0);
    assert!(
        told.stderr.contains("is for another domain"),
        "{}",
        told.stderr
    );
    assert!(!told.stderr.contains("hunter2"), "{}", told.stderr);
    let ignoring = ["--set", "ignore_cookie_policy=true", "refresh", "shop"];
    let silent = cli.run(&ignoring).expect_code(0);
    assert!(!silent.stderr.contains("cookie"), "{}", silent.stderr);
}
