//! Writes the directories in `files/` anew. Only where the format has changed is
//! there a reason to: hosts must read what was written before.
//! `cargo test -p tokenwell --test component directories -- --ignored`

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tokenwell::{Host, KeySource, LocalSecrets, MasterPassword, TokenOptions};
use tokenwell_tests::{Answer, ScriptedServer};

use super::kit;

const PASSWORD: &str = "correct horse battery staple";

#[tokio::test]
#[ignore = "it writes files of the repository"]
async fn the_directories_are_written_anew() {
    write("lasting", async |directory| {
        let secrets = LocalSecrets::in_directory(directory);
        obtain_token(directory, &secrets).await;
    })
    .await;
    write("rekeyed", async |directory| {
        let secrets = LocalSecrets::in_directory(directory);
        obtain_token(directory, &secrets).await;
        let none = MasterPassword::default();
        secrets.replace_key(KeySource::KeyFile, none).await.unwrap();
    })
    .await;
    write("password", async |directory| {
        fs::remove_file(directory.join("tokenwell.key")).unwrap();
        let password = MasterPassword::given(PASSWORD.to_owned());
        let secrets = LocalSecrets::in_directory(directory).with_password(password);
        obtain_token(directory, &secrets).await;
    })
    .await;
}

/// Fills a directory and puts its files into the kit.
async fn write(name: &str, fill: impl AsyncFn(&Path)) {
    let directory = TempDir::new().unwrap();
    let key = directory.path().join("tokenwell.key");
    fs::copy(kit().join("tokenwell.key"), &key).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fill(directory.path()).await;
    let target = kit().join("files").join(name);
    fs::create_dir_all(&target).unwrap();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
        }
    }
}

/// A connection whose token lasts until it is refused, and whose secret is
/// sealed.
async fn obtain_token(directory: &Path, secrets: &LocalSecrets) {
    let server = ScriptedServer::start();
    let token = json!({
        "access_token": "lasting-token",
        "token_type": "Bearer",
        "refresh_token": "lasting-refresh-token",
        "scope": "read write",
        "note": "пароль ✓",
    });
    server.answer("/token", Answer::json(200, &token));
    secrets
        .seal_secret("shop.client_secret", "s3cret ✓")
        .await
        .unwrap();
    let config = json!({
        "grant_type": "refresh_token",
        "client_id": "shop",
        "client_secret": {"ref": "sealed:shop.client_secret"},
        "token_endpoint": server.url("/token"),
        "refresh_token": "first-refresh-token",
        "scope": "read write",
    });
    let text = format!("{config:#}\n");
    fs::write(directory.join("shop.json"), &text).unwrap();
    let host = Host::in_directory(directory)
        .secrets(secrets.clone())
        .build()
        .unwrap();
    let config = host.parse_config(&text).await.unwrap();
    let token = host
        .connection("shop", config)
        .token(TokenOptions::default())
        .await;
    assert_eq!(token.unwrap().access_token, "lasting-token");
}
