//! A clock that jumps under a real process.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokenwell::Host;
use tokenwell_tests::{Answer, Part, ScriptedServer};

use crate::authorized::{built, connection};
use crate::sick_stores::{authorize, config, tokens};

/// `tokenwell token crm --json` at another time; `offset` is libfaketime's.
fn token_at(directory: &TempDir, offset: &str) -> Value {
    let output = Command::new("faketime")
        .args(["-f", offset, env!("CARGO_BIN_EXE_tokenwell"), "--dir"])
        .arg(directory.path())
        .args(["token", "crm", "--json"])
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_costs_a_renewal_and_no_token() {
    if Part::Faketime.is_lacking() {
        return;
    }
    let server = ScriptedServer::start();
    let directory = TempDir::new().unwrap();
    let host = built(Host::in_directory(directory.path()));
    let connection = connection(&host, &config(&server)).await;
    authorize(&connection, &server, 3600).await;
    let file: PathBuf = directory.path().join("crm.json");
    std::fs::write(file, config(&server)).unwrap();

    let mut number = 1;
    let mut jump = |offset: &str| {
        number += 1;
        server.answer("/token", Answer::json(200, &tokens(number, 3600)));
        let token = token_at(&directory, offset);
        assert_eq!(
            token["access_token"],
            format!("access-{number}"),
            "{offset}"
        );
        let spent = server.requests_to("/token").pop().unwrap().form();
        let spent = tokenwell_tests::only(&spent, "refresh_token").to_owned();
        assert_eq!(spent, format!("refresh-{}", number - 1), "{offset}");
    };
    // Beyond the expiry; back, which leaves a token from the future; back to
    // before anything happened; and home.
    for offset in ["+2h", "+0", "-30d", "+0"] {
        jump(offset);
    }
    let still = token_at(&directory, "+10m");
    assert_eq!(still["access_token"], "access-5", "it is valid");
    let still = token_at(&directory, "-20s");
    assert_eq!(still["access_token"], "access-5", "a small step is no jump");
}
