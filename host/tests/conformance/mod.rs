//! The conformance kit (`host/conformance`), run by the reference host through
//! the public interface of the library.

mod contract;
mod directories;
mod matching;
mod scenario;
mod secrets;
mod store;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use tokenwell::{FileStore, LocalSecrets, MasterPassword, MemoryStore, TokenStore};
use tokenwell_tests::PATIENCE;

use self::matching::{Outcome, elements, text};

#[test]
fn the_store_of_files_holds_the_guarantees() {
    let test = "conformance::the_store_of_files_holds_the_guarantees";
    prove(test, "store", async |case| {
        let directory = TempDir::new().map_err(failed)?;
        let path = directory.path().to_owned();
        store::run(case, &|| Arc::new(FileStore::new(&path))).await
    });
}

#[test]
fn the_store_in_memory_holds_the_guarantees() {
    let test = "conformance::the_store_in_memory_holds_the_guarantees";
    prove(test, "store", async |case| {
        let store = MemoryStore::new();
        store::run(case, &|| Arc::new(store.clone())).await
    });
}

#[test]
fn local_secrets_are_as_they_should_be() {
    let test = "conformance::local_secrets_are_as_they_should_be";
    prove(test, "secrets", secrets::run);
}

#[test]
fn connections_do_what_they_should() {
    let test = "conformance::connections_do_what_they_should";
    prove(test, "connections", scenario::run);
}

#[test]
fn directories_are_read_and_damaged_ones_left_alone() {
    let test = "conformance::directories_are_read_and_damaged_ones_left_alone";
    prove(test, "files", scenario::run);
}

#[test]
fn users_are_asked_and_answered() {
    let test = "conformance::users_are_asked_and_answered";
    prove(test, "interactive", scenario::run);
}

fn kit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Runs every case of a directory of the kit, and fails with all that went
/// wrong. `test` is the name of the test that does so.
fn prove(test: &str, directory: &str, run: impl AsyncFn(&Value) -> Outcome<()>) {
    let environment: BTreeMap<String, String> =
        serde_json::from_value(read(&kit().join("environment.json"))).unwrap();
    let is_set = |(name, value): (&String, &String)| std::env::var(name).as_ref() == Ok(value);
    if !environment.iter().all(is_set) {
        // A process cannot safely change its own environment.
        again(test, &environment);
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut count, mut wrong) = (0, Vec::new());
    let mut files: Vec<PathBuf> = fs::read_dir(kit().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    for file in files {
        let cases = read(&file);
        for case in cases.as_array().expect("an array of cases") {
            count += 1;
            let ran = runtime.block_on(async { tokio::time::timeout(PATIENCE, run(case)).await });
            let ran = ran.unwrap_or_else(|_| Err("it does not end".to_owned()));
            if let Err(why) = ran {
                let why: String = why.chars().take(1500).collect();
                wrong.push(format!("{}: {}\n    {why}", file.display(), case["case"]));
            }
        }
    }
    assert!(count > 0, "there are no cases");
    assert!(wrong.is_empty(), "of {count} cases:\n{}", wrong.join("\n"));
    println!("{directory}: {count} cases hold");
}

/// Runs one test of this program in a process that has these variables.
fn again(test: &str, environment: &BTreeMap<String, String>) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs(environment)
        // The keys are in files here, whatever the machine has.
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .output()
        .unwrap();
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{error}");
    assert!(out.contains("1 passed"), "{out}");
    print!("{out}");
}

/// The directory of a case.
struct Place {
    directory: TempDir,
    /// What was put there, by its name.
    content: BTreeMap<String, Vec<u8>>,
}

impl Place {
    fn make(case: &Value) -> Outcome<Self> {
        let mut content = BTreeMap::new();
        match case.get("directory").and_then(Value::as_str) {
            Some(name) => {
                let source = kit().join("files").join(name);
                for entry in fs::read_dir(&source).map_err(failed)? {
                    let entry = entry.map_err(failed)?;
                    let name = entry.file_name().into_string();
                    let name = name.map_err(|name| format!("{name:?} is not Unicode"))?;
                    content.insert(name, fs::read(entry.path()).map_err(failed)?);
                }
            }
            None => {
                let key = fs::read(kit().join("tokenwell.key")).map_err(failed)?;
                content.insert("tokenwell.key".to_owned(), key);
            }
        }
        if let Some(files) = case.get("files").and_then(Value::as_object) {
            for name in files.keys() {
                content.insert(name.clone(), text(&case["files"], name)?.into());
            }
        }
        let directory = TempDir::new().map_err(failed)?;
        for (name, bytes) in &content {
            let path = directory.path().join(name);
            fs::write(&path, bytes).map_err(failed)?;
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                let private = fs::Permissions::from_mode(0o600);
                fs::set_permissions(&path, private).map_err(failed)?;
            }
        }
        Ok(Self { directory, content })
    }

    /// Store and secrets of the directory.
    fn parts(&self, case: &Value) -> (Arc<dyn TokenStore>, LocalSecrets) {
        let path = self.directory.path();
        let store: Arc<dyn TokenStore> = Arc::new(FileStore::new(path));
        let secrets = LocalSecrets::in_directory(path).with_store(Arc::clone(&store));
        let password = case.get("password").and_then(Value::as_str);
        let secrets = match password {
            Some(password) => secrets.with_password(MasterPassword::given(password.to_owned())),
            None => secrets,
        };
        (store, secrets)
    }

    /// Fails where a file is not as it was put there, or tokens have come.
    fn is_unchanged(&self) -> Outcome<()> {
        for (name, bytes) in &self.content {
            let now = fs::read(self.directory.path().join(name)).map_err(failed)?;
            if now != *bytes {
                return Err(format!("{name} has been changed"));
            }
        }
        for entry in fs::read_dir(self.directory.path()).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".tokens") && !self.content.contains_key(&*name) {
                return Err(format!("{name} has been written"));
            }
        }
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The steps of a case.
fn steps(case: &Value) -> Outcome<&[Value]> {
    match elements(case, "steps") {
        [] => Err("there are no steps".to_owned()),
        steps => Ok(steps),
    }
}
